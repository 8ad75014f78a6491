//! A run file for somebody's data: looks at the file, guesses, and writes down every guess with its reason.

use crate::{
    Error, RunConfig,
    config::{self, commented},
    examples::read_options,
    task::{Kind, Modality, Task},
    tasks::targets_of,
};
use rekindle_data::{
    Input, OnBad, ReadOptions, TargetHint, TargetKind,
    image::{image_parts, read_images},
    sniff,
};
use std::{collections::BTreeMap, path::Path};

const RUN_IT: &str = "Run it: rekindle finetune --config THIS_FILE";

/// A commented run file for a file of examples, from what `config` says already (its columns, header and quoting guide
/// the reading). Keys that were guessed or set are active, all others stand as comments. With `choose_task` the task is the
/// one that fits the labels, where they are texts' and no classes.
///
/// # Errors
/// When the file cannot be read, or it is unclear which columns are the text and the label.
pub fn run_file_for(path: &Path, config: &RunConfig, choose_task: bool) -> Result<String, Error> {
    match config.task.modality() {
        Modality::Text if choose_task => {
            let task = fitting_task(path, config)?;
            let modality = task.modality();
            let config = match modality {
                Modality::Text => RunConfig {
                    task,
                    ..config.clone()
                },
                // The other settings of a text task say nothing to pictures.
                Modality::Images => RunConfig {
                    data: config.data.clone(),
                    ..RunConfig::for_task(task)
                },
            };
            match modality {
                Modality::Text => for_texts(path, &config),
                Modality::Images => for_pictures(path, &config),
            }
        }
        Modality::Text => for_texts(path, config),
        Modality::Images => for_pictures(path, config),
    }
}

/// The task whose targets the label column holds, on texts, or on pictures where the file names pictures; classification
/// where it is unclear.
fn fitting_task(path: &Path, config: &RunConfig) -> Result<Task, Error> {
    let none = rekindle_hub::Columns::default();
    let tasks = |modality| {
        let kinds = Kind::ALL.iter();
        kinds.filter_map(move |&kind| Task::of(kind, modality))
    };
    for task in tasks(Modality::Text).chain(tasks(Modality::Images)) {
        let options = read_options(
            &RunConfig {
                task,
                ..config.clone()
            },
            &none,
            None,
        );
        let sniffed = sniff(path, &options)?;
        if sniffed.columns.is_err() {
            continue;
        }
        let found = sniffed.hint.kind();
        let fitting = |task: &Task| Some(targets_of(task.kind())) == found;
        return Ok(tasks(task.modality()).find(fitting).unwrap_or(task));
    }
    Ok(config.task)
}

fn for_texts(path: &Path, config: &RunConfig) -> Result<String, Error> {
    const FEW: usize = 500;
    let sniffed = sniff(
        path,
        &read_options(config, &rekindle_hub::Columns::default(), None),
    )?;
    let columns = sniffed.columns?;
    let kind = targets_of(config.task.kind());
    (sniffed.hint).check(kind, path, &columns.labels, Input::Text)?;
    let mut config = config.clone();
    config.data.train = Some(path.to_owned());
    let column = |c: &rekindle_data::ResolvedColumn| match columns.header {
        true => config::Column::Name(c.name.clone()),
        false => config::Column::Index(c.index),
    };
    config.data.text = Some(column(&columns.text));
    config.data.text_pair = columns.text_pair.as_ref().map(column);
    let labels: Vec<config::Column> = columns.labels.iter().map(column).collect();
    config.data.label = (!labels.is_empty()).then_some(config::Columns(labels));
    if matches!(
        sniffed.format,
        rekindle_data::Format::Csv | rekindle_data::Format::Tsv
    ) {
        config.data.header = Some(columns.header);
    }
    let small = sniffed.rows < FEW && config.train.epochs == RunConfig::default().train.epochs;
    if small {
        config.train.epochs = 10.0;
    }

    let header = format!(
        "Written for {}: {} rows, columns {}.\n{}\n{RUN_IT}",
        path.display(),
        sniffed.rows,
        sniffed.names.join(", "),
        match (kind, &sniffed.hint) {
            (TargetKind::Real, TargetHint::Number { min, max, .. }) =>
                format!("A number to predict, from {min} to {max}."),
            (TargetKind::Real, _) => match columns.labels.len() {
                1 => "A number to predict.".to_owned(),
                several => format!("{several} numbers to predict."),
            },
            _ => by_label(sniffed.hint.counts()),
        },
    );
    let bad = (sniffed.bad_rows > 0).then(|| {
        format!(
            "{} rows cannot be used as they are; \"skip\" leaves them out and says which",
            sniffed.bad_rows
        )
    });
    let label = columns.labels.first().map_or_else(
        || "no column looks like a label: name it here".to_owned(),
        |c| c.reason.clone(),
    );
    let small = small.then(|| format!("with only {} rows, more passes", sniffed.rows));
    let mut notes: Vec<(&str, &str)> = vec![
        ("", &header),
        ("data.text", &columns.text.reason),
        ("data.label", &label),
    ];
    if let Some(bad) = &bad {
        notes.push(("data.on_bad_example", bad));
    }
    if let Some(small) = &small {
        notes.push(("train.epochs", small));
    }
    Ok(commented(&config, &notes))
}

fn for_pictures(path: &Path, config: &RunConfig) -> Result<String, Error> {
    /// Below this, the head alone does as well as everything, in seconds.
    const FEW: usize = 1000;
    let none = rekindle_hub::Columns::default();
    let options = ReadOptions {
        on_bad_example: OnBad::Skip,
        ..read_options(config, &none, None)
    };
    let read = read_images(&image_parts(path)?.train, &options)?;
    let mut config = config.clone();
    config.data.train = Some(path.to_owned());
    let defaults = RunConfig::for_task(config.task);
    let small =
        read.set.len() < FEW && config.peft == defaults.peft && config.train == defaults.train;
    if small {
        config.peft.method = config::Method::Head;
        config.train.learning_rate = Some(5e-3);
        config.train.epochs = 5.0;
    }
    let header = format!(
        "Written for {}: {} pictures to train on.\n{}\n{RUN_IT}",
        path.display(),
        read.set.len(),
        by_label(read.set.counts()),
    );
    let bad = (!read.skipped.is_empty()).then(|| {
        format!(
            "{} of the files cannot be used; \"skip\" leaves them out and says which",
            read.skipped.len()
        )
    });
    let mut notes = vec![("", header.as_str())];
    if let Some(bad) = &bad {
        notes.push(("data.on_bad_example", bad));
    }
    if small {
        notes.push((
            "peft.method",
            "with few pictures the head alone, in seconds; \"full\" with learning_rate 5e-4 trains everything",
        ));
    }
    Ok(commented(&config, &notes))
}

/// "3 labels: a (10), b (7), c (1)."
fn by_label(counts: BTreeMap<String, usize>) -> String {
    const SHOWN: usize = 8;
    let mut counts: Vec<(String, usize)> = counts.into_iter().collect();
    counts.sort_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(&b.0)));
    let shown: Vec<String> = counts
        .iter()
        .take(SHOWN)
        .map(|(label, n)| format!("{label} ({n})"))
        .collect();
    let more = match counts.len().saturating_sub(SHOWN) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    format!("{} labels: {}{more}.", counts.len(), shown.join(", "))
}
