//! The plan of a run, before its first step.

use crate::figures::Watched;
use rekindle_base::thousands;
use rekindle_models::TextLimits;
use serde::Serialize;
use std::{fmt, path::PathBuf};

/// What a run will do.
#[derive(Debug, Clone, Serialize)]
pub struct Plan {
    /// The model's name and where its files are.
    pub model: String,
    /// Its directory.
    pub model_dir: PathBuf,
    /// What became of every tensor, in a line.
    pub loaded: String,
    /// The method, with its settings, in a line.
    pub method: String,
    /// The layers that get an adapter.
    pub adapted_layers: Vec<String>,
    /// All parameters.
    pub parameters: usize,
    /// Those that train.
    pub trainable: usize,
    /// The dataset.
    pub dataset: String,
    /// What is answered: "labels".
    pub answers: &'static str,
    /// Its names.
    pub labels: Vec<String>,
    /// Examples to train on, validate on, test on.
    pub examples: [usize; 3],
    /// Their size, in words: tokens, or pixels.
    pub inputs: String,
    /// Examples in an optimizer step.
    pub examples_per_step: usize,
    /// Optimizer steps in all.
    pub steps: u64,
    /// Of those, with a rising rate.
    pub warmup_steps: u64,
    /// Passes over the training examples.
    pub epochs: f64,
    /// The peak rate and its schedule.
    pub learning_rate: String,
    /// Peak memory, estimated, in bytes.
    pub memory: u64,
    /// What it computes on.
    pub device: String,
    /// The run directory.
    pub output_dir: PathBuf,
    /// What will be written there.
    pub writes: Vec<String>,
    /// The figures that sum up an evaluation.
    pub watched: Vec<Watched>,
    /// What the user should know.
    pub notes: Vec<String>,
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let share = 100.0 * self.trainable as f64 / self.parameters.max(1) as f64;
        let [train, validation, test] = self.examples;
        let labels = match self.labels.len() {
            n if n <= 6 => self.labels.join(", "),
            n => format!("{} and {} more", self.labels[..5].join(", "), n - 5),
        };
        let rows = [
            ("model", format!("{} ({})", self.model, self.loaded)),
            ("method", self.method.clone()),
            (
                "parameters",
                format!(
                    "{}, of which {} train ({share:.2} %)",
                    thousands(self.parameters as u64),
                    thousands(self.trainable as u64)
                ),
            ),
            (
                "examples",
                format!(
                    "{} train, {} validation, {} test; {}",
                    thousands(train as u64),
                    thousands(validation as u64),
                    thousands(test as u64),
                    self.inputs
                ),
            ),
            (self.answers, format!("{}: {labels}", self.labels.len())),
            (
                "steps",
                format!(
                    "{} of {} examples (epochs: {}), {} of them warmup",
                    thousands(self.steps),
                    self.examples_per_step,
                    self.epochs,
                    self.warmup_steps
                ),
            ),
            ("learning rate", self.learning_rate.clone()),
            (
                "memory",
                format!("about {:.0} MB at the peak", self.memory as f64 / 1e6),
            ),
            ("device", self.device.clone()),
            (
                "writes",
                format!("{}: {}", self.output_dir.display(), self.writes.join(", ")),
            ),
        ];
        for (name, value) in rows {
            writeln!(f, "  {name:<14} {value}")?;
        }
        for note in &self.notes {
            writeln!(f, "  note           {note}")?;
        }
        Ok(())
    }
}

/// What a run keeps in memory besides its parameters, in values of four bytes unless said otherwise.
pub(crate) struct Footprint {
    /// Bytes of the program, its threads and buffers.
    base: f64,
    /// Values that the backward pass reads, and what one layer computes on the way.
    activations: f64,
    /// The least share of `activations` that is there however little trains.
    least_share: f64,
    /// Bytes of examples kept ready.
    kept: f64,
}

impl Footprint {
    /// For the largest batch, per layer and token: the block's input, q, k, v, attention's output, two sums before norms,
    /// and the wide layer before and after its activation; with as much again for what one layer computes on the way.
    pub(crate) fn of_texts(limits: &TextLimits, tokens: usize, longest: usize) -> Self {
        let (d, i) = (limits.hidden_size, limits.intermediate_size);
        let kept = tokens * (9 * d + 2 * i) * limits.layers;
        let working = tokens * (4 * d + 2 * i) + tokens * longest * limits.heads * 3;
        Self {
            base: f64::from(60 << 20),
            activations: (kept + working) as f64,
            least_share: 1.0,
            kept: 0.0,
        }
    }

    /// Values of one picture that the backward pass reads, measured on the architectures here: about 130 for each pixel.
    pub(crate) fn of_pictures(size: usize, batch: usize, pictures: usize, budget: usize) -> Self {
        Self {
            base: 80e6,
            activations: 130.0 * (size * size) as f64 * batch as f64,
            least_share: 0.3,
            kept: (budget as f64).min(pictures as f64 * 400e3),
        }
    }

    /// The peak in bytes: parameters, gradients and two moments of what trains, and the above. `share`: of the units that
    /// train.
    pub(crate) fn bytes(&self, parameters: usize, trainable: usize, share: f64) -> u64 {
        let activations = self.activations * share.max(self.least_share);
        let values = (parameters + 3 * trainable) as f64 + activations;
        (self.base + 4.0 * values + self.kept) as u64
    }
}
