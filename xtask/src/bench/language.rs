//! Jobs of language models: SmolLM2 out of its GGUF file here, in PyTorch out of safetensors with the same values, which are
//! made once. Both sides are whole processes; of a step job only the steps after the first count.

use super::{Bench, Job, Side, best_figure, events, heard, job, median, model_dir, script, whole};
use crate::proc::shown;
use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use std::{
    fmt::Write,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// Steps, each timed within a process of its own.
pub const STEPS: [Job; 3] = [
    job(
        "lm-lora",
        "SmolLM2-135M, 4 x 256 tokens, all learned: LoRA (r 8, all linear layers) training step",
        1.5,
    ),
    job("lm-full", "the same: full training step", 1.5),
    job(
        "lm-full-checkpointed",
        "the same with gradient checkpointing, against PyTorch without",
        1.5,
    ),
];

/// A whole run.
pub const RUN: Job = job(
    "run-commands",
    "commands to JSON, 640 rows, SmolLM2-135M, LoRA (r 8, all linear layers)",
    3.0,
);

/// Steps of a step job; the first is not counted.
const ROUNDS: usize = 7;
/// Texts of a step, and tokens of each.
const BATCH: usize = 4;
const LENGTH: usize = 256;
/// Rows of the whole run.
const ROWS: usize = 640;

/// `None` where the data is not there.
pub fn run(bench: &Bench, bin: &Path, scratch: &Path, name: &str) -> Result<Option<(Side, Side)>> {
    let whole_run = name == RUN.name;
    let data = bench.data.as_ref().map(|data| data.join("smart-home"));
    let data = data.filter(|data| data.is_dir());
    if whole_run && data.is_none() {
        return Ok(None);
    }
    let base = base(bench, scratch, &model_dir(bin, "smollm2")?)?;
    let files = match data.filter(|_| whole_run) {
        Some(data) => ["train", "test"]
            .into_iter()
            .map(|part| commands(&data, part, scratch))
            .collect::<Result<Vec<_>>>()?,
        None => vec![texts(scratch)?],
    };
    let method = match name {
        "lm-full" | "lm-full-checkpointed" => "full",
        _ => "lora",
    };
    let out = scratch.join("run");
    let (mut ours, mut theirs) = (Side::default(), Side::default());
    for _ in 0..bench.pairs {
        let (mut here, mut there) = (
            Command::new(bin.join("rekindle")),
            Command::new(&bench.python),
        );
        here.args([
            "finetune",
            "--task",
            "text-generation",
            "--model",
            "smollm2",
        ]);
        here.args(["--method", method]).arg("--output").arg(&out);
        let batch = if whole_run { 16 } else { BATCH };
        let mut settings = vec![
            "eval.answers=0".to_owned(),
            format!("data.max_length={LENGTH}"),
            format!("train.batch_size={batch}"),
        ];
        if method == "lora" {
            settings.extend(["peft.r=8", "peft.lora_alpha=16"].map(String::from));
        }
        match files.as_slice() {
            [train, test] => {
                here.arg("--train").arg(train).arg("--validation").arg(test);
                here.args(["--epochs", "1"]);
                settings.push("train.learning_rate=1e-3".into());
            }
            files => {
                here.arg("--train").args(files);
                settings.extend([
                    format!("train.max_steps={ROUNDS}"),
                    "train.log_every_steps=1".into(),
                    "data.validation_fraction=0".into(),
                    "eval.every=never".into(),
                ]);
            }
        }
        if name == "lm-full-checkpointed" {
            settings.push("train.gradient_checkpointing=true".into());
        }
        here.args(settings.iter().flat_map(|setting| ["--set", setting]));
        there.arg(script()).args(["language", method]).arg(&base);
        there.arg(scratch.join("peft"));
        match whole_run {
            true => there.args(&files),
            false => there.args([ROUNDS, BATCH, LENGTH].map(|n| n.to_string())),
        };

        let _ = fs::remove_dir_all(&out);
        whole(here, &mut ours, heard)?;
        let events = events(&out.join("metrics.jsonl"))?;
        whole(there, &mut theirs, |line, side| {
            heard(line, side);
            let said: Value = serde_json::from_str(line).unwrap_or_default();
            side.figure = said["perplexity"].as_f64().or(side.figure);
            // Of a step job, the time of a step and not of the process.
            if let (Some(seconds), false) = (said["step"].as_f64(), whole_run) {
                side.epoch.push(seconds);
            }
        })?;
        ours.figure = best_figure(&events, "perplexity");
        if !whole_run {
            ours.epoch.push(step_seconds(&events));
        }
    }
    if !whole_run {
        for side in [&mut ours, &mut theirs] {
            side.seconds = std::mem::take(&mut side.epoch);
        }
    }
    Ok(Some((ours, theirs)))
}

/// The model for PyTorch.
fn base(bench: &Bench, scratch: &Path, package: &Path) -> Result<PathBuf> {
    let base = scratch.join("smollm2");
    if !base.join("model.safetensors").is_file() {
        let mut command = Command::new(&bench.python);
        command.arg(script()).arg("unpack").arg(package).arg(&base);
        let output = command.output().with_context(|| shown(&command))?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            bail!("`{}` failed: {}", shown(&command), said.trim());
        }
    }
    Ok(base)
}

/// Commands and the JSON that each means, as prompts and completions: the first [`ROWS`] to train on, all to test.
fn commands(data: &Path, part: &str, scratch: &Path) -> Result<PathBuf> {
    let source = data.join(format!("{part}.jsonl"));
    let lines = fs::read_to_string(&source).with_context(|| source.display().to_string())?;
    let rows = if part == "train" { ROWS } else { usize::MAX };
    let mut out = String::new();
    for line in lines.lines().take(rows) {
        let row: Value = serde_json::from_str(line)?;
        writeln!(
            out,
            "{}",
            json!({"prompt": row["text"], "completion": row["json"]})
        )?;
    }
    let path = scratch.join(format!("commands-{part}.jsonl"));
    fs::write(&path, out).with_context(|| path.display().to_string())?;
    Ok(path)
}

/// Texts of [`LENGTH`] tokens each: a token a word, and the end.
fn texts(scratch: &Path) -> Result<PathBuf> {
    const WORDS: [&str; 8] = ["the", "and", "of", "to", "in", "is", "for", "that"];
    let mut out = String::new();
    for row in 0..ROUNDS * BATCH {
        let words = (0..LENGTH - 1).map(|at| WORDS[(at * at + row * (at / 3) + row) % WORDS.len()]);
        let text = words.collect::<Vec<_>>().join(" ");
        writeln!(out, "{}", json!({"text": text}))?;
    }
    let path = scratch.join("texts.jsonl");
    fs::write(&path, out).with_context(|| path.display().to_string())?;
    Ok(path)
}

/// Seconds of a step after the first.
fn step_seconds(events: &[Value]) -> f64 {
    let steps = events
        .iter()
        .filter(|event| event["kind"] == "step")
        .skip(1);
    let seconds: Vec<f64> = steps.filter_map(|step| step["seconds"].as_f64()).collect();
    median(&seconds)
}
