//! A tuned model, loaded back to predict and to be evaluated: from a run directory, a directory that transformers, timm or
//! PEFT wrote, or a hub name.

mod preferences;

use crate::{
    Error, Observer, Prediction, Query, RunConfig,
    answers::{self, Answering},
    config::{self, Column, DataConfig, Device, ImagesConfig, Override},
    examples::{on_bad, read_set},
    figures::Figures,
    init::language_task,
    inputs::{
        self, Chats, Choices, Inputs, Pictures, QuestionReader, Questions, Tagged, Texts, Unit,
        WordReader, preprocess, related, tags,
    },
    loaded::{Loaded, load},
    located::{Located, locate, own_settings},
    predictions,
    report::{Answered, Mistake, Said},
    saved::KeptSettings,
    task::{Kind, Modality, Task},
    tasks::{self, Objective},
};
use rekindle_data::{
    DataError, Example, TargetEncoder, TargetKind, TextEncoder, UsualColumns,
    chat::{ChatEncoder, Conversation, EncodeOptions, LossOn},
    choices::ChoiceQuestion,
    image::{ImageSet, Preprocess},
    questions::Question,
    related::RelatedTexts,
    tokens::TaggedText,
};
use rekindle_models::TextLimits;
use serde_json::{Map, Value};
use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

/// A column as the user names it.
fn column_name(column: &Column) -> String {
    match column {
        Column::Name(name) => name.clone(),
        Column::Index(index) => index.to_string(),
    }
}

/// Examples predicted together.
const BATCH: usize = 64;

/// What is said of a model that overflows.
const NO_NUMBERS: &str = "the model puts out something that is no number: its weights are damaged";

fn no_numbers() -> Error {
    Error::Setting {
        reason: NO_NUMBERS.into(),
        hint: "look at its weights: rekindle inspect MODEL --tensors".into(),
    }
}

/// An example of a set, and the answer or why there is none.
pub(crate) type AnswerTo = (usize, Result<Prediction, String>);

/// An evaluation on a labelled file or folder.
#[derive(Debug, Clone)]
pub struct Evaluated {
    /// All figures.
    pub figures: Figures,
    /// The answers with the highest loss.
    pub mistakes: Vec<Mistake>,
    /// Answers in words that are furthest from the right ones, the furthest first.
    pub worst_answers: Vec<Answered>,
    /// An object for each example, of [`Predictor::evaluate_each`].
    pub predictions: Vec<Map<String, Value>>,
    /// Rows left out and the like.
    pub notes: Vec<String>,
}

/// Conversations that are put before each prompt, as examples.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shots {
    /// How many.
    pub count: usize,
    /// The file that they are drawn from, by the configuration's seed.
    pub from: PathBuf,
}

/// A model with what makes its input and what reads its output, on a device.
pub struct Predictor {
    model: Box<dyn Loaded>,
    task: Task,
    objective: Box<dyn Objective>,
    input: Input,
    /// The settings that texts are read by.
    read_by: DataConfig,
    /// How texts were cut in training.
    max_length: usize,
    kept: KeptSettings,
    /// Where the files of the tokenizer are, and the sizes of a model for texts.
    tokenizer: PathBuf,
    limits: Option<TextLimits>,
    /// Whether the labels are numbers for want of names.
    nameless: bool,
    /// What was opened, and on which device.
    origin: PathBuf,
    device: Device,
    /// Examples predicted together.
    batch_size: usize,
}

/// What makes a model's input.
enum Input {
    Texts(Box<TextEncoder>),
    Tagged(Box<WordReader>),
    Questions(Box<QuestionReader>),
    Choices(Box<TextEncoder>),
    Chats {
        encoder: Box<ChatEncoder>,
        /// The longest sequence.
        positions: usize,
    },
    Pictures(Preprocess),
}

/// Settings that hold for a model that is trained.
const READS: [&str; 19] = [
    "data.text",
    "data.text_pair",
    "data.label",
    "data.choices",
    "data.label_separator",
    "data.format",
    "data.header",
    "data.delimiter",
    "data.quoting",
    "data.max_length",
    "data.loss_on",
    "data.overlap",
    "data.date",
    "data.on_bad_example",
    "eval.batch_size",
    "eval.answers",
    "eval.max_new_tokens",
    "report.mistakes",
    "seed",
];

