//! The settings of a run, each declared once: name, type, default, range, example, the names it has elsewhere, and
//! its documentation. The structs, the reader, near misses, the written run file and the reference come from here.

use std::path::PathBuf;

use serde::Serialize;
use toml::Value;

use super::value::{
    AnswerCount, Augmentation, BatchNorms, Column, Columns, Date, Device, EmbeddingLoss, EvalEvery,
    FileFormat, LossOn, Method, Metric, ModelChoice, OnBadExample, Pooling, Precision,
    PreferenceLoss, Range, Schedule, Setting, TargetModules,
};
use crate::task::{Kind, Modality, Task};
use rekindle_models::Problem;

/// The tasks that a setting says something to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Applies {
    /// All of them.
    All,
    /// Those on texts, or those on pictures.
    To(Modality),
    /// Those on texts that answer with labels or numbers for a whole text.
    EncodedText,
    /// Those that read pairs of texts, a question and what it is about, or its choices, among them.
    Pairs,
    /// Those that read long texts in windows.
    Windows,
    /// Those of a kind.
    Learning(Kind),
    /// Those of language models.
    Writing,
}

impl Applies {
    pub(super) fn to(self, task: Task) -> bool {
        match self {
            Self::All => true,
            Self::To(modality) => task.modality() == modality,
            Self::EncodedText => {
                let each = matches!(task.kind(), Kind::Tags | Kind::Extraction);
                let whole = !each && !Self::Writing.to(task);
                task.modality() == Modality::Text && whole
            }
            Self::Pairs => Self::EncodedText.to(task) || task.kind() == Kind::Extraction,
            Self::Windows => {
                matches!(
                    task.kind(),
                    Kind::Generation | Kind::Tags | Kind::Extraction
                )
            }
            Self::Learning(kind) => task.kind() == kind,
            Self::Writing => task.kind().problem() == Problem::NextToken,
        }
    }

    /// What a message says after "is for".
    pub(super) const fn words(self) -> &'static str {
        match self {
            Self::All => "every task",
            Self::To(Modality::Text) => "text",
            Self::To(Modality::Images) => "images",
            Self::EncodedText => "whole texts with labels or numbers",
            Self::Pairs => {
                "whole texts with labels or numbers, question answering and multiple choice"
            }
            Self::Windows => "text generation, token classification and question answering",
            Self::Learning(kind) => kind.words(),
            Self::Writing => "language models",
        }
    }
}

const TEXT: Applies = Applies::To(Modality::Text);
const IMAGES: Applies = Applies::To(Modality::Images);
const LABELS: Applies = Applies::Learning(Kind::MultiLabel);
const NUMBERS: Applies = Applies::Learning(Kind::Regression);
const CHOICES: Applies = Applies::Learning(Kind::Choice);
const CLASSES: Applies = Applies::Learning(Kind::Classification);
const ANSWERS: Applies = Applies::Learning(Kind::Extraction);
const CHATS: Applies = Applies::Learning(Kind::Generation);
const EMBEDDINGS: Applies = Applies::Learning(Kind::Embedding);
const PREFERENCES: Applies = Applies::Learning(Kind::Preference);

/// One setting, as run files and messages know it.
#[derive(Debug)]
pub struct Key {
    /// The section it stands in; empty for the settings above all sections.
    pub section: &'static str,
    /// Its name within the section.
    pub name: &'static str,
    /// What it does, a line an element.
    pub docs: &'static [&'static str],
    /// For a setting without a default: a value to show, as TOML.
    pub example: Option<&'static str>,
    /// Names that other tools have for it.
    pub(super) aka: &'static [&'static str],
    /// The tasks it says something to.
    pub(super) applies: Applies,
    range: Range,
    expected: fn(&Range) -> String,
    names: fn() -> &'static [&'static str],
    read: fn(&mut RunConfig, &Value, &Range) -> bool,
    write: fn(&RunConfig) -> Option<Value>,
    reset: fn(&mut RunConfig),
}

impl Key {
    /// The name with its section: `train.epochs`.
    pub fn path(&self) -> String {
        match self.section {
            "" => self.name.to_owned(),
            section => format!("{section}.{}", self.name),
        }
    }

    /// The values it accepts, in words.
    pub fn expected(&self) -> String {
        (self.expected)(&self.range)
    }

