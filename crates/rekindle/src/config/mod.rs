//! The configuration of a run: typed, with defaults, read from a TOML file and overrides, checked as a whole.
//!
//! Parse, then resolve, then act: every mistake of a run file and of the command line is found and reported together,
//! with its place, before any data is touched. Each setting is declared once, in `schema`.
//!
//! Relative paths in a run file count from the current directory, not from the file.
//!
//! ```
//! use rekindle::config::{Method, Override, PeftConfig, RunConfig, TrainConfig};
//!
//! let from_code = RunConfig {
//!     peft: PeftConfig { method: Method::Full, ..Default::default() },
//!     train: TrainConfig { epochs: Some(1.0), ..Default::default() },
//!     ..Default::default()
//! };
//! from_code.validate()?;
//! assert_eq!(from_code.learning_rate(), 5e-5);
//!
//! let overrides = [Override::set("peft.method=full"), Override::set("train.epochs=1")];
//! assert_eq!(RunConfig::load(None, &overrides)?, from_code);
//! # Ok::<(), rekindle::config::ConfigErrors>(())
//! ```

mod checks;
mod error;
mod explain;
mod read;
mod schema;
#[cfg(test)]
mod tests;
mod value;
mod write;

use std::path::{Path, PathBuf};

pub use error::{ConfigErrors, ConfigMistake, ConfigProblem, Place};
pub use explain::{Description, decided, describe, descriptions, settings_page};
pub use read::Override;
pub use schema::{
    CheckpointConfig, DataConfig, EmbeddingConfig, EvalConfig, ImagesConfig, Key, ModelConfig,
    PeftConfig, PreferenceConfig, ReportConfig, RunConfig, TrainConfig, keys,
};
pub use value::{
    AnswerCount, Augmentation, BatchNorms, Column, Columns, Date, Device, EmbeddingLoss, EvalEvery,
    FileFormat, LossOn, Method, Metric, ModelChoice, OnBadExample, Pooling, Precision,
    PreferenceLoss, Schedule, TargetModules,
};
pub use write::{commented, reference};

pub use crate::task::Task;
use crate::task::{Kind, Modality};

/// The dataset of a run that names neither a dataset nor a file.
pub const DEFAULT_DATASET: &str = "intents";

/// The dataset of a run on images that names neither a dataset nor a folder.
pub const DEFAULT_IMAGES: &str = "icons";
/// The dataset of text generation where none is named.
pub const DEFAULT_PROMPTS: &str = "smart-home";

/// The dataset of token classification where none is named.
pub const DEFAULT_ENTITIES: &str = "helpdesk-entities";

/// The batch size of few-shot classification, where a run says nothing.
pub(crate) const FEW_SHOT_BATCH: usize = 64;

/// The share of the steps that warm up, where a run says nothing.
pub const DEFAULT_WARMUP_RATIO: f64 = 0.06;

/// Where the examples come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DataSource<'a> {
    /// A dataset's name or the path of its card.
    Dataset(&'a str),
    /// Files.
    Files {
        /// The training examples.
        train: &'a Path,
        /// The validation examples.
        validation: Option<&'a Path>,
        /// The test examples.
        test: Option<&'a Path>,
    },
}

/// Whether a setting, by its name with its section, is one of a task.
pub(crate) fn says_something_to(key: &str, task: Task) -> bool {
    keys().any(|known| known.path() == key && known.applies.to(task))
}

