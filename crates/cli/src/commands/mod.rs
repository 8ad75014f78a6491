//! One file a verb.

mod batch_find;
mod chat;
mod completions;
mod config;
mod datasets;
mod devices;
mod embed;
mod evaluate;
mod export;
mod fetch;
mod finetune;
mod generate;
mod init;
mod inspect;
mod look;
mod lr_find;
mod man;
mod merge;
mod models;
mod predict;
mod push;
mod run_args;
mod runs;

use crate::{printer::Printer, signals, terminal, version};
use clap::{Args, Parser, Subcommand};
use rekindle::{
    Error, Launch, RunConfig, Task,
    config::{Device, Override},
};
use std::{
    ffi::OsString,
    fmt,
    io::BufRead,
    path::{Path, PathBuf},
    time::Instant,
};

/// Fine-tune pretrained models on a CPU or one GPU. One command, no Python.
#[derive(Parser)]
#[command(name = "rekindle", version = version::short(), long_version = version::long(), after_help = after_help())]
pub struct Arguments {
    #[command(subcommand)]
    verb: Verb,
    #[command(flatten)]
    global: terminal::GlobalArgs,
}

/// What each verb does is said once, at its arguments: the first line stands in the list of verbs, the rest in its own help.
#[derive(Subcommand)]
enum Verb {
    Finetune(Box<finetune::Finetune>),
    Evaluate(evaluate::Evaluate),
    Predict(predict::Predict),
    Embed(embed::Embed),
    Generate(generate::Generate),
    Chat(chat::Chat),
    LrFind(lr_find::LrFind),
    BatchFind(batch_find::BatchFind),
    Look(look::Look),
    Inspect(inspect::Inspect),
    Merge(merge::Merge),
    Export(export::Export),
    Runs(runs::Runs),
    Fetch(fetch::Fetch),
    Push(push::Push),
    Init(init::Init),
    Models(models::Models),
    Datasets(datasets::Datasets),
    Devices(devices::Devices),
    Config(config::Config),
    Completions(completions::Completions),
    Man(man::Man),
}

fn after_help() -> String {
    format!(
        "Devices in this build: {}.\nExamples:\n  rekindle finetune --train tickets.csv\n  rekindle predict runs/minilm-tickets \"my parcel never came\"",
        rekindle::compiled_devices().join(", ")
    )
}

/// Whether these arguments are those of a training process that is not the first of several.
pub fn follows(mut arguments: impl Iterator<Item = OsString>) -> bool {
    let trains = arguments.any(|argument| argument == "finetune");
    trains && Launch::found().is_some_and(|launch| launch.rank > 0)
}

/// Runs the verb.
pub fn run(arguments: Arguments) -> anyhow::Result<()> {
    let follows = matches!(arguments.verb, Verb::Finetune(_)) && follows(std::env::args_os());
    terminal::set(&match follows {
        true => arguments.global.clone().silenced(),
        false => arguments.global.clone(),
    });
    let clock = Instant::now();
    let printer = Printer::new();
    printer.detail(&format!(
        "rekindle {}, with {}",
        version::short(),
        rekindle::compiled_devices().join(", ")
    ));
    let done = run_verb(arguments);
    printer.detail(&format!("{:.2} s in all", clock.elapsed().as_secs_f64()));
    done
}

fn run_verb(arguments: Arguments) -> anyhow::Result<()> {
    match arguments.verb {
        Verb::Finetune(verb) => verb.run(),
        Verb::Evaluate(verb) => verb.run(),
        Verb::Predict(verb) => verb.run(),
        Verb::Embed(verb) => verb.run(),
        Verb::Generate(verb) => verb.run(),
        Verb::Chat(verb) => verb.run(),
        Verb::LrFind(verb) => verb.run(),
        Verb::BatchFind(verb) => verb.run(),
        Verb::Look(verb) => verb.run(),
        Verb::Inspect(verb) => verb.run(),
        Verb::Merge(verb) => verb.run(),
        Verb::Export(verb) => verb.run(),
        Verb::Runs(verb) => verb.run(),
        Verb::Fetch(verb) => verb.run(),
        Verb::Push(verb) => verb.run(),
        Verb::Init(verb) => verb.run(),
        Verb::Models(verb) => verb.run(),
        Verb::Datasets(verb) => verb.run(),
        Verb::Devices(verb) => verb.run(),
        Verb::Config(verb) => verb.run(),
        Verb::Completions(verb) => verb.run(),
        Verb::Man(verb) => verb.run(),
    }
}

