//! What a run will learn from, before it does: the first examples as a model sees them, what there is of each label and length,
//! and what is striking: copies, leaks between the parts, labels that look wrong, odd pictures.
//!
//! | file | says |
//! |---|---|
//! | `parts` | the examples, split as a run splits them |
//! | `texts`, `tokens`, `questions`, `choices`, `related`, `chats`, `preferences`, `pictures` | one kind of examples each |
//! | `findings` | what a finding is; examples as they are compared |
//! | `duplicates`, `near`, `suspicious` | how copies, near copies and doubtful labels are found |
//! | `cut` | what the longest length costs |

mod chats;
mod choices;
mod cut;
mod duplicates;
mod findings;
mod near;
mod parts;
mod pictures;
mod preferences;
mod questions;
mod related;
mod suspicious;
mod texts;
mod tokens;

pub use cut::Cut;
pub use findings::{Finding, Found, FoundRow};

use crate::{
    Error, Observer, RunConfig,
    config::Task,
    finetune::find_model,
    inputs,
    report::DataSummary,
    spread::Spread,
    task::{Kind, Modality},
};
use rekindle_base::{counted, shell_word, thousands};
use rekindle_data::{Place, TextEncoder};
use rekindle_hub::Hub;
use rekindle_models::{Pretrained, Problem};
use serde::Serialize;
use std::path::Path;

use findings::{Row, TRAIN, beginning, named, percent, together};

/// The examples of a run before it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Looked {
    /// The first examples.
    pub examples: Vec<LookedAt>,
    /// All examples in a line: lengths, what counts, what is cut.
    pub summary: String,
    /// Sizes of the parts, and how many examples have each label, as the report of a run has them.
    pub data: DataSummary,
    /// How lengths, numbers and sizes spread over all parts.
    pub spreads: Vec<Spread>,
    /// What the longest length costs; `None` of pictures, and of texts that are read in windows.
    pub cut: Option<Cut>,
    /// What is striking, the gravest first.
    pub findings: Vec<Finding>,
    /// What was left out or guessed, and what the model does not have, a line each.
    pub notes: Vec<String>,
}

/// An example as a model sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LookedAt {
    /// Where it stands, such as `chats.jsonl:3`.
    pub place: String,
    /// Its size, in words.
    pub size: String,
    /// Its tokens; none of a picture.
    pub tokens: Vec<LookedToken>,
}

/// A token of an example.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LookedToken {
    /// What it stands for.
    pub text: String,
    /// Whether it is learned, or of preferences compared.
    pub learned: bool,
}

impl LookedToken {
    fn new(encoder: &TextEncoder, id: u32, learned: bool) -> Self {
        let text = encoder.token(id).unwrap_or_else(|| format!("[{id}]"));
        Self { text, learned }
    }
}

/// The task of a run that names none, on this model: what its architecture is for.
///
/// # Errors
/// When there is no such model.
pub fn task_of_model(name: &str, observer: &dyn Observer) -> Result<Task, Error> {
    check_is_no_run(name)?;
    let base = find_model(name, &Hub::from_env(), observer)?;
    let pretrained = Pretrained::open(&base.dir)?;
    let config = pretrained.config();
    Ok(match config.modality {
        Modality::Images => Task::ImageClassification,
        Modality::Text if config.is_decoder() => Task::TextGeneration,
        Modality::Text if config.problem == Some(Problem::Tokens) => Task::TokenClassification,
        Modality::Text if config.problem == Some(Problem::Span) => Task::QuestionAnswering,
        Modality::Text if config.problem == Some(Problem::Choice) => Task::MultipleChoice,
        Modality::Text => Task::TextClassification,
    })
}

/// Refuses a run directory in the place of a model: its run file says everything.
fn check_is_no_run(name: &str) -> Result<(), Error> {
    let run_file = Path::new(name).join("config.toml");
    match run_file.is_file() {
        false => Ok(()),
        true => Err(Error::ModelDir {
            path: name.into(),
            reason: "a run directory, expected a model".into(),
            hint: format!(
                "look at what the run learns with: rekindle look --config {}",
                shell_word(name)
            ),
        }),
    }
}

/// Reads the examples of a configuration, splits and encodes them as a run would, and says what is striking about them; shows the
/// first `rows` of the training file. Where a run would refuse them, those that can be read are looked at, and the first finding
/// is why.
///
/// # Errors
/// Any mistake in the configuration, examples that cannot be read at all, or that the model cannot take.
pub fn look(config: &RunConfig, rows: usize, observer: &dyn Observer) -> Result<Looked, Error> {
    config.validate()?;
    let hub = Hub::from_env();
    check_is_no_run(&config.model.name)?;
    let base = find_model(&config.model.name, &hub, observer)?;
    let pretrained = inputs::with_added_tokens(config, Pretrained::open(&base.dir)?)?;
    let from = From {
        config,
        pretrained: &pretrained,
        hub: &hub,
        observer,
        rows,
    };
    let mut looked = match (config.task.modality(), config.task.kind()) {
        (Modality::Images, _) => pictures::look(&from),
        (_, Kind::Generation) => chats::look(&from),
        (_, Kind::Preference) => preferences::look(&from),
        (_, Kind::Tags) => tokens::look(&from),
        (_, Kind::Extraction) => questions::look(&from),
        (_, Kind::Choice) => choices::look(&from),
        (_, Kind::Embedding) => related::look(&from),
        _ => texts::look(&from),
    }?;
    // What spoils figures comes first, then what may be meant so.
    looked.findings.sort_by_key(|finding| !finding.warning);
    Ok(looked)
}

