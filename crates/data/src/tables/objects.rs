//! The rows of a file as JSON objects with all their keys, for readers that tell by the keys what a row is.

use std::path::Path;

use serde_json::{Map, Value};

use super::{Cell, Format, ReadOptions, Row, Source, jsonl, parquet, without_bom};
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
    match &source {
        Source::Bytes(Format::Jsonl, bytes) => {
            let bytes = without_bom(bytes);
            if bytes.trim_ascii_start().starts_with(b"[") {
                for element in elements(bytes) {
                    let (line, row) = match element {
                        Ok(element) => jsonl::parse(element),
                        Err((line, reason)) => (line, Err(reason)),
                    };
                    each(line, row)?;
                }
            } else {
                for (line, row) in jsonl::lines(bytes).map(jsonl::parse) {
                    each(line, row)?;
                }
            }
        }
        Source::Bytes(..) => {
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
        Source::File(file) => {
            for row in parquet::Parquet::open(path, file)?.objects() {
                let (line, row) = row?;
                each(line, Ok(row))?;
            }
        }
    }
    Ok(())
}

/// An element of a JSON array: the line on which it starts, and its bytes; or what is wrong with the array.
type Element<'a> = Result<(u64, &'a [u8]), (u64, BadReason)>;

/// The elements of a JSON array, cut apart at the commas between them. Whether they are JSON is not looked at.
fn elements(bytes: &[u8]) -> Vec<Element<'_>> {
    let mut found = Vec::new();
    let mut line = 1;
    let mut depth = 0usize;
    let mut in_string = false;
    let mut escaped = false;
    // Start of the element and its line, once there is a byte of it.
    let mut start: Option<(usize, u64)> = None;
    for (at, &byte) in bytes.iter().enumerate() {
        line += u64::from(byte == b'\n');
        if in_string {
            in_string = escaped || byte != b'"';
            escaped = !escaped && byte == b'\\';
            continue;
        }
        let ends = depth == 1 && matches!(byte, b',' | b']');
        if ends && let Some((from, line)) = start.take() {
            found.push(Ok((line, bytes[from..at].trim_ascii_end())));
        }
        if depth == 0 && !found.is_empty() && !byte.is_ascii_whitespace() {
            // Behind the end.
            break;
        }
        if depth == 1 && !ends && start.is_none() && !byte.is_ascii_whitespace() {
            start = Some((at, line));
        }
        match byte {
            b'"' => in_string = true,
            b'[' | b'{' => depth += 1,
            b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    if depth > 0 {
        let line = start.map_or(line, |(_, line)| line);
        found.push(Err((line, BadReason::UnclosedArray)));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(text: &str) -> Vec<(u64, &str)> {
        elements(text.as_bytes())
            .into_iter()
            .map(|element| match element {
                Ok((line, bytes)) => (line, std::str::from_utf8(bytes).unwrap_or_default()),
                Err((line, _)) => (line, "unclosed"),
            })
            .collect()
    }

    #[test]
    fn arrays_are_cut_at_their_own_commas() {
        assert_eq!(
            cut("[ {\"a\": [1, 2]},\n\n {\"b\": \"x,]\\\"\\\\\"}\n]\n"),
            [(1, "{\"a\": [1, 2]}"), (3, "{\"b\": \"x,]\\\"\\\\\"}")]
        );
        assert_eq!(cut("[]"), []);
        assert_eq!(
            cut("[{\"a\": 1},\n{\"b\""),
            [(1, "{\"a\": 1}"), (2, "unclosed")]
        );
    }
}
