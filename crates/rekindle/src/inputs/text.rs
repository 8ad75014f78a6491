//! Texts and pairs of texts, as packed tokens.

use super::{Draw, HostBatch, HostInput, Inputs, Prepared, ShownExample, TokenCounts, cut};
use crate::{
    Error, Observer, RunConfig,
    config::{self, DataSource, Method},
    examples::{Splits, in_order_of, on_bad, read_splits},
    fingerprint::Fingerprint,
    plan::Footprint,
    task::Kind,
};
use rekindle_base::counted;
use rekindle_data::{
    DataError, EncodedSet, Example, OnBad, Place, RawTarget, TargetEncoder, Targets, TextBatch,
    TextEncoder,
};
use rekindle_hub::Hub;
use rekindle_models::{ModelConfig, Pretrained, TextLimits};
use std::{path::Path, sync::Arc};

/// Batches made ahead of the loop.
const AHEAD: usize = 8;

/// A set of texts with their tokens.
pub(crate) struct Texts {
    examples: Vec<Example>,
    set: EncodedSet,
}

impl Texts {
    /// Encodes examples; with an encoder of targets their targets too.
    pub(crate) fn encode(
        examples: Vec<Example>,
        encoder: &TextEncoder,
        targets: Option<&TargetEncoder>,
    ) -> Result<Self, Error> {
        let set = encoder.encode_examples(&examples, targets)?;
        Ok(Self { examples, set })
    }

    /// Encodes examples to evaluate on. Where bad rows are left out, so are those with a label that the model does not know;
    /// says how many they were.
    pub(crate) fn encode_known(
        examples: Vec<Example>,
        encoder: &TextEncoder,
        targets: &TargetEncoder,
        on_bad: OnBad,
    ) -> Result<(Self, Option<String>), Error> {
        let all = examples.len();
        let (examples, unknown) = targets.known_only(examples);
        let note = match (unknown, on_bad) {
            (Some(_), OnBad::Skip) if !examples.is_empty() => Some(format!(
                "left out {}: labels that the model does not know",
                counted(all - examples.len(), "row", "rows")
            )),
            (Some(error), _) => return Err(error.into()),
            (None, _) => None,
        };
        Ok((Self::encode(examples, encoder, Some(targets))?, note))
    }

    /// The examples as files have them.
    pub(crate) fn examples(&self) -> &[Example] {
        &self.examples
    }

    /// The same as tokens.
    pub(crate) fn encoded(&self) -> &EncodedSet {
        &self.set
    }

    /// Texts that stand in no file.
    pub(crate) fn of<S: AsRef<str>>(texts: &[S], encoder: &TextEncoder) -> Result<Self, Error> {
        let text = |(line, text): (u64, &S)| (line, text.as_ref().to_owned(), None);
        Self::of_lines((1..).zip(texts).map(text), encoder)
    }

    /// Lines with their numbers, texts and second texts.
    pub(crate) fn of_lines(
        lines: impl Iterator<Item = (u64, String, Option<String>)>,
        encoder: &TextEncoder,
    ) -> Result<Self, Error> {
        let path: Arc<Path> = Path::new("").into();
        let example = |(line, text, text_pair)| Example {
            text,
            text_pair,
            label: None,
            place: Place {
                path: Arc::clone(&path),
                line,
            },
        };
        Self::encode(lines.map(example).collect(), encoder, None)
    }
}

impl Inputs for Texts {
    fn len(&self) -> usize {
        self.set.len()
    }

    fn lengths(&self) -> Option<Vec<u32>> {
        Some(self.set.lengths())
    }

    fn targets(&self) -> &Targets {
        &self.set.targets
    }

    fn batch(&self, examples: &[usize], _: Option<Draw>) -> Result<HostBatch, DataError> {
        let mut batch = TextBatch::pack(&self.set, examples);
        Ok(HostBatch {
            examples: std::mem::take(&mut batch.indices),
            targets: std::mem::take(&mut batch.targets),
            mixed: None,
            aside: None,
            input: Some(HostInput::Text(batch)),
        })
    }