/// What makes the input of a model for texts.
fn of_texts(
    config: &RunConfig,
    by_words: bool,
    tokenizer: &Path,
    limits: &TextLimits,
) -> Result<Input, Error> {
    if config.task.kind() == Kind::Generation {
        return Ok(Input::Chats {
            encoder: Box::new(inputs::saved_encoder(config, tokenizer, limits)?),
            positions: limits.positions,
        });
    }
    // A default length above the model's own is nothing to report.
    if config.task.kind() == Kind::Tags {
        let (reader, _) = WordReader::new(tokenizer, &config.data, by_words, limits)?;
        return Ok(Input::Tagged(Box::new(reader)));
    }
    if config.task.kind() == Kind::Extraction {
        let on_bad = on_bad(config);
        let (reader, _) = QuestionReader::new(tokenizer, &config.data, on_bad, limits)?;
        return Ok(Input::Questions(Box::new(reader)));
    }
    let (encoder, _) = inputs::encoder(tokenizer, config.data.max_length, limits)?;
    Ok(match config.task.kind() {
        Kind::Choice => Input::Choices(Box::new(encoder)),
        _ => Input::Texts(Box::new(encoder)),
    })
}

impl Predictor {
    /// Loads a run directory, a model directory or file of weights, a PEFT adapter directory, or a hub name.
    ///
    /// # Errors
    /// When something is missing or does not fit; the message names it.
    pub fn open(path: &Path, device: Device, observer: &dyn Observer) -> Result<Self, Error> {
        Self::of(locate(path, observer)?, path, device)
    }

    /// Loads what was found at a path.
    pub(crate) fn of(located: Located, path: &Path, device: Device) -> Result<Self, Error> {
        let located = located.keeping_blocks(device);
        let config = located.pretrained.config();
        let settings = located.settings(&[])?;
        let input = match (&config.text, &config.pictures) {
            (Some(limits), _) => {
                let by_words = located.kept.by_words;
                of_texts(&settings, by_words, &located.tokenizer, limits)?
            }
            (None, Some(pictures)) => {
                Input::Pictures(preprocess(pictures, &ImagesConfig::default()))
            }
            (None, None) => {
                return Err(Error::Internal("a model without a kind of input".into()));
            }
        };
        let limits = config.text.clone();
        let kind = tasks::targets_of(located.task.kind());
        let encoder = TargetEncoder::from_names(kind, located.labels.clone())?;
        Ok(Self {
            model: load(&located, device)?,
            task: located.task,
            objective: tasks::restore(&settings, encoder, &located.thresholds),
            input,
            read_by: settings.data,
            max_length: located.max_length,
            kept: located.kept,
            tokenizer: located.tokenizer,
            limits,
            nameless: located.nameless,
            origin: path.to_owned(),
            device,
            batch_size: BATCH,
        })
    }

    /// The settings with which the model was tuned (how texts are cut, what is learned of them, the day that a template is
    /// told, what is done with rows that cannot be used), `overrides` over them. The model reads texts by them from now on.
    ///
    /// # Errors
    /// Every mistake of the overrides, and a setting that says nothing to a model that is trained.
    pub fn configure(&mut self, overrides: &[Override]) -> Result<RunConfig, Error> {
        for over in overrides {
            let key = over.key();
            if key == "device" {
                return Err(Error::Setting {
                    reason: "the model is on its device already".into(),
                    hint: "name the device with --device".into(),
                });
            }
            if config::keys().any(|known| known.path() == key) && !READS.contains(&key) {
                return Err(Error::Setting {
                    reason: format!("`{key}` says nothing to a model that is trained already"),
                    hint: format!("leave it out; what holds here are {}", READS.join(", ")),
                });
            }
        }
        let config = own_settings(self.task, self.max_length, &self.kept, overrides)?;
        // Reading a tokenizer takes longer than most answers.
        if let Some(limits) = self.limits.as_ref().filter(|_| config.data != self.read_by) {
            self.input = of_texts(&config, self.kept.by_words, &self.tokenizer, limits)?;
            self.read_by = config.data.clone();
        }
        Ok(config)
    }

