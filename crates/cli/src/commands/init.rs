//! `rekindle init`

use super::{Columns, configuration};
use crate::output;
use clap::Args;
use rekindle::{Error, Task, config::Override};
use std::path::PathBuf;

/// Look at a file of examples, or a folder of pictures by label, and write a commented run file for it.
#[derive(Args)]
pub struct Init {
    /// File of examples (CSV, TSV, JSONL, Parquet), or a folder of pictures
    data: PathBuf,
    /// The task; by default the one that fits the labels
    #[arg(long, value_name = "NAME")]
    task: Option<String>,
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
        match &self.task {
            Some(task) => flags.push(Override::flag("--task", "task", task)),
            None if self.data.is_dir() => {
                let task = Task::ImageClassification.name();
                flags.push(Override::flag("DATA", "task", task));
            }
            None => {}
        }
        let said = self
            .set
            .iter()
            .any(|set| set.trim_start().starts_with("task"));
        let choose_task = self.task.is_none() && !said;
        let config = configuration(None, flags, &self.set)?;
        let text = rekindle::run_file_for(&self.data, &config, choose_task)?;
        if self.output.as_os_str() == "-" {
            return Ok(output::print(text)?);
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
        let written = self.output.display();
        Ok(output::print(format_args!(
            "wrote {written}; look at it, then run:\n  rekindle finetune --config {written}\n"
        ))?)
    }
}