impl RunConfig {
    /// The defaults of a task.
    pub fn for_task(task: Task) -> Self {
        let mut config = Self {
            task,
            ..Self::default()
        };
        if task.modality() == Modality::Images {
            config.model.name = "efficientnet-lite0".into();
            config.peft.method = Method::Full;
            config.train.batch_size = 16;
            config.train.schedule = Schedule::Cosine;
            config.eval.batch_size = 16;
        }
        if task.kind() == Kind::Extraction {
            // As BERT's own recipe has it: a window holds a question and most of a paragraph.
            config.data.max_length = 384;
            config.train.batch_size = 16;
        }
        if task.kind() == Kind::Choice {
            // As transformers' recipe has it: of a question each choice is a sequence.
            config.data.max_length = 256;
            config.train.batch_size = 16;
        }
        if task.kind() == Kind::Embedding {
            // More texts of a batch are more to choose among.
            config.train.batch_size = 64;
        }
        if matches!(task.kind(), Kind::Generation | Kind::Preference) {
            config.model.name = "smollm2".into();
            config.data.max_length = 1024;
            // Of a preference there are two answers.
            let batch_size = if task.kind() == Kind::Preference {
                8
            } else {
                16
            };
            config.train.batch_size = batch_size;
            config.eval.batch_size = batch_size;
        }
        config
    }

    /// Reads the run file at `path`, if any, and puts `overrides` over it, a later one over an earlier one. An
    /// override takes back what it excludes of the file: `train.warmup_steps` a `train.warmup_ratio`, `data.dataset` the
    /// files, and the other way round.
    ///
    /// # Errors
    /// Every mistake of the file and the overrides.
    pub fn load(path: Option<&Path>, overrides: &[Override]) -> Result<Self, ConfigErrors> {
        read::load(path, overrides)
    }

    /// As [`load`](Self::load), with the text of a run file; `path` is what messages call it.
    ///
    /// # Errors
    /// Every mistake of the text and the overrides.
    pub fn parse(text: &str, path: &Path, overrides: &[Override]) -> Result<Self, ConfigErrors> {
        read::parse(text, path, overrides)
    }

    /// Checks a configuration made by a program as a run file would be checked.
    ///
    /// # Errors
    /// Every value out of range and every contradiction.
    pub fn validate(&self) -> Result<(), ConfigErrors> {
        read::validate(self)
    }

    /// The run file of this configuration: every setting that has a value, with its documentation. Reading it gives
    /// this configuration again.
    pub fn to_toml(&self) -> String {
        write::complete(self)
    }

    /// Passes over so many training examples with so many labels: those set; else 3, or as many as make enough steps to learn from,
    /// within bounds. What is enough was measured (docs/results.md, "Small sets").
    pub fn epochs(&self, examples: usize, labels: usize) -> f64 {
        let usual = || self.usual_epochs(examples, labels);
        self.train.epochs.unwrap_or_else(usual)
    }

    /// The passes where nobody set them.
    pub(crate) fn usual_epochs(&self, examples: usize, labels: usize) -> f64 {
        const USUAL: f64 = 3.0;
        let (enough, most) = match self.task.kind() {
            // Of each batch all pairs are learned.
            Kind::Classification if self.peft.method == Method::Setfit => (30.0, 30.0),
            Kind::Preference => (0.0, USUAL),
            Kind::Embedding => (60.0, 10.0),
            // More passes know the training questions by heart, and no others better.
            Kind::Choice => (40.0, 20.0),
            // They learn the form of the answers at once, and by heart soon after.
            Kind::Generation => (60.0, 10.0),
            Kind::Tags | Kind::Extraction => (250.0, 40.0),
            // What is below the head is computed once: steps cost next to nothing.
            _ if self.peft.method == Method::Head => (300.0, 60.0),
            _ if self.task.modality() == Modality::Images => (40.0, 30.0),
            // Many classes take longer to tell apart.
            _ => (150f64.max(10.0 * labels as f64), 60.0),
        };
        let window = self.train.batch_size * self.train.gradient_accumulation_steps;
        let steps = examples.max(1).div_ceil(window.max(1)) as f64;
        (enough / steps).ceil().clamp(USUAL, most)
    }

