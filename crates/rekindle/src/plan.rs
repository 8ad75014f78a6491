//! The plan of a run, before its first step.

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
    /// Label names by id.
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
    /// What the user should know.
    pub notes: Vec<String>,
}

/// `1234567` as `1,234,567`.
pub(crate) fn grouped(n: usize) -> String {
    let digits = n.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
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
                    grouped(self.parameters),
                    grouped(self.trainable)
                ),
            ),
            (
                "examples",
                format!(
                    "{} train, {} validation, {} test; {}",
                    grouped(train),
                    grouped(validation),
                    grouped(test),
                    self.inputs
                ),
            ),
            ("labels", format!("{}: {labels}", self.labels.len())),
            (
                "steps",
                format!(
                    "{} of {} examples (epochs: {}), {} of them warmup",
                    grouped(self.steps as usize),
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

/// Estimates the peak memory of a run in bytes, from what is kept: parameters, gradients and two moments of what trains,
/// and for the largest batch the activations that the backward pass reads (per layer and token: the block's input, q, k,
/// v, attention's output, two sums before norms, and the wide layer before and after its activation), with as much again
/// for what one layer computes on the way. Frozen prefixes keep nothing.
pub(crate) fn estimate_memory(
    parameters: usize,
    trainable: usize,
    tokens: usize,
    longest: usize,
    config: &rekindle_models::bert::BertConfig,
) -> u64 {
    const F32: usize = 4;
    let (d, i, layers) = (
        config.hidden_size,
        config.intermediate_size,
        config.num_hidden_layers,
    );
    let per_token = 9 * d + 2 * i;
    let kept = tokens * per_token * layers;
    let working = tokens * (4 * d + 2 * i) + tokens * longest * config.num_attention_heads * 3;
    // The program itself, its threads and its buffers.
    const BASE: usize = 60 << 20;
    (BASE + F32 * (parameters + 3 * trainable + kept + working)) as u64
}

#[cfg(test)]
mod tests {
    #[test]
    fn numbers_are_grouped() {
        for (n, expected) in [
            (0, "0"),
            (999, "999"),
            (1000, "1,000"),
            (22_713_216, "22,713,216"),
        ] {
            assert_eq!(super::grouped(n), expected);
        }
    }
}
