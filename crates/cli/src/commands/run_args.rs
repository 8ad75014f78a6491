//! What a run is told: by `finetune`, and by the verbs that try it out.

use super::{Columns, configuration, sets_task, told_task};
use crate::printer::Printer;
use clap::Args;
use rekindle::{Error, Hub, RunConfig, Task, config::Override};
use std::path::{Path, PathBuf};

/// The settings of a run as arguments.
#[derive(Args)]
pub struct RunArgs {
    /// File of training examples (CSV, TSV, JSONL, Parquet, CoNLL columns, SQuAD: texts with labels or marked spans, questions, conversations, preferences), or a folder of
    /// pictures by label or of texts: the same as --train
    #[arg(conflicts_with = "train")]
    pub data: Option<String>,
    /// Run file (TOML); `rekindle init DATA` writes one
    #[arg(long, short, value_name = "FILE")]
    pub config: Option<PathBuf>,
    #[arg(long, value_name = "NAME", help = task_help())]
    pub task: Option<String>,
    /// Model: a name (minilm, efficientnet-lite0, smollm2), a Hugging Face name, a directory or a GGUF file
    #[arg(long, value_name = "NAME")]
    pub model: Option<String>,
    /// Dataset name or card
    #[arg(long, value_name = "NAME")]
    pub dataset: Option<String>,
    /// File of training examples (CSV, TSV, JSONL, Parquet), or a folder of pictures by label
    #[arg(long, value_name = "PATH")]
    pub train: Option<String>,
    /// File of validation examples; by default split off
    #[arg(long, value_name = "FILE")]
    pub validation: Option<String>,
    /// File of test examples
    #[arg(long, value_name = "FILE")]
    pub test: Option<String>,
    #[command(flatten)]
    columns: Columns,
    /// lora (the default for texts), full (the default for pictures), head or bitfit
    #[arg(long)]
    pub method: Option<String>,
    /// Passes over the training examples; by default 3, and more where there are few examples
    #[arg(long)]
    pub epochs: Option<String>,
    /// The highest learning rate; by default what suits the method, such as 1e-3 for lora and 5e-5 for full (`rekindle config
    /// train.learning_rate` lists them)
    #[arg(long, value_name = "RATE")]
    pub lr: Option<String>,
    /// Examples in a batch; by default 32, of pictures and conversations 16, of preferences 8
    #[arg(long, value_name = "N")]
    pub batch_size: Option<String>,
    /// The seed of everything that is random; by default 42
    #[arg(long, value_name = "N")]
    pub seed: Option<String>,
    /// Run directory; by default runs/MODEL-DATASET
    #[arg(long, short, value_name = "DIR")]
    pub output: Option<String>,
    /// cpu (the default), auto, wgpu, wgpu:N, cuda or cuda:N
    #[arg(long)]
    pub device: Option<String>,
    /// Any setting, as section.key=value; may be repeated. The section may be left out where one setting alone has the name
    #[arg(long, value_name = "KEY=VALUE")]
    pub set: Vec<String>,
}

/// The run file that `init` writes, and that is used where nothing else is said.
pub const RUN_FILE: &str = "rekindle.toml";

/// What `--help` says of `--task`.
fn task_help() -> String {
    let names: Vec<&str> = Task::ALL.iter().map(|task| task.name()).collect();
    format!("What to learn: {}", names.join(", "))
}

impl RunArgs {
    /// The settings, by arguments and run file. Without either, those of `rekindle.toml` in this folder, or else of the intents
    /// dataset.
    pub fn configuration(&mut self, printer: &Printer) -> anyhow::Result<RunConfig> {
        let usual = Path::new(RUN_FILE);
        if !self.names_data() && usual.is_file() {
            printer.say(&format!("using {RUN_FILE}"));
            self.config = Some(usual.to_owned());
        }
        match self.names_data() {
            true => self.configured(printer),
            false => Ok(self.default_run(printer)?),
        }
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

    /// By run file and arguments. Where neither names the task, the examples tell it, or the card of the dataset.
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
        if let Some(dataset) = self.dataset.as_deref().filter(|_| !named)
            && let Ok((card, _)) = Hub::from_env().dataset_card(dataset)
            && let Some(task) = card.task.as_deref().and_then(Task::named)
            && task != RunConfig::default().task
        {
            printer.say(&format!("{dataset}: learning {task}; --task names another"));
            flags.push(Override::flag(dataset, "task", task.name()));
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
