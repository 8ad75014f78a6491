//! From the configuration to encoded examples: reading, splitting, labels, tokenizing.

use crate::{
    Error, Observer, RunConfig,
    config::{self, DataSource},
};
use rekindle_data::{
    Column, Example, Examples, Format, Fractions, Input, LabelMap, Limit, OnBad, ReadOptions,
    ReadOutcome, TextEncoder, read_examples, split,
};
use rekindle_hub::{DatasetKind, Hub};
use std::path::{Path, PathBuf};

/// The examples of a run, still as text.
pub(crate) struct TextSplits {
    pub train: Vec<Example>,
    pub validation: Vec<Example>,
    pub test: Vec<Example>,
    /// The dataset's name, for titles.
    pub name: String,
    /// What was left out or guessed, a line each.
    pub notes: Vec<String>,
}

/// A split's file with its options.
struct Source {
    path: PathBuf,
    options: ReadOptions,
}

/// Reads every split that there is, and splits off what was not given.
pub(crate) fn read_splits(
    config: &RunConfig,
    hub: &Hub,
    observer: &dyn Observer,
) -> Result<TextSplits, Error> {
    let notes = Vec::new();
    let (name, train, validation, test) = match config.data_source() {
        DataSource::Files {
            train,
            validation,
            test,
        } => {
            let name = train
                .file_name()
                .map(|n| n.to_string_lossy().into_owned())
                .unwrap_or_default();
            (
                name,
                train.to_owned(),
                validation.map(Path::to_owned),
                test.map(Path::to_owned),
            )
        }
        DataSource::Dataset(name) => {
            let found = hub.dataset(name, observer.downloads())?;
            if found.card.kind == DatasetKind::Images {
                return Err(Error::Setting {
                    reason: format!(
                        "the dataset `{name}` holds pictures, the task is \"text-classification\""
                    ),
                    hint: "set task = \"image-classification\"".into(),
                });
            }
            let Some(train) = found.files.get("train").cloned() else {
                return Err(Error::Setting {
                    reason: format!("the dataset card of `{name}` names no `train` file"),
                    hint: "add one to its [files]".into(),
                });
            };
            let options = read_options(config, &found.card.columns, None);
            let sources = (
                train,
                found.files.get("validation").cloned(),
                found.files.get("test").cloned(),
            );
            return splits_of(config, name.to_owned(), sources, options, notes, observer);
        }
    };
    let options = read_options(config, &rekindle_hub::Columns::default(), None);
    splits_of(
        config,
        name,
        (train, validation, test),
        options,
        notes,
        observer,
    )
}

fn splits_of(
    config: &RunConfig,
    name: String,
    (train, validation, test): (PathBuf, Option<PathBuf>, Option<PathBuf>),
    options: ReadOptions,
    mut notes: Vec<String>,
    observer: &dyn Observer,
) -> Result<TextSplits, Error> {
    let mut read = |path: PathBuf, limit: Option<usize>| {
        read(
            &Source {
                path,
                options: ReadOptions {
                    limit: limit.map(|examples| limit_of(config, examples)),
                    ..options.clone()
                },
            },
            &mut notes,
            observer,
        )
    };
    let source = train.clone();
    let read_train = read(train, config.data.train_limit)?;
    read_train
        .hint
        .check_classes(&source, &read_train.columns.labels, Input::Text)?;
    let train = read_train.examples;
    let validation_given = validation
        .map(|path| read(path, config.data.validation_limit))
        .transpose()?
        .map(|read| read.examples);
    let test_given = test
        .map(|path| read(path, config.data.test_limit))
        .transpose()?
        .map(|read| read.examples);

    let fractions = Fractions {
        validation: if validation_given.is_some() {
            0.0
        } else {
            config.data.validation_fraction
        },
        test: if test_given.is_some() {
            0.0
        } else {
            config.data.test_fraction
        },
    };
    // One class only is the mistake to name, whatever a split would make of it.
    LabelMap::from_examples(&train)?;
    let parts = if fractions.validation + fractions.test > 0.0 {
        split(train, fractions, config.data.stratify, config.seed)?
    } else {
        rekindle_data::Split {
            train,
            validation: Vec::new(),
            test: Vec::new(),
        }
    };
    let limited = |examples: Vec<Example>, limit: Option<usize>| {
        examples.limited(limit.map(|examples| limit_of(config, examples)).as_ref())
    };
    Ok(TextSplits {
        train: parts.train,
        validation: validation_given
            .unwrap_or_else(|| limited(parts.validation, config.data.validation_limit)),
        test: test_given.unwrap_or_else(|| limited(parts.test, config.data.test_limit)),
        name,
        notes,
    })
}

