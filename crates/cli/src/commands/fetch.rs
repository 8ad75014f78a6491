//! `rekindle fetch`

use crate::{
    output::{self, Output},
    printer::Printer,
};
use clap::Args;
use rekindle::{Hub, Observer};
use serde_json::json;

/// Bring a model or dataset onto this machine, verified.
///
/// `rekindle models` and `rekindle datasets` list the names.
#[derive(Args)]
#[command(after_help = "Examples:\n  rekindle fetch minilm\n  rekindle fetch --dataset smart-home")]
pub struct Fetch {
    /// Model name (minilm), Hugging Face name (org/name), or with --dataset a dataset's
    name: String,
    /// Fetch a dataset
    #[arg(long)]
    dataset: bool,
    /// Print what is where as JSON
    #[arg(long)]
    json: bool,
}

impl Fetch {
    pub fn run(self) -> anyhow::Result<()> {
        let printer = Printer::new();
        let hub = Hub::from_env();
        if self.dataset {
            let found = hub
                .dataset(&self.name, printer.downloads())
                .map_err(rekindle::Error::from)?;
            printer.clear();
            printer.detail(&format!("{}: {}", found.name, found.source));
            if self.json {
                return output::json(&json!({
                    "name": found.name,
                    "card": found.card_path,
                    "files": found.files,
                    "source": found.source.to_string(),
                }));
            }
            let mut output = Output::new();
            for (split, path) in &found.files {
                output.line(format_args!("{split}\t{}", path.display()))?;
            }
            output.flush()?;
        } else {
            let found = hub
                .model(&self.name, printer.downloads())
                .map_err(rekindle::Error::from)?;
            printer.clear();
            printer.detail(&format!("{}: {}", found.name, found.source));
            if self.json {
                return output::json(&json!({
                    "name": found.name,
                    "dir": found.dir,
                    "revision": found.revision,
                    "source": found.source.to_string(),
                }));
            }
            output::print(format_args!("{}\n", found.dir.display()))?;
        }
        Ok(())
    }
}
