//! Data files to examples.
//!
//! Every format is a `Table`: columns, and rows with their place. What makes a row a good example, which columns
//! are meant, and what happens to bad rows is decided here, once for all formats.

mod delimited;
mod jsonl;
mod parquet;
mod sniff;

use std::borrow::Cow;
use std::fmt;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use crate::columns::{self, Column, ResolvedColumn, ResolvedColumns, Role};
use crate::{BadReason, DataError, Example, Place, RawLabel};
use rekindle_base::near::near_misses;

pub use sniff::{Sniffed, sniff};

/// The formats that can be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Format {
    /// Comma-separated values (RFC 4180): a quoted field may hold delimiters, line ends and doubled quotes.
    Csv,
    /// Tab-separated values. Quotes are ordinary characters unless `quoting` is set.
    Tsv,
    /// One JSON object on each line.
    Jsonl,
    /// Apache Parquet.
    Parquet,
}

impl Format {
    /// The format that a file's name promises: `.csv`; `.tsv`, `.tab`; `.jsonl`, `.ndjson`, `.json`; `.parquet`,
    /// `.pq`.
    pub fn from_path(path: &Path) -> Option<Self> {
        match path.extension()?.to_str()?.to_lowercase().as_str() {
            "csv" => Some(Self::Csv),
            "tsv" | "tab" => Some(Self::Tsv),
            "jsonl" | "ndjson" | "json" => Some(Self::Jsonl),
            "parquet" | "pq" => Some(Self::Parquet),
            _ => None,
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Csv => "csv",
            Self::Tsv => "tsv",
            Self::Jsonl => "jsonl",
            Self::Parquet => "parquet",
        })
    }
}

/// What to do with a row that cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnBad {
    /// Stop with an error that names the row.
    #[default]
    Error,
    /// Leave the row out and report it in [`ReadOutcome::skipped`].
    Skip,
}

/// How to read a file. The default guesses everything from the file and stops at the first bad row.
#[derive(Debug, Clone, Default)]
pub struct ReadOptions {
    /// Default: from the file's name.
    pub format: Option<Format>,
    /// Column of the text. Default: guessed from well-known names.
    pub text: Option<Column>,
    /// Column of the second text of a pair. Default: only for well-known pairs of names.
    pub text_pair: Option<Column>,
    /// Column of the label. Default: guessed from well-known names.
    pub label: Option<Column>,
    /// CSV and TSV: whether the first row is a header. Default: told from the first row, an error where it cannot be.
    pub header: Option<bool>,
    /// CSV and TSV: the delimiter. Default: tab for TSV; for CSV a comma, or a semicolon or tab where the first line
    /// has those and no comma.
    pub delimiter: Option<u8>,
    /// CSV and TSV: whether a field may be put in quotes. Default: true for CSV, false for TSV, where a stray quote
    /// is more common than a quoted tab.
    pub quoting: Option<bool>,
    /// What to do with bad rows.
    pub on_bad_example: OnBad,
    /// Read only the first rows, in file order (bad rows count).
    pub limit: Option<usize>,
    /// A file without label column, or a row without label, is an error.
    pub require_label: bool,
}

/// A row that was left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Skipped {
    /// Where it stands.
    pub place: Place,
    /// What is wrong with it.
    pub reason: BadReason,
}

impl fmt::Display for Skipped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.reason)
    }
}

/// What [`read_examples`] found.
#[derive(Debug, Clone)]
pub struct ReadOutcome {
    /// The good rows, in file order.
    pub examples: Vec<Example>,
    /// The bad rows; empty unless [`OnBad::Skip`].
    pub skipped: Vec<Skipped>,
    /// Which columns were read, and why those.
    pub columns: ResolvedColumns,
}

/// Reads the examples of a file.
///
/// # Errors
/// Any of [`DataError`]'s file, column and row errors. A file without a single good row is an error too.
pub fn read_examples(path: &Path, options: &ReadOptions) -> Result<ReadOutcome, DataError> {
    read_source(path, &Source::load(path, options)?, options)
}

