//! One set of examples as the model takes them: made into batches on the host, moved to a device. The one place that tells
//! texts from pictures; everything above it is the same for both.

mod chats;
mod choices;
mod images;
pub(crate) mod preferences;
mod questions;
pub(crate) mod related;
mod text;
mod tokens;

pub(crate) use chats::{
    Chats, decoder_limits, encoder as chat_encoder, saved_encoder, spoken, with_added_tokens,
};
pub(crate) use choices::Choices;
pub(crate) use images::{Pictures, holds_texts, preprocess};
pub(crate) use questions::{QuestionReader, Questions};
pub(crate) use text::{Texts, encoder, pools_by_mean, text_limits};
pub(crate) use tokens::{Tagged, Unit, WordReader, tags};

use text::{encoder_by, without_decoders};

use crate::{
    Error, Observer, RunConfig,
    answers::Answering,
    evaluation::Logits,
    fingerprint::Fingerprint,
    plan::Footprint,
    recipe::sampler,
    task::{Kind, Modality},
};
use burn::tensor::{Tensor, TensorData, backend::Backend};
use rekindle_base::thousands;
use rekindle_data::{
    DataError, TargetEncoder, Targets, TextBatch, UsualColumns,
    chat::ChatBatch,
    image::{ImageBatch, Mixed},
    tokens::{FoundSpan, IGNORED, TokenBatch, WordTag},
};
use rekindle_hub::Hub;
use rekindle_models::{Asked, Input, NextTokens, Pretrained, TextInput};
use rekindle_nn::Sequences;
use serde_json::{Map, Value};
use std::{path::PathBuf, sync::Arc};

/// What is random about a training batch.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Draw {
    /// Which random view of each example: an epoch, or the number of a fixed view.
    pub view: u64,
    pub epoch: u64,
    /// Number of the batch in its epoch.
    pub batch: u64,
}

/// A set of examples of any modality.
pub(crate) trait Inputs: Send + Sync {
    /// Number of examples.
    fn len(&self) -> usize;
    /// Length of each example in tokens; `None` where all are alike.
    fn lengths(&self) -> Option<Vec<u32>>;
    /// What is to be learned of each.
    fn targets(&self) -> &Targets;
    /// These examples, as they are evaluated, or as they are trained on. Examples that cannot be read may be missing.
    ///
    /// # Errors
    /// An example that cannot be read, unless such are skipped.
    fn batch(&self, examples: &[usize], draw: Option<Draw>) -> Result<HostBatch, DataError>;
    /// Rows that the head gives for an example.
    fn rows(&self, _example: usize) -> usize {
        1
    }
    /// Whether the loss compares the model with what it was before training.
    fn wants_reference(&self) -> bool {
        false
    }
    /// The same examples, their targets with what the model before training put out for them; `None` where nothing is
    /// compared with that.
    fn with_reference(&self, _outputs: &Logits) -> Option<Arc<dyn Inputs>> {
        None
    }
    /// Batches made ahead of the loop: few where they are large.
    fn ahead(&self) -> usize;
    /// Where an example stands, for messages.
    fn place(&self, example: usize) -> String;
    /// The same for a reader who does not know the set.
    fn full_place(&self, example: usize) -> String {
        self.place(example)
    }
    /// Its line in its file, where files have lines.
    fn line(&self, _example: usize) -> Option<u64> {
        None
    }
    /// How many examples lost tokens to the longest length.
    fn cut(&self) -> usize {
        0
    }
    /// An example as the report shows it.
    fn show(&self, example: usize) -> ShownExample;
    /// The spans of an example that the outputs chosen for its words make; none where words have no outputs.
    fn spans(&self, _example: usize, _outputs: &[WordTag]) -> Vec<FoundSpan> {
        Vec::new()
    }
    /// What a file of predictions calls an example: its texts, or its file.
    fn described(&self, example: usize) -> Map<String, Value> {
        let shown = self.show(example);
        let pair = shown
            .text_pair
            .map(|pair| ("text_pair".into(), pair.into()));
        let text = ("text".into(), shown.text.into());
        std::iter::once(text).chain(pair).collect()
    }
    /// What was left out while reading, a line each.
    fn left_out(&self) -> Vec<String> {
        Vec::new()
    }
    /// Adds what a resumed run must find unchanged.
    fn add_to(&self, fingerprint: &mut Fingerprint);
}