    /// Epochs from one evaluation to the next in so many epochs, where `eval.every` is "auto": patience counts every epoch.
    pub(crate) fn epochs_an_evaluation(&self, epochs: f64) -> u64 {
        const MOST: f64 = 20.0;
        match self.eval.early_stopping_patience {
            Some(_) => 1,
            // A head is fitted for each, and few examples tell checkpoints apart.
            None if self.peft.method == Method::Setfit => epochs.ceil().max(1.0) as u64,
            None => (epochs / MOST).ceil().max(1.0) as u64,
        }
    }

    /// The highest learning rate of the schedule: the one set, or the method's.
    pub fn learning_rate(&self) -> f64 {
        let usual = match (self.task.modality(), self.peft.method) {
            (_, Method::Full) if self.task.kind() == Kind::Preference => 1e-6,
            _ if self.task.kind() == Kind::Preference => 5e-5,
            (Modality::Text, Method::Setfit) => 5e-5,
            (_, Method::Lora) | (Modality::Text, Method::Bitfit) => 1e-3,
            (Modality::Text, Method::Full) => 5e-5,
            (Modality::Text, Method::Head) => 5e-3,
            (Modality::Images, Method::Full) => 1e-4,
            (Modality::Images, _) => 5e-3,
        };
        self.train.learning_rate.unwrap_or(usual)
    }

    /// The highest learning rate of the head: the one set, or for multi-label 1e-2, because sigmoids of rare labels start far
    /// from where they end. So it is for classes that are learned with LoRA, and of pictures of which everything is tuned, at
    /// the usual rate: a new head is small, and has far to go (docs/results.md, "Small sets"). `None`: that of the other parameters.
    pub fn head_learning_rate(&self) -> Option<f64> {
        let far = matches!(
            (self.task, self.peft.method),
            (
                Task::TextClassification
                    | Task::TokenClassification
                    | Task::QuestionAnswering
                    | Task::MultipleChoice
                    | Task::ImageClassification,
                Method::Lora
            ) | (Task::ImageClassification, Method::Full)
        );
        let faster =
            (far && self.train.learning_rate.is_none()) || self.task.kind() == Kind::MultiLabel;
        let usual = faster.then(|| self.learning_rate().max(1e-2));
        self.train.head_learning_rate.or(usual)
    }

    /// Whether `peft.target_modules` = "auto" puts adapters on every linear layer, and not on query and value only, for so many examples of
    /// so many labels: that tells more classes apart, where there is enough to learn them from (docs/results.md, "Small
    /// sets"). Tags of words and vectors of texts, for example, always have them.
    pub fn adapts_every_linear_layer(&self, examples: usize, labels: usize) -> bool {
        const MANY: usize = 10;
        const EACH: usize = 8;
        match self.task {
            // A word's tag, whether an answer begins with it, and what fits a question hang on words around, whatever the set. Vectors are
            // better with them for sets of every size (docs/results.md).
            Task::TokenClassification
            | Task::QuestionAnswering
            | Task::MultipleChoice
            | Task::TextEmbedding => true,
            Task::TextClassification => labels > MANY && examples >= EACH * labels,
            _ => false,
        }
    }

    /// Whether batch norms stay what they are in the pretrained model, with so many training examples. The moments of a few small
    /// batches are worse than those that the model comes with (docs/results.md, "Small sets").
    pub fn freezes_batch_norms(&self, examples: usize) -> bool {
        const ENOUGH: usize = 2000;
        match self.images.batch_norm {
            BatchNorms::Auto => {
                self.task.modality() == Modality::Images
                    && self.peft.method == Method::Full
                    && self.peft.unfreeze.is_empty()
                    && examples < ENOUGH
            }
            BatchNorms::Train => false,
            BatchNorms::Frozen => true,
        }
    }

    /// Whether the best model is saved, and not the last, with so many validation examples. By the share of right answers among a
    /// few dozen, models that differ by ten points cannot be told apart (docs/results.md, "Small sets").
    pub fn saves_best(&self, validation: usize) -> bool {
        const ENOUGH: usize = 100;
        match self.eval.choose {
            ModelChoice::Auto => {
                validation >= ENOUGH
                    || !matches!(self.task.kind(), Kind::Classification | Kind::Choice)
                    || self.metric() == Metric::Loss
                    || self.eval.early_stopping_patience.is_some()
            }
            ModelChoice::Best => true,
            ModelChoice::Last => false,
        }
    }

