//! What a directory or file of ours, or of Python's, holds, in words.

use crate::{Error, images::is_model, plan::grouped, saved::Saved};
use rekindle_models::{Checkpoint, bert::BertConfig, image::read_image_config, read_config};
use rekindle_train::{Checkpoint as TrainCheckpoint, Event, read_metrics};
use rekindle_weights::WeightFiles;
use std::{fmt::Write, fs, path::Path};

/// Describes a run directory, a model or adapter directory, a checkpoint, or a file of weights. With `all`, every tensor.
///
/// # Errors
/// When it is none of them, or broken.
pub fn inspect(path: &Path, all: bool) -> Result<String, Error> {
    let mut out = String::new();
    if path.is_file() {
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
                if names.is_empty() {
                    "an empty directory".to_owned()
                } else {
                    names.join(", ")
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

fn line(out: &mut String, name: &str, value: &str) {
    // Writing to a string does not fail.
    let _ = writeln!(out, "{name:<16} {value}");
}

fn tensors(out: &mut String, files: &WeightFiles, all: bool) {
    let values = |name: &str| {
        files
            .shape(name)
            .map_or(0, |shape| shape.iter().product::<usize>())
    };
    let total: usize = files.names().map(values).sum();
    line(
        out,
        "tensors",
        &format!("{}, {} values", files.names().count(), grouped(total)),
    );
    if all {
        for name in files.names() {
            let shape = files.shape(name).unwrap_or_default();
            let _ = writeln!(
                out,
                "  {name}  {} {shape:?}",
                files.dtype(name).unwrap_or_default()
            );
        }
    }
}

/// An image model: what its weights show.
fn image_model(out: &mut String, path: &Path, all: bool) -> Result<(), Error> {
    let config = read_image_config(path)?;
    let pictures = &config.pictures;
    line(out, "model", &config.architecture.name());
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
    line(out, "classes", &config.classes.to_string());
    if !config.labels.is_empty() {
        line(out, "labels", &config.labels.join(", "));
    }
    tensors(out, Checkpoint::open(path)?.files(), all);
    Ok(())
}

fn model(out: &mut String, path: &Path, all: bool) -> Result<(), Error> {
    if is_model(path) {
        return image_model(out, path, all);
    }
    let raw = read_config(path)?;
    let text = |key: &str| {
        raw.get(key)
            .map(|v| v.as_str().map_or_else(|| v.to_string(), str::to_owned))
            .unwrap_or_default()
    };
    line(
        out,
        "model",
        &format!("{} ({})", text("model_type"), text("architectures")),
    );
    if text("model_type") == "bert" {
        let config = BertConfig::read(path)?;
        line(
            out,
            "size",
            &format!(
                "{} layers, width {}, {} heads, vocabulary {}, {} positions",
                config.num_hidden_layers,
                config.hidden_size,
                config.num_attention_heads,
                grouped(config.vocab_size),
                config.max_position_embeddings
            ),
        );
        if !config.labels.is_empty() {
            line(out, "labels", &config.labels.join(", "));
        }
    }
    tensors(out, Checkpoint::open(path)?.files(), all);
    saved(out, path)
}

fn saved(out: &mut String, path: &Path) -> Result<(), Error> {
    if let Some(saved) = Saved::read(path)? {
        line(
            out,
            "tuned for",
            &format!("{}, texts of up to {} tokens", saved.task, saved.max_length),
        );
        if let Some(base) = saved.base_model {
            line(out, "base model", &base);
            line(out, "labels", &saved.labels.join(", "));
        }
    }
    Ok(())
}

fn adapter(out: &mut String, path: &Path, all: bool) -> Result<(), Error> {
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
    line(out, "targets", &format!("{:?}", config.target_modules));
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

fn checkpoint(out: &mut String, path: &Path, all: bool) -> Result<(), Error> {
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
        line(
            out,
            "best",
            &format!("{:.4} at step {}", best.value, best.step),
        );
    }
    tensors(
        out,
        &WeightFiles::open(&path.join("trainable.safetensors"))?,
        all,
    );
    Ok(())
}

fn run(out: &mut String, path: &Path, all: bool) -> Result<(), Error> {
    line(out, "run", &path.display().to_string());
    let events = read_metrics(&path.join("metrics.jsonl"))?;
    for event in &events {
        if let Event::Evaluated {
            step,
            evaluation,
            best,
            ..
        } = event
        {
            let mark = if *best { "  (best so far)" } else { "" };
            line(
                out,
                &format!("step {step}"),
                &format!(
                    "validation loss {:.4}, accuracy {:.4}{mark}",
                    evaluation.get("loss").unwrap_or(f64::NAN),
                    evaluation.get("accuracy").unwrap_or(f64::NAN)
                ),
            );
        }
    }
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
    let last = path.join("final");
    if !last.is_dir() {
        line(
            out,
            "final",
            "not finished yet; continue with finetune --resume",
        );
        return Ok(());
    }
    if last.join("adapter_config.json").is_file() {
        adapter(out, &last, all)
    } else {
        model(out, &last, all)
    }
}
