//! `rekindle init`

use super::{Columns, configuration};
use clap::Args;
use rekindle::{Error, config::Override};
use std::path::PathBuf;

/// Look at a file of examples, or a folder of pictures by label, and write a commented run file for it.
#[derive(Args)]
pub struct Init {
    /// File of examples (CSV, TSV, JSONL, Parquet), or a folder of pictures
    data: PathBuf,
    #[command(flatten)]
    columns: Columns,
    /// Where to write; - for standard output
    #[arg(long, short, default_value = "rekindle.toml", value_name = "FILE")]
    output: PathBuf,
    /// Replace an existing file
    #[arg(long)]
    force: bool,
    /// Any setting to write down, as section.key=value; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
}

impl Init {
    pub fn run(self) -> anyhow::Result<()> {
        let mut flags = self.columns.overrides();
        let train = self.data.to_string_lossy();
        flags.push(Override::flag("DATA", "data.train", &train));
        if self.data.is_dir() {
            flags.push(Override::flag("DATA", "task", "image-classification"));
        }
        let config = configuration(None, flags, &self.set)?;
        let text = rekindle::run_file_for(&self.data, &config)?;
        if self.output.as_os_str() == "-" {
            print!("{text}");
            return Ok(());
        }
        if self.output.exists() && !self.force {
            anyhow::bail!(
                "{}: the file exists\nhint: name another with --output, or replace it with --force",
                self.output.display()
            );
        }
        std::fs::write(&self.output, text).map_err(|source| Error::Io {
            path: self.output.clone(),
            source,
        })?;
        println!(
            "wrote {}; look at it, then run:\n  rekindle finetune --config {}",
            self.output.display(),
            self.output.display()
        );
        Ok(())
    }
}
