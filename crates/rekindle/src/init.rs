//! A run file for somebody's data: looks at the file, guesses, and writes down every guess with its reason.

use crate::{
    Error, RunConfig,
    config::{self, commented},
    examples::read_options,
    task::{Kind, Modality, Task},
    tasks::targets_of,
};
use rekindle_base::{thousands, write_atomically};
use rekindle_data::{
    DataError, Input, OnBad, ReadOptions, Skipped, TargetHint, TargetKind,
    chat::{
        ChatKind, ChatOptions, Conversation, Preference, PromptColumns, read_conversations,
        read_preferences,
    },
    image::{find_pictures, image_parts, read_images},
    sniff,
};
use std::{collections::BTreeMap, path::Path};

const RUN_IT: &str = "Run it: rekindle finetune --config THIS_FILE";

/// A commented run file for a file of examples, from what `config` says already (its columns, header and quoting guide
/// the reading). Keys that were guessed or set are active, all others stand as comments. The task is the configuration's:
/// [`fitting_task`] tells it.
///
/// # Errors
/// When the file cannot be read, or it is unclear which columns are the text and the label.
pub fn run_file_for(path: &Path, config: &RunConfig) -> Result<String, Error> {
    match config.task.kind() {
        Kind::Generation => return for_conversations(path, config),
        Kind::Preference => return for_preferences(path, config),
        _ => {}
    }
    match config.task.modality() {
        Modality::Text => for_texts(path, config),
        Modality::Images => for_pictures(path, config),
    }
}

/// Writes a run file for `data`, whole or not at all. What is there is replaced only if `replace`.
///
/// # Errors
/// For a file that is there, the data itself, and what cannot be written.
pub fn write_run_file(path: &Path, text: &str, data: &Path, replace: bool) -> Result<(), Error> {
    let same = |a: &Path, b: &Path| {
        a.canonicalize()
            .is_ok_and(|a| b.canonicalize().is_ok_and(|b| a == b))
    };
    let refused = |reason: &str, hint: &str| Error::ModelDir {
        path: path.to_owned(),
        reason: reason.into(),
        hint: hint.into(),
    };
    if same(path, data) {
        return Err(refused(
            "that is the file of examples",
            "name another with --output",
        ));
    }
    if path.exists() && !replace {
        return Err(refused(
            "the file exists",
            "name another with --output, or replace it with --force",
        ));
    }
    let written = match path.exists() && !path.is_file() {
        // A device or a pipe is written into, not replaced.
        true => std::fs::write(path, text),
        false => write_atomically(path, text.as_bytes()),
    };
    written.map_err(Error::io(path))
}

/// The task that fits a file or folder of examples: what a language model would learn of it, classes of a folder's pictures, or
/// what the label column holds. `config` may name columns: then there are labels.
///
/// # Errors
/// When a file cannot be read, or is no table.
pub fn fitting_task(path: &Path, config: &RunConfig) -> Result<Task, Error> {
    let named = config.data.text.is_some() || config.data.label.is_some();
    // A pipe can be read but once.
    if !path.is_file() && !path.is_dir() {
        return Ok(config.task);
    }
    match language_task(path).filter(|_| !named) {
        Some(task) => Ok(task),
        None if path.is_dir() => Ok(Task::ImageClassification),
        None => task_of_labels(path, config),
    }
}

/// What a language model would learn of a file or folder: preferences; or conversations, prompts with completions, and texts
/// without a label. `None` where most rows are none of that, and where it cannot be read.
#[must_use]
pub fn language_task(path: &Path) -> Option<Task> {
    let most = |rows: usize, skipped: usize| rows > skipped;
    if path.is_dir() && find_pictures(path).is_ok_and(|pictures| !pictures.is_empty()) {
        return None;
    }
    if let Ok(read) = read_preferences(path, OnBad::Skip)
        && most(read.rows.len(), read.skipped.len())
    {
        return Some(Task::TextPreference);
    }
    let options = ChatOptions {
        on_bad_example: OnBad::Skip,
        ..ChatOptions::default()
    };
    let read = read_conversations(path, &options).ok()?;
    let is_text = |row: &&Conversation| matches!(row.kind, ChatKind::Text(_));
    let texts = read.rows.iter().filter(is_text).count();
    if !most(read.rows.len(), read.skipped.len()) {
        return None;
    }
    let none = rekindle_hub::Columns::default();
    let labelled = || {
        let sniffed = sniff(path, &read_options(&RunConfig::default(), &none, None));
        sniffed.is_ok_and(|sniffed| match sniffed.columns {
            Ok(columns) => !columns.labels.is_empty(),
            // A table whose header is to be put right first.
            Err(error) => matches!(error, DataError::DuplicateColumn { .. }),
        })
    };
    match texts == read.rows.len() && labelled() {
        true => None,
        false => Some(Task::TextGeneration),
    }
}