    /// What the model was tuned to do.
    #[must_use]
    pub fn task(&self) -> Task {
        self.task
    }

    /// Whether it takes pictures rather than texts.
    #[must_use]
    pub fn takes_pictures(&self) -> bool {
        self.task.modality() == Modality::Images
    }

    /// Names of what it answers, such as labels by id.
    #[must_use]
    pub fn labels(&self) -> &[String] {
        self.objective.encoder().names()
    }

    /// [`Prediction::brief`] where there is no answer: the tabs alone.
    #[must_use]
    pub fn brief_without_answer(&self) -> String {
        match self.objective.encoder().kind() {
            TargetKind::Real => "\t".repeat(self.labels().len().saturating_sub(1)),
            _ => "\t".to_owned(),
        }
    }

    /// Whether it predicts: a language model does not.
    ///
    /// # Errors
    /// For a model that answers in words, with the verbs that ask it.
    pub fn check_predicts(&self) -> Result<(), Error> {
        match &self.input {
            _ if self.task.kind() == Kind::Embedding => Err(Error::Setting {
                reason: "this model gives texts vectors, and no answers".into(),
                hint: "ask it with rekindle embed".into(),
            }),
            Input::Pictures(_) | Input::Tagged(_) | Input::Questions(_) | Input::Choices(_) => {
                Ok(())
            }
            _ => self.text_encoder().map(drop),
        }
    }

    /// Answers about texts. [`answer`](Self::answer) takes pairs of texts, questions with what they are about, and questions with choices.
    ///
    /// # Errors
    /// When a text cannot be encoded, and when the model is for pictures, for questions or for choices.
    pub fn predict<S: AsRef<str>>(&self, texts: &[S]) -> Result<Vec<Prediction>, Error> {
        let texts = texts.iter().map(|text| Query::new(None, text.as_ref()));
        let texts: Vec<Query> = texts.collect();
        let set = self.set_of(&texts.iter().collect::<Vec<_>>())?;
        let answers = self.answers(set)?.into_iter().map(|(_, answer)| answer);
        answers
            .map(|answer| answer.map_err(|_| no_numbers()))
            .collect()
    }

    /// Texts as the model takes them.
    pub(crate) fn set_of(&self, asked: &[&Query]) -> Result<Arc<dyn Inputs>, Error> {
        let lines = (1..).zip(asked);
        let lines = lines.map(|(number, query)| (query.line.unwrap_or(number), *query));
        if let Input::Tagged(reader) = &self.input {
            let lines = lines.map(|(line, query)| (line, query.text.clone(), query.words.clone()));
            let labels = tags(self.objective.encoder())?;
            return Ok(Arc::new(Tagged::of_lines(lines, reader, labels)?));
        }
        let lines = lines.map(|(line, query)| (line, query.text.clone(), query.text_pair.clone()));
        Ok(Arc::new(Texts::of_lines(lines, self.text_encoder()?)?))
    }

    /// Answers about a set, each with its example, or why there is none; examples that could not be read are missing.
    pub(crate) fn answers(&self, set: Arc<dyn Inputs>) -> Result<Vec<AnswerTo>, Error> {
        let scored = self.model.score(&set, self.batch_size)?;
        let rows = scored.examples.iter().enumerate();
        let answer = |(row, &example): (usize, &usize)| {
            let logits = scored.logits.row(row);
            match logits.iter().all(|logit| logit.is_finite()) {
                true => {
                    let of = scored.example(set.as_ref(), row);
                    (example, Ok(self.objective.answer(logits, of)))
                }
                false => (example, Err(NO_NUMBERS.to_owned())),
            }
        };
        Ok(rows.map(answer).collect())
    }

    /// What the backbone's pooling gives for texts, `[N][D]`.
    pub(crate) fn embeddings(&self, asked: &[&Query]) -> Result<Vec<Vec<f32>>, Error> {
        let set = self.set_of(asked)?;
        let scored = self.model.embed(&set, self.batch_size)?;
        if !scored.logits.are_numbers() {
            return Err(no_numbers());
        }
        let rows = 0..scored.logits.len();
        Ok(rows.map(|row| scored.logits.row(row).to_vec()).collect())
    }

