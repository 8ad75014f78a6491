//! A run file for somebody's data: looks at the file, guesses, and writes down every guess with its reason.

use crate::{
    Error, RunConfig,
    config::{self, commented},
    examples::{read_asked, read_options},
    task::{Kind, Modality, Task},
    tasks::targets_of,
};
use rekindle_base::{thousands, write_atomically};
use rekindle_data::{
    BadReason, Column, DataError, Format, Input, OnBad, ReadOptions, Skipped, TargetHint,
    TargetKind,
    chat::{
        ChatKind, ChatOptions, Conversation, Preference, PromptColumns, read_conversations,
        read_preferences,
    },
    choices::{ChoiceReason, read_choices},
    holds_tables,
    image::{find_pictures, image_parts, read_images},
    is_label_name, may_be_labelled,
    questions::{QuestionFile, QuestionReason, read_questions},
    read_examples,
    related::{Relation, names_only_a_pair, names_relations, read_related},
    sniff,
    tokens::{Scheme, TaggedOptions, read_tagged},
};
use std::{
    cell::LazyCell,
    collections::{BTreeMap, HashSet},
    path::Path,
};

const RUN_IT: &str = "Run it: rekindle finetune --config THIS_FILE";

/// A run file for a file of examples.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunFile {
    /// Its text, with comments.
    pub text: String,
    /// What of the examples cannot be used, where that is so.
    pub bad: Option<String>,
}

impl RunFile {
    /// The settings with what is said beside them, the first of it above all.
    fn new(config: &RunConfig, notes: &[(&str, &str)], bad: Option<String>) -> Self {
        let bad_note = bad.as_deref().map(|bad| ("data.on_bad_example", bad));
        let notes: Vec<(&str, &str)> = notes.iter().copied().chain(bad_note).collect();
        Self {
            text: commented(config, &notes),
            bad,
        }
    }
}

