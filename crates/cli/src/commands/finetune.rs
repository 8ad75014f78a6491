//! `rekindle finetune`

use super::{Columns, configuration, overrides, sets_task, told_task};
use crate::{
    output,
    printer::{Printer, finished},
};
use clap::Args;
use rekindle::{Error, Occupied, RunConfig, Task, config::Override};
use std::path::{Path, PathBuf};

/// Tune a model on your examples; without any, MiniLM on the intents dataset.
///
/// Settings come from the run file, then from the flags, then from --set. Where no argument says what to tune on, the run file
/// is ./rekindle.toml, if it is there.
#[derive(Args)]
#[command(
    after_help = "Examples:\n  rekindle finetune tickets.csv\n  rekindle finetune chats.jsonl --model smollm2 --epochs 2\n  rekindle finetune photos --method head\n  rekindle finetune --resume runs/minilm-tickets --epochs 10"
)]
pub struct Finetune {
    /// File of training examples (CSV, TSV, JSONL, Parquet: texts with labels, conversations, preferences), or a folder of
    /// pictures by label or of texts: the same as --train
    #[arg(conflicts_with = "train")]
    data: Option<String>,
    /// Run file (TOML); `rekindle init DATA` writes one
    #[arg(long, short, value_name = "FILE")]
    config: Option<PathBuf>,
    #[arg(long, value_name = "NAME", help = task_help())]
    task: Option<String>,
    /// Model: a name (minilm, efficientnet-lite0, smollm2), a Hugging Face name, a directory or a GGUF file
    #[arg(long, value_name = "NAME")]
    model: Option<String>,
    /// Dataset name or card
    #[arg(long, value_name = "NAME")]
    dataset: Option<String>,
    /// File of training examples (CSV, TSV, JSONL, Parquet), or a folder of pictures by label
    #[arg(long, value_name = "PATH")]
    train: Option<String>,
    /// File of validation examples; by default split off
    #[arg(long, value_name = "FILE")]
    validation: Option<String>,
    /// File of test examples
    #[arg(long, value_name = "FILE")]
    test: Option<String>,
    #[command(flatten)]
    columns: Columns,
    /// lora, full, head or bitfit
    #[arg(long)]
    method: Option<String>,
    /// Passes over the training examples
    #[arg(long)]
    epochs: Option<String>,
    /// The highest learning rate
    #[arg(long, value_name = "RATE")]
    lr: Option<String>,
    /// Examples in a batch
    #[arg(long, value_name = "N")]
    batch_size: Option<String>,
    /// Of everything that is random
    #[arg(long, value_name = "N")]
    seed: Option<String>,
    /// Run directory
    #[arg(long, short, value_name = "DIR")]
    output: Option<String>,
    /// cpu, wgpu, cuda or cuda:N
    #[arg(long)]
    device: Option<String>,
    /// Any setting, as section.key=value; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Continue a run from its newest checkpoint; with --epochs (or --set train.epochs=N, train.max_steps=N) train it longer
    /// than it was meant to be, also if it is finished
    #[arg(long, value_name = "RUN", conflicts_with_all = ["data", "config", "task", "model", "dataset", "train", "validation", "test", "text", "text_pair", "label", "method", "lr", "batch_size", "seed", "output", "device", "dry_run", "force"])]
    resume: Option<PathBuf>,
    /// Print the plan and stop
    #[arg(long)]
    dry_run: bool,
    /// Replace a run in the output directory that was never finished
    #[arg(long)]
    force: bool,
    /// Print the run's directory and figures as JSON at the end; with --dry-run, the plan
    #[arg(long)]
    json: bool,
}

/// The run file that `init` writes, and that is used where nothing else is said.
pub const RUN_FILE: &str = "rekindle.toml";

/// What `--help` says of `--task`.
fn task_help() -> String {
    let names: Vec<&str> = Task::ALL.iter().map(|task| task.name()).collect();
    format!("What to learn: {}", names.join(", "))
}