    /// Whether it was tuned on pairs of texts, or on questions that may be about texts.
    #[must_use]
    pub fn reads_pairs(&self) -> bool {
        self.kept.columns.text_pair.is_some()
            || self.reads_questions().is_some()
            || self.reads_choices().is_some()
    }

    /// What encodes questions with choices, of a model that chooses.
    pub(crate) fn reads_choices(&self) -> Option<&TextEncoder> {
        match &self.input {
            Input::Choices(encoder) => Some(encoder),
            _ => None,
        }
    }

    /// What reads questions, of a model that answers them.
    pub(crate) fn reads_questions(&self) -> Option<&QuestionReader> {
        match &self.input {
            Input::Questions(reader) => Some(reader),
            _ => None,
        }
    }

    /// Columns that the model was tuned on.
    pub(crate) fn usual_columns(&self) -> &UsualColumns {
        &self.kept.columns
    }

    /// Evaluates on a labelled file, or on a folder or table of pictures, by the columns that the configuration's `[data]`
    /// names. [`configure`](Self::configure) gives the model's own configuration.
    ///
    /// # Errors
    /// When it cannot be read, or holds a label that the model does not know.
    pub fn evaluate(
        &self,
        path: &Path,
        config: &RunConfig,
        observer: &dyn Observer,
    ) -> Result<Evaluated, Error> {
        self.evaluate_after(path, None, false, config, observer)
    }

    /// As [`evaluate`](Self::evaluate), a language model, with examples before each conversation: what a model without tuning makes of a
    /// few. Only the last answer of a conversation counts then.
    ///
    /// # Errors
    /// As [`evaluate`](Self::evaluate); where the examples leave no room for an answer; and for a model that does not write.
    pub fn evaluate_few_shot(
        &self,
        path: &Path,
        shots: &Shots,
        config: &RunConfig,
        observer: &dyn Observer,
    ) -> Result<Evaluated, Error> {
        self.evaluate_after(path, Some(shots), false, config, observer)
    }

    /// As [`evaluate`](Self::evaluate), or with shots as [`evaluate_few_shot`](Self::evaluate_few_shot), and
    /// [`Evaluated::predictions`] tells of each example what is right, what was answered, and the loss.
    ///
    /// # Errors
    /// As those.
    pub fn evaluate_each(
        &self,
        path: &Path,
        shots: Option<&Shots>,
        config: &RunConfig,
        observer: &dyn Observer,
    ) -> Result<Evaluated, Error> {
        self.evaluate_after(path, shots, true, config, observer)
    }