/// A commented run file for a file of examples, from what `config` says already (its columns, header and quoting guide
/// the reading). Keys that were guessed or set are active, all others stand as comments. The task is the configuration's:
/// [`fitting_task`] tells it.
///
/// # Errors
/// When the file cannot be read, or it is unclear which columns are the text and the label.
pub fn run_file_for(path: &Path, config: &RunConfig) -> Result<RunFile, Error> {
    match config.task.kind() {
        Kind::Generation => return for_conversations(path, config),
        Kind::Preference => return for_preferences(path, config),
        Kind::Tags => return for_spans(path, config),
        Kind::Extraction => return for_questions(path, config),
        Kind::Choice => return for_choices(path, config),
        Kind::Embedding => return for_relations(path, config),
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

/// The task that fits a file or folder of examples: labelled spans, questions with choices, questions about texts, what a language model would learn of it, classes of a folder's
/// pictures, or what the label column holds. `config` may name columns: then there are labels.
///
/// # Errors
/// When a file cannot be read, or is no table.
pub fn fitting_task(path: &Path, config: &RunConfig) -> Result<Task, Error> {
    let named = config.data.text.is_some() || config.data.label.is_some();
    // A pipe can be read but once.
    if !path.is_file() && !path.is_dir() {
        return Ok(config.task);
    }
    if path.is_file() && holds_spans(path, config) {
        return Ok(Task::TokenClassification);
    }
    if path.is_file() && holds_choices(path, config) {
        return Ok(Task::MultipleChoice);
    }
    if path.is_file() && !named && holds_questions(path) {
        return Ok(Task::QuestionAnswering);
    }
    if path.is_file() && !named && holds_relations(path) {
        return Ok(Task::TextEmbedding);
    }
    match language_task(path).filter(|_| !named) {
        Some(task) => Ok(task),
        // Who reads it says which of the tables to name.
        None if path.is_dir() && holds_tables(path) && find_pictures(path).is_err() => {
            Ok(config.task)
        }
        None if path.is_dir() => Ok(Task::ImageClassification),
        None => task_of_labels(path, config),
    }
}

/// Ends of the names of files of words and tags.
pub(crate) const TAGGED: [&str; 6] = ["conll", "conllu", "bio", "iob", "iob2", "bioes"];

/// How a file of labelled texts is read, with what names its columns.
fn tagged_options(config: &RunConfig) -> TaggedOptions {
    let columns = read_options(config, &rekindle_hub::Columns::default(), None);
    TaggedOptions {
        text: columns.text,
        tags: columns.labels.into_iter().next(),
        names: Vec::new(),
        require_tags: true,
        on_bad_example: OnBad::Skip,
    }
}

/// Whether most rows of a file are texts with labelled spans or words. Of lines in columns the tags must look like such, or the
/// file's name: a table of texts with classes is two columns too.
fn holds_spans(path: &Path, config: &RunConfig) -> bool {
    let ending = path.extension().and_then(|ending| ending.to_str());
    let ending = ending.unwrap_or_default().to_lowercase();
    let is_table = matches!(Format::from_path(path), Some(Format::Csv | Format::Tsv));
    let Ok(read) = read_tagged(path, &tagged_options(config)) else {
        return false;
    };
    let spans = read.rows.iter().filter_map(|row| row.spans.as_ref());
    let words: usize = read.rows.iter().map(|row| row.words.len()).sum();
    let is_prefixed = matches!(
        read.scheme,
        Scheme::Bio | Scheme::Iob1 | Scheme::Iobes | Scheme::Bilou
    );
    let is_told = TAGGED.contains(&ending.as_str())
        || (is_prefixed && words > read.rows.len())
        || (read.scheme == Scheme::Spans && !is_table)
        || (ending != "txt" && Format::from_path(path).is_some() && !is_table);
    read.rows.len() > read.skipped.len() && spans.flatten().next().is_some() && is_told
}

/// Whether most rows of a file are questions about texts, good ones or with a mistake: who reads them says which. Without answers
/// they are such where nothing else in the file can be a label.
fn holds_questions(path: &Path) -> bool {
    let options = QuestionFile {
        require_answers: true,
        on_bad_example: OnBad::Skip,
        ..QuestionFile::default()
    };
    let has_label = LazyCell::new(|| {
        let columns = sniff(path, &ReadOptions::default()).map(|sniffed| sniffed.names);
        columns.is_ok_and(|columns| columns.iter().any(|name| is_label_name(name)))
    });
    let is_question = |reason: &BadReason| match reason {
        BadReason::Question(reason) => match **reason {
            QuestionReason::NoKey { .. } => false,
            QuestionReason::NoAnswers { .. } => !*has_label,
            _ => true,
        },
        _ => false,
    };
    match read_questions(path, options) {
        Ok(read) => {
            let bad = read.skipped.iter().filter(|row| !is_question(&row.reason));
            read.rows.len() + read.skipped.len() > 2 * bad.count()
        }
        Err(DataError::AllBad { reason, .. }) => is_question(&reason),
        Err(_) => false,
    }
}

/// Whether most rows of a file are questions with choices, good ones or with a mistake: who reads them says which. Where nothing says
/// which choice is right, the choices of most rows must differ: columns of 0 and 1 have letters as names too.
fn holds_choices(path: &Path, config: &RunConfig) -> bool {
    let is_choice = |reason: &BadReason| match reason {
        BadReason::Choice(reason) => matches!(
            **reason,
            ChoiceReason::Empty { .. } | ChoiceReason::NoAnswer | ChoiceReason::Answer { .. }
        ),
        _ => false,
    };
    let differ = || {
        let asked = ReadOptions {
            require_label: false,
            ..skipping(config)
        };
        read_choices(path, &asked).is_ok_and(|read| {
            let all = read.rows.len() + read.skipped.len();
            let different = read.rows.iter().filter(|row| {
                let choices: HashSet<&String> = row.choices.iter().collect();
                choices.len() == row.choices.len()
            });
            2 * different.count() > all
        })
    };
    match read_choices(path, &skipping(config)) {
        Ok(read) => {
            let bad = read.skipped.iter().filter(|row| !is_choice(&row.reason));
            read.rows.len() + read.skipped.len() > 2 * bad.count()
        }
        Err(DataError::AllBad { reason, .. }) => match &reason {
            BadReason::Choice(inner) => match **inner {
                ChoiceReason::NoAnswerColumn { .. } => differ(),
                _ => is_choice(&reason),
            },
            _ => false,
        },
        Err(_) => false,
    }
}

/// How the rows of a file are looked at: the bad ones are counted.
fn skipping(config: &RunConfig) -> ReadOptions {
    ReadOptions {
        on_bad_example: OnBad::Skip,
        ..read_options(config, &rekindle_hub::Columns::default(), None)
    }
}

fn for_choices(path: &Path, config: &RunConfig) -> Result<RunFile, Error> {
    let read = read_choices(path, &skipping(config))?;
    let counts = read.rows.iter().map(|row| row.choices.len());
    let choices = match (counts.clone().min(), counts.max()) {
        (Some(least), Some(most)) if least == most => Some(format!("{most} choices each")),
        (Some(least), Some(most)) => Some(format!("{least} to {most} choices each")),
        _ => None,
    };
    let form = read.columns.answers;
    let holds = [
        counted(read.rows.len(), "question", "questions"),
        choices,
        form.map(|form| format!("answers read as {}", form.words())),
    ];
    let look = "rekindle look --config THIS_FILE shows the choices of your file as tokens";
    let (config, notes) = (config.clone(), [("data.max_length", look)]);
    Ok(written(path, config, &holds, &read.skipped, &notes))
}

fn for_questions(path: &Path, config: &RunConfig) -> Result<RunFile, Error> {
    let read = read_asked(path, &skipping(config))?;
    let texts: HashSet<&str> = read.rows.iter().map(|row| &*row.context).collect();
    let impossible = read.impossible();
    let holds = [
        counted(read.rows.len(), "question", "questions"),
        counted(texts.len(), "text", "texts"),
        match impossible {
            0 => None,
            n => Some(format!("{} without an answer", thousands(n as u64))),
        },
    ];
    let look = "rekindle look --config THIS_FILE shows the answers of your file as tokens";
    let (config, notes) = (config.clone(), [("data.max_length", look)]);
    Ok(written(path, config, &holds, &read.skipped, &notes))
}

/// Whether a table's columns are those of texts that belong together, and of nothing else: where they may as well be a text and its
/// label, the second texts must differ.
fn holds_relations(path: &Path) -> bool {
    let options = read_options(
        &RunConfig::default(),
        &rekindle_hub::Columns::default(),
        None,
    );
    let differ = || {
        let skipping = ReadOptions {
            on_bad_example: OnBad::Skip,
            ..options.clone()
        };
        read_related(path, &skipping).is_ok_and(|read| {
            let second = read.rows.iter().filter_map(|row| row.texts.get(1));
            let different: HashSet<&String> = second.collect();
            2 * different.len() > read.rows.len()
        })
    };
    sniff(path, &options).is_ok_and(|sniffed| {
        let names = &sniffed.names;
        names_relations(names) || names_only_a_pair(names) && differ()
    })
}

fn for_relations(path: &Path, config: &RunConfig) -> Result<RunFile, Error> {
    let read = read_related(path, &skipping(config))?;
    let negatives = read.negatives.join(", ");
    let labels = || {
        let labels = read.rows.iter().filter_map(|row| match &row.relation {
            Relation::Label(label) => Some(label.clone()),
            _ => None,
        });
        let mut counts = BTreeMap::new();
        labels.for_each(|label| *counts.entry(label).or_default() += 1);
        by_label(counts)
    };
    let what = match read.rows.first().map(|row| &row.relation) {
        Some(Relation::Score(_)) => {
            counted(read.rows.len(), "pair with a score", "pairs with a score")
        }
        Some(Relation::Label(_)) => Some(format!(
            "{} labelled texts; {}",
            thousands(read.rows.len() as u64),
            labels().trim_end_matches('.')
        )),
        _ => counted(read.rows.len(), "pair", "pairs"),
    };
    let with = (!negatives.is_empty()).then(|| format!("hard negatives in {negatives}"));
    let column = |column: &rekindle_data::ResolvedColumn| match read.columns.header {
        true => config::Column::Name(column.name.clone()),
        false => config::Column::Index(column.index),
    };
    let mut config = config.clone();
    config.data.text = Some(column(&read.columns.text));
    config.data.text_pair = read.columns.text_pair.as_ref().map(column);
    let labels: Vec<config::Column> = read.columns.labels.iter().map(column).collect();
    config.data.label = (!labels.is_empty()).then_some(config::Columns(labels));
    let notes = [("data.text", read.columns.text.reason.as_str())];
    Ok(written(path, config, &[what, with], &read.skipped, &notes))
}

fn for_spans(path: &Path, config: &RunConfig) -> Result<RunFile, Error> {
    let read = read_tagged(path, &tagged_options(config))?;
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for span in read
        .rows
        .iter()
        .filter_map(|row| row.spans.as_ref())
        .flatten()
    {
        *counts.entry(span.label.clone()).or_default() += 1;
    }
    let holds = [
        counted(read.rows.len(), "text", "texts"),
        counted(counts.values().sum(), "labelled span", "labelled spans"),
        Some(format!("written as {}", read.scheme)),
        Some(by_label(counts).trim_end_matches('.').to_owned()),
    ];
    let look = "rekindle look --config THIS_FILE shows the words of your file that are learned";
    let (config, notes) = (config.clone(), [("data.max_length", look)]);
    Ok(written(path, config, &holds, &read.skipped, &notes))
}

/// What a language model would learn of a file or folder: preferences; or conversations, prompts with completions, and texts
/// without a label. `None` where most rows are none of that, and where it cannot be read.
#[must_use]
pub fn language_task(path: &Path) -> Option<Task> {
    let most = |rows: usize, skipped: usize| rows > skipped;
    // A pipe can be read but once.
    if !path.is_file() && !path.is_dir() {
        return None;
    }
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
        let options = read_options(&RunConfig::default(), &none, None);
        may_be_labelled(path, &options)
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

/// The run file of texts without a label column: what their file holds, in words, and what could not be used of it.
fn written(
    path: &Path,
    mut config: RunConfig,
    holds: &[Option<String>],
    skipped: &[Skipped],
    notes: &[(&str, &str)],
) -> RunFile {
    config.data.train = Some(path.to_owned());
    let holds: Vec<&str> = holds.iter().flatten().map(String::as_str).collect();
    let header = format!(
        "Written for {}: {}.\n{RUN_IT}",
        path.display(),
        holds.join(", ")
    );
    let bad = skipped.first().map(|first| {
        format!(
            "{} cannot be used as written ({first}); \"skip\" leaves such rows out and says which",
            rekindle_base::counted(skipped.len(), "row", "rows"),
        )
    });
    let header = [("", header.as_str())];
    RunFile::new(&config, &[&header, notes].concat(), bad)
}

fn for_conversations(path: &Path, config: &RunConfig) -> Result<RunFile, Error> {
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
    Ok(written(path, config, &holds, &read.skipped, &notes))
}

fn for_preferences(path: &Path, config: &RunConfig) -> Result<RunFile, Error> {
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
    Ok(written(path, config, &holds, &read.skipped, &notes))
}

/// The task whose targets the label column holds, on texts, or on pictures where the file names pictures; classification
/// where it is unclear.
fn task_of_labels(path: &Path, config: &RunConfig) -> Result<Task, Error> {
    let none = rekindle_hub::Columns::default();
    let tasks = |modality| {
        // Marked texts, questions and texts that belong together have no label column.
        let none = |kind: &&Kind| {
            matches!(
                kind,
                Kind::Tags | Kind::Extraction | Kind::Choice | Kind::Embedding
            )
        };
        let kinds = Kind::ALL.iter().filter(move |kind| !none(kind));
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
        let Ok(columns) = &sniffed.columns else {
            continue;
        };
        let mut found = sniffed.hint.kind();
        let own = targets_of(task.kind());
        if let (true, [only]) = (own != TargetKind::Class, columns.labels.as_slice()) {
            // Where no column of classes stands out, one of sets or numbers must hold such also to who looks for classes.
            let classes = ReadOptions {
                target: TargetKind::Class,
                labels: vec![match columns.header {
                    true => Column::Name(only.name.clone()),
                    false => Column::Index(only.index),
                }],
                ..options
            };
            found = sniff(path, &classes)?.hint.kind();
            if found != Some(own) {
                continue;
            }
        }
        let fitting = |task: &Task| Some(targets_of(task.kind())) == found;
        return Ok(tasks(task.modality()).find(fitting).unwrap_or(task));
    }
    Ok(config.task)
}

fn for_texts(path: &Path, config: &RunConfig) -> Result<RunFile, Error> {
    let options = read_options(config, &rekindle_hub::Columns::default(), None);
    let sniffed = sniff(path, &options)?;
    let columns = sniffed.columns?;
    if sniffed.rows > 0 && sniffed.bad_rows >= sniffed.rows {
        // None can be used: the first says why.
        read_examples(path, &options)?;
    }
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
    if matches!(sniffed.format, Format::Csv | Format::Tsv) {
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
            "{} cannot be used as written; \"skip\" leaves such rows out and says which",
            rekindle_base::counted(sniffed.bad_rows, "row", "rows")
        )
    });
    let label = columns.labels.first().map_or_else(
        || "no column looks like a label: name it here".to_owned(),
        |c| c.reason.clone(),
    );
    let notes: [(&str, &str); 3] = [
        ("", &header),
        ("data.text", &columns.text.reason),
        ("data.label", &label),
    ];
    Ok(RunFile::new(&config, &notes, bad))
}

fn for_pictures(path: &Path, config: &RunConfig) -> Result<RunFile, Error> {
    let none = rekindle_hub::Columns::default();
    let options = ReadOptions {
        on_bad_example: OnBad::Skip,
        ..read_options(config, &none, None)
    };
    let read = read_images(&image_parts(path)?.train, &options)?;
    let mut config = config.clone();
    config.data.train = Some(path.to_owned());
    let header = format!(
        "Written for {}: {} to train on.\n{}\n{RUN_IT}",
        path.display(),
        rekindle_base::counted(read.set.len(), "picture", "pictures"),
        by_label(read.set.counts()),
    );
    let bad = (!read.skipped.is_empty()).then(|| {
        format!(
            "{} of the files cannot be used; \"skip\" leaves them out and says which",
            read.skipped.len()
        )
    });
    Ok(RunFile::new(&config, &[("", &header)], bad))
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
    let labels = rekindle_base::counted(counts.len(), "label", "labels");
    format!("{labels}: {}{more}.", shown.join(", "))
}
