//! Standard output: the results of every verb, by one writer that tells when they cannot be written.

use crate::{
    signals, target,
    terminal::{self, painted},
};
use rekindle::Aside;
use serde::Serialize;
use std::{
    borrow::Cow,
    fmt,
    io::{self, BufWriter, IsTerminal, Write},
    path::{Path, PathBuf},
};

/// Why standard output took nothing more.
#[derive(Debug)]
pub enum OutputError {
    /// Whoever read the pipe has enough, as in `rekindle predict ... | head`.
    Closed,
    /// The system refused, as on a full disk.
    Failed(io::Error),
    /// The same of a file.
    File {
        /// Its name.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl fmt::Display for OutputError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed => f.write_str("standard output is closed"),
            Self::File { path, source } => write!(
                f,
                "cannot write {}: {source}\nhint: check that the disk has room and the folder may be written",
                path.display()
            ),
            Self::Failed(source) => write!(
                f,
                "cannot write to standard output: {source}\nhint: check that the disk has room, or send the output elsewhere"
            ),
        }
    }
}

impl std::error::Error for OutputError {}

impl From<io::Error> for OutputError {
    fn from(source: io::Error) -> Self {
        match source.kind() {
            io::ErrorKind::BrokenPipe => Self::Closed,
            _ => Self::Failed(source),
        }
    }
}

/// Where results go: standard output, or a file.
pub struct Output {
    to: BufWriter<Box<dyn Write>>,
    /// The file's name.
    path: Option<PathBuf>,
    aside: Option<Aside>,
}

/// A text of somebody else, which does nothing to a terminal: there, control characters are spelt out.
pub fn harmless(text: &str) -> Cow<'_, str> {
    match io::stdout().is_terminal() {
        true => spelt_out(text),
        false => Cow::Borrowed(text),
    }
}

/// A text whose control characters are spelt out, but for the ends of lines.
pub fn spelt_out(text: &str) -> Cow<'_, str> {
    let acts = |c: char| c.is_control() && !matches!(c, '\n' | '\t');
    if !text.contains(acts) {
        return Cow::Borrowed(text);
    }
    let mut out = String::new();
    for c in text.chars() {
        match acts(c) {
            true => out.extend(c.escape_default()),
            false => out.push(c),
        }
    }
    Cow::Owned(out)
}

impl Output {
    pub fn new() -> Self {
        Self {
            to: BufWriter::new(Box::new(io::stdout().lock())),
            path: None,
            aside: None,
        }
    }

    /// A file that is whole when it has been finished.
    pub fn to_file(path: &Path) -> anyhow::Result<Self> {
        signals::discard_on_stop()?;
        let (file, aside) = target::create(path)?;
        Ok(Self {
            to: BufWriter::new(Box::new(file)),
            path: Some(path.to_owned()),
            aside,
        })
    }

    /// Sends out what is held back; a file gets its name.
    pub fn finish(&mut self) -> Result<(), OutputError> {
        self.flush()?;
        let named = self.aside.take().map_or(Ok(()), Aside::finish);
        named.map_err(|source| self.failed(source))
    }

    /// Text and the end of its line; on a terminal, control characters are spelt out.
    pub fn line(&mut self, text: impl fmt::Display) -> Result<(), OutputError> {
        let text = text.to_string();
        let text = match self.path {
            None => harmless(&text),
            Some(_) => Cow::Borrowed(text.as_str()),
        };
        writeln!(self.to, "{text}").map_err(|source| self.failed(source))
    }

    /// Text as it is, sent out at once: a piece of an answer that is still being made, or what is coloured.
    pub fn piece(&mut self, text: impl fmt::Display) -> Result<(), OutputError> {
        write!(self.to, "{text}").map_err(|source| self.failed(source))?;
        self.flush()
    }

    /// Sends out what is held back.
    pub fn flush(&mut self) -> Result<(), OutputError> {
        self.to.flush().map_err(|source| self.failed(source))
    }

    fn failed(&self, source: io::Error) -> OutputError {
        match &self.path {
            None => source.into(),
            Some(path) => OutputError::File {
                path: path.clone(),
                source,
            },
        }
    }
}

/// Prints text, its warnings and hints in colour on a terminal.
pub fn print(text: impl fmt::Display) -> Result<(), OutputError> {
    let mut output = Output::new();
    let text = text.to_string();
    let text = harmless(&text);
    let text = painted(&text, terminal::get().colours_out);
    write!(output.to, "{text}")?;
    output.flush()
}

/// Prints bytes as they are.
pub fn raw(bytes: &[u8]) -> Result<(), OutputError> {
    let mut output = Output::new();
    output.to.write_all(bytes)?;
    output.flush()
}

/// Prints a value as JSON over several lines.
pub fn json(value: &impl Serialize) -> anyhow::Result<()> {
    let text = serde_json::to_string_pretty(value)?;
    let mut output = Output::new();
    output.line(text)?;
    Ok(output.flush()?)
}
