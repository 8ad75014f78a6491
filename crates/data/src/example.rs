//! One labelled (or unlabelled) text, and where it stands in its file.

use std::borrow::Cow;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Where an example was read: the file and a line of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The file, as the caller named it.
    pub path: Arc<Path>,
    /// 1-based physical line at which the record starts; for Parquet the 1-based row number.
    pub line: u64,
}

/// The file that examples come from, for messages about them all: the first one's.
pub(crate) fn file_of(examples: &[Example]) -> PathBuf {
    examples
        .first()
        .map_or_else(PathBuf::new, |example| example.place.path.to_path_buf())
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            // A folder has no lines.
            0 => write!(f, "{}", self.path.display()),
            line => write!(f, "{}:{line}", self.path.display()),
        }
    }
}

/// One label cell as the file writes it.
///
/// CSV and TSV give text, whatever it reads like; JSON and Parquet give their own types.
#[derive(Debug, Clone, PartialEq, Default)]
pub enum RawValue {
    /// No value: a JSON null, a field that is absent.
    #[default]
    Missing,
    /// Text, trimmed; empty for a blank cell.
    Text(String),
    /// An integer.
    Int(i64),
    /// A number that may have a fraction.
    Real(f64),
    /// A boolean.
    Bool(bool),
    /// A list; its numbers and booleans as text.
    List(Vec<String>),
}

impl RawValue {
    /// The name of the class that the value stands for, if it can stand for one: text as it is, whole numbers as their
    /// digits (`1.0` is `1`), booleans as `true` and `false`. None for a missing value, NaN and a list.
    pub fn class_name(&self) -> Option<Cow<'_, str>> {
        match self {
            Self::Missing | Self::List(_) => None,
            Self::Text(text) if text.is_empty() => None,
            Self::Text(text) => Some(Cow::Borrowed(text)),
            Self::Int(number) => Some(Cow::Owned(number.to_string())),
            Self::Real(number) if number.is_nan() => None,
            Self::Real(number) => Some(Cow::Owned(number_name(*number))),
            Self::Bool(true) => Some(Cow::Borrowed("true")),
            Self::Bool(false) => Some(Cow::Borrowed("false")),
        }
    }

    /// Whether there is no value: none, blank text, or NaN, which is how data frames write it into a column of floats.
    pub fn is_missing(&self) -> bool {
        match self {
            Self::Missing => true,
            Self::Text(text) => text.is_empty(),
            Self::Real(number) => number.is_nan(),
            _ => false,
        }
    }
}

/// A number's shortest decimal form; whole numbers without a fraction.
pub(crate) fn number_name(number: f64) -> String {
    match number == 0.0 {
        true => "0".to_owned(),
        false => number.to_string(),
    }
}

impl From<&str> for RawValue {
    /// White space around the text is dropped; nothing but white space is a missing value.
    fn from(text: &str) -> Self {
        match text.trim() {
            "" => Self::Missing,
            text => Self::Text(text.to_owned()),
        }
    }
}

impl fmt::Display for RawValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => f.write_str("nothing"),
            Self::Text(text) => f.write_str(text),
            Self::Int(number) => write!(f, "{number}"),
            Self::Real(number) => write!(f, "{number}"),
            Self::Bool(value) => write!(f, "{value}"),
            Self::List(values) => write!(f, "[{}]", values.join(", ")),
        }
    }
}

/// What a row says of its target: one value for each label column.
///
/// [`read_examples`](crate::read_examples) brings it into one form for each kind of target, see
/// [`TargetKind`](crate::TargetKind).
#[derive(Debug, Clone, PartialEq)]
pub struct RawTarget(pub Vec<RawValue>);

impl RawTarget {
    /// The class that the target names, if it is a single value that is neither a list nor a number with a fraction.
    pub fn class(&self) -> Option<Cow<'_, str>> {
        match self.0.as_slice() {
            [RawValue::Real(_)] => None,
            [value] => value.class_name(),
            _ => None,
        }
    }

    /// The names of a set of labels; empty for any other target.
    pub fn labels(&self) -> &[String] {
        match self.0.as_slice() {
            [RawValue::List(names)] => names,
            _ => &[],
        }
    }
}

impl From<&str> for RawTarget {
    fn from(text: &str) -> Self {
        Self(vec![RawValue::from(text)])
    }
}

impl fmt::Display for RawTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let values: Vec<String> = self.0.iter().map(RawValue::to_string).collect();
        f.write_str(&values.join(", "))
    }
}

/// One row of a data file.
#[derive(Debug, Clone, PartialEq)]
pub struct Example {
    /// The text, exactly as in the file; never blank.
    pub text: String,
    /// The second text of a pair task (premise and hypothesis, two questions).
    pub text_pair: Option<String>,
    /// What is to be learned; `None` where the file has no label column, or the row no label.
    pub label: Option<RawTarget>,
    /// Where the row starts.
    pub place: Place,
}