impl Finetune {
    pub fn run(mut self) -> anyhow::Result<()> {
        let printer = Printer::new();
        printer.stop_on_signals()?;
        let usual = Path::new(RUN_FILE);
        if self.resume.is_none() && !self.names_data() && usual.is_file() {
            printer.say(&format!("using {RUN_FILE}"));
            self.config = Some(usual.to_owned());
        }
        let run = match &self.resume {
            Some(dir) => match rekindle::resume_longer(dir, &self.longer(), &printer)? {
                Some(run) => run,
                None if self.json => return output::json(&rekindle::results(dir)?),
                None => return Ok(()),
            },
            None => {
                let config = match self.names_data() {
                    true => self.configured(&printer)?,
                    false => self.default_run(&printer)?,
                };
                if self.dry_run {
                    rekindle::plan(&config, &printer)?;
                    printer.say("dry run: nothing was written");
                    return match printer.known_plan().filter(|_| self.json) {
                        Some(plan) => output::json(&plan),
                        None => Ok(()),
                    };
                }
                let occupied = match self.force {
                    true => Occupied::ReplaceUnfinished,
                    false => Occupied::Refuse,
                };
                rekindle::finetune_into(&config, occupied, &printer)?
            }
        };
        printer.clear();
        if self.json {
            return output::json(&rekindle::results(&run.dir)?);
        }
        Ok(output::print(finished(&run))?)
    }

    /// What a resumed run is to be longer by.
    fn longer(&self) -> Vec<Override> {
        let epochs = self.epochs.iter();
        let epochs = epochs.map(|epochs| Override::flag("--epochs", "train.epochs", epochs));
        overrides(epochs.collect(), &self.set)
    }

    /// Whether a run file or an argument says what to tune on, or what for.
    fn names_data(&self) -> bool {
        let set = |key: &str| {
            self.set
                .iter()
                .any(|text| text.trim_start().starts_with(key))
        };
        self.config.is_some()
            || self.task.is_some()
            || self.dataset.is_some()
            || self.examples().is_some()
            || set("data.dataset")
            || set("data.train")
    }

    /// The file or folder of training examples, where an argument names it.
    fn examples(&self) -> Option<&str> {
        self.data.as_deref().or(self.train.as_deref())
    }

    /// By run file and arguments. Where neither names the task, the examples tell it.
    fn configured(&self, printer: &Printer) -> anyhow::Result<RunConfig> {
        let mut flags = self.flags();
        let named = self.config.is_some() || self.task.is_some() || sets_task(&self.set);
        if let Some(examples) = self.examples().filter(|_| !named)
            && let Some(task) = told_task(Path::new(examples), &flags, &self.set)
            && task != RunConfig::default().task
        {
            // Of a folder of pictures it goes without saying.
            if !Path::new(examples).is_dir() {
                printer.say(&format!(
                    "{examples}: learning {task}; --task names another"
                ));
            }
            flags.push(Override::flag(examples, "task", task.name()));
        }
        Ok(configuration(self.config.as_ref(), flags, &self.set)?)
    }

    /// Without data, the run file of the intents dataset, under whatever else was asked for.
    fn default_run(&self, printer: &Printer) -> Result<RunConfig, Error> {
        const PATH: &str = "configs/intents-lora.toml";
        const TEXT: &str = include_str!("../../../../configs/intents-lora.toml");
        printer.say(&format!("no data named: tuning MiniLM on the intents dataset, by {PATH}; --train FILE takes yours"));
        let mut overrides = self.flags();
        overrides.extend(self.set.iter().map(|text| Override::set(text)));
        Ok(RunConfig::parse(TEXT, Path::new(PATH), &overrides)?)
    }

    fn flags(&self) -> Vec<Override> {
        let mut flags: Vec<Override> = [
            ("--task", "task", &self.task),
            ("--model", "model.name", &self.model),
            ("--dataset", "data.dataset", &self.dataset),
            ("--train", "data.train", &self.examples().map(String::from)),
            ("--validation", "data.validation", &self.validation),
            ("--test", "data.test", &self.test),
            ("--method", "peft.method", &self.method),
            ("--epochs", "train.epochs", &self.epochs),
            ("--lr", "train.learning_rate", &self.lr),
            ("--batch-size", "train.batch_size", &self.batch_size),
            ("--seed", "seed", &self.seed),
            ("--output", "output_dir", &self.output),
            ("--device", "device", &self.device),
        ]
        .into_iter()
        .filter_map(|(flag, key, value)| {
            value.as_ref().map(|value| Override::flag(flag, key, value))
        })
        .collect();
        flags.extend(self.columns.overrides());
        flags
    }
}
