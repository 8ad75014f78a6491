//! Standard output: the results of every verb, by one writer that tells when they cannot be written.

use crate::terminal::{self, painted};
use anyhow::Context;
use serde::Serialize;
use std::{
    borrow::Cow,
    fmt,
    fs::{self, File},
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

/// Where results go: standard output, or a file.
pub struct Output {
    to: BufWriter<Box<dyn Write>>,
    file: Option<OutputFile>,
}

/// A file that is whole or not there: until then it is called otherwise.
struct OutputFile {
    path: PathBuf,
    part: PathBuf,
}

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
        Self {
            to: BufWriter::new(Box::new(io::stdout().lock())),
            file: None,
        }
    }

    /// A file, which is called `.part` behind its name until it is finished.
    pub fn to_file(path: &Path) -> anyhow::Result<Self> {
        let mut part = path.as_os_str().to_owned();
        part.push(".part");
        let part = PathBuf::from(part);
        let file = File::create(&part).with_context(|| {
            format!("cannot write {}\nhint: name a file in a folder that is there and can be written to", part.display())
        })?;
        Ok(Self {
            to: BufWriter::new(Box::new(file)),
            file: Some(OutputFile {
                path: path.to_owned(),
                part,
            }),
        })
    }

    /// Sends out what is held back; a file gets its name.
    pub fn finish(&mut self) -> Result<(), OutputError> {
        self.flush()?;
        match &self.file {
            Some(file) => Ok(fs::rename(&file.part, &file.path)?),
            None => Ok(()),
        }
    }

    /// Text and the end of its line.
    pub fn line(&mut self, text: impl fmt::Display) -> Result<(), OutputError> {
        Ok(writeln!(self.to, "{text}")?)
    }

    /// Text as it is, sent out at once: a piece of an answer that is still being made.
    pub fn piece(&mut self, text: impl fmt::Display) -> Result<(), OutputError> {
        write!(self.to, "{text}")?;
        self.flush()
    }

    /// Sends out what is held back.
    pub fn flush(&mut self) -> Result<(), OutputError> {
        Ok(self.to.flush()?)
    }
}

/// Prints text, its warnings and hints in colour on a terminal.
pub fn print(text: impl fmt::Display) -> Result<(), OutputError> {
    let mut output = Output::new();
    let text = text.to_string();
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
