//! The plan of a run, before its first step.

use crate::{figures::Watched, trial::Cost};
use rekindle_base::thousands;
use rekindle_base::words::bytes;
use rekindle_models::{TextLimits, image::MapSizes};
use serde::Serialize;
use std::{fmt, path::PathBuf};
use sysinfo::System;

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
    /// The columns that are read, in words; none of folders and conversations.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub columns: Option<String>,
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
    /// What it takes, where that was measured.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cost: Option<Cost>,
    /// Whether the backward pass computes activations again, to need less memory.
    pub gradient_checkpointing: bool,
    /// What it computes on.
    pub device: String,
    /// The run directory.
    pub output_dir: PathBuf,
    /// What will be written there.
    pub writes: Vec<String>,
    /// The figure that makes a checkpoint the best, as people read it: "mAP".
    pub best_by: String,
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
            ("columns", self.columns.clone().unwrap_or_default()),
            (self.answers, format!("{}: {labels}", self.labels.len())),
            (
                "steps",
                format!(
                    "{} of {} examples each (epochs: {}), {} of them warmup",
                    thousands(self.steps),
                    self.examples_per_step,
                    self.epochs,
                    self.warmup_steps
                ),
            ),
            ("learning rate", self.learning_rate.clone()),
            (
                "memory",
                match self.cost.and_then(|cost| cost.peak_memory) {
                    Some(peak) => {
                        format!("about {} at the peak, measured", bytes(peak))
                    }
                    None => format!("about {} at the peak", bytes(self.memory)),
                },
            ),
            ("device", self.device.clone()),
            (
                "writes",
                format!("{}: {}", self.output_dir.display(), self.writes.join(", ")),
            ),
        ];
        // A language model answers in words that have no names.
        let nameless = self.labels.is_empty();
        for (name, value) in rows {
            if nameless && name == self.answers || value.is_empty() {
                continue;
            }
            writeln!(f, "  {name:<14} {value}")?;
            if let ("memory", Some(cost)) = (name, &self.cost) {
                writeln!(f, "  {:<14} {cost}", "time")?;
            }
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
    /// Values that are there at one time however little trains.
    least: f64,
    /// Of a model for texts: what stands beside that.
    layers: Option<Layers>,
    /// Values that the backward pass reads of each unit of a model for pictures.
    units: Vec<f64>,
    /// Bytes of examples kept ready.
    kept: f64,
}

/// Values of the layers of a model for texts: those above the first one that trains are kept for the backward pass.
struct Layers {
    count: usize,
    /// What one keeps.
    kept: usize,
    /// What one keeps with gradient checkpointing.
    input: usize,
    /// What one computes on the way.
    working: usize,
}

impl Layers {
    /// Values at the peak of a step, `frozen` layers at the bottom holding nothing that trains.
    fn peak(&self, frozen: usize, checkpointed: bool) -> f64 {
        let layers = self.count.saturating_sub(frozen);
        let kept = match checkpointed {
            true => self.input * layers + self.kept,
            false => self.kept * layers,
        };
        (kept + self.working) as f64
    }
}

/// What a model has of values.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sizes {
    /// Parameters, and how many of them train.
    pub parameters: usize,
    pub trainable: usize,
    /// Values that stay packed.
    pub packed: usize,
    /// Values of a packed weight that a step needs unpacked: the map to the vocabulary.
    pub unpacked: usize,
}

/// Pictures that are in memory at one time.
pub(crate) struct PicturesInMemory {
    /// Their side in pixels, as the model sees them.
    pub side: usize,
    /// In a batch of training, and of evaluation.
    pub batches: [usize; 2],
    /// Decoded ones that are kept ready, if there is room.
    pub kept: usize,
    /// Bytes for those.
    pub budget: usize,
}

impl Footprint {
    /// For the largest batch, per layer and token: the block's input, q, k, v, attention's output, two sums before norms,
    /// and the wide layer before and after its activation; with as much again for what one layer computes on the way.
    pub(crate) fn of_texts(limits: &TextLimits, tokens: usize, longest: usize) -> Self {
        let (d, i) = (limits.hidden_size, limits.intermediate_size);
        let of_layer = tokens * (9 * d + 2 * i);
        let working = tokens * (4 * d + 2 * i) + tokens * longest * limits.heads * 3;
        Self {
            base: f64::from(60 << 20),
            least: 0.0,
            layers: Some(Layers {
                count: limits.layers / limits.repeats,
                kept: of_layer * limits.repeats,
                input: tokens * d,
                working,
            }),
            units: Vec::new(),
            kept: 0.0,
        }
    }