    /// The names it chooses among; empty where it is no choice.
    pub(super) fn names(&self) -> &'static [&'static str] {
        (self.names)()
    }

    /// Puts `value` into `config`; false where it is not a value of this setting.
    pub(super) fn read(&self, config: &mut RunConfig, value: &Value) -> bool {
        (self.read)(config, value, &self.range)
    }

    /// The value in `config`; `None` where it is unset.
    pub(super) fn write(&self, config: &RunConfig) -> Option<Value> {
        (self.write)(config)
    }

    /// The defaults of the tasks that have another one than `RunConfig::default()`.
    pub(super) fn defaults_by_task(&self) -> impl Iterator<Item = (Task, Option<Value>)> {
        let usual = self.write(&RunConfig::default());
        let tasks = Task::ALL.iter().filter(|&&task| self.applies.to(task));
        let values = tasks.map(|&task| (task, self.write(&RunConfig::for_task(task))));
        values.filter(move |(_, value)| *value != usual && self.name != "task")
    }

    /// Puts the default into `config`.
    pub(super) fn reset(&self, config: &mut RunConfig) {
        (self.reset)(config);
    }
}

/// A struct of settings and its place in [`RunConfig`].
pub(super) trait Section {
    const NAME: &'static str;
    const DOCS: &'static [&'static str];
    const KEYS: &'static [Key];
    fn of(config: &RunConfig) -> &Self;
    fn of_mut(config: &mut RunConfig) -> &mut Self;
}

