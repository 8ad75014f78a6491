//! `rekindle merge`

use super::device;
use crate::{output, printer::Printer};
use clap::Args;
use serde_json::json;
use std::path::PathBuf;

/// Merge an adapter into its base model.
///
/// Prints the largest difference that merging makes to a logit, or to a language model's loss of an example.
#[derive(Args)]
#[command(
    after_help = "Examples:\n  rekindle merge runs/minilm-tickets --to tickets-model\n  rekindle merge runs/minilm-tickets --to tickets-model --inputs test.csv --json"
)]
pub struct Merge {
    /// Run directory or adapter directory
    adapter: PathBuf,
    /// Directory to write the merged model to
    #[arg(long, value_name = "DIR")]
    to: PathBuf,
    /// File of texts to compare on; by default the run's own
    #[arg(long, value_name = "FILE")]
    inputs: Option<PathBuf>,
    /// auto, cpu, wgpu, wgpu:N, cuda or cuda:N
    #[arg(long)]
    device: Option<String>,
    /// Print what was done as JSON
    #[arg(long)]
    json: bool,
}

impl Merge {
    pub fn run(self) -> anyhow::Result<()> {
        let printer = Printer::new();
        let device = device(self.device.as_ref())?;
        let merged = rekindle::merge(
            &self.adapter,
            &self.to,
            self.inputs.as_deref(),
            device,
            &printer,
        )?;
        printer.clear();
        if self.json {
            return output::json(&json!({
                "dir": merged.dir,
                "measured": merged.measured,
                "largest_difference": merged.largest_difference,
                "texts": merged.texts,
                "source": merged.source,
            }));
        }
        Ok(output::print(format_args!(
            "merged into {}\nlargest difference of {}: {:.2e}, on {} {} ({})\n",
            merged.dir.display(),
            merged.measured,
            merged.largest_difference,
            merged.texts,
            merged.noun,
            merged.source
        ))?)
    }
}