    fn ahead(&self) -> usize {
        AHEAD
    }

    fn place(&self, example: usize) -> String {
        self.examples[example].place.to_string()
    }

    fn line(&self, example: usize) -> Option<u64> {
        Some(self.examples[example].place.line)
    }

    fn cut(&self) -> usize {
        self.set.truncated()
    }

    fn show(&self, example: usize) -> ShownExample {
        let example = &self.examples[example];
        ShownExample {
            text: example.text.clone(),
            text_pair: example.text_pair.clone(),
            picture: None,
        }
    }

    fn add_to(&self, fingerprint: &mut Fingerprint) {
        for item in &self.set.items {
            fingerprint.add_numbers(&item.ids);
        }
        fingerprint.add_targets(&self.set.targets);
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
    let model = pretrained.config();
    let limits = text_limits(pretrained, config)?;
    let mut splits: Splits<Vec<Example>> = read_splits(config, hub, observer)?;
    let mut notes = splits.notes;
    let targets = in_order_of(splits.encoder, &model.labels)?;
    if config.peft.method == Method::Setfit {
        let names = targets.names();
        let are_single = splits
            .train
            .iter()
            .all(|example| example.text_pair.is_none());
        let usual = || are_single && are_words(names);
        if config.peft.label_texts.unwrap_or_else(usual) {
            notes.push(format!(
                "{} made of the labels' names; peft.label_texts=false leaves them out",
                counted(names.len(), "training text is", "training texts are")
            ));
            splits.train.extend(label_texts(names));
        }
    }
    let (encoder, note) = encoder(pretrained.dir(), config.data.max_length, limits)?;
    notes.extend(note);
    notes.extend(mean_note(config, model));
    let train = Texts::encode(splits.train, &encoder, Some(&targets))?;
    let mut part = |examples: Option<Vec<Example>>| -> Result<Option<Arc<dyn Inputs>>, Error> {
        let encode = |examples| Texts::encode_known(examples, &encoder, &targets, on_bad(config));
        Ok(examples.map(encode).transpose()?.map(|(texts, note)| {
            notes.extend(note);
            Arc::new(texts) as Arc<dyn Inputs>
        }))
    };
    let (validation, test) = (part(splits.validation)?, part(splits.test)?);

    let tokens = TokenCounts::of(&train, config)?;
    let max_length = encoder.max_length().unwrap_or(config.data.max_length);
    let cut = cut(train.set.truncated(), max_length);
    Ok(Prepared {
        name: splits.name,
        columns: splits.used,
        files: splits.files,
        sizes: format!(
            "{:.1} tokens each{cut}",
            train
                .lengths()
                .iter()
                .flatten()
                .map(|&n| f64::from(n))
                .sum::<f64>()
                / train.len().max(1) as f64
        ),
        noun: "text",
        footprint: Footprint::of_texts(limits, tokens.largest_batch, tokens.longest),
        train: Arc::new(train),
        validation,
        test,
        encoder: targets,
        repeats: true,
        by_words: false,
        notes,
        max_length,
        picture_size: None,
        answering: None,
    })
}

/// Whether labels say in words what texts are about, and are no numbers or codes.
fn are_words(names: &[String]) -> bool {
    /// The least letters of a word.
    const WORD: usize = 3;
    let is_word = |name: &String| {
        let mut words = name.split(|c: char| !c.is_alphabetic());
        words.any(|word| word.chars().count() >= WORD)
            && !name.contains(|c: char| c.is_ascii_digit())
    };
    names.iter().all(is_word)
}

/// A text of each label, as SetFit's `get_templated_dataset` makes them.
fn label_texts(names: &[String]) -> impl Iterator<Item = Example> {
    let place = Place {
        path: Path::new("peft.label_texts").into(),
        line: 0,
    };
    names.iter().map(move |name| Example {
        text: format!("This sentence is about {}", name.replace(['_', '-'], " ")),
        text_pair: None,
        label: Some(RawTarget::from(name.as_str())),
        place: place.clone(),
    })
}

/// A word where the head reads the mean of all tokens, and transformers' would not.
pub(super) fn mean_note(config: &RunConfig, model: &ModelConfig) -> Option<String> {
    let by_mean = config.model.pooling == config::Pooling::Mean;
    let by_mean = by_mean || config.peft.method == Method::Setfit;
    let what = match config.task.kind() {
        Kind::Choice => "multiple choice",
        _ => "sequence classification",
    };
    (by_mean && !model.transformers_reads_means()).then(|| {
        format!("pooling = \"mean\": transformers' classes for {what} read the first token, so they will not give the same answers")
    })
}

/// Refuses a language model.
pub(super) fn without_decoders(pretrained: &Pretrained) -> Result<(), Error> {
    let model = pretrained.config();
    match model.is_decoder() {
        false => Ok(()),
        true => Err(Error::ModelDir {
            path: pretrained.dir().to_owned(),
            reason: format!(
                "{} writes; it has no head for labels or numbers",
                model.architecture()
            ),
            hint: "--task text-generation, which learns labels as answers too, or name an encoder such as minilm".into(),
        }),
    }
}

/// Whether a directory says, as sentence-transformers writes it, that its model is read by the mean of its tokens.
pub(crate) fn pools_by_mean(dir: &Path) -> bool {
    let text = std::fs::read_to_string(dir.join("1_Pooling/config.json")).unwrap_or_default();
    let says = serde_json::from_str::<serde_json::Value>(&text).unwrap_or_default();
    says["pooling_mode_mean_tokens"] == true
}

/// The sizes of a model for texts.
pub(crate) fn text_limits<'a>(
    pretrained: &'a Pretrained,
    config: &RunConfig,
) -> Result<&'a TextLimits, Error> {
    let model = pretrained.config();
    model.text.as_ref().ok_or_else(|| {
        let name = &config.model.name;
        match config.data_source() {
            DataSource::Files { train, .. } if train.is_file() => {
                text_file_for_pictures(train, name)
            }
            _ => Error::ModelDir {
                path: pretrained.dir().to_owned(),
                reason: format!(
                    "{name} is a model for pictures ({}), not for texts",
                    model.family
                ),
                hint: "name a text model such as minilm, or --task image-classification".into(),
            },
        }
    })
}

