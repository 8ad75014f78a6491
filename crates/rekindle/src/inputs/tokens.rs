//! Texts whose words have labels, as windows of packed tokens. An example of training is a window, because that is what a step
//! takes; an example of an evaluation is a whole text, because that is what is answered.

use super::{
    Draw, HostBatch, HostInput, Inputs, Prepared, ShownExample, TokenCounts, encoder_by,
    text_limits, without_decoders,
};
use crate::{
    Error, Observer, RunConfig,
    config::DataConfig,
    examples::{Splits, in_order_of, read_splits},
    fingerprint::Fingerprint,
    plan::Footprint,
};
use rekindle_base::{counted, thousands};
use rekindle_data::{
    DataError, Place, TargetEncoder, Targets, TextEncoder,
    tokens::{
        FoundSpan, IGNORED, Said, TagLabels, TagOptions, TaggedText, TokenSet, WordTag,
        tagged_spans,
    },
};
use rekindle_hub::Hub;
use rekindle_models::{Pretrained, TextLimits};
use std::{ops::Range, path::Path, sync::Arc};

/// Batches made ahead of the loop.
const AHEAD: usize = 8;
/// Of a window's tokens one in so many is shared with the next, where nothing is set.
const SHARED: usize = 4;

/// What makes tokens of texts.
pub(crate) struct WordReader {
    encoder: TextEncoder,
    /// Tokens that windows of a long text share.
    overlap: usize,
}

impl WordReader {
    /// By the tokenizer of a model directory; `by_words` encodes each word alone. A note where the length was too much for the
    /// model.
    pub(crate) fn new(
        dir: &Path,
        data: &DataConfig,
        by_words: bool,
        limits: &TextLimits,
    ) -> Result<(Self, Option<String>), Error> {
        let open = match by_words {
            true => TextEncoder::for_words,
            false => TextEncoder::from_dir,
        };
        let (encoder, note) = encoder_by(open, dir, data.max_length, limits)?;
        let length = encoder.max_length().unwrap_or(data.max_length);
        let overlap = data.overlap.unwrap_or(length / SHARED);
        Ok((Self { encoder, overlap }, note))
    }

    pub(crate) fn encoder(&self) -> &TextEncoder {
        &self.encoder
    }
}

/// What an example is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unit {
    /// A text.
    Text,
    /// A window in which there is something to learn.
    Window,
}

/// A set of texts with their windows.
pub(crate) struct Tagged {
    texts: Vec<TaggedText>,
    set: TokenSet,
    labels: TagLabels,
    /// The windows of each example.
    examples: Vec<Range<usize>>,
    targets: Targets,
}

impl Tagged {
    /// Encodes texts; what they should be too where `learned`.
    pub(crate) fn encode(
        texts: Vec<TaggedText>,
        reader: &WordReader,
        labels: &TagLabels,
        learned: bool,
        unit: Unit,
    ) -> Result<Self, Error> {
        let options = TagOptions {
            overlap: Some(reader.overlap),
            label_all_tokens: false,
        };
        let known = learned.then_some(labels);
        let set = reader.encoder.encode_tagged(&texts, known, options)?;
        let teaches = |window: &usize| {
            let labels = &set.windows[*window].labels;
            labels.iter().any(|&label| label != IGNORED)
        };
        let examples: Vec<Range<usize>> = match unit {
            Unit::Text => (0..texts.len()).map(|text| set.windows_of(text)).collect(),
            Unit::Window => {
                let windows = (0..set.windows.len()).filter(teaches);
                windows.map(|window| window..window + 1).collect()
            }
        };
        let targets = match learned {
            false => Targets::None,
            true => {
                let rows: Vec<Vec<i32>> = examples
                    .iter()
                    .map(|windows| {
                        let windows = set.windows[windows.clone()].iter();
                        let row = windows.flat_map(|window| {
                            let asked = window.asked().into_iter();
                            asked.map(|token| window.labels[token])
                        });
                        row.collect()
                    })
                    .collect();
                Targets::tags(rows.iter().map(Vec::as_slice))
            }
        };
        Ok(Self {
            texts,
            set,
            labels: labels.clone(),
            examples,
            targets,
        })
    }

    /// Texts that stand in no file, with their lines, and their words where these are known.
    pub(crate) fn of_lines(
        lines: impl Iterator<Item = (u64, String, Vec<Range<usize>>)>,
        reader: &WordReader,
        labels: &TagLabels,
    ) -> Result<Self, Error> {
        let path: Arc<Path> = Path::new("").into();
        let text = |(line, text, words): (u64, String, Vec<Range<usize>>)| {
            let place = Place {
                path: Arc::clone(&path),
                line,
            };
            match words.is_empty() {
                true => TaggedText::of_text(text, place),
                false => TaggedText::of_words_in(text, words, place),
            }
        };
        Self::encode(lines.map(text).collect(), reader, labels, false, Unit::Text)
    }

    /// The texts as files have them.
    pub(crate) fn texts(&self) -> &[TaggedText] {
        &self.texts
    }

    /// The same as tokens.
    pub(crate) fn encoded(&self) -> &TokenSet {
        &self.set
    }

    /// What is remarkable about the labels, a line each.
    fn notes(&self, part: &str) -> Option<String> {
        let (inexact, spans) = (self.set.inexact, self.set.spans);
        (inexact > 0).then(|| {
            format!(
                "{part}: {inexact} of {} do not begin and end with words: they are learned and counted as the nearest spans that do",
                counted(spans, "span", "spans")
            )
        })
    }

