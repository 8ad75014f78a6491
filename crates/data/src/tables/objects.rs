//! The rows of a file as JSON objects with all their keys, for readers that tell by the keys what a row is.

use std::fs;
use std::io::Read;
use std::path::Path;

use serde_json::{Map, Value};

use super::source::{self, Content, Source, read_text};
use super::{Cell, Format, ReadOptions, Row, jsonl, normal, parquet};
use crate::{BadReason, DataError};

/// Calls `each` with every row of a file: its line, and its keys and values or what is wrong with it.
///
/// A JSON file may hold one object on each line, or one array of them. Cells of CSV and TSV are text; blank ones are
/// left out.
///
/// # Errors
/// Those of opening the file, and the first of `each`.
pub(crate) fn each_object(
    path: &Path,
    each: impl FnMut(u64, Result<Map<String, Value>, BadReason>) -> Result<(), DataError>,
) -> Result<(), DataError> {
    each_object_by(path, &ReadOptions::default(), each)
}

/// The same by options of format, delimiter, quotes and size.
///
/// # Errors
/// As [`each_object`].
pub(crate) fn each_object_by(
    path: &Path,
    options: &ReadOptions,
    mut each: impl FnMut(u64, Result<Map<String, Value>, BadReason>) -> Result<(), DataError>,
) -> Result<(), DataError> {
    // What a row is shows in the names of its columns: there must be some.
    let options = ReadOptions {
        header: Some(true),
        ..options.clone()
    };
    let source = Source::load(path, &options)?;
    match &source.content {
        Content::Bytes(bytes) if source.format == Format::Jsonl => {
            each_json(bytes, each)?;
        }
        Content::Bytes(_) => {
            let table = source.table(path, &options)?;
            check_unique(path, table.columns())?;
            let all: Vec<usize> = (0..table.columns().len()).collect();
            for row in table.rows(&all) {
                let Row { line, cells } = row?;
                let row = cells.map(|cells| {
                    let named = table.columns().iter().cloned().zip(cells);
                    // A blank field is there, without a value.
                    let value = |cell| match cell {
                        Cell::Text(text) if !text.trim().is_empty() => Value::String(text),
                        _ => Value::Null,
                    };
                    named.map(|(name, cell)| (name, value(cell))).collect()
                });
                each(line, row)?;
            }
        }
        Content::File(file) => {
            for row in parquet::Parquet::open(path, file, &options)?.objects() {
                let (line, row) = row?;
                each(line, Ok(row))?;
            }
        }
    }
    Ok(())
}

/// A row has one value for each of its keys, in whatever case they are written.
fn check_unique(path: &Path, names: &[String]) -> Result<(), DataError> {
    let places = |name: &String| -> Vec<String> {
        let same = names.iter().enumerate();
        let same = same.filter(|(_, other)| normal(other) == normal(name));
        same.map(|(place, _)| place.to_string()).collect()
    };
    let named = names.iter().filter(|name| !name.trim().is_empty());
    match named
        .map(|name| (name, places(name)))
        .find(|(_, places)| places.len() > 1)
    {
        None => Ok(()),
        Some((name, places)) => Err(DataError::RepeatedColumn {
            path: path.to_owned(),
            name: name.clone(),
            places,
        }),
    }
}

/// Calls `each` with every row of a JSON text: its line, and the object or what is wrong with it.
///
/// # Errors
/// The first of `each`.
pub(crate) fn each_json(
    bytes: &[u8],
    mut each: impl FnMut(u64, Result<Map<String, Value>, BadReason>) -> Result<(), DataError>,
) -> Result<(), DataError> {
    for (line, record) in jsonl::records(bytes) {
        each(line, record.and_then(|bytes| jsonl::parse(bytes, line)))?;
    }
    Ok(())
}

/// A file that may be a table or text of another kind.
pub(crate) enum Opened {
    /// A Parquet file.
    Parquet,
    /// Text, unpacked and as UTF-8 as far as it is text at all.
    Text(Vec<u8>),
}

/// Opens a file of which only the content says what it is, once: it may be a pipe.
///
/// # Errors
/// [`DataError::NoSuchFile`], [`DataError::IsDirectory`], [`DataError::EmptyFile`] and those of
/// [`read_text`](super::read_text).
pub(crate) fn open(path: &Path) -> Result<Opened, DataError> {
    let io = |source| DataError::Io {
        path: path.to_owned(),
        source,
    };
    let metadata = source::metadata(path)?;
    if metadata.is_file() {
        let mut first = Vec::new();
        let file = fs::File::open(path).map_err(io)?;
        file.take(source::PARQUET.len() as u64)
            .read_to_end(&mut first)
            .map_err(io)?;
        if first == source::PARQUET {
            return Ok(Opened::Parquet);
        }
    }
    let bytes = read_text(path)?;
    match bytes.iter().all(u8::is_ascii_whitespace) {
        true => Err(DataError::EmptyFile {
            path: path.to_owned(),
        }),
        false => Ok(Opened::Text(bytes)),
    }
}

/// Whether a text begins as objects of JSON do, or an array of them.
pub(crate) fn looks_like_json(bytes: &[u8]) -> bool {
    let start = bytes.trim_ascii_start();
    match start {
        [b'{', rest @ ..] => rest.trim_ascii_start().starts_with(b"\""),
        [b'[', rest @ ..] => rest.trim_ascii_start().starts_with(b"{"),
        _ => false,
    }
}