fn read_source(
    path: &Path,
    source: &Source,
    options: &ReadOptions,
) -> Result<ReadOutcome, DataError> {
    let table = source.table(path, options)?;
    let columns = columns::resolve(path, table.as_ref(), options)?;
    let shared: Arc<Path> = path.into();
    let wanted: Vec<usize> = [
        Some(&columns.text),
        columns.text_pair.as_ref(),
        columns.label.as_ref(),
    ]
    .into_iter()
    .flatten()
    .map(|column| column.index)
    .collect();

    let mut examples = Vec::new();
    let mut skipped = Vec::new();
    for row in table
        .rows(&wanted)
        .take(options.limit.unwrap_or(usize::MAX))
    {
        let Row { line, cells } = row?;
        let place = Place {
            path: Arc::clone(&shared),
            line,
        };
        match cells
            .and_then(|cells| to_example(cells, &columns, options.require_label, place.clone()))
        {
            Ok(example) => examples.push(example),
            Err(reason) => match options.on_bad_example {
                OnBad::Error => return Err(DataError::BadExample { place, reason }),
                OnBad::Skip => skipped.push(Skipped { place, reason }),
            },
        }
    }
    if examples.is_empty() && options.limit != Some(0) {
        let path = path.to_owned();
        let bad = skipped.len();
        return Err(match skipped.into_iter().next() {
            Some(Skipped { place, reason }) => DataError::AllBad {
                path,
                skipped: bad,
                line: place.line,
                reason,
            },
            None if matches!(columns.format, Format::Csv | Format::Tsv) => {
                DataError::HeaderOnly { path }
            }
            None => DataError::NoRows { path },
        });
    }
    Ok(ReadOutcome {
        examples,
        skipped,
        columns,
    })
}

/// Makes an example of the cells of the text, the second text if there is one, and the label if there is one.
fn to_example(
    cells: Vec<Cell>,
    columns: &ResolvedColumns,
    require_label: bool,
    place: Place,
) -> Result<Example, BadReason> {
    let mut cells = cells.into_iter();
    let mut next = || cells.next().unwrap_or(Cell::Missing);
    let text = text_of(next(), &columns.text)?;
    let text_pair = columns
        .text_pair
        .as_ref()
        .map(|column| text_of(next(), column))
        .transpose()?;
    let label = match &columns.label {
        Some(column) => {
            let label = label_of(next(), column)?;
            if require_label && label.is_none() {
                return Err(BadReason::MissingLabel {
                    column: column.name.clone(),
                });
            }
            label
        }
        None => None,
    };
    Ok(Example {
        text,
        text_pair,
        label,
        place,
    })
}

fn text_of(cell: Cell, column: &ResolvedColumn) -> Result<String, BadReason> {
    let column = column.name.clone();
    match cell {
        Cell::Text(text) if !text.trim().is_empty() => Ok(text),
        Cell::Text(_) => Err(BadReason::EmptyText { column }),
        Cell::Missing => Err(BadReason::MissingField { column }),
        other => Err(BadReason::WrongType {
            column,
            expected: "a string",
            found: other.to_string(),
        }),
    }
}

fn label_of(cell: Cell, column: &ResolvedColumn) -> Result<Option<RawLabel>, BadReason> {
    match cell {
        Cell::Text(label) if label.trim().is_empty() => Ok(None),
        Cell::Text(label) => Ok(Some(RawLabel::from(label.as_str()))),
        Cell::Int(label) => Ok(Some(RawLabel::from(label.to_string().as_str()))),
        Cell::Bool(label) => Ok(Some(RawLabel::from(if label { "true" } else { "false" }))),
        Cell::Missing => Ok(None),
        Cell::Other(found) => Err(BadReason::WrongType {
            column: column.name.clone(),
            expected: "a string, an integer or a boolean",
            found: found.to_owned(),
        }),
    }
}

/// One value of a row.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Cell {
    /// No value: a JSON field that is absent or null, a Parquet null.
    Missing,
    Text(String),
    Int(i64),
    Bool(bool),
    /// Something that is neither text nor label, in words.
    Other(&'static str),
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => f.write_str("nothing"),
            Self::Text(text) => f.write_str(text),
            Self::Int(number) => write!(f, "the number {number}"),
            Self::Bool(value) => write!(f, "the boolean {value}"),
            Self::Other(what) => f.write_str(what),
        }
    }
}

