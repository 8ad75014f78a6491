//! `rekindle fetch`

use crate::{
    output::{self, Output},
    printer::Printer,
};
use clap::Args;
use rekindle::{Hub, Observer};

/// Bring a model or dataset onto this machine, verified.
#[derive(Args)]
pub struct Fetch {
    /// Model name (minilm), Hugging Face name (org/name), or with --dataset a dataset's
    name: String,
    /// Fetch a dataset
    #[arg(long)]
    dataset: bool,
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
            output::print(format_args!("{}\n", found.dir.display()))?;
        }
        Ok(())
    }
}
