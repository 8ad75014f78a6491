//! The mistakes of a configuration: where, what, and what to do about it.

use rekindle_base::{NAMED, thousands};
use std::fmt;
use std::path::PathBuf;

/// Every mistake of a configuration, in the order in which a person meets them.
#[derive(Debug, Clone, PartialEq)]
pub struct ConfigErrors {
    /// At least one.
    pub mistakes: Vec<ConfigMistake>,
}

impl std::error::Error for ConfigErrors {}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.mistakes.len();
        let plural = if count == 1 { "" } else { "s" };
        write!(f, "{count} mistake{plural} in the configuration:")?;
        for (index, mistake) in self.mistakes.iter().take(NAMED).enumerate() {
            write!(f, "\n{:>3}. {mistake}", index + 1)?;
        }
        match count.saturating_sub(NAMED) {
            0 => Ok(()),
            more => write!(f, "\n     and {} more", thousands(more as u64)),
        }
    }
}

/// One mistake.
#[derive(Debug, Clone, PartialEq)]
pub struct ConfigMistake {
    /// Where it was made.
    pub place: Place,
    /// What is wrong.
    pub problem: ConfigProblem,
    /// What to do about it, where there is more to say.
    pub hint: Option<String>,
}

impl fmt::Display for ConfigMistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.problem)?;
        match &self.hint {
            Some(hint) => write!(f, "\n     hint: {hint}"),
            None => Ok(()),
        }
    }
}

/// Where a setting came from.
#[derive(Debug, Clone, PartialEq)]
pub enum Place {
    /// A run file as a whole.
    File {
        /// The file, as it was named.
        path: PathBuf,
    },
    /// A place in a run file.
    Line {
        /// The file, as it was named.
        path: PathBuf,
        /// The line, the first being 1.
        line: usize,
        /// The character in the line, the first being 1.
        column: usize,
    },
    /// The command line; the text is what messages show, such as `--device`.
    Override(String),
    /// A value put into a [`RunConfig`](super::RunConfig) by a program.
    Program,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { path } => write!(f, "{}", path.display()),
            Self::Line { path, line, column } => {
                write!(f, "{}:{line}:{column}", path.display())
            }
            Self::Override(origin) => f.write_str(origin),
            Self::Program => f.write_str("RunConfig"),
        }
    }
}

/// What can be wrong with a configuration.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigProblem {
    /// The run file cannot be read.
    #[error("cannot be read: {reason}")]
    Unreadable {
        /// The system's reason.
        reason: String,
    },
    /// The run file is not TOML.
    #[error("not valid TOML: {reason}, found `{found}`")]
    Syntax {
        /// The parser's reason.
        reason: String,
        /// The line, shortened.
        found: String,
    },
    /// No setting has this name.
    #[error("unknown key `{key}`")]
    UnknownKey {
        /// The name with its section.
        key: String,
    },
    /// No section has this name.
    #[error("unknown section [{section}]")]
    UnknownSection {
        /// The name.
        section: String,
    },
    /// A section was given a value.
    #[error("`{section}` is a section: expected its keys, found {found}")]
    NotASection {
        /// The section.
        section: String,
        /// The value.
        found: String,
    },
    /// An override that is no `KEY=VALUE`.
    #[error("expected KEY=VALUE, found `{found}`")]
    NotKeyValue {
        /// What stands there.
        found: String,
    },
    /// A value of the wrong type, or out of its range.
    #[error("`{key}`: expected {expected}, found {found}")]
    WrongValue {
        /// The setting.
        key: String,
        /// The values it accepts.
        expected: String,
        /// The value.
        found: String,
    },
    /// Settings that do not go together.
    #[error("{statement}")]
    Contradiction {
        /// The settings concerned; the first is the one at fault.
        keys: Vec<String>,
        /// What does not go together.
        statement: String,
    },
}
