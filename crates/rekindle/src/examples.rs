//! The examples of a run, as files have them: found, read, limited and split. Texts and pictures go the same way.

use crate::{
    Error, Observer, RunConfig,
    config::{self, DataSource},
    init::fitting_task,
    task::{Kind, Modality, Task},
    tasks,
};
use rekindle_data::{
    Column, DataError, Example, Examples, Format, Fractions, Input, Limit, OnBad, ReadOptions,
    ResolvedColumns, Skipped, TargetEncoder, TargetHint, TargetKind, UsualColumns,
    chat::{
        ChatOptions, Conversation, Preference, PromptColumns, read_conversations, read_preferences,
    },
    choices::{ChoiceQuestion, read_choices},
    image::{ImageSet, image_parts, read_images},
    questions::{Question, QuestionColumns, QuestionFile, Questions as AskedFile, read_questions},
    read_examples,
    related::{RelatedTexts, read_related},
    tokens::{TagLabels, TaggedOptions, TaggedText, read_tagged},
};
use rekindle_hub::{Columns, DatasetKind, Hub};
use std::path::{Path, PathBuf};

/// The sets of a run.
pub(crate) struct Splits<S> {
    pub train: S,
    pub validation: Option<S>,
    pub test: Option<S>,
    /// The dataset's name, for titles.
    pub name: String,
    /// Labels as written to targets, by the training file.
    pub encoder: TargetEncoder,
    /// The columns that the training file was read by.
    pub used: UsualColumns,
    /// Whether the training file divides its texts into words.
    pub by_words: bool,
    /// The file or folder of each part that was given, the training file first.
    pub files: Vec<(&'static str, PathBuf)>,
    /// What was left out or guessed, a line each.
    pub notes: Vec<String>,
}

/// A set with what its file shows.
pub(crate) struct Read<S> {
    pub set: S,
    pub hint: TargetHint,
    pub label_names: Vec<String>,
    /// The columns of a table; none of folders and conversations.
    pub columns: Option<ResolvedColumns>,
    /// The columns of questions with choices.
    pub used: Option<UsualColumns>,
    /// Whether the file divides its texts into words.
    pub by_words: bool,
    pub notes: Vec<String>,
}

impl<S: Examples> Read<S> {
    /// Rows that have no labels beside them, and what was left out of their file.
    fn without_labels(rows: S, skipped: &[Skipped], options: &ReadOptions) -> Self {
        Self {
            set: match &options.limit {
                Some(limit) => rows.limited(Some(limit)),
                None => rows,
            },
            hint: TargetHint::default(),
            label_names: Vec::new(),
            columns: None,
            used: None,
            by_words: false,
            notes: left_out("rows", skipped),
        }
    }
}

/// Examples of one modality.
pub(crate) trait Source: Examples {
    const MODALITY: Modality;
    const INPUT: Input;

    fn read(path: &Path, options: &ReadOptions) -> Result<Read<Self>, Error>;
    fn encoder(read: &Read<Self>, kind: TargetKind) -> Result<TargetEncoder, Error>;
}

impl Source for Vec<Example> {
    const MODALITY: Modality = Modality::Text;
    const INPUT: Input = Input::Text;

    fn read(path: &Path, options: &ReadOptions) -> Result<Read<Self>, Error> {
        let outcome = read_examples(path, options)?;
        let mut notes = outcome.notes;
        notes.extend(left_out("rows", &outcome.skipped));
        Ok(Read {
            set: outcome.examples,
            hint: outcome.hint,
            label_names: outcome.label_names,
            columns: Some(outcome.columns),
            used: None,
            by_words: false,
            notes,
        })
    }

    fn encoder(read: &Read<Self>, kind: TargetKind) -> Result<TargetEncoder, Error> {
        Ok(TargetEncoder::fit_examples(
            kind,
            &read.set,
            &read.label_names,
        )?)
    }
}

impl Source for Vec<Conversation> {
    const MODALITY: Modality = Modality::Text;
    const INPUT: Input = Input::Text;

    fn read(path: &Path, options: &ReadOptions) -> Result<Read<Self>, Error> {
        let columns = |text: &Option<Column>, labels: &[Column]| match (text, labels) {
            (Some(Column::Name(prompt)), [Column::Name(completion)]) => Some(PromptColumns {
                prompt: prompt.clone(),
                completion: completion.clone(),
            }),
            _ => None,
        };
        let read = read_conversations(
            path,
            &ChatOptions {
                columns: columns(&options.text, &options.labels),
                usual: columns(&options.usual.text, &options.usual.label),
                on_bad_example: options.on_bad_example,
                prompts: false,
            },
        )?;
        Ok(Read::without_labels(read.rows, &read.skipped, options))
    }