/// A limit of the configuration: drawn by class, unless it says otherwise.
pub(crate) fn limit_of(config: &RunConfig, examples: usize) -> Limit {
    Limit {
        examples,
        stratify: config.data.stratify,
        seed: config.seed,
    }
}

/// Reads one file that must be labelled, for an evaluation after training.
pub(crate) fn read_labelled(
    path: &Path,
    config: &RunConfig,
    observer: &dyn Observer,
) -> Result<(Vec<Example>, Vec<String>), Error> {
    let mut notes = Vec::new();
    let options = read_options(config, &rekindle_hub::Columns::default(), None);
    let source = Source {
        path: path.to_owned(),
        options,
    };
    Ok((read(&source, &mut notes, observer)?.examples, notes))
}

/// Reads one file whose labels, if any, do not matter, for predictions.
pub(crate) fn read_unlabelled(
    path: &Path,
    config: &RunConfig,
    observer: &dyn Observer,
) -> Result<(Vec<Example>, Vec<String>), Error> {
    let mut notes = Vec::new();
    let options = ReadOptions {
        require_label: false,
        ..read_options(config, &rekindle_hub::Columns::default(), None)
    };
    let source = Source {
        path: path.to_owned(),
        options,
    };
    Ok((read(&source, &mut notes, observer)?.examples, notes))
}

fn read(
    source: &Source,
    notes: &mut Vec<String>,
    observer: &dyn Observer,
) -> Result<ReadOutcome, Error> {
    const NAMED: usize = 5;
    let outcome = read_examples(&source.path, &source.options)?;
    if !outcome.skipped.is_empty() {
        let named: Vec<String> = outcome
            .skipped
            .iter()
            .take(NAMED)
            .map(ToString::to_string)
            .collect();
        let rest = outcome.skipped.len().saturating_sub(NAMED);
        let more = if rest > 0 {
            format!("; and {rest} more")
        } else {
            String::new()
        };
        let note = format!(
            "{} rows left out: {}{more}",
            outcome.skipped.len(),
            named.join("; ")
        );
        observer.note(&note);
        notes.push(note);
    }
    Ok(outcome)
}

/// The configuration's options, with a card's columns where the configuration names none.
pub(crate) fn read_options(
    config: &RunConfig,
    card: &rekindle_hub::Columns,
    limit: Option<usize>,
) -> ReadOptions {
    let data = &config.data;
    let column = |set: &Option<config::Column>, card: &Option<String>| match set {
        Some(config::Column::Name(name)) => Some(Column::Name(name.clone())),
        Some(config::Column::Index(index)) => Some(Column::Index(*index)),
        None => card.clone().map(Column::Name),
    };
    ReadOptions {
        format: data.format.map(|format| match format {
            config::FileFormat::Csv => Format::Csv,
            config::FileFormat::Tsv => Format::Tsv,
            config::FileFormat::Jsonl => Format::Jsonl,
            config::FileFormat::Parquet => Format::Parquet,
        }),
        text: column(&data.text, &card.text),
        text_pair: column(&data.text_pair, &card.text_pair),
        labels: column(&data.label, &card.label).into_iter().collect(),
        header: data.header,
        // The configuration has checked that it is one ASCII character.
        delimiter: data.delimiter.map(|c| c as u8),
        quoting: data.quoting,
        on_bad_example: match data.on_bad_example {
            config::OnBadExample::Error => OnBad::Error,
            config::OnBadExample::Skip => OnBad::Skip,
        },
        limit: limit.map(|examples| limit_of(config, examples)),
        require_label: true,
        ..ReadOptions::default()
    }
}

/// The tokenizer of a model directory at the configured length, checked against the model's table.
pub(crate) fn encoder(
    dir: &Path,
    max_length: usize,
    positions: usize,
    vocab_size: usize,
    type_vocab_size: usize,
) -> Result<(TextEncoder, Option<String>), Error> {
    let length = max_length.min(positions);
    let mut encoder = TextEncoder::from_dir(dir, Some(length))?;
    encoder.check_model(vocab_size, type_vocab_size)?;
    let note = (length < max_length)
        .then(|| format!("data.max_length is {max_length}, but the model has {positions} positions: texts are cut to {length} tokens"));
    Ok((encoder, note))
}

/// The labels of the training examples; those of a model that has the same names keep its order.
pub(crate) fn labels(train: &[Example], of_model: &[String]) -> Result<LabelMap, Error> {
    let found = LabelMap::from_examples(train)?;
    let mut sorted: Vec<&String> = of_model.iter().collect();
    let mut names: Vec<&String> = found.names().iter().collect();
    sorted.sort();
    names.sort();
    if sorted == names {
        Ok(LabelMap::from_names(of_model.to_vec())?)
    } else {
        Ok(found)
    }
}
