//! `rekindle inspect`

use crate::output;
use clap::Args;
use std::path::PathBuf;

/// Show what a run, model, adapter, checkpoint or weight file holds.
#[derive(Args)]
pub struct Inspect {
    /// Directory or file
    path: PathBuf,
    /// List every tensor
    #[arg(long)]
    tensors: bool,
}

impl Inspect {
    pub fn run(self) -> anyhow::Result<()> {
        Ok(output::print(rekindle::inspect(&self.path, self.tensors)?)?)
    }
}