    /// The text that an example is of.
    fn text(&self, example: usize) -> &TaggedText {
        let first = self.examples[example].start;
        &self.texts[self.set.windows[first].example]
    }

    fn said(&self, example: usize, outputs: &[WordTag]) -> Vec<Said> {
        let windows = self.examples[example].clone();
        let words = self.text(example).words.len();
        self.set.said(windows, words, outputs)
    }
}

impl Inputs for Tagged {
    fn len(&self) -> usize {
        self.examples.len()
    }

    fn lengths(&self) -> Option<Vec<u32>> {
        let lengths = self.set.set.lengths();
        let of = |windows: &Range<usize>| lengths[windows.clone()].iter().sum();
        Some(self.examples.iter().map(of).collect())
    }

    fn targets(&self) -> &Targets {
        &self.targets
    }

    fn batch(&self, examples: &[usize], _: Option<Draw>) -> Result<HostBatch, DataError> {
        let windows = examples.iter();
        let windows: Vec<usize> = windows.flat_map(|&i| self.examples[i].clone()).collect();
        let batch = self.set.pack(&windows);
        Ok(HostBatch {
            examples: examples.to_vec(),
            targets: self.targets.subset(examples),
            mixed: None,
            aside: None,
            input: Some(HostInput::Tokens(batch)),
        })
    }

    fn rows(&self, example: usize) -> usize {
        let windows = self.set.windows[self.examples[example].clone()].iter();
        windows.map(|window| window.asked().len()).sum()
    }

    fn ahead(&self) -> usize {
        AHEAD
    }

    fn place(&self, example: usize) -> String {
        self.text(example).place.to_string()
    }

    fn line(&self, example: usize) -> Option<u64> {
        Some(self.text(example).place.line)
    }

    fn show(&self, example: usize) -> ShownExample {
        ShownExample {
            text: self.text(example).text.clone(),
            text_pair: None,
            picture: None,
        }
    }

    fn spans(&self, example: usize, outputs: &[WordTag]) -> Vec<FoundSpan> {
        let said = self.said(example, outputs);
        tagged_spans(self.text(example), &self.labels, &said)
    }

    fn add_to(&self, fingerprint: &mut Fingerprint) {
        for window in self.examples.iter().flat_map(Clone::clone) {
            fingerprint.add_numbers(&self.set.set.items[window].ids);
        }
        fingerprint.add_targets(&self.targets);
    }
}

/// Reads and encodes the texts of a run.
pub(super) fn prepare(
    config: &RunConfig,
    pretrained: &Pretrained,
    hub: &Hub,
    observer: &dyn Observer,
) -> Result<Prepared, Error> {
    without_decoders(pretrained)?;
    let limits = text_limits(pretrained, config)?;
    let splits: Splits<Vec<TaggedText>> = read_splits(config, hub, observer)?;
    let mut notes = splits.notes;
    let targets = in_order_of(splits.encoder, &pretrained.config().labels)?;
    let labels = tags(&targets)?;
    let (reader, note) = WordReader::new(pretrained.dir(), &config.data, splits.by_words, limits)?;
    notes.extend(note);
    let mut encode = |texts, part, unit| {
        let set = Tagged::encode(texts, &reader, labels, true, unit)?;
        notes.extend(set.notes(part));
        Ok::<_, Error>(set)
    };
    let train = encode(splits.train, "train", Unit::Window)?;
    let mut part = |texts: Option<Vec<TaggedText>>, part| -> Result<_, Error> {
        let set = texts.map(|texts| encode(texts, part, Unit::Text));
        Ok(set.transpose()?.map(|set| Arc::new(set) as Arc<dyn Inputs>))
    };
    let validation = part(splits.validation, "validation")?;
    let test = part(splits.test, "test")?;
    if train.examples.is_empty() {
        return Err(Error::Setting {
            reason: "the tokenizer makes nothing of any word of the training texts".into(),
            hint: "name a model whose tokenizer knows their script".into(),
        });
    }

    let tokens = TokenCounts::of(&train, config)?;
    let max_length = reader.encoder.max_length();
    let mean = tokens.all as f64 / train.len() as f64;
    let windows = match train.len() == train.texts.len() {
        true => String::new(),
        false => format!(
            ", {} in {} windows",
            counted(train.texts.len(), "text", "texts"),
            thousands(train.len() as u64)
        ),
    };
    Ok(Prepared {
        name: splits.name,
        columns: splits.used,
        files: splits.files,
        sizes: format!("{mean:.1} tokens each{windows}"),
        noun: "text",
        footprint: Footprint::of_texts(limits, tokens.largest_batch, tokens.longest),
        train: Arc::new(train),
        validation,
        test,
        // What a frozen part makes of a text has as many rows as the text has words, and the cache has rows of one width.
        repeats: false,
        by_words: splits.by_words,
        encoder: targets,
        notes,
        max_length: max_length.unwrap_or(config.data.max_length),
        picture_size: None,
        answering: None,
    })
}

/// The tags that an encoder of them has.
///
/// # Errors
/// For an encoder of something else, which is a bug.
pub(crate) fn tags(encoder: &TargetEncoder) -> Result<&TagLabels, Error> {
    match encoder {
        TargetEncoder::Tags(labels) => Ok(labels),
        _ => Err(Error::Internal("labelled words without tags".into())),
    }
}