/// Defines a struct of settings; `at config.train` says where it sits.
macro_rules! settings {
    (
        $(#[doc = $section_doc:literal])*
        $section:ident at $config:ident $(. $field:ident)?;
        $(
            $(#[doc = $doc:literal])*
            $name:ident: $type:ty = $default:expr
            $(, range $range:expr)?
            $(, example $example:literal)?
            $(, aka [$($aka:literal),*])?
            $(, applies $applies:expr)?;
        )*
        $( => { $( $(#[doc = $sub_doc:literal])* $sub:ident: $sub_type:ty, )* } )?
    ) => {
        $(#[doc = $section_doc])*
        #[derive(Debug, Clone, PartialEq, Serialize)]
        pub struct $section {
            $( $(#[doc = $doc])* pub $name: $type, )*
            $($( $(#[doc = $sub_doc])* pub $sub: $sub_type, )*)?
        }

        impl Default for $section {
            fn default() -> Self {
                Self {
                    $( $name: $default, )*
                    $($( $sub: <$sub_type>::default(), )*)?
                }
            }
        }

        impl Section for $section {
            const NAME: &'static str = concat!($(stringify!($field))?);
            const DOCS: &'static [&'static str] = &[$($section_doc),*];
            const KEYS: &'static [Key] = &[$(
                Key {
                    section: Self::NAME,
                    name: stringify!($name),
                    docs: &[$($doc),*],
                    example: settings!(@example $($example)?),
                    aka: &[$($($aka),*)?],
                    applies: settings!(@applies $($applies)?),
                    range: settings!(@range $($range)?),
                    expected: <$type as Setting>::expected,
                    names: <$type as Setting>::names,
                    read: |config, value, range| {
                        <$type as Setting>::read(value, range)
                            .map(|value| Self::of_mut(config).$name = value)
                            .is_some()
                    },
                    write: |config| Self::of(config).$name.write(),
                    reset: |config| Self::of_mut(config).$name = $default,
                },
            )*];

            fn of($config: &RunConfig) -> &Self {
                &(*$config)$(.$field)?
            }

            fn of_mut($config: &mut RunConfig) -> &mut Self {
                &mut (*$config)$(.$field)?
            }
        }
    };
    (@example) => { None };
    (@example $example:literal) => { Some($example) };
    (@applies) => { Applies::All };
    (@applies $applies:expr) => { $applies };
    (@range) => { Range::ANY };
    (@range $range:expr) => { $range };
}

settings! {
    /// The configuration of one fine-tuning run.
    RunConfig at config;

    /// What the model learns to do.
    task: Task = Task::TextClassification;
    /// The seed of everything random: the split, the order, dropout, new weights.
    seed: u64 = 42, range Range::at_least(0), aka ["random_seed", "random_state", "data_seed"];
    /// What to compute on: "cpu", "wgpu", "wgpu:N", "cuda" or "cuda:N", as far as compiled in; "auto" takes a GPU where there is one.
    device: Device = Device::Cpu, aka ["accelerator", "use_cpu", "no_cuda", "backend", "device_map"];
    /// The directory the run is written to.
    /// Unset: runs/MODEL-DATASET, with -2, -3 ... behind it where that exists.
    output_dir: Option<PathBuf> = None, example "\"runs/minilm-intents\"", aka ["output", "logdir", "run_name", "output_directory", "logging_dir"];

    => {
        /// The pretrained model.
        model: ModelConfig,
        /// The examples.
        data: DataConfig,
        /// Pictures, for the tasks "image-classification" and "image-multi-label".
        images: ImagesConfig,
        /// Learning from preferences, for the task "text-preference".
        preference: PreferenceConfig,
        /// Learning embeddings, for the task "text-embedding".
        embedding: EmbeddingConfig,
        /// Which parameters are trained.
        peft: PeftConfig,
        /// The training loop.
        train: TrainConfig,
        /// Evaluation on the validation examples during training.
        eval: EvalConfig,
        /// Saving the state of the run.
        checkpoint: CheckpointConfig,
        /// What the report shows.
        report: ReportConfig,
    }
}

settings! {
    /// The pretrained model.
    ModelConfig at config.model;

    /// A known name ("minilm", "efficientnet-lite0", "smollm2"), a Hugging Face name ("org/name"), a model directory, or for images
    /// a file of weights.
    name: String = "minilm".to_owned(),
        aka ["model_name_or_path", "pretrained_model_name_or_path", "base_model", "path", "initial_checkpoint", "pretrained"];
    /// The vector the head sees: "cls" (first token, through the pooler), "mean" (over the tokens) or "auto"
    /// (what the model directory says, else "cls").
    pooling: Pooling = Pooling::Auto, aka ["pooling_mode"], applies Applies::EncodedText;
    /// Replaces the model's own dropout rates (hidden, attention and head).
    dropout: Option<f64> = None, range Range::FRACTION, example "0.1",
        aka ["hidden_dropout_prob", "attention_probs_dropout_prob", "classifier_dropout"];
    /// Of a quantized GGUF model: leave the weights in their blocks of 2 to 8 bits while adapters train, which takes a fraction of
    /// the memory and a little more time. The result is the same.
    quantized: bool = false, aka ["load_in_4bit", "load_in_8bit", "qlora", "quantization"], applies Applies::Writing;
    /// For language models: tokens to add where the tokenizer lacks them, which are never cut. Their embeddings begin as the mean
    /// of the others and train; with "lora" the whole table of embeddings does, and is saved with the adapter. Answers hold them.
    add_tokens: Vec<String> = Vec::new(), aka ["additional_special_tokens", "extra_special_tokens", "new_tokens", "tokens", "special_tokens"], applies Applies::Writing;
}

settings! {
    /// The examples. Relative paths count from the current directory.
    DataConfig at config.data;

    /// A dataset by name or by the path of its card; not together with `train`, `validation`, `test`.
    /// Unset, and no `train`: "intents"; for language models "smart-home".
    dataset: Option<String> = None, example "\"intents\"", aka ["dataset_name", "card"];
    /// The file of training examples; for images also a folder with a folder for each class, or one that holds such
    /// folders under the names train, val and test.
    train: Option<PathBuf> = None, example "\"train.csv\"", aka ["train_file", "train_path", "data_files", "dataset_path", "datasets", "data_dir", "training_set"];
    /// The file of validation examples. Unset: split off the training examples.
    validation: Option<PathBuf> = None, example "\"validation.csv\"",
        aka ["validation_file", "valid", "val", "dev", "eval_file", "test_datasets", "validation_set"];
    /// The file of test examples. Unset: split off the training examples if `test_fraction` > 0.
    test: Option<PathBuf> = None, example "\"test.csv\"", aka ["test_file", "test_set"];
    /// The column of the text (for images: of the path), by name or place (the first is 0). Unset: the card's, or found by its usual name.
    text: Option<Column> = None, example "\"text\"", aka ["text_column", "text_column_name", "sentence1_key", "dataset_text_field", "field_text", "input_features"];
    /// The column of the second text, where examples are pairs.
    text_pair: Option<Column> = None, example "\"text_pair\"", aka ["text_pair_column", "sentence2_key"], applies Applies::Pairs;
    /// The column of the label, by name or place; a list for several numbers or 0/1 columns. Unset: the card's, or found by its usual name.
    label: Option<Columns> = None, example "\"label\"", aka ["label_column", "label_column_name", "target", "output_features", "field_output"];
    /// The column of all choices of a question, or a list of those of each, by name. Unset: found by their usual names.
    choices: Option<Columns> = None, example "[\"first\", \"second\"]", aka ["choices_column", "endings", "doc_to_choice"], applies CHOICES;
    /// For multi-label: what separates the labels in a column of text. Unset: told from the column ("|", ";" or ",").
    label_separator: Option<char> = None, example "\"|\"", aka ["label_delimiter"], applies LABELS;
    /// How the files are written. Unset: by their extension, `.gz` behind it or not.
    format: Option<FileFormat> = None, example "\"csv\"", aka ["file_format"];
    /// Whether the first line of a delimited file names the columns. Unset: told from the rows.
    header: Option<bool> = None, example "true", aka ["has_header"];
    /// What separates the fields of a delimited file. Unset: a tab in TSV; in CSV the comma, semicolon, tab or "|" that
    /// divides most rows into as many fields.
    delimiter: Option<char> = None, example "\";\"", aka ["sep", "separator"];
    /// Whether a field of a delimited file may stand in double quotes. Unset: yes in CSV; in TSV where a whole
    /// column is in quotes, or a quote is doubled.
    quoting: Option<bool> = None, example "true", aka ["quotechar", "quote"];
    /// Bytes that a file may take once it is unpacked, or that may come through a pipe. Unset: 4 GiB; of gzip 256 MiB, or a
    /// hundred times its size where that is more; in Parquet what becomes more than a thousand times its size is refused.
    max_unpacked: Option<usize> = None, range Range::at_least(1), example "8000000000";
    /// The share of the training examples to validate on, where no validation examples are given.
    validation_fraction: f64 = 0.1, range Range::FRACTION, aka ["validation_split", "val_size", "eval_size", "val_set_size", "val_split", "split"];
    /// The share of the training examples to test on, where no test examples are given.
    test_fraction: f64 = 0.0, range Range::FRACTION, aka ["test_size", "test_split"];
    /// Whether a split keeps the shares of the labels, also where examples have several.
    stratify: bool = true;
    /// Use only the first so many training examples, in file order.
    train_limit: Option<usize> = None, range Range::at_least(1), example "1000", aka ["max_train_samples", "shards", "sample_size"];
    /// Use only the first so many validation examples, in file order.
    validation_limit: Option<usize> = None, range Range::at_least(1), example "1000", aka ["max_eval_samples"];
    /// Use only the first so many test examples, in file order.
    test_limit: Option<usize> = None, range Range::at_least(1), example "1000", aka ["max_predict_samples"];
    /// Longer examples are cut to this many tokens, special tokens included.
    max_length: usize = 128, range Range::at_least(3), aka ["max_seq_length", "max_seq_len", "block_size", "sequence_len", "max_sequence_length", "seq_length", "model_max_length"], applies TEXT;
    /// Which tokens of a conversation are learned: "assistant" (every answer), "last" (the last answer) or "all". Of prompt and
    /// completion it is the completion, of plain text everything.
    loss_on: LossOn = LossOn::Assistant, aka ["train_on_inputs", "assistant_only_loss", "completion_only_loss", "roles_to_train", "train_on_prompt"], applies CHATS;
    /// The tokens that windows of a long text share. Unset: none of a plain text that is continued; a quarter of data.max_length
    /// for token classification, a third for question answering, which read every text in windows and cut none.
    overlap: Option<usize> = None, range Range::at_least(0), example "32", aka ["stride", "doc_stride"], applies Applies::Windows;
    /// The most tokens that an answer to a question may have.
    max_answer_length: usize = 30, range Range::at_least(1), aka ["max_answer_tokens"], applies ANSWERS;
    /// The day that a chat template is told which writes the date. Unset: today; a run keeps the day on which it began.
    date: Option<Date> = None, example "\"2026-11-26\"", aka ["date_string", "today"], applies Applies::Writing;
    /// What to do with a row that cannot be used: "error" names its place and stops, "skip" leaves it out.
    on_bad_example: OnBadExample = OnBadExample::Error, aka ["on_bad_lines", "errors"];
}

settings! {
    /// Pictures, for the tasks "image-classification" and "image-multi-label".
    ImagesConfig at config.images;

    /// Side of the square that the model sees, in pixels. Unset: what the model was made for.
    size: Option<usize> = None, range Range::at_least(8).at_most(4096), example "224", aka ["image_size", "input_size", "resolution", "img_size"], applies IMAGES;
    /// Bytes of memory that one picture may take while it is decoded. Unset: 1 GiB.
    max_bytes: Option<usize> = None, range Range::at_least(1), example "4000000000", aka ["max_image_pixels"], applies IMAGES;
    /// That side as a share of the resized picture's shorter side, in evaluation. Unset: the model's.
    crop_pct: Option<f64> = None, range Range::above(0).at_most(1), example "0.875", aka ["crop"], applies IMAGES;
    /// What is done at random to training pictures: "standard" (the settings below), "none", or "auto" ("none" where only
    /// the head is trained, so that the rest of the model is computed once, else "standard").
    augment: Augmentation = Augmentation::Auto, aka ["augmentation", "aa"], applies IMAGES;
    /// So many fixed random views of each picture, one an epoch in turn, instead of new ones; a frozen part of the model is
    /// then computed once for each view.
    views: Option<usize> = None, range Range::at_least(1), example "4", aka ["augmented_views"], applies IMAGES;
    /// The least share of a picture's area that a random crop keeps; 1 for the middle, as in evaluation.
    random_crop: f64 = 0.35, range Range::above(0).at_most(1), aka ["random_resized_crop", "scale", "crop_scale"], applies IMAGES;
    /// Zeros put around a picture before a crop of its own size at a random place; for small pictures.
    padded_crop: Option<usize> = None, range Range::at_least(1), example "4", aka ["random_crop_padding"], applies IMAGES;
    /// Probability of exchanging left and right.
    horizontal_flip: f64 = 0.5, range Range::PROBABILITY, aka ["hflip", "flip", "random_horizontal_flip"], applies IMAGES;
    /// Probability of exchanging top and bottom.
    vertical_flip: f64 = 0.0, range Range::PROBABILITY, aka ["vflip"], applies IMAGES;
    /// Most relative change of brightness, contrast and saturation.
    color_jitter: f64 = 0.0, range Range::FRACTION, aka ["colour_jitter", "jitter"], applies IMAGES;
    /// RandAugment with two operations of this magnitude (of 31); 0 for none.
    rand_augment: usize = 0, range Range::at_least(0).at_most(31), aka ["randaugment"], applies IMAGES;
    /// TrivialAugment.
    trivial_augment: bool = false, aka ["trivialaugment", "trivial_augment_wide"], applies IMAGES;
    /// Probability of erasing a part.
    random_erasing: f64 = 0.0, range Range::PROBABILITY, aka ["erasing", "reprob"], applies IMAGES;
    /// Mixup: alpha; 0 for none.
    mixup: f64 = 0.0, range Range::at_least(0), aka ["mixup_alpha"], applies IMAGES;
    /// CutMix: alpha; 0 for none.
    cutmix: f64 = 0.0, range Range::at_least(0), aka ["cutmix_alpha"], applies IMAGES;
    /// What batch norms do while the network around them trains: "train" (they normalise by the batch, and learn), "frozen" (they stay
    /// what they are in the pretrained model) or "auto" ("frozen" with method "full" on fewer than 2,000 examples, else "train").
    /// With "lora" and "head" they stay as well.
    batch_norm: BatchNorms = BatchNorms::Auto, aka ["freeze_bn", "frozen_bn", "bn"], applies IMAGES;
    /// Memory for decoded pictures, in MB; what does not fit is read again each epoch.
    cache_mb: usize = 1024, range Range::at_least(0).at_most(1 << 24), aka ["cache"], applies IMAGES;
}

settings! {
    /// Learning from preferences, for the task "text-preference".
    PreferenceConfig at config.preference;

    /// "dpo" (of two answers the chosen one becomes likelier than the rejected one, measured by the model before training), "orpo"
    /// (the same without that model, while the chosen answer is learned) or "kto" (answers that were judged one by one).
    loss: PreferenceLoss = PreferenceLoss::Dpo, aka ["loss_type", "objective", "rl"], applies PREFERENCES;
    /// How much a change of log-probability counts: more keeps the model nearer to what it was. With "orpo" the weight of the odds.
    beta: f64 = 0.1, range Range::above(0), aka ["dpo_beta", "temperature", "rl_beta"], applies PREFERENCES;
    /// With "dpo": the share of the pairs that are taken to be the wrong way round (conservative DPO); below 0.5.
    label_smoothing: f64 = 0.0, range Range::FRACTION, applies PREFERENCES;
    /// With "dpo": adds the mean token loss of the chosen answer times this, which keeps it likely.
    sft_weight: f64 = 0.0, range Range::at_least(0), aka ["rpo_alpha", "sft_loss_weight", "dpop_lambda"], applies PREFERENCES;
    /// With "kto": the weight of answers that are wanted.
    desirable_weight: f64 = 1.0, range Range::above(0), applies PREFERENCES;
    /// With "kto": the weight of answers that are not wanted.
    undesirable_weight: f64 = 1.0, range Range::above(0), applies PREFERENCES;
}

settings! {
    /// Learning embeddings, for the task "text-embedding".
    EmbeddingConfig at config.embedding;

    /// "mnrl" (of all texts of the batch, the one that belongs to the anchor: multiple negatives ranking), "cosine" (the squared error of
    /// the cosine, of pairs with a score), or "auto": "cosine" where the file has scores.
    loss: EmbeddingLoss = EmbeddingLoss::Auto, aka ["loss_type", "objective"], applies EMBEDDINGS;
    /// With "mnrl": cosines are multiplied by this before the softmax; 1 divided by the temperature.
    scale: f64 = 20.0, range Range::above(0), aka ["inverse_temperature", "logit_scale"], applies EMBEDDINGS;
    /// Texts that go through the model at once. A batch of more takes two passes and a third more time, for the same gradient (GradCache):
    /// so a large `train.batch_size`, which has more negatives, needs no more memory.
    mini_batch_size: usize = 128, range Range::at_least(1), aka ["gc_chunk_size"], applies EMBEDDINGS;
    /// Learn the first so many numbers of an embedding to be one by themselves, for each of these widths (Matryoshka); name the whole
    /// width too. Unset: the whole alone.
    matryoshka_dims: Option<Vec<usize>> = None, range Range::at_least(1), example "[384, 128, 64]", aka ["dims", "truncate_dim"], applies EMBEDDINGS;
}

settings! {
    /// Which parameters are trained.
    PeftConfig at config.peft;

    /// "lora" (adapters and head), "full" (all), "head" (the head alone), "bitfit" (biases and head) or, for classes of texts of which
    /// there are a few examples each, "setfit" (all but the head, by the pairs of a batch's texts; then the head). For images the
    /// default is "full".
    method: Method = Method::Lora, aka ["peft_type", "adapter"];
    /// The rank of the adapters. Here and below, down to `layers_to_transform`: with "lora" only.
    r: usize = 8, range Range::at_least(1), aka ["rank", "lora_r", "lora_rank"];
    /// Adapters are scaled by `lora_alpha / r`.
    lora_alpha: f64 = 16.0, range Range::above(0), aka ["alpha"];
    /// Dropout on the input of an adapter.
    lora_dropout: f64 = 0.0, range Range::FRACTION, aka ["adapter_dropout"];
    /// Scale by `lora_alpha / sqrt(r)` instead.
    use_rslora: bool = false, aka ["rslora"];
    /// The layers that get an adapter: names that paths end in, one regular expression that whole paths match,
    /// "all-linear" (every linear layer but the head), or "auto": an encoder's query and value layers, however its family
    /// calls them; every linear layer of a model that has none of these names, for embeddings, tokens, questions and choices, and for classes of texts
    /// where there are more than ten with at least eight examples each on average.
    target_modules: TargetModules = TargetModules::Auto,
        aka ["lora_target_modules", "lora_target", "targets", "lora_target_linear"];
    /// Only these encoder layers get adapters, the first being 0. Unset: all.
    layers_to_transform: Option<Vec<usize>> = None, range Range::at_least(0), example "[4, 5]", aka ["layers"];
    /// Modules trained in full and saved with the adapter. The head always is.
    modules_to_save: Vec<String> = Vec::new(), aka ["lora_modules_to_save"];
    /// Train only the last so many layers (of pictures: stages), and the head; with "lora" their adapters. New rows of
    /// `model.add_tokens` train all the same.
    train_last: Option<usize> = None, range Range::at_least(1), example "1", aka ["last_stages", "last_layers", "trainable_layers"];
    /// With "setfit": of each label one more text, "This sentence is about" its name. Unset: where all labels are words.
    label_texts: Option<bool> = None, example "false", applies TEXT;
    /// For images: begin with the head alone and free one more stage, the last first, each time so many epochs are done.
    unfreeze_every: Option<usize> = None, range Range::at_least(1), example "1", aka ["gradual_unfreezing"], applies IMAGES;
    /// Parameters to freeze beyond what `method` freezes: patterns of paths, `*` for any characters.
    freeze: Vec<String> = Vec::new(), aka ["freeze_layers", "frozen"];
    /// Parameters to train all the same: patterns of paths; they win over `method` and `freeze`.
    unfreeze: Vec<String> = Vec::new(), aka ["unfrozen_parameters", "trainable"];
}

settings! {
    /// The training loop.
    TrainConfig at config.train;

    /// Passes over the training examples; a fraction is fine, such as 0.5. Unset: 3, and more where so few examples give too few
    /// steps to learn from.
    epochs: Option<f64> = None, range Range::above(0), example "3", aka ["num_train_epochs", "num_epochs", "max_epochs", "n_epochs"];
    /// Train for exactly this many optimizer steps, whatever `epochs` says.
    max_steps: Option<usize> = None, range Range::at_least(1), example "1000", aka ["steps", "max_iters", "train_steps"];
    /// Examples in a batch. Unset: 64 for "setfit".
    batch_size: usize = 32, range Range::at_least(1),
        aka ["per_device_train_batch_size", "train_batch_size", "micro_batch_size"];
    /// Batches in an optimizer step.
    gradient_accumulation_steps: usize = 1, range Range::at_least(1),
        aka ["accumulate_grad_batches", "grad_accum", "accumulation_steps"];
    /// Parts of a batch whose gradients are added in an order of their own, so that any number of processes up to this gives the
    /// same result (docs/scaling.md). Unset: as many as there are processes at the start; a process that is alone does not cut batches.
    shards: Option<usize> = None, range Range::at_least(1).at_most(1 << 16), example "4", aka ["num_shards"];
    /// The highest learning rate of the schedule. Unset: 1e-3 for "lora" and "bitfit", 5e-5 for "full",
    /// 5e-3 for "head", 5e-5 for "setfit"; for images 1e-4 for "full", 1e-3 for "lora" and 5e-3 for the others; for preferences 1e-6 for "full", and
    /// 5e-5 for the others (with many thousands of pairs less: TRL's own scripts take 5e-6 for LoRA).
    learning_rate: Option<f64> = None, range Range::above(0), example "1e-3", aka ["lr", "max_lr", "base_lr"];
    /// The head's own highest learning rate. Unset: 1e-2 for multi-label, and, where `learning_rate` is unset too, for classes
    /// with "lora" and of pictures with "full"; else that of the other parameters.
    head_learning_rate: Option<f64> = None, range Range::above(0), example "1e-2", aka ["head_lr"];
    /// For images: each stage's learning rate is the next one's times this.
    layer_decay: Option<f64> = None, range Range::above(0), example "0.7", aka ["layer_wise_lr_decay", "llrd"], applies IMAGES;
    /// AdamW's decay; none on biases and norms.
    weight_decay: f64 = 0.01, range Range::at_least(0), aka ["wd"];
    /// AdamW's first moment.
    beta1: f64 = 0.9, range Range::FRACTION, aka ["adam_beta1", "betas"];
    /// AdamW's second moment.
    beta2: f64 = 0.999, range Range::FRACTION, aka ["adam_beta2"];
    /// AdamW's epsilon.
    epsilon: f64 = 1e-8, range Range::above(0), aka ["adam_epsilon", "eps"];
    /// Gradients are scaled down to this global norm; 0 for no limit.
    max_grad_norm: f64 = 1.0, range Range::at_least(0), aka ["gradient_clip_val", "grad_clip", "clip_grad_norm", "gradient_clipping", "clip_grad"];
    /// How the learning rate goes after warmup: "linear" or "cosine" down to 0, or "constant".
    schedule: Schedule = Schedule::Linear, aka ["lr_scheduler_type", "lr_scheduler", "scheduler", "learning_rate_scheduler", "sched"];
    /// The share of the steps in which the learning rate rises; never more than half the run. Unset: 0.06, where `warmup_steps` is unset.
    warmup_ratio: Option<f64> = None, range Range::FRACTION, example "0.06", aka ["warmup", "warmup_proportion", "warmup_fraction", "warmup_epochs"];
    /// The steps in which the learning rate rises, never more than half the run; not together with `warmup_ratio`.
    warmup_steps: Option<usize> = None, range Range::at_least(0), example "100", aka ["num_warmup_steps"];
    /// The share of the target probability spread over all labels.
    label_smoothing: f64 = 0.0, range Range::FRACTION, aka ["label_smoothing_factor", "smoothing"], applies CLASSES;
    /// Weigh each label's loss by how rare it is, so that all labels count the same.
    class_weights: bool = false, aka ["balanced", "class_weight"], applies CLASSES;
    /// For regression: learn numbers with mean 0 and deviation 1, and fold the scale into the head that is saved.
    standardize_targets: bool = true, aka ["normalize_targets", "scale_targets"], applies NUMBERS;
    /// Draw examples so that all labels come equally often.
    weighted_sampling: bool = false, aka ["weighted_sampler", "oversample", "oversample_minority"], applies CLASSES;
    /// For text: what the model's matrix products multiply in training: "f32"; "bf16", which is faster on CPUs that have AMX
    /// (Intel) or `avx512_bf16` (AMD); or "tf32" or "bf16" in the matrix units of an NVIDIA GPU. Weights, gradients, evaluation and what is saved are f32 in any case.
    precision: Precision = Precision::F32, aka ["bf16", "fp16", "dtype", "torch_dtype", "mixed_precision", "amp", "tf32"];
    /// For text: keep only what each layer puts out, and compute the rest again in the backward pass. That takes a third more
    /// time and a fraction of the memory; the result is the same. Unset: where the plan's memory is more than is free.
    gradient_checkpointing: Option<bool> = None, example "true",
        aka ["use_gradient_checkpointing", "activation_checkpointing", "checkpointing", "enable_gradient_checkpointing"], applies TEXT;
    /// Keep an average of the weights with this decay, and evaluate and save that.
    ema_decay: Option<f64> = None, range Range::FRACTION, example "0.999", aka ["ema", "model_ema", "model_ema_decay"];
    /// Compute a frozen beginning of the model once and keep its output, where nothing before it is random.
    cache_features: bool = true, aka ["feature_cache", "precompute"];
    /// Memory for such output, in MB; what does not fit goes to a file in the run directory.
    cache_features_mb: usize = 2048, range Range::at_least(0).at_most(1 << 24);
    /// Whether examples are shuffled in each epoch.
    shuffle: bool = true;
    /// Whether batches gather examples of like length; they stay shuffled.
    group_by_length: bool = true, aka ["length_grouping", "sortish_sampler"], applies TEXT;
    /// Optimizer steps between two lines of the log.
    log_every_steps: usize = 10, range Range::at_least(1), aka ["logging_steps", "log_every_n_steps", "log_every"];
}

settings! {
    /// Evaluation on the validation examples during training.
    EvalConfig at config.eval;

    /// When: after each "epoch", "never", or a number: after each so many optimizer steps. "auto" is each epoch, or about twenty times
    /// where there are more than twenty.
    every: EvalEvery = EvalEvery::Auto,
        aka ["steps", "every_steps", "eval_steps", "eval_strategy", "evaluation_strategy", "val_check_interval", "evals_per_epoch", "steps_per_checkpoint"];
    /// Examples in a batch.
    batch_size: usize = 64, range Range::at_least(1), aka ["per_device_eval_batch_size", "eval_batch_size"];
    /// What makes a checkpoint the best. Unset: "accuracy" for classification and choices, "entity_f1" for tokens, "answer_f1" for
    /// questions, "loss" for regression, embeddings and everything in words, "map" for multi-label.
    metric: Option<Metric> = None, example "\"accuracy\"", aka ["metric_for_best_model", "monitor", "validation_metric", "eval_metric"];
    /// Which model is saved: the "best" by `metric`, that of the "last" step, or "auto": "last" for classification with fewer than
    /// 100 validation examples, which are too few to tell checkpoints apart, and no `early_stopping_patience`; else "best".
    choose: ModelChoice = ModelChoice::Auto, aka ["load_best_model_at_end", "save_best", "restore_best_weights"];
    /// Stop after this many evaluations in a row without a better `metric`. Unset: never stop early.
    early_stopping_patience: Option<usize> = None, range Range::at_least(1), example "3", aka ["patience", "early_stop", "early_stopping"];
    /// The least gain in `metric` that counts as better.
    early_stopping_min_delta: f64 = 0.0, range Range::at_least(0), aka ["min_delta", "early_stopping_threshold"];
    /// For text generation: so many conversations of the test set (else of the validation set) are answered at the end, the most
    /// probable token each time, and compared with the right answers; "all", or 0 for none.
    answers: AnswerCount = AnswerCount::Some(100), aka ["predict_with_generate", "num_answers"], applies CHATS;
    /// Whether the base model answers them too, before the first step, to compare.
    baseline: bool = true, aka ["compare_base"], applies CHATS;
    /// So many validation conversations are answered at each evaluation, and shown in the report.
    samples: usize = 3, range Range::at_least(0).at_most(1000), aka ["num_samples", "sample_prompts"], applies CHATS;
    /// The most tokens of such an answer. Unset: a quarter more than the longest right answer, at least 16 and at most 256.
    max_new_tokens: Option<usize> = None, range Range::at_least(1), example "256", aka ["generation_max_length", "max_tokens"], applies CHATS;
}

settings! {
    /// Saving the state of the run.
    CheckpointConfig at config.checkpoint;

    /// Optimizer steps between two checkpoints. Unset: one with each evaluation, and one where three minutes have gone by without.
    every_steps: Option<usize> = None, range Range::at_least(1), example "500",
        aka ["steps", "save_steps", "save_every", "every_n_steps", "every", "save_strategy", "checkpoints_per_epoch"];
    /// How many of the latest are kept; the best is kept beside them.
    keep: usize = 2, range Range::at_least(1), aka ["save_total_limit", "keep_last", "save_top_k", "checkpoint_hist"];
}

settings! {
    /// What the report shows.
    ReportConfig at config.report;

    /// How many of the worst mistakes, with their text.
    mistakes: usize = 50, range Range::at_least(0), aka ["worst", "top_losses"];
    /// Whether the run also gets `tensorboard/`, an event file of TensorBoard with every figure that metrics.jsonl has.
    tensorboard: bool = false, aka ["event_files", "tensorboard_logs", "report_to"];
}

/// A section of the run file: its name, its documentation and its keys.
pub(super) struct SectionInfo {
    pub(super) name: &'static str,
    pub(super) docs: &'static [&'static str],
    pub(super) keys: &'static [Key],
}

const fn info<S: Section>() -> SectionInfo {
    SectionInfo {
        name: S::NAME,
        docs: S::DOCS,
        keys: S::KEYS,
    }
}

/// All sections in the order of the run file, the settings above them first.
pub(super) const SECTIONS: &[SectionInfo] = &[
    info::<RunConfig>(),
    info::<ModelConfig>(),
    info::<DataConfig>(),
    info::<ImagesConfig>(),
    info::<PreferenceConfig>(),
    info::<EmbeddingConfig>(),
    info::<PeftConfig>(),
    info::<TrainConfig>(),
    info::<EvalConfig>(),
    info::<CheckpointConfig>(),
    info::<ReportConfig>(),
];

/// Every setting, in the order of the run file.
pub fn keys() -> impl Iterator<Item = &'static Key> {
    SECTIONS.iter().flat_map(|section| section.keys)
}
