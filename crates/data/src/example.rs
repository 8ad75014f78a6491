//! One labelled (or unlabelled) text, and where it stands in its file.

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

/// A label as the file writes it: a name, or the decimal digits of a number; `true` and `false` for booleans.
///
/// White space around it is dropped, so `pos` and ` pos` are one label.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RawLabel(String);

impl RawLabel {
    /// The label's text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&str> for RawLabel {
    fn from(label: &str) -> Self {
        Self(label.trim().to_owned())
    }
}

impl fmt::Display for RawLabel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One row of a data file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Example {
    /// The text, exactly as in the file; never blank.
    pub text: String,
    /// The second text of a pair task (premise and hypothesis, two questions).
    pub text_pair: Option<String>,
    /// The label as written; `None` where the file has no label column.
    pub label: Option<RawLabel>,
    /// Where the row starts.
    pub place: Place,
}
