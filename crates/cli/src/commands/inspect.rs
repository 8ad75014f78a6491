//! `rekindle inspect`

use crate::output;
use clap::Args;
use std::path::PathBuf;

/// Show what a run, model, adapter, checkpoint or weight file holds.
#[derive(Args)]
#[command(
    after_help = "Examples:\n  rekindle inspect runs/minilm-tickets\n  rekindle inspect model.safetensors --tensors"
)]
pub struct Inspect {
    /// Directory or file
    path: PathBuf,
    /// List every tensor
    #[arg(long)]
    tensors: bool,
    /// Print it as JSON
    #[arg(long)]
    json: bool,
}

impl Inspect {
    pub fn run(self) -> anyhow::Result<()> {
        let found = rekindle::inspect(&self.path, self.tensors)?;
        match self.json {
            true => output::json(&found.to_json()),
            false => Ok(output::print(found)?),
        }
    }
}