    fn evaluate_after(
        &self,
        path: &Path,
        shots: Option<&Shots>,
        each: bool,
        config: &RunConfig,
        observer: &dyn Observer,
    ) -> Result<Evaluated, Error> {
        let config = &self.by_name(self.with_task(config), observer)?;
        let known = self.labels();
        let of_classes;
        let mut objective = self.objective.as_ref();
        let mut answering = None;
        if shots.is_some() && !matches!(self.input, Input::Chats { .. }) {
            return Err(Error::Setting {
                reason: format!(
                    "examples before a prompt are for language models; this one was tuned for {}",
                    self.task
                ),
                hint: "leave them out".into(),
            });
        }
        let (set, notes): (Arc<dyn Inputs>, Vec<String>) = match &self.input {
            Input::Texts(encoder) if self.task.kind() == Kind::Embedding => {
                let read = read_set::<Vec<RelatedTexts>>(path, config, &self.kept.columns, &[])?;
                let (set, undefined) = related::to_evaluate(&read.set, encoder)?;
                (set, read.notes.into_iter().chain(undefined).collect())
            }
            Input::Texts(encoder) => {
                let read = read_set::<Vec<Example>>(path, config, &self.kept.columns, known);
                let mut read = read.map_err(|error| of_labels(error, objective.described_as()))?;
                let (targets, on_bad) = (objective.encoder(), on_bad(config));
                let (texts, left_out) = Texts::encode_known(read.set, encoder, targets, on_bad)?;
                read.notes.extend(left_out);
                (Arc::new(texts), read.notes)
            }
            Input::Tagged(reader) => {
                let read = read_set::<Vec<TaggedText>>(path, config, &self.kept.columns, known)?;
                let labels = tags(objective.encoder())?;
                let set = Tagged::encode(read.set, reader, labels, true, Unit::Text)?;
                (Arc::new(set), read.notes)
            }
            Input::Questions(reader) => {
                let mut read = read_set::<Vec<Question>>(path, config, &self.kept.columns, known)?;
                let set = Questions::encode(read.set, reader)?;
                read.notes.extend(set.left_out());
                (Arc::new(set), read.notes)
            }
            Input::Choices(encoder) => {
                let columns = &self.kept.columns;
                let read = read_set::<Vec<ChoiceQuestion>>(path, config, columns, known)?;
                (Arc::new(Choices::encode(read.set, encoder)?), read.notes)
            }
            Input::Chats { encoder, .. }
                if shots.is_none()
                    && path.is_file()
                    && language_task(path) == Some(Task::TextPreference) =>
            {
                return self.evaluate_preferences(path, encoder, each, config, observer);
            }
            Input::Chats { encoder, positions } => {
                let read = read_set::<Vec<Conversation>>(path, config, &self.kept.columns, &[])?;
                let mut encoder = encoder.as_ref().clone();
                let mut rows = read.set;
                let mut notes = read.notes;
                if let Some(shots) = shots {
                    let from = read_set::<Vec<Conversation>>(
                        &shots.from,
                        config,
                        &self.kept.columns,
                        &[],
                    )?;
                    notes.extend(from.notes);
                    rows = answers::after_examples(rows, &from.set, shots, config.seed)?;
                    encoder = encoder.with_options(EncodeOptions {
                        max_length: Some(*positions),
                        loss_on: LossOn::Last,
                        on_bad_example: on_bad(config),
                        ..EncodeOptions::default()
                    })?;
                }
                answering = Answering::new(config, &encoder, *positions, &rows, &[]);
                let chats = Chats::encode(rows, &encoder)?;
                notes.extend(chats.left_out());
                (Arc::new(chats), notes)
            }
            Input::Pictures(preprocess) => {
                let read = read_set::<ImageSet>(path, config, &self.kept.columns, known)?;
                // A model that does not name its classes has them in the order of their names, as image folders do.
                let names = read.set.classes();
                if self.nameless && names.len() == self.labels().len() {
                    let kind = objective.encoder().kind();
                    let encoder = TargetEncoder::from_names(kind, names.to_vec())?;
                    of_classes = tasks::restore(config, encoder, &[]);
                    objective = of_classes.as_ref();
                }
                let targets = read.set.targets(objective.encoder())?;
                let pictures = Pictures::to_evaluate(read.set, targets, preprocess, on_bad(config));
                (Arc::new(pictures), read.notes)
            }
        };
        notes.iter().for_each(|note| observer.note(note));
        let scored = self.model.score(&set, config.eval.batch_size)?;
        if !scored.logits.are_numbers() {
            return Err(no_numbers());
        }
        let targets = scored.targets(set.as_ref());
        let most = config.report.mistakes;
        let mut figures = objective.figures(&scored.logits, &targets);
        let mut predictions = match each {
            true => predictions::lines(&scored, set.as_ref(), objective, &targets),
            false => Vec::new(),
        };
        let worst_answers = match answering {
            Some(answering) => {
                self.answer_prompts(&answering, &mut figures, &mut predictions, most, observer)?
            }
            None => Vec::new(),
        };
        Ok(Evaluated {
            figures,
            mistakes: scored.mistakes(set.as_ref(), objective, &targets, most),
            worst_answers,
            predictions,
            notes,
        })
    }

