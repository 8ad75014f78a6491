//! JSON lines: one object on each line, blank lines passed over.

use std::path::Path;

use serde_json::{Map, Value};

use super::{Cell, Format, Row, Table, utf8};
use crate::{BadReason, DataError, Place};

/// Lines looked at for field names.
const SAMPLE: usize = 100;

pub(super) struct Jsonl<'a> {
    bytes: &'a [u8],
    columns: Vec<String>,
}

impl<'a> Jsonl<'a> {
    pub fn open(path: &Path, bytes: &'a [u8]) -> Result<Self, DataError> {
        if bytes.trim_ascii_start().starts_with(b"[") {
            return Err(DataError::JsonArray {
                path: path.to_owned(),
            });
        }
        let mut columns: Vec<String> = Vec::new();
        let mut first_bad = None;
        for (line, object) in lines(bytes).map(parse).take(SAMPLE) {
            match object {
                Ok(object) => {
                    let new: Vec<String> = object
                        .into_iter()
                        .map(|(name, _)| name)
                        .filter(|name| !columns.contains(name))
                        .collect();
                    columns.extend(new);
                }
                Err(reason) if first_bad.is_none() => first_bad = Some((line, reason)),
                Err(_) => {}
            }
        }
        match first_bad {
            Some((line, reason)) if columns.is_empty() => Err(DataError::BadFirstRow {
                place: Place {
                    path: path.into(),
                    line,
                },
                reason,
            }),
            _ => Ok(Self { bytes, columns }),
        }
    }
}

impl Table for Jsonl<'_> {
    fn format(&self) -> Format {
        Format::Jsonl
    }

    fn columns(&self) -> &[String] {
        &self.columns
    }

    fn rows<'a>(
        &'a self,
        wanted: &[usize],
    ) -> Box<dyn Iterator<Item = Result<Row, DataError>> + 'a> {
        let wanted: Vec<&str> = wanted
            .iter()
            .map(|&index| self.columns[index].as_str())
            .collect();
        Box::new(lines(self.bytes).map(parse).map(move |(line, object)| {
            let cells = object.map(|mut object| {
                wanted
                    .iter()
                    .map(|&name| {
                        object
                            .get_mut(name)
                            .map_or(Cell::Missing, |value| cell(value.take()))
                    })
                    .collect()
            });
            Ok(Row { line, cells })
        }))
    }
}

/// The lines that are not blank, with their numbers.
pub(super) fn lines(bytes: &[u8]) -> impl Iterator<Item = (u64, &[u8])> {
    (1..)
        .zip(bytes.split(|&byte| byte == b'\n'))
        .filter(|(_, line)| !line.trim_ascii().is_empty())
}

pub(super) fn parse((line, bytes): (u64, &[u8])) -> (u64, Result<Map<String, Value>, BadReason>) {
    let object = utf8(bytes, line)
        .map_err(|(_, reason)| reason)
        .and_then(|text| {
            match serde_json::from_str(text) {
                Ok(Value::Object(object)) => Ok(object),
                Ok(other) => Err(BadReason::NotAnObject {
                    found: kind(&other),
                }),
                Err(error) => {
                    // The parser's message ends with its own line and column; the line is always 1 here.
                    let message = error.to_string();
                    let message = message
                        .split(" at line ")
                        .next()
                        .unwrap_or_default()
                        .to_owned();
                    Err(BadReason::Json {
                        column: error.column() as u64,
                        message,
                    })
                }
            }
        });
    (line, object)
}

fn cell(value: Value) -> Cell {
    match value {
        Value::Null => Cell::Missing,
        Value::String(text) => Cell::Text(text),
        Value::Bool(value) => Cell::Bool(value),
        Value::Number(number) => match (number.as_i64(), number.as_f64()) {
            (Some(integer), _) => Cell::Int(integer),
            // An id above 2^63 keeps its digits.
            (None, _) if number.is_u64() => Cell::Text(number.to_string()),
            (None, Some(real)) => Cell::Real(real),
            (None, None) => Cell::Other("a number that is no 64-bit float"),
        },
        Value::Array(values) => values
            .into_iter()
            .map(|value| cell(value).element())
            .collect::<Option<Vec<_>>>()
            .map_or(
                Cell::Other("an array of arrays, objects or nulls"),
                Cell::List,
            ),
        other => Cell::Other(kind(&other)),
    }
}

/// What a value is, for messages.
pub(crate) fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}
