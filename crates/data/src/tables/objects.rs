//! The rows of a file as JSON objects with all their keys, for readers that tell by the keys what a row is.

use std::path::Path;

use serde_json::{Map, Value};

use super::source::{Content, Source};
use super::{Cell, Format, ReadOptions, Row, jsonl, parquet};
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
    mut each: impl FnMut(u64, Result<Map<String, Value>, BadReason>) -> Result<(), DataError>,
) -> Result<(), DataError> {
    // What a row is shows in the names of its columns: there must be some.
    let options = ReadOptions {
        header: Some(true),
        ..ReadOptions::default()
    };
    let source = Source::load(path, &options)?;
    match &source.content {
        Content::Bytes(bytes) if source.format == Format::Jsonl => {
            for (line, record) in jsonl::records(bytes) {
                each(line, record.and_then(|bytes| jsonl::parse(bytes, line)))?;
            }
        }
        Content::Bytes(_) => {
            let table = source.table(path, &options)?;
            let all: Vec<usize> = (0..table.columns().len()).collect();
            for row in table.rows(&all) {
                let Row { line, cells } = row?;
                let row = cells.map(|cells| {
                    let named = table.columns().iter().cloned().zip(cells);
                    named
                        .filter_map(|(name, cell)| match cell {
                            Cell::Text(text) if !text.trim().is_empty() => {
                                Some((name, Value::String(text)))
                            }
                            _ => None,
                        })
                        .collect()
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