    fn encoder(_: &Read<Self>, _: TargetKind) -> Result<TargetEncoder, Error> {
        Ok(TargetEncoder::Next)
    }
}

impl Source for Vec<Preference> {
    const MODALITY: Modality = Modality::Text;
    const INPUT: Input = Input::Text;

    fn read(path: &Path, options: &ReadOptions) -> Result<Read<Self>, Error> {
        let read = read_preferences(path, options.on_bad_example)?;
        Ok(Read::without_labels(read.rows, &read.skipped, options))
    }

    fn encoder(_: &Read<Self>, _: TargetKind) -> Result<TargetEncoder, Error> {
        Ok(TargetEncoder::Next)
    }
}

impl Source for Vec<RelatedTexts> {
    const MODALITY: Modality = Modality::Text;
    const INPUT: Input = Input::Text;

    fn read(path: &Path, options: &ReadOptions) -> Result<Read<Self>, Error> {
        let read = read_related(path, options)?;
        let mut notes = read.notes;
        notes.extend(left_out("rows", &read.skipped));
        Ok(Read {
            set: read.rows,
            hint: TargetHint::default(),
            label_names: Vec::new(),
            columns: Some(read.columns),
            used: None,
            by_words: false,
            notes,
        })
    }

    fn encoder(_: &Read<Self>, _: TargetKind) -> Result<TargetEncoder, Error> {
        Ok(TargetEncoder::Related)
    }
}

impl Source for Vec<TaggedText> {
    const MODALITY: Modality = Modality::Text;
    const INPUT: Input = Input::Text;

    fn read(path: &Path, options: &ReadOptions) -> Result<Read<Self>, Error> {
        if options.labels.len() > 1 {
            return Err(DataError::SeveralLabels {
                path: path.to_owned(),
                columns: options.labels.iter().map(ToString::to_string).collect(),
            }
            .into());
        }
        let named = TaggedOptions {
            text: options.text.clone(),
            tags: options.labels.first().cloned(),
            names: options.known_labels.clone(),
            require_tags: options.require_label,
            on_bad_example: options.on_bad_example,
        };
        let usual = TaggedOptions {
            text: named.text.clone().or_else(|| options.usual.text.clone()),
            tags: (named.tags.clone()).or_else(|| options.usual.label.first().cloned()),
            ..named.clone()
        };
        // A file of another kind than the training file has no such columns.
        let read = match read_tagged(path, &usual) {
            Err(_) if usual != named => read_tagged(path, &named)?,
            other => other?,
        };
        let labels = TagLabels::fit(&read).map(|labels| labels.names().to_vec());
        let mut notes = read.notes;
        notes.extend(left_out("texts", &read.skipped));
        Ok(Read {
            set: read.rows.limited(options.limit.as_ref()),
            hint: TargetHint::default(),
            // Of a file without spans there are none, which is an error where they are to be learned.
            label_names: labels.unwrap_or_default(),
            columns: None,
            used: None,
            by_words: read.has_words,
            notes,
        })
    }

    fn encoder(read: &Read<Self>, kind: TargetKind) -> Result<TargetEncoder, Error> {
        Ok(TargetEncoder::from_names(kind, read.label_names.clone())?)
    }
}

impl Source for Vec<ChoiceQuestion> {
    const MODALITY: Modality = Modality::Text;
    const INPUT: Input = Input::Text;

    fn read(path: &Path, options: &ReadOptions) -> Result<Read<Self>, Error> {
        let read = read_choices(path, options)?;
        let mut notes = read.notes;
        notes.extend(left_out("questions", &read.skipped));
        Ok(Read {
            notes,
            used: Some(read.columns),
            ..Read::without_labels(read.rows, &[], options)
        })
    }

    fn encoder(_: &Read<Self>, _: TargetKind) -> Result<TargetEncoder, Error> {
        Ok(TargetEncoder::Choice)
    }
}

impl Source for Vec<Question> {
    const MODALITY: Modality = Modality::Text;
    const INPUT: Input = Input::Text;

    fn read(path: &Path, options: &ReadOptions) -> Result<Read<Self>, Error> {
        let read = read_asked(path, options)?;
        let notes = left_out("questions", &read.skipped);
        Ok(Read {
            notes,
            ..Read::without_labels(read.rows, &[], options)
        })
    }

