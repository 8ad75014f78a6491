//! `rekindle merge`

use super::device;
use crate::{output, printer::Printer};
use clap::Args;
use std::path::PathBuf;

/// Merge an adapter into its base model.
///
/// Prints the largest difference that merging makes to a logit, or to a language model's loss of an example.
#[derive(Args)]
pub struct Merge {
    /// Run directory or adapter directory
    adapter: PathBuf,
    /// Directory to write the merged model to
    #[arg(long, value_name = "DIR")]
    to: PathBuf,
    /// File of texts to compare on; by default the run's own
    #[arg(long, value_name = "FILE")]
    inputs: Option<PathBuf>,
    /// cpu, wgpu, cuda or cuda:N
    #[arg(long)]
    device: Option<String>,
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
        Ok(output::print(format_args!(
            "merged into {}\nlargest difference of {}: {:.2e}, on {} texts ({})\n",
            merged.dir.display(),
            merged.measured,
            merged.largest_difference,
            merged.texts,
            merged.source
        ))?)
    }
}