/// An example of a set.
#[derive(Clone, Copy)]
pub(crate) struct ExampleOf<'a> {
    pub set: &'a dyn Inputs,
    pub index: usize,
}

/// An example as people see it.
pub(crate) struct ShownExample {
    pub text: String,
    pub text_pair: Option<String>,
    /// A small JPEG.
    pub picture: Option<Vec<u8>>,
}

/// A batch on the host.
pub(crate) struct HostBatch {
    /// Indices of the examples in their set, `[N]`.
    pub examples: Vec<usize>,
    pub targets: Targets,
    /// What was mixed in.
    pub mixed: Option<Mixed>,
    /// What is only looked at: the outputs of it stand behind those of the input, and have no gradient.
    pub aside: Option<HostInput>,
    /// `None` where what becomes of it is in the cache.
    pub input: Option<HostInput>,
}

/// What a model takes, on the host.
pub(crate) enum HostInput {
    Text(TextBatch),
    Tokens(TokenBatch),
    Chats(ChatBatch),
    Images(ImageBatch),
}

impl HostBatch {
    /// A batch whose input is not needed.
    pub(crate) fn without_input(set: &dyn Inputs, examples: &[usize]) -> Self {
        Self {
            examples: examples.to_vec(),
            targets: set.targets().subset(examples),
            mixed: None,
            aside: None,
            input: None,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.examples.len()
    }

    /// What the mean of the losses is taken over: examples, or the tokens or words that are learned.
    pub(crate) fn weight(&self) -> usize {
        match &self.targets {
            Targets::Next(tokens) => tokens.iter().map(|&n| n as usize).sum(),
            Targets::Tags { ids, .. } => ids.iter().filter(|&&id| id != IGNORED).count(),
            _ => self.len(),
        }
    }
}

impl HostInput {
    /// Number of texts, of a batch of texts.
    pub(crate) fn texts(&self) -> usize {
        match self {
            Self::Text(batch) => batch.len(),
            _ => 0,
        }
    }

    /// A batch of texts in parts of at most so many, in order; none of any other.
    pub(crate) fn parts(&self, most: usize) -> Vec<Self> {
        let Self::Text(batch) = self else {
            return Vec::new();
        };
        let texts: Vec<usize> = (0..batch.len()).collect();
        let parts = texts.chunks(most.max(1));
        parts
            .map(|part| Self::Text(batch.slice(part[0]..part[0] + part.len())))
            .collect()
    }