    fn encoder(_: &Read<Self>, _: TargetKind) -> Result<TargetEncoder, Error> {
        Ok(TargetEncoder::Answer)
    }
}

/// The questions of a file by the columns that are named, or else those of the training file where it has them.
pub(crate) fn read_asked(path: &Path, options: &ReadOptions) -> Result<AskedFile, Error> {
    let name = |column: Option<&Column>| match column {
        None => Ok(None),
        Some(Column::Name(name)) => Ok(Some(name.clone())),
        Some(Column::Index(index)) => Err(Error::Setting {
            reason: format!("columns of questions have names, and {index} is a number"),
            hint: "name the column as the file does".into(),
        }),
    };
    let read = |text: Option<&Column>, pair: Option<&Column>, label: Option<&Column>| {
        let file = QuestionFile {
            columns: QuestionColumns {
                question: name(text)?,
                context: name(pair)?,
                answers: name(label)?,
            },
            format: options.format,
            require_answers: options.require_label,
            asks: !options.require_label,
            on_bad_example: options.on_bad_example,
        };
        Ok::<_, Error>(read_questions(path, file)?)
    };
    let (text, pair) = (options.text.as_ref(), options.text_pair.as_ref());
    let label = options.labels.first();
    let usual = &options.usual;
    let with_usual = (
        text.or(usual.text.as_ref()),
        pair.or(usual.text_pair.as_ref()),
        label.or(usual.label.first()),
    );
    match read(with_usual.0, with_usual.1, with_usual.2) {
        // A file of another kind than the training file has no such columns.
        Err(_) if with_usual != (text, pair, label) => read(text, pair, label),
        other => other,
    }
}

/// What was left out, by its `noun`, in a line; none where nothing was.
pub(crate) fn left_out(noun: &str, skipped: &[Skipped]) -> Vec<String> {
    const NAMED: usize = 5;
    if skipped.is_empty() {
        return Vec::new();
    }
    let named: Vec<String> = skipped
        .iter()
        .take(NAMED)
        .map(ToString::to_string)
        .collect();
    let more = match skipped.len().saturating_sub(NAMED) {
        0 => String::new(),
        more => format!("; and {more} more"),
    };
    let noun = match skipped.len() {
        1 => noun.trim_end_matches('s'),
        _ => noun,
    };
    vec![format!(
        "{} {noun} left out: {}{more}",
        skipped.len(),
        named.join("; ")
    )]
}

impl Source for ImageSet {
    const MODALITY: Modality = Modality::Images;
    const INPUT: Input = Input::Image;

    fn read(path: &Path, options: &ReadOptions) -> Result<Read<Self>, Error> {
        let read = read_images(path, options)?;
        Ok(Read {
            set: read.set,
            hint: read.hint,
            label_names: read.label_names,
            columns: read.columns,
            used: None,
            by_words: false,
            notes: read.notes,
        })
    }

