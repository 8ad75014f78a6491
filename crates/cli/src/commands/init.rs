//! `rekindle init`

use super::{Columns, configuration, run_args::RUN_FILE, sets_task, told_task};
use crate::{output, printer::Printer};
use clap::Args;
use rekindle::{
    RunFile,
    config::{Override, decided},
    shell_word,
};
use serde_json::json;
use std::path::{Path, PathBuf};

/// Write a commented run file for your data.
///
/// Looks at a file of examples (labelled texts, conversations, preferences) or a folder of pictures by label, and says why it
/// chose each setting.
#[derive(Args)]
#[command(
    after_help = "Examples:\n  rekindle init tickets.csv\n  rekindle init chats.jsonl --output chats.toml --set train.epochs=2"
)]
pub struct Init {
    /// File of labelled texts, conversations or preferences (CSV, TSV, JSONL, Parquet), or a folder of pictures or of texts
    data: PathBuf,
    /// The task; by default the one that fits what the rows hold
    #[arg(long, value_name = "NAME")]
    task: Option<String>,
    #[command(flatten)]
    columns: Columns,
    /// Where to write; - for standard output
    #[arg(long, short, default_value = RUN_FILE, value_name = "FILE")]
    output: PathBuf,
    /// Replace an existing file
    #[arg(long)]
    force: bool,
    /// Any setting to write down, as section.key=value; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Print what was decided as JSON
    #[arg(long)]
    json: bool,
}

impl Init {
    pub fn run(self) -> anyhow::Result<()> {
        let mut flags = self.columns.overrides();
        let train = self.data.to_string_lossy();
        flags.push(Override::flag("DATA", "data.train", &train));
        match &self.task {
            Some(task) => flags.push(Override::flag("--task", "task", task)),
            None if sets_task(&self.set) => {}
            None => {
                if let Some(task) = told_task(&self.data, &flags, &self.set) {
                    flags.push(Override::flag("DATA", "task", task.name()));
                }
            }
        }
        let config = configuration(None, flags, &self.set)?;
        let RunFile { text, bad } = rekindle::run_file_for(&self.data, &config)?;
        let to_output = self.output.as_os_str() == "-";
        if !to_output {
            rekindle::write_run_file(&self.output, &text, &self.data, self.force)?;
        }
        if self.json {
            return output::json(&json!({
                "written": (!to_output).then_some(&self.output),
                "task": config.task.name(),
                "about": opening(&text),
                "warning": bad,
                "settings": decided(&text)?,
                "run_file": text,
            }));
        }
        if let Some(bad) = bad {
            Printer::new().say(&format!("warning: {}: {bad}", self.data.display()));
        }
        if to_output {
            return Ok(output::print(text)?);
        }
        let written = shell_word(&self.output.to_string_lossy());
        let config = match self.output == Path::new(RUN_FILE) {
            true => String::new(),
            false => format!(" --config {written}"),
        };
        Ok(output::print(format_args!(
            "wrote {written}; look at it, then run:\n  rekindle finetune{config}\n"
        ))?)
    }
}

/// What the run file says of the data before its first setting.
fn opening(run_file: &str) -> Vec<&str> {
    let lines = run_file.lines();
    lines.map_while(|line| line.strip_prefix("# ")).collect()
}