/// 128 and the signal's number after an orderly stop, 2 for a fault of ours, 1 for everything a user can mend.
pub fn exit_code(error: &anyhow::Error) -> u8 {
    match error.downcast_ref::<Error>() {
        Some(Error::Interrupted { .. }) => signals::exit_code(),
        Some(Error::Internal(_)) => 2,
        _ => 1,
    }
}

/// How the columns of a file are called, for verbs that read one.
#[derive(Args)]
struct Columns {
    /// Column of the text, by name or place (the first is 0)
    #[arg(long, value_name = "COLUMN")]
    text: Option<String>,
    /// Column of the second text, where examples are pairs
    #[arg(long, value_name = "COLUMN")]
    text_pair: Option<String>,
    /// Column of the label
    #[arg(long, value_name = "COLUMN")]
    label: Option<String>,
}

impl Columns {
    fn overrides(&self) -> Vec<Override> {
        [
            ("--text", "data.text", &self.text),
            ("--text-pair", "data.text_pair", &self.text_pair),
            ("--label", "data.label", &self.label),
        ]
        .into_iter()
        .filter_map(|(flag, key, value)| {
            value.as_ref().map(|value| Override::flag(flag, key, value))
        })
        .collect()
    }
}

/// Settings over a run file: the named flags first, then `--set`.
fn configuration(
    file: Option<&PathBuf>,
    flags: Vec<Override>,
    set: &[String],
) -> Result<RunConfig, Error> {
    let overrides = overrides(flags, set);
    if let Some(file) = file {
        Printer::new().detail(&format!("settings from {}", file.display()));
    }
    Ok(RunConfig::load(file.map(PathBuf::as_path), &overrides)?)
}

/// Whether a `--set` names the task.
fn sets_task(set: &[String]) -> bool {
    sets(set, "task")
}

/// Whether a `--set` names this key.
fn sets(set: &[String], key: &str) -> bool {
    set.iter().any(|text| text.trim_start().starts_with(key))
}

/// The task that the examples tell, by what the settings so far say of how they are written. What is wrong with these
/// settings is said where they are used, what cannot be read by who reads it.
fn told_task(examples: &Path, flags: &[Override], set: &[String]) -> Option<Task> {
    // Who names the columns of choices has questions with choices.
    if sets(set, "data.choices") {
        return Some(Task::MultipleChoice);
    }
    let so_far = configuration(None, flags.to_vec(), set).unwrap_or_default();
    rekindle::fitting_task(examples, &so_far).ok()
}

/// The named flags, and `--set` over them.
fn overrides(mut flags: Vec<Override>, set: &[String]) -> Vec<Override> {
    flags.extend(set.iter().map(|text| Override::set(text)));
    flags
}

/// A line of standard input without its end; `None` at the end. What is no UTF-8 is `Err` with the hint that a user needs.
fn read_line(input: &mut impl BufRead) -> anyhow::Result<Option<String>> {
    let mut bytes = Vec::new();
    if input.read_until(b'\n', &mut bytes)? == 0 {
        return Ok(None);
    }
    for end in [b'\n', b'\r'] {
        bytes.pop_if(|byte| *byte == end);
    }
    String::from_utf8(bytes)
        .map(Some)
        .map_err(|_| NotUtf8.into())
}

/// All lines that are left of standard input.
fn read_lines(input: &mut impl BufRead) -> anyhow::Result<Vec<String>> {
    std::iter::from_fn(|| read_line(input).transpose()).collect()
}

/// A line of standard input that is no text.
#[derive(Debug)]
struct NotUtf8;

impl fmt::Display for NotUtf8 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "standard input is not UTF-8 text\nhint: convert it, for example with `iconv -f latin1 -t utf-8`",
        )
    }
}

impl std::error::Error for NotUtf8 {}

/// A device by name, as a run file has it.
fn device(name: Option<&String>) -> Result<Device, Error> {
    let flags = name
        .map(|name| Override::flag("--device", "device", name))
        .into_iter()
        .collect();
    Ok(configuration(None, flags, &[])?.device)
}