    /// Moves it to a device.
    pub(crate) fn to_device<B: Backend>(&self, device: &B::Device) -> Input<B> {
        match self {
            Self::Text(batch) => Input::Text(text_input(batch, device)),
            Self::Tokens(batch) => {
                let of_windows = Sequences::new(batch.asked_offsets.clone());
                let asked = Asked::new(&batch.asked, of_windows, device);
                Input::Text(text_input(&batch.text, device).with_asked(asked))
            }
            Self::Chats(batch) => {
                let input = TextInput::new(
                    batch.ids.clone(),
                    vec![0; batch.ids.len()],
                    Sequences::new(batch.offsets.clone()),
                    device,
                );
                let input = match batch.shared {
                    0 => input,
                    _ => input.with_shared_beginning(),
                };
                let rows = Sequences::new(batch.row_offsets.clone());
                Input::Text(input.with_next(NextTokens::new(
                    &batch.rows,
                    &batch.targets,
                    rows,
                    device,
                )))
            }
            Self::Images(batch) => {
                let shape = [batch.indices.len(), batch.size, batch.size, 3];
                let data = TensorData::new(batch.pixels.clone(), shape);
                Input::Images(Tensor::from_data(data, device))
            }
        }
    }
}

fn text_input<B: Backend>(batch: &TextBatch, device: &B::Device) -> TextInput<B> {
    TextInput::new(
        batch.ids.clone(),
        batch.type_ids.clone(),
        Sequences::new(batch.offsets.clone()),
        device,
    )
}

/// The sets of a run, ready for a model.
pub(crate) struct Prepared {
    /// The dataset's name.
    pub name: String,
    /// The columns that its training file was read by.
    pub columns: UsualColumns,
    /// The file or folder of each part that was given, the training file first.
    pub files: Vec<(&'static str, PathBuf)>,
    pub train: Arc<dyn Inputs>,
    pub validation: Option<Arc<dyn Inputs>>,
    pub test: Option<Arc<dyn Inputs>>,
    pub encoder: TargetEncoder,
    /// Whether training examples come again as they were, so that what a frozen part makes of them can be kept.
    pub repeats: bool,
    /// Whether texts are encoded word by word, as their files divide them.
    pub by_words: bool,
    /// The examples' size, in words.
    pub sizes: String,
    /// One example in words: "text", "picture".
    pub noun: &'static str,
    pub footprint: Footprint,
    pub notes: Vec<String>,
    /// Texts are cut to this many tokens; 0 for pictures.
    pub max_length: usize,
    /// Side of the pictures and share of the middle that is cut out, where the run says so.
    pub picture_size: Option<(usize, f64)>,
    /// What a language model is asked.
    pub answering: Option<Arc<Answering>>,
}

/// How many tokens the examples of a set have.
struct TokenCounts {
    all: usize,
    /// Of the longest example.
    longest: usize,
    /// Of the largest batch of an epoch, as the model gets it: what its sequences begin with in common is there once.
    largest_batch: usize,
}

impl TokenCounts {
    /// Of training examples.
    fn of(examples: &dyn Inputs, config: &RunConfig) -> Result<Self, Error> {
        const FIRST: Draw = Draw {
            view: 0,
            epoch: 0,
            batch: 0,
        };
        let lengths = examples.lengths().unwrap_or_default();
        let tokens = |batch: &[usize]| batch.iter().map(|&i| lengths[i] as usize).sum();
        let batches = sampler(config, true).epoch(&lengths, 0);
        let largest = batches.iter().max_by_key(|batch| tokens(batch));
        let packed = largest.map(|largest| examples.batch(largest, Some(FIRST)));
        Ok(Self {
            all: lengths.iter().map(|&length| length as usize).sum(),
            longest: lengths.iter().copied().max().unwrap_or(0) as usize,
            largest_batch: match packed.transpose()?.and_then(|batch| batch.input) {
                Some(HostInput::Chats(batch)) => batch.tokens(),
                _ => largest.map_or(0, |batch| tokens(batch)),
            },
        })
    }
}

/// How many examples were cut, as a plan says it; nothing where none was.
fn cut(examples: usize, max_length: usize) -> String {
    match examples {
        0 => String::new(),
        n => format!(", {} cut to {max_length} tokens", thousands(n as u64)),
    }
}

/// Reads, limits, splits and encodes the examples of a run for a model.
///
/// # Errors
/// Any mistake in the data, or data that the model cannot take.
pub(crate) fn prepare(
    config: &RunConfig,
    pretrained: &Pretrained,
    hub: &Hub,
    observer: &dyn Observer,
) -> Result<Prepared, Error> {
    let prepared = match (config.task.modality(), config.task.kind()) {
        (_, Kind::Generation) => chats::prepare(config, pretrained, hub, observer),
        (_, Kind::Preference) => preferences::prepare(config, pretrained, hub, observer),
        (_, Kind::Tags) => tokens::prepare(config, pretrained, hub, observer),
        (_, Kind::Extraction) => questions::prepare(config, pretrained, hub, observer),
        (_, Kind::Choice) => choices::prepare(config, pretrained, hub, observer),
        (_, Kind::Embedding) => related::prepare(config, pretrained, hub, observer),
        (Modality::Text, _) => text::prepare(config, pretrained, hub, observer),
        (Modality::Images, _) => images::prepare(config, pretrained, hub, observer),
    }?;
    if prepared.validation.is_none() && config.eval.every != crate::config::EvalEvery::Never {
        return Err(Error::Setting {
            reason: format!("there are no validation {}s to evaluate on", prepared.noun),
            hint:
                "set data.validation, data.validation_fraction above 0, or eval.every = \"never\""
                    .into(),
        });
    }
    Ok(prepared)
}
