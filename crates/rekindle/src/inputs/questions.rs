//! Questions about texts, as windows of packed tokens. An example of training is a window, because that is what a step takes; an
//! example of an evaluation is a question with all its windows, because that is what is answered.

use super::{
    Draw, HostBatch, HostInput, Inputs, Prepared, ShownExample, TokenCounts, encoder, text_limits,
    without_decoders,
};
use crate::{
    Error, Observer, RunConfig,
    config::DataConfig,
    examples::{Splits, left_out, on_bad, read_splits},
    fingerprint::Fingerprint,
    plan::Footprint,
};
use rekindle_base::{counted, thousands};
use rekindle_data::{
    DataError, OnBad, TargetEncoder, Targets, TextEncoder,
    questions::{Asked, Question, QuestionOptions},
};
use rekindle_hub::Hub;
use rekindle_models::{Pretrained, TextLimits};
use std::{path::Path, sync::Arc};

/// Batches made ahead of the loop.
const AHEAD: usize = 8;
/// Of a window's tokens one in so many is shared with the next, where nothing is set.
const SHARED: usize = 3;

/// What makes tokens of questions.
pub(crate) struct QuestionReader {
    encoder: TextEncoder,
    options: QuestionOptions,
}

impl QuestionReader {
    /// By the tokenizer of a model directory. A note where the length was too much for the model.
    pub(crate) fn new(
        dir: &Path,
        data: &DataConfig,
        on_bad_example: OnBad,
        limits: &TextLimits,
    ) -> Result<(Self, Option<String>), Error> {
        let (encoder, note) = encoder(dir, data.max_length, limits)?;
        let length = encoder.max_length().unwrap_or(data.max_length);
        let options = QuestionOptions {
            overlap: data.overlap.unwrap_or(length / SHARED),
            on_bad_example,
        };
        Ok((Self { encoder, options }, note))
    }

    pub(crate) fn encoder(&self) -> &TextEncoder {
        &self.encoder
    }

    /// The same, which leaves out what it cannot encode.
    pub(crate) fn leaving_out(&self) -> Self {
        Self {
            encoder: self.encoder.clone(),
            options: QuestionOptions {
                on_bad_example: OnBad::Skip,
                ..self.options
            },
        }
    }
}

/// A set of questions with their windows.
pub(crate) struct Questions {
    targets: Targets,
    /// What was left out.
    notes: Vec<String>,
}

impl Questions {
    /// Each question with all its windows.
    pub(crate) fn encode(questions: Vec<Question>, reader: &QuestionReader) -> Result<Self, Error> {
        Self::by(Asked::by_question, questions, reader)
    }

    fn by(
        examples: impl FnOnce(Arc<Vec<Question>>, Arc<rekindle_data::questions::QuestionSet>) -> Asked,
        questions: Vec<Question>,
        reader: &QuestionReader,
    ) -> Result<Self, Error> {
        let set = reader
            .encoder
            .encode_questions(&questions, reader.options)?;
        let notes = left_out("questions", &set.skipped);
        let asked = examples(Arc::new(questions), Arc::new(set));
        Ok(Self {
            targets: Targets::Answers(asked),
            notes,
        })
    }

    /// The questions with their windows.
    pub(crate) fn asked(&self) -> &Asked {
        match &self.targets {
            Targets::Answers(asked) => asked,
            _ => unreachable!("the targets of questions are answers"),
        }
    }

    /// Of the question that an example is of, the number among those that were encoded.
    pub(crate) fn number(&self, example: usize) -> usize {
        let first = self.asked().windows_of(example).start;
        self.asked().set().windows[first].example
    }
}

impl Inputs for Questions {
    fn len(&self) -> usize {
        self.asked().len()
    }

    fn lengths(&self) -> Option<Vec<u32>> {
        let examples = 0..self.len();
        Some(
            examples
                .map(|example| self.asked().tokens(example) as u32)
                .collect(),
        )
    }

    fn targets(&self) -> &Targets {
        &self.targets
    }

    fn batch(&self, examples: &[usize], _: Option<Draw>) -> Result<HostBatch, DataError> {
        let windows = examples.iter();
        let windows: Vec<usize> = windows.flat_map(|&i| self.asked().windows_of(i)).collect();
        Ok(HostBatch {
            examples: examples.to_vec(),
            targets: self.targets.subset(examples),
            mixed: None,
            aside: None,
            input: Some(HostInput::Text(self.asked().set().pack(&windows).text)),
        })
    }

    fn rows(&self, example: usize) -> usize {
        self.asked().tokens(example)
    }

    fn ahead(&self) -> usize {
        AHEAD
    }

    fn place(&self, example: usize) -> String {
        self.asked().question(example).place.to_string()
    }

    fn line(&self, example: usize) -> Option<u64> {
        Some(self.asked().question(example).place.line)
    }

    fn show(&self, example: usize) -> ShownExample {
        let question = self.asked().question(example);
        ShownExample {
            text: question.question.clone(),
            text_pair: Some(question.context.to_string()),
            picture: None,
        }
    }

    fn left_out(&self) -> Vec<String> {
        self.notes.clone()
    }

    fn add_to(&self, fingerprint: &mut Fingerprint) {
        for example in 0..self.len() {
            for window in self.asked().windows_of(example) {
                fingerprint.add_numbers(&self.asked().set().set.items[window].ids);
            }
        }
        fingerprint.add_targets(&self.targets);
    }
}

/// Reads and encodes the questions of a run.
pub(super) fn prepare(
    config: &RunConfig,
    pretrained: &Pretrained,
    hub: &Hub,
    observer: &dyn Observer,
) -> Result<Prepared, Error> {
    without_decoders(pretrained)?;
    let limits = text_limits(pretrained, config)?;
    let splits: Splits<Vec<Question>> = read_splits(config, hub, observer)?;
    let mut notes = splits.notes;
    let on_bad = on_bad(config);
    let (reader, note) = QuestionReader::new(pretrained.dir(), &config.data, on_bad, limits)?;
    notes.extend(note);
    let questions = splits.train.len();
    let train = Questions::by(Asked::by_window, splits.train, &reader)?;
    let part = |questions: Option<Vec<Question>>| -> Result<_, Error> {
        let set = questions.map(|questions| Questions::encode(questions, &reader));
        Ok(set.transpose()?.map(|set| Arc::new(set) as Arc<dyn Inputs>))
    };
    let (validation, test) = (part(splits.validation)?, part(splits.test)?);

    let tokens = TokenCounts::of(&train, config)?;
    let mean = tokens.all as f64 / train.len().max(1) as f64;
    let windows = match train.len() == questions {
        true => String::new(),
        false => format!(
            ", {} in {} windows",
            counted(questions, "question", "questions"),
            thousands(train.len() as u64)
        ),
    };
    let max_length = reader.encoder.max_length();
    Ok(Prepared {
        name: splits.name,
        columns: splits.used,
        files: splits.files,
        sizes: format!("{mean:.1} tokens each{windows}"),
        noun: "question",
        footprint: Footprint::of_texts(limits, tokens.largest_batch, tokens.longest),
        train: Arc::new(train),
        validation,
        test,
        // What a frozen part makes of a window has as many rows as tokens, and the cache has rows of one width.
        repeats: false,
        by_words: false,
        encoder: TargetEncoder::Answer,
        notes,
        max_length: max_length.unwrap_or(config.data.max_length),
        picture_size: None,
        answering: None,
    })
}
