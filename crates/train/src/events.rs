//! What happens in a run, for whoever shows or keeps it, and `metrics.jsonl`, one event a line.

use crate::{Evaluation, TrainError};
use rekindle_base::write_atomically;
use serde::{Deserialize, Serialize};
use std::{
    fs::{File, OpenOptions},
    io::Write,
    path::{Path, PathBuf},
};

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Event {
    /// The loop begins, or goes on after `step` finished steps.
    Started {
        /// Steps done.
        step: u64,
        /// Steps in all.
        total_steps: u64,
    },
    /// The loop goes on from a checkpoint.
    Resumed {
        /// Steps done.
        step: u64,
    },
    /// One optimizer step.
    Step {
        /// From 1.
        step: u64,
        /// Epochs done, with the fraction of the current one.
        epoch: f64,
        /// Mean loss over the step's examples.
        #[serde(with = "crate::number")]
        loss: f64,
        /// This step's rate.
        #[serde(with = "crate::number")]
        learning_rate: f64,
        /// Global norm before clipping.
        #[serde(with = "crate::number")]
        grad_norm: f64,
        /// Examples in the step.
        examples: usize,
        /// Seconds the step took.
        seconds: f64,
    },
    /// An evaluation begins.
    Evaluating {
        /// After this step.
        step: u64,
    },
    /// An evaluation.
    Evaluated {
        /// After this step.
        step: u64,
        /// Epochs done.
        epoch: f64,
        /// Its figures.
        evaluation: Evaluation,
        /// Whether it is the best so far.
        best: bool,
        /// Seconds it took.
        seconds: f64,
    },
    /// A checkpoint was written.
    Checkpointed {
        /// After this step.
        step: u64,
        /// Where.
        path: PathBuf,
    },
    /// Something went wrong that does not stop the run.
    Warning {
        /// What, and what to do.
        message: String,
    },
}

/// Receives events in order.
pub trait Sink {
    /// One event.
    fn event(&mut self, event: &Event);
}

impl Sink for Vec<Event> {
    fn event(&mut self, event: &Event) {
        self.push(event.clone());
    }
}

impl<S: Sink + ?Sized> Sink for &mut S {
    fn event(&mut self, event: &Event) {
        (**self).event(event);
    }
}

/// Writes `metrics.jsonl`: every evaluation, every `every`-th step, the first and the last, where the run was resumed, and
/// warnings.
pub struct Metrics {
    file: File,
    every: u64,
    total_steps: u64,
}

impl Metrics {
    /// Appends to the file, or makes it.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub fn open(path: &Path, every: u64) -> Result<Self, TrainError> {
        let file = OpenOptions::new()
            .create(true)
            .append(true)
            .open(path)
            .map_err(TrainError::io(path))?;
        Ok(Self {
            file,
            every: every.max(1),
            total_steps: 0,
        })
    }

    /// Whether the file gets a line of this event.
    #[must_use]
    pub fn keeps(&self, event: &Event) -> bool {
        match event {
            Event::Step { step, .. } => {
                *step == 1 || *step == self.total_steps || step.is_multiple_of(self.every)
            }
            Event::Evaluated { .. } | Event::Resumed { .. } | Event::Warning { .. } => true,
            _ => false,
        }
    }
}

impl Sink for Metrics {
    fn event(&mut self, event: &Event) {
        if let Event::Started { total_steps, .. } = event {
            self.total_steps = *total_steps;
        }
        if self.keeps(event)
            && let Ok(mut line) = serde_json::to_string(event)
        {
            line.push('\n');
            // A full disk must not end a run that can still train; the checkpoint will say so.
            let _ = self.file.write_all(line.as_bytes());
        }
    }
}

/// Reads `metrics.jsonl`; a last line that was cut off is passed over. A missing file is an empty history.
///
/// # Errors
/// When the file cannot be read.
pub fn read_metrics(path: &Path) -> Result<Vec<Event>, TrainError> {
    Ok(lines(&read(path)?).map(|(_, event)| event).collect())
}

/// Drops what `metrics.jsonl` says of steps after `step`: a resumed run takes them again. What is kept keeps its bytes.
///
/// # Errors
/// When the file cannot be read or written.
pub fn truncate_metrics(path: &Path, step: u64) -> Result<(), TrainError> {
    let text = read(path)?;
    let kept: Vec<&[u8]> = lines(&text)
        .filter(|(_, event)| match event {
            Event::Step { step: s, .. }
            | Event::Evaluated { step: s, .. }
            | Event::Resumed { step: s } => *s <= step,
            _ => true,
        })
        .flat_map(|(line, _)| [line, b"\n"])
        .collect();
    write_atomically(path, &kept.concat()).map_err(TrainError::io(path))
}

fn read(path: &Path) -> Result<Vec<u8>, TrainError> {
    match std::fs::read(path) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        other => other.map_err(TrainError::io(path)),
    }
}

/// The lines that are whole, each with its event.
fn lines(text: &[u8]) -> impl Iterator<Item = (&[u8], Event)> {
    text.split(|&byte| byte == b'\n')
        .filter_map(|line| Some((line, serde_json::from_slice(line).ok()?)))
}