    /// The figure that says which checkpoint is the best: the one set, or the task's usual one.
    pub fn metric(&self) -> Metric {
        let usual = Metric::of(self.task.kind()).first().copied();
        self.eval.metric.or(usual).unwrap_or(Metric::Loss)
    }

    /// Where the examples come from.
    pub fn data_source(&self) -> DataSource<'_> {
        match &self.data.train {
            Some(train) => DataSource::Files {
                train,
                validation: self.data.validation.as_deref(),
                test: self.data.test.as_deref(),
            },
            None => DataSource::Dataset(self.data.dataset.as_deref().unwrap_or(
                match (self.task.kind(), self.task.modality()) {
                    (Kind::Generation, _) => DEFAULT_PROMPTS,
                    (Kind::Tags, _) => DEFAULT_ENTITIES,
                    (_, Modality::Text) => DEFAULT_DATASET,
                    (_, Modality::Images) => DEFAULT_IMAGES,
                },
            )),
        }
    }

    /// The directory the run is written to: the one set, or the first of `runs/MODEL-DATASET`,
    /// `runs/MODEL-DATASET-2` and so on that does not exist.
    pub fn output_dir(&self) -> PathBuf {
        if let Some(set) = &self.output_dir {
            return set.clone();
        }
        let data = match self.data_source() {
            DataSource::Dataset(name) => Path::new(name),
            DataSource::Files { train, .. } => train,
        };
        let model = run_name(Path::new(&self.model.name));
        let name = format!("{model}-{}", run_name(data));
        let mut directory = Path::new("runs").join(&name);
        let mut number = 1;
        while directory.exists() {
            number += 1;
            directory = Path::new("runs").join(format!("{name}-{number}"));
        }
        directory
    }

    /// This configuration with what it leaves to other settings and to the machine written out: the device, the dataset, the output
    /// directory, the learning rate and the warmup. The run directory's `config.toml` is made of it.
    pub fn resolved(&self) -> Self {
        let mut resolved = self.clone();
        resolved.device = crate::backend::chosen(self.device);
        resolved.output_dir = Some(self.output_dir());
        if let DataSource::Dataset(name) = self.data_source() {
            resolved.data.dataset = Some(name.to_owned());
        }
        resolved.train.learning_rate = Some(self.learning_rate());
        resolved.train.head_learning_rate = self.head_learning_rate();
        resolved.eval.metric = Some(self.metric());
        if self.train.warmup_steps.is_none() {
            resolved.train.warmup_ratio =
                Some(self.train.warmup_ratio.unwrap_or(DEFAULT_WARMUP_RATIO));
        }
        resolved
    }
}

/// What to call a run after `path`: its name, or the directory's where every dataset has a file of that name.
fn run_name(path: &Path) -> String {
    let name = stem(path);
    match path.parent().map(stem) {
        Some(parent)
            if !parent.is_empty() && matches!(name.as_str(), "train" | "card" | "dataset") =>
        {
            parent
        }
        _ => name,
    }
}

/// The last part of a path or name without its data-file extension, with nothing in it that needs quoting in a shell.
fn stem(path: &Path) -> String {
    let name = path
        .file_name()
        .map_or(String::new(), |name| name.to_string_lossy().into_owned());
    let extensions = [".csv", ".tsv", ".jsonl", ".json", ".parquet", ".toml"];
    let name = name.strip_suffix(".gz").unwrap_or(&name);
    let name = extensions
        .iter()
        .find_map(|extension| name.strip_suffix(extension))
        .unwrap_or(name);
    name.chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.') {
                c
            } else {
                '-'
            }
        })
        .collect()
}
