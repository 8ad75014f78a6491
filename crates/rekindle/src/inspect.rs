//! What a directory or file of ours, or of Python's, holds, in words.

use crate::{Error, RunConfig, runs, saved::Saved};
use rekindle_base::{first_of, thousands};
use rekindle_models::Pretrained;
use rekindle_train::{Checkpoint as TrainCheckpoint, Evaluation, Event, read_metrics};
use rekindle_weights::WeightFiles;
use serde_json::{Map, Value, json};
use std::{fmt, fs, path::Path};

/// What a directory or file holds.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Inspected {
    /// What is said of it: names and values.
    pub lines: Vec<(String, String)>,
    /// Its tensors by name, with type and shape, where all were asked for.
    pub tensors: Vec<(String, String, Vec<usize>)>,
}

impl Inspected {
    /// Everything as a JSON object.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let lines = self.lines.iter();
        let mut object: Map<String, Value> = lines
            .filter(|(name, _)| name != TENSORS || self.tensors.is_empty())
            .map(|(name, value)| (name.replace(' ', "_"), value.as_str().into()))
            .collect();
        if !self.tensors.is_empty() {
            let tensor = |(name, dtype, shape): &(String, String, Vec<usize>)| json!({"name": name, "dtype": dtype, "shape": shape});
            object.insert(TENSORS.into(), self.tensors.iter().map(tensor).collect());
        }
        Value::Object(object)
    }
}

impl fmt::Display for Inspected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, value) in &self.lines {
            writeln!(f, "{name:<16} {value}")?;
            if name == TENSORS {
                for (name, dtype, shape) in &self.tensors {
                    writeln!(f, "  {name}  {dtype} {shape:?}")?;
                }
            }
        }
        Ok(())
    }
}

/// The line that counts the tensors.
const TENSORS: &str = "tensors";

/// Describes a run directory, a model or adapter directory, a checkpoint, or a file of weights. With `all`, every tensor.
///
/// # Errors
/// When it is none of them, or broken.
pub fn inspect(path: &Path, all: bool) -> Result<Inspected, Error> {
    let mut out = Inspected::default();
    if path.is_file() && is_settings(path) {
        return Err(Error::ModelDir {
            path: path.to_owned(),
            reason: "it holds settings, not tensors".into(),
            hint: match path.parent().filter(|folder| *folder != Path::new("")) {
                Some(folder) => format!("inspect its directory, {}", folder.display()),
                None => "inspect its directory".into(),
            },
        });
    } else if path.is_file() {
        tensors(&mut out, &WeightFiles::open(path)?, all);
    } else if path.join("state.json").is_file() {
        checkpoint(&mut out, path, all)?;
    } else if path.join("config.toml").is_file() {
        run(&mut out, path, all)?;
    } else if path.join("adapter_config.json").is_file() {
        adapter(&mut out, path, all)?;
    } else if path.join("config.json").is_file() {
        model(&mut out, path, all)?;
    } else {
        let found = match fs::read_dir(path) {
            Ok(entries) => {
                let mut names: Vec<String> = entries
                    .filter_map(|e| e.ok()?.file_name().into_string().ok())
                    .collect();
                names.sort();
                match names.is_empty() {
                    true => "an empty directory".to_owned(),
                    false => first_of(&names),
                }
            }
            Err(source) => {
                return Err(Error::Io {
                    path: path.to_owned(),
                    source,
                });
            }
        };
        return Err(Error::ModelDir {
            path: path.to_owned(),
            reason: format!("expected config.json, adapter_config.json, config.toml, state.json or a file of weights (.safetensors, .bin, .pth), found {found}"),
            hint: "name a model directory, an adapter directory, a run directory or one of its checkpoints".into(),
        });
    }
    Ok(out)
}

/// Whether a file is one of those beside the weights; an index opens its shards.
fn is_settings(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let settings = [".json", ".jsonl", ".toml", ".txt", ".html"];
    settings.iter().any(|end| name.ends_with(end)) && !name.ends_with(".index.json")
}

fn line(out: &mut Inspected, name: &str, value: &str) {
    out.lines.push((name.to_owned(), value.to_owned()));
}

fn tensors(out: &mut Inspected, files: &WeightFiles, all: bool) {
    let values = |name: &str| {
        files
            .shape(name)
            .map_or(0, |shape| shape.iter().product::<usize>())
    };
    let total: usize = files.names().map(values).sum();
    let count = format!(
        "{}, {} values",
        files.names().count(),
        thousands(total as u64)
    );
    line(out, TENSORS, &count);
    if all {
        out.tensors.extend(files.names().map(|name| {
            let dtype = files.dtype(name).map(|dtype| dtype.to_string());
            let shape = files.shape(name).unwrap_or_default().to_vec();
            (name.to_owned(), dtype.unwrap_or_default(), shape)
        }));
    }
}

