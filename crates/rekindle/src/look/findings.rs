//! What is striking about a set of examples, as it is told: a sentence, up to ten places, and what to do.

use rekindle_base::NAMED;
use serde::Serialize;

/// One thing that is striking about the examples.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What it is, in a word for programs: `leak`, `contradictions`, `duplicates`.
    pub kind: &'static str,
    /// Whether figures of a run would be wrong or worse for it.
    pub warning: bool,
    /// The finding in a sentence.
    pub said: String,
    /// How many there are.
    pub count: u64,
    /// The first of them; examples that belong together are one.
    pub found: Vec<Found>,
    /// How many there are beyond these.
    pub more: u64,
    /// What to do about it; may be empty.
    pub hint: &'static str,
}

/// Examples that belong together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Found {
    /// Where they stand.
    pub rows: Vec<FoundRow>,
    /// How many there are beyond these.
    pub more: u64,
    /// Their text, shortened, or what is odd about them.
    pub remark: String,
}

/// One example of a finding.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FoundRow {
    /// Its file, with its line where there are lines.
    pub place: String,
    /// The part of the run that it belongs to: `train`, `validation` or `test`.
    pub part: &'static str,
    /// Its label, if it has one.
    pub label: Option<String>,
}

/// An example as it is compared with others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Row {
    /// `train`, `validation` or `test`.
    pub part: &'static str,
    /// Its text without differences of case and white space; of a picture what stands for its content.
    pub text: String,
    /// What else must be the same, such as a system prompt; 0 where there is nothing.
    pub context: u64,
    /// Its label as written.
    pub label: Option<String>,
    pub place: String,
}

/// The part whose examples are learned.
pub(super) const TRAIN: &str = "train";

impl Row {
    pub(super) fn found(&self) -> FoundRow {
        FoundRow {
            place: self.place.clone(),
            part: self.part,
            label: self.label.clone(),
        }
    }
}

/// Rows that belong together, the first ten by their places.
pub(super) fn together(rows: &[&Row], remark: String) -> Found {
    Found {
        rows: rows.iter().take(NAMED).map(|row| row.found()).collect(),
        more: rows.len().saturating_sub(NAMED) as u64,
        remark,
    }
}

/// The first ten of `all`, as they are told, and how many there are beyond.
pub(super) fn named<T>(all: &[T], found: impl Fn(&T) -> Found) -> (Vec<Found>, u64) {
    let first = all.iter().take(NAMED).map(found).collect();
    (first, all.len().saturating_sub(NAMED) as u64)
}

/// A text without differences of case and white space.
pub(super) fn normalised(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for word in text.split_whitespace() {
        if !out.is_empty() {
            out.push(' ');
        }
        out.extend(word.chars().flat_map(char::to_lowercase));
    }
    out
}

/// The beginning of a text.
pub(super) fn beginning(text: &str) -> String {
    const SHOWN: usize = 60;
    let mut chars = text.chars().map(|c| if c == SECOND { ' ' } else { c });
    let mut out: String = chars.by_ref().take(SHOWN).collect();
    if chars.next().is_some() {
        out.push('…');
    }
    out
}

/// What stands between the two texts of a pair.
pub(super) const SECOND: char = '\u{1f}';

/// A share in per cent: `3.4 %`.
pub(super) fn percent(part: u64, of: u64) -> String {
    let share = part as f64 / of.max(1) as f64 * 100.0;
    match part {
        0 => "0 %".to_owned(),
        _ if share < 0.1 => "under 0.1 %".to_owned(),
        _ => format!("{share:.1} %"),
    }
}