    /// For the largest batch of a decoder, per layer and token: the block's input, what the maps read, queries, keys and values,
    /// and the wide layer's three. Attention and the vocabulary are gone through in blocks. Measured on SmolLM2, LoRA and full,
    /// at 1 x 8,192 to 4 x 256 tokens, on a CPU: to within 15 %.
    pub(crate) fn of_decoder(limits: &TextLimits, tokens: usize, evaluated: usize) -> Self {
        const BASE: f64 = 150e6;
        let (d, i) = (limits.hidden_size, limits.intermediate_size);
        let of_layer = tokens * (7 * d + 3 * i);
        let working = tokens * (4 * d + 2 * i);
        let evaluation = evaluated * (6 * d + 2 * i);
        Self {
            base: BASE,
            least: evaluation as f64,
            layers: Some(Layers {
                count: limits.layers,
                kept: of_layer,
                input: tokens * d,
                working,
            }),
            units: Vec::new(),
            kept: 0.0,
        }
    }

    /// Training keeps some values for each that a convolution or a linear map puts out; a batch is there five times as pixels, three
    /// of them ahead. Measured on ResNet-18, ResNet-50 and EfficientNet-Lite0 at batches of 8 to 64, on a CPU: to within 15 %.
    pub(crate) fn of_pictures(maps: &MapSizes, pictures: &PicturesInMemory) -> Self {
        const BASE: f64 = 190e6;
        const BATCHES_OF_PIXELS: usize = 5;
        /// Bytes of a decoded picture, which is kept no larger than it is needed.
        const DECODED: f64 = 400e3;
        let [train, evaluate] = pictures.batches;
        let pixels = 3 * pictures.side * pictures.side * BATCHES_OF_PIXELS;
        let of_unit = |&values: &usize| maps.kept * values as f64 * train as f64;
        Self {
            base: BASE,
            least: (train.max(evaluate) * (pixels + maps.at_once)) as f64,
            layers: None,
            units: maps.units.iter().map(of_unit).collect(),
            kept: (pictures.budget as f64).min(pictures.kept as f64 * DECODED),
        }
    }

    /// The peak in bytes: parameters, gradients and two moments of what trains, packed values, and the above. `frozen`: so many units at
    /// the bottom hold nothing that trains, of a model for texts the embeddings first. With gradient checkpointing where it is `asked` for, or where nobody said and the
    /// peak is above what is `free`.
    pub(crate) fn memory(
        &self,
        sizes: Sizes,
        frozen: usize,
        asked: Option<bool>,
        free: Option<u64>,
    ) -> Memory {
        /// Bytes of a packed value, on average of 4 and 8 bits.
        const PACKED: f64 = 1.0;
        let trained: f64 = self.units.iter().skip(frozen).sum();
        let of_layers =
            |layers: &Layers, checkpointed| layers.peak(frozen.saturating_sub(1), checkpointed);
        let bytes = |step: f64| {
            let held = sizes.parameters + 3 * sizes.trainable + sizes.unpacked;
            let values = held as f64 + trained.max(step).max(self.least);
            (self.base + 4.0 * values + PACKED * sizes.packed as f64 + self.kept) as u64
        };
        let layers = self.layers.as_ref();
        let plain = bytes(layers.map_or(0.0, |layers| of_layers(layers, false)));
        let wanted = asked.unwrap_or_else(|| free.is_some_and(|free| plain > free));
        let checkpointed = layers
            .filter(|_| wanted)
            .map(|layers| bytes(of_layers(layers, true)));
        Memory {
            bytes: checkpointed.unwrap_or(plain),
            gradient_checkpointing: checkpointed.is_some(),
            instead_of: checkpointed.map(|_| plain),
            free,
        }
    }
}

/// What a run is expected to take.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Memory {
    /// Bytes at the peak.
    pub bytes: u64,
    /// Whether the backward pass computes activations again.
    pub gradient_checkpointing: bool,
    /// Bytes without that.
    instead_of: Option<u64>,
    /// Bytes that are free now, where the system tells.
    free: Option<u64>,
}

impl Memory {
    /// What the user should know.
    pub(crate) fn note(&self) -> Option<String> {
        if let Some(plain) = self
            .instead_of
            .filter(|_| self.free.is_none_or(|free| self.bytes <= free))
        {
            return Some(format!(
                "gradient checkpointing: activations are computed again in the backward pass, which takes {} instead of {}",
                bytes(self.bytes),
                bytes(plain)
            ));
        }
        let free = self.free.filter(|&free| self.bytes > free)?;
        Some(format!(
            "warning: the run takes about {}, and {} are free; a smaller train.batch_size with train.gradient_accumulation_steps, a smaller data.max_length, or peft.method = \"lora\" take less",
            bytes(self.bytes),
            bytes(free)
        ))
    }
}

