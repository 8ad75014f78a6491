//! Standard output: the results of every verb, by one writer that tells when they cannot be written.

use crate::terminal::{self, painted};
use serde::Serialize;
use std::{
    borrow::Cow,
    fmt,
    io::{self, BufWriter, IsTerminal, StdoutLock, Write},
};

/// Why standard output took nothing more.
#[derive(Debug)]
pub enum OutputError {
    /// Whoever read the pipe has enough, as in `rekindle predict ... | head`.
    Closed,
    /// The system refused, as on a full disk.
    Failed(io::Error),
}

impl fmt::Display for OutputError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed => f.write_str("standard output is closed"),
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

/// Standard output, held until the last line is out.
pub struct Output(BufWriter<StdoutLock<'static>>);

/// A text of somebody else, which does nothing to a terminal: there, control characters are spelt out.
pub fn harmless(text: &str) -> Cow<'_, str> {
    let acts = |c: char| c.is_control() && !matches!(c, '\n' | '\t');
    if !text.contains(acts) || !io::stdout().is_terminal() {
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
        Self(BufWriter::new(io::stdout().lock()))
    }

    /// Text and the end of its line.
    pub fn line(&mut self, text: impl fmt::Display) -> Result<(), OutputError> {
        Ok(writeln!(self.0, "{text}")?)
    }

    /// Text as it is, sent out at once: a piece of an answer that is still being made.
    pub fn piece(&mut self, text: impl fmt::Display) -> Result<(), OutputError> {
        write!(self.0, "{text}")?;
        self.flush()
    }

    /// Sends out what is held back.
    pub fn flush(&mut self) -> Result<(), OutputError> {
        Ok(self.0.flush()?)
    }
}

/// Prints text, its warnings and hints in colour on a terminal.
pub fn print(text: impl fmt::Display) -> Result<(), OutputError> {
    let mut output = Output::new();
    let text = text.to_string();
    let text = painted(&text, terminal::get().colours_out);
    write!(output.0, "{text}")?;
    output.flush()
}

/// Prints bytes as they are.
pub fn raw(bytes: &[u8]) -> Result<(), OutputError> {
    let mut output = Output::new();
    output.0.write_all(bytes)?;
    output.flush()
}

/// Prints a value as JSON over several lines.
pub fn json(value: &impl Serialize) -> anyhow::Result<()> {
    let text = serde_json::to_string_pretty(value)?;
    let mut output = Output::new();
    output.line(text)?;
    Ok(output.flush()?)
}