/// What is looked at, and by which model.
struct From<'a> {
    config: &'a RunConfig,
    pretrained: &'a Pretrained,
    hub: &'a Hub,
    observer: &'a dyn Observer,
    /// Examples that are shown.
    rows: usize,
}

/// Which examples are shown: the first of the training file, wherever they went. Of each part the keys of its examples, by which
/// the file has them in order; `None` of those of another file.
fn first<K: Ord>(parts: &[Vec<Option<K>>], rows: usize) -> Vec<(usize, usize)> {
    let mut all: Vec<(&K, usize, usize)> = Vec::new();
    for (part, keys) in parts.iter().enumerate() {
        let keys = keys.iter().enumerate();
        all.extend(keys.filter_map(|(index, key)| Some((key.as_ref()?, part, index))));
    }
    all.sort();
    let first = all.into_iter().take(rows);
    first.map(|(_, part, index)| (part, index)).collect()
}

/// [`first`] of examples that have places: by their lines, those of the first example's file.
fn first_lines(parts: &[Vec<&Place>], rows: usize) -> Vec<(usize, usize)> {
    let file = parts.first().and_then(|part| part.first());
    let file = file.map(|place| &place.path);
    let key = |place: &&Place| (Some(&place.path) == file).then_some(place.line);
    let keys = parts.iter().map(|part| part.iter().map(key).collect());
    first(&keys.collect::<Vec<_>>(), rows)
}

/// What the part of an example adds to its size: nothing for training.
fn part_words(part: &str) -> String {
    match part {
        TRAIN => String::new(),
        other => format!(", for {other}"),
    }
}

/// How many examples each part has, in words; nothing where there is one.
fn parts_words<'a>(sizes: impl Iterator<Item = (&'a str, usize)>) -> String {
    let sizes: Vec<String> = sizes
        .map(|(part, size)| match part {
            TRAIN => format!("{} for training", thousands(size as u64)),
            other => format!("{} for {other}", thousands(size as u64)),
        })
        .collect();
    match sizes.len() {
        0 | 1 => String::new(),
        _ => format!("; {}", sizes.join(", ")),
    }
}

/// What the windows of an example add to its size: nothing where there is one.
fn windows_words(windows: usize) -> String {
    match windows {
        1 => String::new(),
        n => format!(" in {n} windows"),
    }
}

/// All tokens, and the shortest, the middle and the longest length.
fn tokens_words(lengths: &[u32], spread: Option<&Spread>) -> String {
    let [least, _, middle, _, most] = spread.map_or([0.0; 5], |spread| spread.quartiles);
    format!(
        "{} tokens ({least:.0} to {most:.0}, half of them up to {middle:.0})",
        thousands(lengths.iter().map(|&length| u64::from(length)).sum())
    )
}

/// Copies and near copies, in findings; and what was not compared, in notes.
fn copies(rows: &[Row], nouns: (&str, &str)) -> (Vec<Finding>, Vec<String>, Vec<Vec<usize>>) {
    let groups = duplicates::groups(rows);
    let mut findings = duplicates::findings(rows, &groups, nouns, true);
    let near = near::near(rows);
    for part in ["validation", "test"] {
        let pairs: Vec<&near::Near> = near
            .pairs
            .iter()
            .filter(|near| rows[near.row].part == part)
            .collect();
        if pairs.is_empty() {
            continue;
        }
        let of = rows.iter().filter(|row| row.part == part).count() as u64;
        let count = pairs.len() as u64;
        let mut nearest = pairs.clone();
        nearest.sort_by(|a, b| b.share.total_cmp(&a.share).then(a.row.cmp(&b.row)));
        let (found, more) = named(&nearest, |near| {
            let text = beginning(&rows[near.row].text);
            let remark = format!("{:.0} % alike: {text}", (near.share * 100.0).floor());
            together(&[&rows[near.row], &rows[near.like]], remark)
        });
        findings.push(Finding {
            kind: "near_leak",
            warning: true,
            said: format!(
                "{} of {part} ({}) {} at least {:.0} % like a training example",
                counted(pairs.len(), nouns.0, nouns.1),
                percent(count, of),
                if count == 1 { "is" } else { "are" },
                near::ALIKE * 100.0
            ),
            count,
            found,
            more,
            hint: "look whether they are the same example written twice; if so, keep each kind in one part",
        });
    }
    let notes = match near.in_part {
        0 => Vec::new(),
        n => vec![format!(
            "{} not compared with all training examples that share rare pieces with them, for time: more may be nearly alike",
            counted(n, nouns.0, nouns.1) + if n == 1 { " was" } else { " were" }
        )],
    };
    (findings, notes, groups)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_rows_of_the_file_are_shown_wherever_they_went() {
        let parts = [
            vec![Some(2), Some(5), None],
            vec![Some(1)],
            vec![None, Some(4)],
        ];
        assert_eq!(first(&parts, 3), [(1, 0), (0, 0), (2, 1)]);
        assert_eq!(first(&parts, 0), []);
        let sizes = [("train", 1200), ("test", 3)];
        assert_eq!(
            parts_words(sizes.into_iter()),
            "; 1,200 for training, 3 for test"
        );
        assert_eq!(parts_words(sizes.into_iter().take(1)), "");
    }
}