/// Bytes of memory that a process can still take, by the system and by its limits.
pub(crate) fn free_memory() -> Option<u64> {
    let mut system = System::new();
    system.refresh_memory();
    let free = system.available_memory();
    let limited = system.cgroup_limits().map(|limits| limits.free_memory);
    Some(limited.map_or(free, |limit| limit.min(free))).filter(|&free| free > 0)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use rekindle_models::image::{Architecture, LiteConfig, Pictures, ResNetConfig};

    /// Peaks of whole runs of three steps on 192 pictures of 500 x 400 pixels, in MB, as the system told them.
    #[test]
    fn the_plan_of_pictures_is_near_what_runs_took() {
        let lite = || Architecture::EfficientNetLite(LiteConfig(0));
        let resnet18 = || {
            Architecture::ResNet(ResNetConfig {
                stem: 64,
                stem_window: (7, 2, true),
                depths: vec![2; 4],
                widths: vec![64, 128, 256, 512],
                inner: Vec::new(),
                plain_shortcuts: false,
            })
        };
        let (l, r) = (3_374_851, 11_178_051);
        for (architecture, side, batches, parameters, trainable, frozen, measured) in [
            (lite(), 224, [32, 64], l, l, 0, 2326.0),
            (lite(), 224, [16, 8], l, l, 0, 1242.0),
            (lite(), 224, [8, 8], l, l, 0, 724.0),
            (lite(), 128, [32, 8], l, l, 0, 873.0),
            (lite(), 224, [32, 64], l, 3_843, 9, 969.0),
            (lite(), 224, [32, 8], l, 3_843, 9, 647.0),
            (lite(), 224, [8, 8], l, 3_843, 9, 372.0),
            (lite(), 224, [32, 8], l, 3_319_347, 4, 904.0),
            (lite(), 224, [32, 8], l, 3_373_027, 2, 1941.0),
            (resnet18(), 224, [32, 8], r, r, 0, 1274.0),
            (resnet18(), 224, [16, 8], r, r, 0, 836.0),
            (resnet18(), 224, [32, 64], r, 1_539, 5, 875.0),
            (resnet18(), 224, [32, 8], r, 8_395_267, 4, 710.0),
        ] {
            let pictures = Pictures {
                size: side,
                crop: 1.0,
                interpolation: "bilinear".into(),
                mean: [0.0; 3],
                std: [1.0; 3],
            };
            let name = architecture.name();
            let config = rekindle_models::ModelConfig::of_pictures(architecture, pictures);
            let maps = config.map_sizes(side).unwrap();
            let in_memory = PicturesInMemory {
                side,
                batches,
                kept: 192,
                budget: 1 << 30,
            };
            let footprint = Footprint::of_pictures(&maps, &in_memory);
            let sizes = Sizes {
                parameters,
                trainable,
                packed: 0,
                unpacked: 0,
            };
            let planned = footprint.memory(sizes, frozen, None, None).bytes as f64 / 1e6;
            let ratio = planned / measured;
            assert!(
                (0.85..1.15).contains(&ratio),
                "{name} {side} {batches:?} frozen {frozen}: planned {planned:.0}, took {measured}"
            );
        }
    }

    #[test]
    fn frozen_layers_keep_nothing_and_a_packed_vocabulary_is_unpacked_once() {
        let limits = TextLimits {
            positions: 1024,
            vocab_size: 1000,
            type_vocab_size: 0,
            hidden_size: 64,
            intermediate_size: 128,
            layers: 10,
            repeats: 1,
            heads: 4,
        };
        let footprint = Footprint::of_decoder(&limits, 512, 1);
        let sizes = Sizes {
            parameters: 0,
            trainable: 0,
            packed: 0,
            unpacked: 0,
        };
        let bytes = |sizes, frozen, asked| {
            let memory = footprint.memory(sizes, frozen, asked, None);
            memory.bytes
        };
        let all = bytes(sizes, 1, None);
        let of_layer = 4 * 512 * (7 * 64 + 3 * 128) as u64;
        // The embeddings and seven layers are frozen.
        assert_eq!(all - bytes(sizes, 8, None), 7 * of_layer);
        // With checkpointing a layer keeps its input.
        let input = 4 * 512 * 64;
        let saved = bytes(sizes, 1, Some(true)) - bytes(sizes, 8, Some(true));
        assert_eq!(saved, 7 * input);
        let packed = Sizes {
            packed: 64_000,
            unpacked: 64_000,
            ..sizes
        };
        assert_eq!(bytes(packed, 1, None) - all, 64_000 + 4 * 64_000);
    }
}
