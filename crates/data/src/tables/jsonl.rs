//! JSON: one object on each line, blank lines passed over; objects over several lines, one after the other; or one array of
//! objects. An array inside of a single object is named, not read.

use std::collections::HashSet;
use std::fmt;
use std::path::Path;

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::{Map, Value};

use super::{Cell, Format, MOST_COLUMNS, Row, Table, utf8};
use crate::{BadReason, DataError, Place};

pub(super) struct Jsonl<'a> {
    bytes: &'a [u8],
    columns: Vec<String>,
}

impl<'a> Jsonl<'a> {
    /// Every row is looked at for field names: a field that only late rows have is a column too.
    pub fn open(path: &Path, bytes: &'a [u8]) -> Result<Self, DataError> {
        if let Some((name, way)) = wrapped(bytes) {
            return Err(DataError::WrongKind {
                path: path.to_owned(),
                expected: "rows",
                found: format!("one object, whose `{name}` holds them"),
                hint: way,
            });
        }
        let mut columns: Vec<String> = Vec::new();
        let mut seen: HashSet<String> = HashSet::new();
        let mut first_bad = None;
        for (line, record) in records(bytes) {
            let names = record.and_then(|bytes| match serde_json::from_slice::<Names>(bytes) {
                Ok(names) => Ok(names.0),
                Err(_) => parse(bytes, line)
                    .map(|object| object.into_iter().map(|(name, _)| name).collect()),
            });
            match names {
                Ok(names) => {
                    for name in names {
                        if !seen.contains(&name) {
                            seen.insert(name.clone());
                            columns.push(name);
                        }
                    }
                    if columns.len() > MOST_COLUMNS {
                        return Err(DataError::TooManyColumns {
                            path: path.to_owned(),
                            columns: columns.len(),
                            most: MOST_COLUMNS,
                            hint: "the names of fields are those of the columns: put what differs from row to row into values",
                        });
                    }
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

/// The names of an object's fields, whatever their values.
struct Names(Vec<String>);

impl<'de> Deserialize<'de> for Names {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Fields;
        impl<'de> Visitor<'de> for Fields {
            type Value = Names;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Names, M::Error> {
                let mut names = Vec::new();
                while let Some((name, IgnoredAny)) = map.next_entry()? {
                    names.push(name);
                }
                Ok(Names(names))
            }
        }
        from.deserialize_map(Fields)
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
        Box::new(records(self.bytes).map(move |(line, record)| {
            let object = record.and_then(|bytes| parse(bytes, line));
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

/// A row's first line, and its bytes or what is wrong with it.
pub(super) type Record<'a> = (u64, Result<&'a [u8], BadReason>);

/// The rows: the elements of an array, or the lines that are not blank.
pub(super) fn records(bytes: &[u8]) -> Box<dyn Iterator<Item = Record<'_>> + '_> {
    if bytes.trim_ascii_start().starts_with(b"[") {
        return Box::new(elements(bytes).into_iter());
    }
    if goes_over_lines(bytes) {
        return Box::new(objects(bytes).into_iter());
    }
    let lines = (1..).zip(bytes.split(|&byte| byte == b'\n'));
    Box::new(
        lines
            .filter(|(_, line)| !line.trim_ascii().is_empty())
            .map(|(line, bytes)| (line, Ok(bytes))),
    )
}

/// Whether the first line begins an object that it does not end, and which ends.
fn goes_over_lines(bytes: &[u8]) -> bool {
    let start = bytes.trim_ascii_start();
    let line = start
        .split(|&byte| byte == b'\n')
        .next()
        .unwrap_or_default();
    let mut objects = serde_json::Deserializer::from_slice(start).into_iter::<IgnoredAny>();
    start.starts_with(b"{") && is_cut_off(line) && matches!(objects.next(), Some(Ok(_)))
}

/// Objects that stand one after the other. What is none goes to the end of its line.
fn objects(bytes: &[u8]) -> Vec<Record<'_>> {
    let mut found = Vec::new();
    let (mut at, mut line) = (0, 1);
    let line_ends = |bytes: &[u8]| bytes.iter().filter(|&&byte| byte == b'\n').count() as u64;
    loop {
        let rest = &bytes[at..];
        let blank = rest.len() - rest.trim_ascii_start().len();
        line += line_ends(&rest[..blank]);
        at += blank;
        let rest = &bytes[at..];
        if rest.is_empty() {
            return found;
        }
        let mut values = serde_json::Deserializer::from_slice(rest).into_iter::<IgnoredAny>();
        let end = match values.next() {
            Some(Ok(_)) => values.byte_offset(),
            _ => rest
                .iter()
                .position(|&byte| byte == b'\n')
                .unwrap_or(rest.len()),
        };
        found.push((line, Ok(&rest[..end])));
        line += line_ends(&rest[..end]);
        at += end;
    }
}

/// The rows inside of a file that is one object around them: the name of their array, and how `jq` takes it out.
fn wrapped(bytes: &[u8]) -> Option<(String, String)> {
    const OWN: [&str; 4] = ["text", "messages", "conversations", "prompt"];
    let mut all = records(bytes);
    let (Some((line, Ok(only))), None) = (all.next(), all.next()) else {
        return None;
    };
    let object = parse(only, line).ok()?;
    if OWN.iter().any(|name| object.contains_key(*name)) {
        return None;
    }
    let rows = |value: &Value| match value {
        Value::Array(rows) if rows.iter().all(Value::is_object) => rows.len(),
        _ => 0,
    };
    let train = object
        .get_key_value("train")
        .filter(|(_, value)| rows(value) > 0);
    let (name, value) = train.or_else(|| object.iter().max_by_key(|(_, value)| rows(value)))?;
    let inner = match value.get(0).and_then(|row| row.get("row")) {
        Some(Value::Object(_)) => "[].row",
        _ => "[]",
    };
    (rows(value) > 1).then(|| {
        (
            name.clone(),
            format!("jq -c '.{name}{inner}' FILE > rows.jsonl"),
        )
    })
}

/// The object in the bytes of a row that begins at `line`.
///
/// `NaN` is read as null and `Infinity` as the text of that name: JSON has neither, but Python's `json.dumps` writes them.
pub(super) fn parse(bytes: &[u8], line: u64) -> Result<Map<String, Value>, BadReason> {
    let text = utf8(bytes, line).map_err(|(_, reason)| reason)?;
    let error = match serde_json::from_str(text) {
        Ok(Value::Object(object)) => return Ok(object),
        Ok(other) => {
            return Err(BadReason::NotAnObject {
                found: kind(&other),
            });
        }
        Err(error) => error,
    };
    if let Some(standard) = without_nan(text)
        && let Ok(Value::Object(object)) = serde_json::from_str(&standard)
    {
        return Ok(object);
    }
    Err(bad_json(&error))
}

/// What the parser says, without the line and column at the end of its message.
pub(crate) fn bad_json(error: &serde_json::Error) -> BadReason {
    let message = error.to_string();
    let message = message.split(" at line ").next().unwrap_or_default();
    BadReason::Json {
        column: error.column() as u64,
        message: message.to_owned(),
    }
}

/// Whether a JSON text ends before its value does.
pub(crate) fn is_cut_off(bytes: &[u8]) -> bool {
    serde_json::from_slice::<IgnoredAny>(bytes).is_err_and(|error| error.is_eof())
}

/// The text with `NaN` and `Infinity` outside of strings replaced by what JSON has; none where there are none.
fn without_nan(text: &str) -> Option<String> {
    const WORDS: [(&str, &str); 3] = [
        ("NaN", "null"),
        ("-Infinity", "\"-Infinity\""),
        ("Infinity", "\"Infinity\""),
    ];
    let mut standard = String::with_capacity(text.len());
    let (mut in_string, mut escaped, mut any) = (false, false, false);
    let mut rest = text;
    while let Some(character) = rest.chars().next() {
        let word = WORDS
            .iter()
            .find(|(word, _)| !in_string && rest.starts_with(word));
        if let Some((word, instead)) = word {
            standard.push_str(instead);
            rest = &rest[word.len()..];
            any = true;
            continue;
        }
        in_string ^= character == '"' && !escaped;
        escaped = in_string && character == '\\' && !escaped;
        standard.push(character);
        rest = &rest[character.len_utf8()..];
    }
    any.then_some(standard)
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

/// The elements of a JSON array, cut apart at the commas between them. Whether they are JSON is not looked at.
fn elements(bytes: &[u8]) -> Vec<Record<'_>> {
    let mut found = Vec::new();
    let mut line = 1;
    let mut depth = 0usize;
    let mut closed = false;
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
            found.push((line, Ok(bytes[from..at].trim_ascii_end())));
        }
        if depth == 0 && closed && !byte.is_ascii_whitespace() {
            found.push((line, Err(BadReason::BehindArray)));
            return found;
        }
        if depth == 1 && !ends && start.is_none() && !byte.is_ascii_whitespace() {
            start = Some((at, line));
        }
        match byte {
            b'"' => in_string = true,
            b'[' | b'{' => depth += 1,
            b']' | b'}' => {
                depth = depth.saturating_sub(1);
                closed |= depth == 0;
            }
            _ => {}
        }
    }
    if depth > 0 {
        let line = start.map_or(line, |(_, line)| line);
        found.push((line, Err(BadReason::UnclosedArray)));
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
                (line, Ok(bytes)) => (line, std::str::from_utf8(bytes).unwrap_or_default()),
                (line, Err(BadReason::BehindArray)) => (line, "behind"),
                (line, Err(_)) => (line, "unclosed"),
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
        assert_eq!(cut("[1]\n[2]"), [(1, "1"), (2, "behind")]);
        assert_eq!(cut("[]]"), [(1, "behind")]);
        assert_eq!(
            cut("[{\"a\": 1},\n{\"b\""),
            [(1, "{\"a\": 1}"), (2, "unclosed")]
        );
    }

    #[test]
    fn objects_may_go_over_lines() {
        let text = "{\n \"a\": 1\n}\n\n{\"a\": {\n}} {\"a\": 3}\nodd\n{\"a\": 4}";
        let found: Vec<_> = records(text.as_bytes())
            .map(|(line, bytes)| {
                (
                    line,
                    bytes.map(|bytes| String::from_utf8_lossy(bytes).into_owned()),
                )
            })
            .collect();
        let expect = [
            (1, "{\n \"a\": 1\n}"),
            (5, "{\"a\": {\n}}"),
            (6, "{\"a\": 3}"),
            (7, "odd"),
            (8, "{\"a\": 4}"),
        ];
        assert_eq!(
            found,
            expect.map(|(line, text)| (line, Ok(text.to_owned())))
        );
        // A cut-off line is one bad row.
        let cut = b"{\"a\": 1\n{\"a\": 2}\n";
        assert_eq!(records(cut).count(), 2);
    }

    #[test]
    fn rows_inside_of_one_object_are_named() {
        for (text, expect) in [
            (r#"{"data": [{"a": 1}, {"a": 2}], "n": 2}"#, Some(".data[]")),
            (
                r#"{"rows": [{"row": {"a": 1}}, {"row": {"a": 2}}]}"#,
                Some(".rows[].row"),
            ),
            (
                r#"{"test": [{}, {}, {}], "train": [{}, {}]}"#,
                Some(".train[]"),
            ),
            (r#"{"text": "x", "spans": [{}, {}]}"#, None),
            ("{\"data\": [{}, {}]}\n{\"data\": [{}, {}]}", None),
        ] {
            let way = wrapped(text.as_bytes()).map(|(_, way)| way);
            let expect = expect.map(|inner| format!("jq -c '{inner}' FILE > rows.jsonl"));
            assert_eq!(way, expect, "{text}");
        }
    }

    #[test]
    fn words_that_python_writes_are_replaced_outside_of_strings_only() {
        for (text, expect) in [
            (
                r#"{"a": NaN, "b": "NaN"}"#,
                Some(r#"{"a": null, "b": "NaN"}"#),
            ),
            (
                r#"{"a": [-Infinity, Infinity]}"#,
                Some(r#"{"a": ["-Infinity", "Infinity"]}"#),
            ),
            (
                r#"{"a\"NaN": "\\", "b": NaN}"#,
                Some(r#"{"a\"NaN": "\\", "b": null}"#),
            ),
            (r#"{"a": "NaN"}"#, None),
        ] {
            assert_eq!(without_nan(text).as_deref(), expect, "{text}");
        }
    }
}