/// A row: its place, and the wanted cells or what is wrong with it.
pub(crate) struct Row {
    pub line: u64,
    pub cells: Result<Vec<Cell>, BadReason>,
}

/// A file with columns and rows.
pub(crate) trait Table {
    fn format(&self) -> Format;

    /// Names of all columns; numbers where there is no header.
    fn columns(&self) -> &[String];

    fn has_header(&self) -> bool {
        true
    }

    /// Whether the column can serve at all, where the schema tells.
    fn check(&self, _index: usize, _role: Role) -> Result<(), DataError> {
        Ok(())
    }

    /// The rows in file order, each with the cells of the columns `wanted`, in that order. An error ends the file.
    fn rows<'a>(
        &'a self,
        wanted: &[usize],
    ) -> Box<dyn Iterator<Item = Result<Row, DataError>> + 'a>;
}

/// A file's bytes, or the open file for Parquet.
enum Source {
    Bytes(Format, Vec<u8>),
    File(fs::File),
}

impl Source {
    fn load(path: &Path, options: &ReadOptions) -> Result<Self, DataError> {
        let io = |source| DataError::Io {
            path: path.to_owned(),
            source,
        };
        let metadata = match fs::metadata(path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(no_such_file(path));
            }
            other => other.map_err(io)?,
        };
        if metadata.is_dir() {
            return Err(DataError::IsDirectory {
                path: path.to_owned(),
            });
        }
        let format = options
            .format
            .or_else(|| Format::from_path(path))
            .ok_or_else(|| DataError::UnknownFormat {
                path: path.to_owned(),
            })?;
        if metadata.len() == 0 {
            return Err(DataError::EmptyFile {
                path: path.to_owned(),
            });
        }
        if format == Format::Parquet {
            return Ok(Self::File(fs::File::open(path).map_err(io)?));
        }
        let bytes = fs::read(path).map_err(io)?;
        if bytes.iter().all(u8::is_ascii_whitespace) {
            return Err(DataError::EmptyFile {
                path: path.to_owned(),
            });
        }
        if bytes.starts_with(&[0xFF, 0xFE]) || bytes.starts_with(&[0xFE, 0xFF]) {
            return Err(DataError::Encoding {
                path: path.to_owned(),
                found: "UTF-16",
            });
        }
        Ok(Self::Bytes(format, bytes))
    }

    fn table<'a>(
        &'a self,
        path: &Path,
        options: &ReadOptions,
    ) -> Result<Box<dyn Table + 'a>, DataError> {
        match self {
            Self::Bytes(Format::Jsonl, bytes) => {
                Ok(Box::new(jsonl::Jsonl::open(path, without_bom(bytes))?))
            }
            Self::Bytes(format, bytes) => Ok(Box::new(delimited::Delimited::open(
                path,
                *format,
                without_bom(bytes),
                options,
            )?)),
            Self::File(file) => Ok(Box::new(parquet::Parquet::open(path, file)?)),
        }
    }
}

fn without_bom(bytes: &[u8]) -> &[u8] {
    bytes.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(bytes)
}

fn no_such_file(path: &Path) -> DataError {
    let name = path
        .file_name()
        .map_or(Cow::Borrowed(""), |name| name.to_string_lossy());
    let folder = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    let siblings: Vec<String> = fs::read_dir(folder)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    DataError::NoSuchFile {
        path: path.to_owned(),
        near: near_misses(&name, siblings.iter().map(String::as_str)),
    }
}

/// Text of a line, or where it stops being UTF-8: `(line, reason)`. `line` is that of the first byte.
fn utf8(bytes: &[u8], line: u64) -> Result<&str, (u64, BadReason)> {
    std::str::from_utf8(bytes).map_err(|error| {
        let good = &bytes[..error.valid_up_to()];
        let line_start = good
            .iter()
            .rposition(|&byte| byte == b'\n')
            .map_or(0, |at| at + 1);
        let line = line + good.iter().filter(|&&byte| byte == b'\n').count() as u64;
        let column = (good.len() - line_start) as u64 + 1;
        (
            line,
            BadReason::Utf8 {
                column,
                byte: bytes[error.valid_up_to()],
            },
        )
    })
}

#[cfg(test)]
mod tests;