/// A count of things, none where there are none.
fn counted(n: usize, one: &str, many: &str) -> Option<String> {
    match n {
        0 => None,
        1 => Some(format!("1 {one}")),
        n => Some(format!("{} {many}", thousands(n as u64))),
    }
}

/// The run file of a language model: what its file holds, in words, and what could not be used of it.
fn for_language_model(
    path: &Path,
    mut config: RunConfig,
    holds: &[Option<String>],
    skipped: &[Skipped],
    notes: &[(&str, &str)],
) -> String {
    config.data.train = Some(path.to_owned());
    let holds: Vec<&str> = holds.iter().flatten().map(String::as_str).collect();
    let header = format!(
        "Written for {}: {}.\n{RUN_IT}",
        path.display(),
        holds.join(", ")
    );
    let bad = skipped.first().map(|first| {
        format!(
            "{} rows cannot be used as they are ({first}); \"skip\" leaves them out and says which",
            skipped.len()
        )
    });
    let mut all = vec![("", header.as_str())];
    all.extend_from_slice(notes);
    if let Some(bad) = &bad {
        all.push(("data.on_bad_example", bad));
    }
    commented(&config, &all)
}

fn for_conversations(path: &Path, config: &RunConfig) -> Result<String, Error> {
    let columns = match (&config.data.text, &config.data.label) {
        (Some(config::Column::Name(prompt)), Some(config::Columns(labels))) => match &labels[..] {
            [config::Column::Name(completion)] => Some(PromptColumns {
                prompt: prompt.clone(),
                completion: completion.clone(),
            }),
            _ => None,
        },
        _ => None,
    };
    let options = ChatOptions {
        usual: None,
        columns,
        on_bad_example: OnBad::Skip,
        prompts: false,
    };
    let read = read_conversations(path, &options)?;
    let of = |kind: fn(&ChatKind) -> bool| read.rows.iter().filter(|row| kind(&row.kind)).count();
    let chats = of(|kind| matches!(kind, ChatKind::Chat));
    let completions = of(|kind| matches!(kind, ChatKind::Completion { .. }));
    let texts = of(|kind| matches!(kind, ChatKind::Text(_)));
    let holds = [
        counted(chats, "conversation", "conversations"),
        counted(
            completions,
            "prompt with its completion",
            "prompts with their completions",
        ),
        counted(texts, "text to continue", "texts to continue"),
    ];
    let look = "rekindle look --config THIS_FILE shows which tokens of your file are learned";
    let notes = [("data.loss_on", look)];
    let config = config.clone();
    Ok(for_language_model(
        path,
        config,
        &holds,
        &read.skipped,
        &notes,
    ))
}

fn for_preferences(path: &Path, config: &RunConfig) -> Result<String, Error> {
    let read = read_preferences(path, OnBad::Skip)?;
    let is_pair = |row: &&Preference| matches!(row, Preference::Pair { .. });
    let pairs = read.rows.iter().filter(is_pair).count();
    let judged = read.rows.len() - pairs;
    let holds = [
        counted(pairs, "pair of answers", "pairs of answers"),
        counted(
            judged,
            "answer that was judged",
            "answers that were judged one by one",
        ),
    ];
    let mut config = config.clone();
    let mut notes = Vec::new();
    if judged > 0 && config.preference.loss == config::PreferenceLoss::Dpo {
        config.preference.loss = config::PreferenceLoss::Kto;
        notes.push(("preference.loss", "single answers are for \"kto\" only"));
    }
    Ok(for_language_model(
        path,
        config,
        &holds,
        &read.skipped,
        &notes,
    ))
}

/// The task whose targets the label column holds, on texts, or on pictures where the file names pictures; classification
/// where it is unclear.
fn task_of_labels(path: &Path, config: &RunConfig) -> Result<Task, Error> {
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
    let mut notes: Vec<(&str, &str)> = vec![
        ("", &header),
        ("data.text", &columns.text.reason),
        ("data.label", &label),
    ];
    if let Some(bad) = &bad {
        notes.push(("data.on_bad_example", bad));
    }
    Ok(commented(&config, &notes))
}

fn for_pictures(path: &Path, config: &RunConfig) -> Result<String, Error> {
    let none = rekindle_hub::Columns::default();
    let options = ReadOptions {
        on_bad_example: OnBad::Skip,
        ..read_options(config, &none, None)
    };
    let read = read_images(&image_parts(path)?.train, &options)?;
    let mut config = config.clone();
    config.data.train = Some(path.to_owned());
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
