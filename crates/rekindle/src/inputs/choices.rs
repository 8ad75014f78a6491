//! Questions with choices: of each question a sequence of packed tokens for every choice, one behind the other.

use super::{
    Draw, HostBatch, HostInput, Inputs, Prepared, ShownExample, TokenCounts, cut, encoder,
    text::mean_note, text_limits, without_decoders,
};
use crate::{
    Error, Observer, RunConfig,
    examples::{Splits, read_splits},
    fingerprint::Fingerprint,
    plan::Footprint,
};
use rekindle_base::{counted, thousands};
use rekindle_data::{
    DataError, TargetEncoder, Targets, TextBatch, TextEncoder,
    choices::{ChoiceQuestion, ChoiceSet, Posed},
};
use rekindle_hub::Hub;
use rekindle_models::Pretrained;
use serde_json::{Map, Value};
use std::{collections::HashSet, sync::Arc};

/// Batches made ahead of the loop.
const AHEAD: usize = 8;

/// A set of questions with the tokens of their choices.
pub(crate) struct Choices {
    set: ChoiceSet,
    targets: Targets,
}

impl Choices {
    /// Encodes the choices of questions.
    pub(crate) fn encode(
        questions: Vec<ChoiceQuestion>,
        encoder: &TextEncoder,
    ) -> Result<Self, Error> {
        Ok(Self {
            set: encoder.encode_choices(&questions)?,
            targets: Targets::Choices(Posed::new(Arc::new(questions))),
        })
    }

    /// The questions.
    pub(crate) fn posed(&self) -> &Posed {
        match &self.targets {
            Targets::Choices(posed) => posed,
            _ => unreachable!("the targets of questions with choices are these"),
        }
    }

    /// The sequences of an example's choices.
    pub(crate) fn set(&self) -> &ChoiceSet {
        &self.set
    }

    /// A warning of questions of which the model reads choices as the same.
    pub(crate) fn alike(&self) -> Option<String> {
        let is_alike = |&question: &usize| {
            let mut seen = HashSet::new();
            let mut choices = self.set.choices_of(question);
            !choices.all(|choice| seen.insert(&self.set.set.items[choice].ids))
        };
        let mut alike = (0..self.len()).filter(is_alike);
        let first = alike.next()?;
        let alike = 1 + alike.count();
        Some(format!(
            "warning: {} choices that are the same to the model (written twice, or cut at data.max_length), the first at {}",
            counted(alike, "question has", "questions have"),
            self.place(first)
        ))
    }

    fn question(&self, example: usize) -> &ChoiceQuestion {
        self.posed().question(example)
    }
}

impl Inputs for Choices {
    fn len(&self) -> usize {
        self.posed().len()
    }

    /// Tokens of all choices of each question.
    fn lengths(&self) -> Option<Vec<u32>> {
        let of_choices = self.set.set.lengths();
        let questions = 0..self.len();
        let sum = |question| of_choices[self.set.choices_of(question)].iter().sum();
        Some(questions.map(sum).collect())
    }

    fn targets(&self) -> &Targets {
        &self.targets
    }

    fn batch(&self, examples: &[usize], _: Option<Draw>) -> Result<HostBatch, DataError> {
        let choices = examples.iter().flat_map(|&i| self.set.choices_of(i));
        let choices: Vec<usize> = choices.collect();
        Ok(HostBatch {
            examples: examples.to_vec(),
            targets: self.targets.subset(examples),
            mixed: None,
            aside: None,
            input: Some(HostInput::Text(TextBatch::pack(&self.set.set, &choices))),
        })
    }

    fn rows(&self, example: usize) -> usize {
        self.set.choices_of(example).len()
    }

    fn ahead(&self) -> usize {
        AHEAD
    }

    fn place(&self, example: usize) -> String {
        self.question(example).place.to_string()
    }

    fn line(&self, example: usize) -> Option<u64> {
        Some(self.question(example).place.line)
    }

    /// Questions of which any choice was cut.
    fn cut(&self) -> usize {
        let is_cut = |&question: &usize| {
            let choices = &self.set.set.items[self.set.choices_of(question)];
            choices.iter().any(|choice| choice.truncated)
        };
        (0..self.len()).filter(is_cut).count()
    }

    fn show(&self, example: usize) -> ShownExample {
        let question = self.question(example);
        ShownExample {
            text: question.question.clone(),
            text_pair: question.context.clone(),
            picture: None,
        }
    }

    fn described(&self, example: usize) -> Map<String, Value> {
        let question = self.question(example);
        let context = question.context.as_ref();
        let context = context.map(|context| ("context".into(), context.as_str().into()));
        let text = ("question".into(), question.question.as_str().into());
        std::iter::once(text).chain(context).collect()
    }

    fn add_to(&self, fingerprint: &mut Fingerprint) {
        for item in &self.set.set.items {
            fingerprint.add_numbers(&item.ids);
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
    let splits: Splits<Vec<ChoiceQuestion>> = read_splits(config, hub, observer)?;
    let mut notes = splits.notes;
    let (encoder, note) = encoder(pretrained.dir(), config.data.max_length, limits)?;
    notes.extend(note);
    notes.extend(mean_note(config, pretrained.config()));
    let train = Choices::encode(splits.train, &encoder)?;
    notes.extend(train.alike());
    let part = |questions: Option<Vec<ChoiceQuestion>>| -> Result<_, Error> {
        let set = questions.map(|questions| Choices::encode(questions, &encoder));
        Ok(set.transpose()?.map(|set| Arc::new(set) as Arc<dyn Inputs>))
    };
    let (validation, test) = (part(splits.validation)?, part(splits.test)?);

    let tokens = TokenCounts::of(&train, config)?;
    let choices = train.set.set.len();
    let max_length = encoder.max_length().unwrap_or(config.data.max_length);
    let longest = train.set.set.lengths().into_iter().max().unwrap_or(0);
    Ok(Prepared {
        name: splits.name,
        columns: splits.used,
        files: splits.files,
        sizes: format!(
            "{} choices, {:.1} tokens each{}",
            thousands(choices as u64),
            tokens.all as f64 / choices.max(1) as f64,
            cut(train.cut(), max_length)
        ),
        noun: "question",
        footprint: Footprint::of_texts(limits, tokens.largest_batch, longest as usize),
        train: Arc::new(train),
        validation,
        test,
        // What a frozen part makes of a question has as many rows as choices, and the cache has rows of one width.
        repeats: false,
        by_words: false,
        encoder: TargetEncoder::Choice,
        notes,
        max_length,
        picture_size: None,
        answering: None,
    })
}