/// A table of texts was given to a model for pictures.
pub(crate) fn text_file_for_pictures(file: &Path, model: &str) -> Error {
    Error::Setting {
        reason: format!(
            "{} is a file of texts, and {model} is a model for pictures: expected a folder that has a folder of pictures for each label, or a table with a column of their files",
            file.display()
        ),
        hint: "name a model for texts, such as --model minilm; or the column of the files with --text, and --task image-classification".into(),
    }
}

/// The tokenizer of a model directory at the configured length, checked against the model's tables; and a note where that
/// length was too much for the model.
pub(crate) fn encoder(
    dir: &Path,
    max_length: usize,
    limits: &TextLimits,
) -> Result<(TextEncoder, Option<String>), Error> {
    encoder_by(TextEncoder::from_dir, dir, max_length, limits)
}

/// The same, the tokenizer opened in this way.
pub(super) fn encoder_by(
    open: impl FnOnce(&Path, Option<usize>) -> Result<TextEncoder, DataError>,
    dir: &Path,
    max_length: usize,
    limits: &TextLimits,
) -> Result<(TextEncoder, Option<String>), Error> {
    if dir.is_file() {
        return Err(Error::ModelDir {
            path: dir.to_owned(),
            reason: "a file of weights; a model for texts is a directory with config.json, weights and tokenizer".into(),
            hint: "pass the directory that holds it".into(),
        });
    }
    let positions = limits.positions;
    let length = max_length.min(positions);
    let mut encoder = open(dir, Some(length))?;
    encoder.check_model(limits.vocab_size, limits.type_vocab_size)?;
    let note = (length < max_length)
        .then(|| format!("data.max_length is {max_length}, but the model has {positions} positions: texts are cut to {length} tokens"));
    Ok((encoder, note))
}