/// A model directory: what it says of itself and what its weights show.
fn model(out: &mut Inspected, path: &Path, all: bool) -> Result<(), Error> {
    let pretrained = Pretrained::open(path)?;
    let config = pretrained.config();
    let architectures = match config.architectures.is_empty() {
        true => String::new(),
        false => format!(" ({})", config.architectures.join(", ")),
    };
    line(out, "model", &format!("{}{architectures}", config.family));
    line(out, "size", &config.size_words());
    if let Some(pictures) = &config.pictures {
        line(
            out,
            "pictures",
            &format!(
                "{0} x {0} pixels out of {1}, {2}, mean {3:?}, deviation {4:?}",
                pictures.size,
                pictures.resized(),
                pictures.interpolation,
                pictures.mean,
                pictures.std
            ),
        );
        line(out, "classes", &config.outputs.to_string());
    }
    if !config.labels.is_empty() {
        line(out, "labels", &config.labels.join(", "));
    }
    tensors(out, pretrained.files(), all);
    saved(out, path)
}

fn saved(out: &mut Inspected, path: &Path) -> Result<(), Error> {
    if let Some(saved) = Saved::read(path)? {
        let length = match saved.max_length {
            0 => String::new(),
            length => format!(", texts of up to {length} tokens"),
        };
        line(out, "tuned for", &format!("{}{length}", saved.task));
        if let Some(base) = saved.base_model {
            line(out, "base model", &base);
            if !saved.labels.is_empty() {
                line(out, "labels", &saved.labels.join(", "));
            }
        }
    }
    Ok(())
}

fn adapter(out: &mut Inspected, path: &Path, all: bool) -> Result<(), Error> {
    let config = rekindle_peft::read_config(path)?;
    line(
        out,
        "adapter",
        &format!(
            "LoRA r {}, alpha {}, scale {}",
            config.r,
            config.lora_alpha,
            config.scale()
        ),
    );
    line(out, "targets", &config.target_modules.to_string());
    if !config.modules_to_save.is_empty() {
        line(out, "saved in full", &config.modules_to_save.join(", "));
    }
    tensors(
        out,
        &WeightFiles::open(&path.join("adapter_model.safetensors"))?,
        all,
    );
    saved(out, path)
}

fn checkpoint(out: &mut Inspected, path: &Path, all: bool) -> Result<(), Error> {
    let state = TrainCheckpoint::read(path)?.state;
    line(
        out,
        "checkpoint",
        &format!(
            "after step {} of {}, in epoch {}",
            state.step,
            state.total_steps,
            state.epoch + 1
        ),
    );
    if let Some(best) = state.best {
        let found = format!("{:.4} at step {}", best.value, best.step);
        line(out, "best", &found);
    }
    tensors(
        out,
        &WeightFiles::open(&path.join("trainable.safetensors"))?,
        all,
    );
    Ok(())
}

/// The loss and every other figure, in a line.
fn figures_of(evaluation: &Evaluation) -> String {
    let (loss, others): (Vec<_>, Vec<_>) = evaluation
        .metrics
        .iter()
        .partition(|(key, _)| *key == "loss");
    let all = loss.into_iter().chain(others);
    let figures: Vec<String> = all
        .map(|(key, value)| format!("{key} {value:.4}"))
        .collect();
    figures.join(", ")
}

fn run(out: &mut Inspected, path: &Path, all: bool) -> Result<(), Error> {
    let summary = runs::summary(path);
    line(out, "run", &path.display().to_string());
    line(out, "state", &summary.state.to_string());
    let about = [
        ("task", summary.task),
        ("tuned from", summary.model),
        ("data", summary.data),
        ("method", summary.method),
    ];
    for (name, value) in about {
        if let Some(value) = value {
            line(out, name, &value);
        }
    }
    if let (Some(name), Some(value), Some(split)) =
        (summary.headline, summary.figure, summary.split)
    {
        let result = format!("{} {value:.4} ({split})", name.replace('_', " "));
        line(out, "result", &result);
    }
    let last = path.join("final");
    match last.is_dir() {
        false => line(
            out,
            "final",
            "not finished yet; continue with finetune --resume",
        ),
        true if last.join("adapter_config.json").is_file() => adapter(out, &last, all)?,
        true => model(out, &last, all)?,
    }
    history(out, path)
}

/// The checkpoints of a run, and its evaluations with the best marked.
fn history(out: &mut Inspected, path: &Path) -> Result<(), Error> {
    let mut checkpoints: Vec<String> = fs::read_dir(path.join("checkpoints"))
        .map(|entries| {
            entries
                .filter_map(|e| e.ok()?.file_name().into_string().ok())
                .filter(|n| n.starts_with("step-"))
                .collect()
        })
        .unwrap_or_default();
    checkpoints.sort();
    line(out, "checkpoints", &checkpoints.join(", "));
    let events = read_metrics(&path.join("metrics.jsonl"))?;
    // A run file that an older version wrote may not be readable: the figure then stays unnamed.
    let best_by = RunConfig::load(Some(&path.join("config.toml")), &[]).map_or_else(
        |_| String::new(),
        |config| format!(" {}", config.metric().name()),
    );
    let best_of = |event: &Event| match event {
        Event::Evaluated { step, best, .. } => best.then_some(*step),
        _ => None,
    };
    let best = events.iter().rev().find_map(best_of);
    for event in &events {
        if let Event::Evaluated {
            step, evaluation, ..
        } = event
        {
            let mark = match best == Some(*step) {
                true => format!("  (best{best_by})"),
                false => String::new(),
            };
            line(
                out,
                &format!("step {step}"),
                &format!("validation {}{mark}", figures_of(evaluation)),
            );
        }
    }
    Ok(())
}