    fn encoder(read: &Read<Self>, kind: TargetKind) -> Result<TargetEncoder, Error> {
        Ok(read.set.encoder(kind, &read.label_names)?)
    }
}

/// Where the sets lie.
struct Files {
    name: String,
    columns: Columns,
    train: PathBuf,
    validation: Option<PathBuf>,
    test: Option<PathBuf>,
    notes: Vec<String>,
}

impl Files {
    /// Those that were given, by their part.
    fn parts(&self) -> Vec<(&'static str, PathBuf)> {
        let others = [("validation", &self.validation), ("test", &self.test)];
        let others = others
            .into_iter()
            .filter_map(|(part, path)| Some((part, path.clone()?)));
        std::iter::once(("train", self.train.clone()))
            .chain(others)
            .collect()
    }
}

fn files(
    config: &RunConfig,
    modality: Modality,
    hub: &Hub,
    observer: &dyn Observer,
) -> Result<Files, Error> {
    match config.data_source() {
        DataSource::Files {
            train,
            validation,
            test,
        } => {
            let name = train
                .file_name()
                .map(|n| n.to_string_lossy().into_owned())
                .unwrap_or_default();
            let (validation, test) = (validation.map(Path::to_owned), test.map(Path::to_owned));
            let columns = Columns::default();
            Ok(match modality {
                Modality::Text => Files {
                    name,
                    columns,
                    train: train.to_owned(),
                    validation,
                    test,
                    notes: Vec::new(),
                },
                Modality::Images => {
                    let parts = image_parts(train)?;
                    Files {
                        name,
                        columns,
                        train: parts.train,
                        validation: validation.or(parts.validation),
                        test: test.or(parts.test),
                        notes: parts.notes,
                    }
                }
            })
        }
        DataSource::Dataset(name) => {
            let found = hub.dataset(name, observer.downloads())?;
            let (holds, fits) = match found.card.kind {
                DatasetKind::Images => ("pictures", Modality::Images),
                _ => ("texts", Modality::Text),
            };
            if fits != modality {
                let task = Task::of(config.task.kind(), fits);
                return Err(Error::Setting {
                    reason: format!(
                        "the dataset `{name}` holds {holds}, the task is \"{}\"",
                        config.task
                    ),
                    hint: match task {
                        Some(task) => format!("--task {task}, or name another dataset"),
                        None => "name another dataset".into(),
                    },
                });
            }
            let part = |part: &str| found.files.get(part).cloned();
            let Some(train) = part("train") else {
                return Err(Error::Setting {
                    reason: format!("the dataset card of `{name}` names no `train` file"),
                    hint: "add one to its [files]".into(),
                });
            };
            Ok(Files {
                name: name.to_owned(),
                train,
                validation: part("validation"),
                test: part("test"),
                columns: found.card.columns,
                notes: Vec::new(),
            })
        }
    }
}

/// Reads every set that there is, and splits off what was not given.
pub(crate) fn read_splits<S: Source>(
    config: &RunConfig,
    hub: &Hub,
    observer: &dyn Observer,
) -> Result<Splits<S>, Error> {
    let files = files(config, S::MODALITY, hub, observer)?;
    files.notes.iter().for_each(|note| observer.note(note));
    let mut notes = files.notes.clone();
    let mut read = |path: &Path, limit: Option<usize>, usual: UsualColumns| {
        let options = ReadOptions {
            usual,
            ..read_options(config, &files.columns, limit)
        };
        let mut read = S::read(path, &options)?;
        read.notes.iter().for_each(|note| observer.note(note));
        notes.append(&mut read.notes);
        Ok::<_, Error>(read)
    };
    let data = &config.data;
    let train = read(&files.train, data.train_limit, UsualColumns::default())
        .map_err(|error| of_other_task(error, &files.train, config))?;
    let of_train = train.used.clone().unwrap_or_default();
    let given =
        |path: &Option<PathBuf>, limit| path.as_deref().map(|path| (path.to_owned(), limit));
    let mut optional = |part: Option<(PathBuf, Option<usize>)>| {
        part.map(|(path, limit)| read(&path, limit, of_train.clone()).map(|read| read.set))
            .transpose()
    };
    let validation = optional(given(&files.validation, data.validation_limit))?;
    let test = optional(given(&files.test, data.test_limit))?;

    let kind = tasks::targets_of(config.task.kind());
    let labels = train
        .columns
        .as_ref()
        .map_or(&[][..], |columns| &columns.labels);
    train.hint.check(kind, &files.train, labels, S::INPUT)?;
    let named = read_options(config, &files.columns, None);
    let used = match (&train.used, &train.columns) {
        (Some(used), _) => used.clone(),
        (None, Some(columns)) => UsualColumns::of(columns),
        (None, None) => UsualColumns {
            text: named.text,
            text_pair: named.text_pair,
            label: named.labels,
            ..UsualColumns::default()
        },
    };
    let encoder = S::encoder(&train, kind).map_err(|error| match error {
        // The list of labels is the file's.
        Error::Data(DataError::EmptyLabels) => Error::Data(DataError::NoLabels {
            path: files.train.clone(),
            examples: train.set.count(),
        }),
        other => other,
    })?;
    let by_words = train.by_words;
    let share = |given: &Option<S>, fraction| if given.is_some() { 0.0 } else { fraction };
    let fractions = Fractions {
        validation: share(&validation, data.validation_fraction),
        test: share(&test, data.test_fraction),
    };
    let (train, of_validation, of_test) = if fractions.validation + fractions.test > 0.0 {
        let parts = train.set.split(fractions, data.stratify, config.seed)?;
        (parts.train, Some(parts.validation), Some(parts.test))
    } else {
        (train.set, None, None)
    };
    let split_off = |set: Option<S>, limit: Option<usize>| {
        let limit = limit.map(|n| limit_of(config, n));
        set.map(|set| set.limited(limit.as_ref()))
            .filter(|set| set.count() > 0)
    };
    Ok(Splits {
        train,
        validation: validation.or_else(|| split_off(of_validation, data.validation_limit)),
        test: test.or_else(|| split_off(of_test, data.test_limit)),
        files: files.parts(),
        name: files.name,
        encoder,
        used,
        by_words,
        notes,
    })
}

/// The error of a file with the task that it fits, where that is another one and shows in more than a column of labels.
fn of_other_task(error: Error, path: &Path, config: &RunConfig) -> Error {
    let labelled = |task: Task| {
        matches!(
            task.kind(),
            Kind::Classification | Kind::Regression | Kind::MultiLabel
        )
    };
    match fitting_task(path, config) {
        Ok(fits) if fits != config.task && !labelled(fits) => Error::OtherTask {
            source: Box::new(error),
            fits,
        },
        _ => error,
    }
}

/// Reads the training examples, whole, with labels or without.
pub(crate) fn read_train<S: Source>(
    config: &RunConfig,
    hub: &Hub,
    observer: &dyn Observer,
) -> Result<Read<S>, Error> {
    let files = files(config, S::MODALITY, hub, observer)?;
    let options = ReadOptions {
        require_label: false,
        ..read_options(config, &files.columns, config.data.train_limit)
    };
    S::read(&files.train, &options)
}

/// Reads one file or folder for an evaluation of a model that puts out `known`, and was tuned on the columns `usual`.
pub(crate) fn read_set<S: Source>(
    path: &Path,
    config: &RunConfig,
    usual: &UsualColumns,
    known: &[String],
) -> Result<Read<S>, Error> {
    let options = ReadOptions {
        usual: usual.clone(),
        known_labels: known.to_vec(),
        ..read_options(config, &Columns::default(), None)
    };
    S::read(path, &options)
}

/// Reads one file, whose labels are of no interest.
pub(crate) fn read_inputs<S: Source>(path: &Path, config: &RunConfig) -> Result<Read<S>, Error> {
    let options = ReadOptions {
        require_label: false,
        without_labels: true,
        ..read_options(config, &Columns::default(), None)
    };
    S::read(path, &options)
}

fn limit_of(config: &RunConfig, examples: usize) -> Limit {
    Limit {
        examples,
        stratify: config.data.stratify,
        seed: config.seed,
    }
}

/// The configuration's options, with a card's columns where the configuration names none.
pub(crate) fn read_options(
    config: &RunConfig,
    card: &Columns,
    limit: Option<usize>,
) -> ReadOptions {
    let data = &config.data;
    let column = |set: &config::Column| match set {
        config::Column::Name(name) => Column::Name(name.clone()),
        config::Column::Index(index) => Column::Index(*index),
    };
    let or_card = |set: &Option<config::Column>, card: &Option<String>| {
        set.as_ref()
            .map(column)
            .or_else(|| card.clone().map(Column::Name))
    };
    ReadOptions {
        format: data.format.map(|format| match format {
            config::FileFormat::Csv => Format::Csv,
            config::FileFormat::Tsv => Format::Tsv,
            config::FileFormat::Jsonl => Format::Jsonl,
            config::FileFormat::Parquet => Format::Parquet,
        }),
        text: or_card(&data.text, &card.text),
        text_pair: or_card(&data.text_pair, &card.text_pair),
        labels: match &data.label {
            Some(labels) => labels.0.iter().map(column).collect(),
            None => card.label.clone().map(Column::Name).into_iter().collect(),
        },
        target: tasks::targets_of(config.task.kind()),
        input: match config.task.modality() {
            Modality::Text => Input::Text,
            Modality::Images => Input::Image,
        },
        choices: (data.choices.iter())
            .flat_map(|columns| columns.0.iter().map(column))
            .collect(),
        usual: UsualColumns::default(),
        known_labels: Vec::new(),
        separator: data.label_separator,
        header: data.header,
        // The configuration has checked that it is one ASCII character.
        delimiter: data.delimiter.map(|c| c as u8),
        quoting: data.quoting,
        on_bad_example: on_bad(config),
        limit: limit.map(|n| limit_of(config, n)),
        require_label: true,
        without_labels: false,
        max_unpacked: data.max_unpacked.map(|bytes| bytes as u64),
        max_picture: config.images.max_bytes.map(|bytes| bytes as u64),
    }
}

/// What to do with an example that cannot be used.
pub(crate) fn on_bad(config: &RunConfig) -> OnBad {
    match config.data.on_bad_example {
        config::OnBadExample::Error => OnBad::Error,
        config::OnBadExample::Skip => OnBad::Skip,
    }
}

/// The encoder with the model's order of labels, where the model has the same ones.
pub(crate) fn in_order_of(
    encoder: TargetEncoder,
    labels: &[String],
) -> Result<TargetEncoder, Error> {
    let (mut of_model, mut names) = (labels.to_vec(), encoder.names().to_vec());
    of_model.sort();
    names.sort();
    match of_model == names && encoder.kind() != TargetKind::Real {
        true => Ok(TargetEncoder::from_names(encoder.kind(), labels.to_vec())?),
        false => Ok(encoder),
    }
}