    /// Answers prompts and adds what that is worth to the figures; the worst answers.
    fn answer_prompts(
        &self,
        answering: &Answering,
        figures: &mut Figures,
        predictions: &mut [Map<String, Value>],
        most: usize,
        observer: &dyn Observer,
    ) -> Result<Vec<Answered>, Error> {
        observer.note(&format!("answering {} prompts", answering.last.len()));
        let begin = |sequences| self.model.begin(sequences);
        let answers = answering.answer(&begin, &answering.last, &|| false)?;
        let answers = answers.unwrap_or_default();
        answering.add_to(figures, &answers, None);
        predictions::add_answers(predictions, &answering.last, &answers);
        let said: Vec<Vec<Said>> = answers
            .into_iter()
            .map(|answer| {
                vec![Said {
                    step: 0,
                    text: answer.text,
                }]
            })
            .collect();
        Ok(answers::worst(&answering.last, &said, most))
    }

    /// The configuration with the columns of numbers in the order of the model's outputs, where it names them so.
    ///
    /// # Errors
    /// When some of the names are the model's, but stand for others of its outputs.
    fn by_name(&self, mut config: RunConfig, observer: &dyn Observer) -> Result<RunConfig, Error> {
        let names = self.labels();
        let Some(columns) = &mut config.data.label else {
            return Ok(config);
        };
        if self.objective.encoder().kind() != TargetKind::Real || names.len() < 2 {
            return Ok(config);
        }
        let given: Vec<String> = columns.0.iter().map(column_name).collect();
        let places: Option<Vec<usize>> = names
            .iter()
            .map(|name| given.iter().position(|given| given == name))
            .collect();
        if let Some(places) = places.filter(|places| places.len() == given.len()) {
            columns.0 = places.iter().map(|&i| columns.0[i].clone()).collect();
            return Ok(config);
        }
        let (asked, known) = (given.join(", "), names.join(", "));
        let displaced =
            |(i, name): (usize, &String)| names.contains(name) && names.get(i) != Some(name);
        if given.iter().enumerate().any(displaced) {
            return Err(Error::Setting {
                reason: format!(
                    "data.label names the columns {asked}; the model puts out {known}, in this order"
                ),
                hint: "name the column of each number in the model's order".into(),
            });
        }
        observer.note(&format!(
            "the columns {asked} are taken for {known}, in this order"
        ));
        Ok(config)
    }

    /// The configuration with the model's own task.
    pub(crate) fn with_task(&self, config: &RunConfig) -> RunConfig {
        RunConfig {
            task: self.task,
            ..config.clone()
        }
    }

    pub(crate) fn text_encoder(&self) -> Result<&TextEncoder, Error> {
        match &self.input {
            Input::Texts(encoder) => Ok(encoder),
            Input::Tagged(_) => Err(Error::Internal("a reader of words, asked for texts".into())),
            Input::Questions(_) => Err(Error::Setting {
                reason: "this model answers questions about a text".into(),
                hint: "give the text too: --context FILE".into(),
            }),
            Input::Choices(_) => Err(Error::Setting {
                reason: "this model chooses among answers to a question".into(),
                hint: "give them too: --choice ANSWER, twice or more".into(),
            }),
            Input::Chats { .. } => Err(Error::Setting {
                reason: "this model answers in words".into(),
                hint: "ask it with rekindle generate, or talk with it: rekindle chat".into(),
            }),
            Input::Pictures(_) => Err(Error::Setting {
                reason: "this model is for pictures, not for texts".into(),
                hint: "name files or folders of pictures".into(),
            }),
        }
    }

    pub(crate) fn preprocess(&self) -> Result<&Preprocess, Error> {
        match &self.input {
            Input::Pictures(preprocess) => Ok(preprocess),
            _ => Err(Error::Setting {
                reason: "this model is for texts, not for pictures".into(),
                hint: "name a model that was tuned on pictures".into(),
            }),
        }
    }
}

/// An error of labels that are not what a tuned model answers with: another task is no remedy for it.
fn of_labels(error: Error, answers: &str) -> Error {
    match error {
        Error::Data(DataError::UnfitLabels {
            path,
            column,
            looks,
            ..
        }) => Error::Data(DataError::UnfitLabels {
            path,
            column,
            looks,
            hint: format!(
                "this model answers with {answers}: name the column of those with --label"
            ),
        }),
        other => other,
    }
}
