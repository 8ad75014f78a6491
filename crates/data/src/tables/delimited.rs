//! CSV and TSV.
//!
//! A splitter of our own rather than the `csv` crate's, for three things a training file needs: every row knows the
//! physical line it starts at (blank lines and line ends inside quotes counted), an unclosed quote is an error at its
//! line instead of swallowing the rest of the file, and nothing is copied but the cells asked for.
//!
//! Rules: lines end with LF or CRLF; blank lines are passed over; with quoting on, a field that starts with `"` runs
//! to the closing quote, `""` stands for one quote; a quote elsewhere in a field is an ordinary character. Spaces and tabs
//! between a delimiter and a quoted field are no part of it. A row that repeats the header is passed over.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::ops::Range;
use std::path::Path;

use super::dialect::{
    bare, guess_delimiter, is_header, is_same_row, named_delimiter, quoting, why_one_column,
};
use super::{Cell, Format, MOST_COLUMNS, ReadOptions, Row, Table, utf8};
use crate::{BadReason, DataError, Place};

/// Rows looked at for why a file has one column.
const SAMPLE: usize = 1000;

pub(super) struct Delimited<'a> {
    format: Format,
    records: Records<'a>,
    columns: Vec<String>,
    header: bool,
    notes: Vec<String>,
    /// Lines that repeat the header, as far as the rows were read.
    repeated: RefCell<BTreeSet<u64>>,
}

impl<'a> Delimited<'a> {
    pub fn open(
        path: &Path,
        format: Format,
        bytes: &'a [u8],
        options: &ReadOptions,
    ) -> Result<Self, DataError> {
        let mut notes = Vec::new();
        let (named, start) = match named_delimiter(bytes) {
            Some((delimiter, start)) => {
                notes.push("the first line names the delimiter and is no row".to_owned());
                (Some(delimiter), start)
            }
            None => (None, 0),
        };
        let delimiter = match options.delimiter.or(named) {
            Some(delimiter) if !delimiter.is_ascii() || b"\"\r\n".contains(&delimiter) => {
                return Err(DataError::BadDelimiter { delimiter });
            }
            Some(delimiter) => delimiter,
            None if format == Format::Tsv => b'\t',
            None => guess_delimiter(bytes, options.quoting.unwrap_or(true)),
        };
        let quoting = quoting(format, delimiter, &bytes[start..], options);
        if quoting && options.quoting.is_none() && format == Format::Tsv {
            notes.push(
                "its fields stand in quotes, which are taken off; --set data.quoting=false keeps them"
                    .to_owned(),
            );
        }
        let records = Records {
            at: start,
            line: 1 + u64::from(start > 0),
            ..Records::new(bytes, delimiter, quoting)
        };

        let mut below = records.clone();
        let first = below.next().ok_or_else(|| DataError::EmptyFile {
            path: path.to_owned(),
        })?;
        // Without a first row there is no number of columns, so a bad one is an error even when bad rows are skipped.
        let first = first.map_err(|(line, reason)| DataError::BadFirstRow {
            place: Place {
                path: path.into(),
                line,
            },
            reason,
        })?;
        if first.fields.len() > MOST_COLUMNS {
            return Err(DataError::TooManyColumns {
                path: path.to_owned(),
                columns: first.fields.len(),
                most: MOST_COLUMNS,
                hint: "keep the text and the labels only; or name the delimiter: --set data.delimiter",
            });
        }
        let first_row = first.all();
        let rows_below = below.clone().filter_map(|record| Some(record.ok()?.all()));
        let header = match options.header {
            Some(header) => header,
            None if options.usual.is_header(&first_row) => true,
            None => match is_header(path, options, &first_row, rows_below) {
                Err(DataError::HeaderUnclear { .. }) if options.usual.is_numbered() => false,
                Err(DataError::HeaderUnclear {
                    path, first_row, ..
                }) if first_row.len() == 1 => {
                    let rows = records
                        .clone()
                        .filter_map(|row| Some(row.ok()?.text.trim_end()));
                    return Err(DataError::HeaderUnclear {
                        hint: why_one_column(&rows.take(SAMPLE).collect::<Vec<_>>()),
                        path,
                        first_row,
                    });
                }
                told => told?,
            },
        };
        let (columns, records) = if header {
            let names = first_row.iter().map(|name| name.trim().to_owned());
            (names.collect(), below)
        } else {
            (
                (0..first_row.len())
                    .map(|index| index.to_string())
                    .collect(),
                records,
            )
        };
        Ok(Self {
            format,
            records,
            columns,
            header,
            notes,
            repeated: RefCell::default(),
        })
    }
}

impl Table for Delimited<'_> {
    fn format(&self) -> Format {
        self.format
    }

    fn columns(&self) -> &[String] {
        &self.columns
    }

    fn has_header(&self) -> bool {
        self.header
    }

    fn only_column(&self) -> Option<String> {
        let [name] = self.columns.as_slice() else {
            return None;
        };
        let header = self.header.then_some(name.as_str());
        let rows = self
            .records
            .clone()
            .filter_map(|row| Some(row.ok()?.text.trim_end()));
        why_one_column(
            &header
                .into_iter()
                .chain(rows.take(SAMPLE))
                .collect::<Vec<_>>(),
        )
    }

    fn notes(&self) -> Vec<String> {
        const NAMED: usize = 5;
        let mut notes = self.notes.clone();
        let repeated = self.repeated.borrow();
        let lines: Vec<String> = repeated.iter().take(NAMED).map(u64::to_string).collect();
        if !lines.is_empty() {
            let more = match repeated.len() - lines.len() {
                0 => String::new(),
                more => format!(" and {more} more"),
            };
            notes.push(format!(
                "the header comes again and is no example there: line {}{more}",
                lines.join(", ")
            ));
        }
        notes
    }

    fn rows<'a>(
        &'a self,
        wanted: &[usize],
    ) -> Box<dyn Iterator<Item = Result<Row, DataError>> + 'a> {
        let wanted = wanted.to_vec();
        let expected = self.columns.len();
        let names: Vec<&str> = self.columns.iter().map(String::as_str).collect();
        let first_name = names.first().map(|name| bare(name)).unwrap_or_default();
        // A row of one column could be a text that is the word.
        let can_repeat = self.header && names.len() > 1;
        let is_header = move |record: &Record<'_>| {
            can_repeat
                && bare(record.raw(0)) == first_name
                && is_same_row(record.all().iter().map(String::as_str), &names)
        };
        let records = self.records.clone().filter(move |record| match record {
            Ok(record) if is_header(record) => {
                self.repeated.borrow_mut().insert(record.line);
                false
            }
            _ => true,
        });
        Box::new(records.map(move |record| {
            Ok(match record {
                Err((line, reason)) => Row {
                    line,
                    cells: Err(reason),
                },
                Ok(Record { line, fields, .. }) if fields.len() != expected => Row {
                    line,
                    cells: Err(BadReason::Ragged {
                        expected,
                        found: fields.len(),
                    }),
                },
                Ok(record) => {
                    let cells = wanted
                        .iter()
                        .map(|&index| Cell::Text(record.field(index)))
                        .collect();
                    Row {
                        line: record.line,
                        cells: Ok(cells),
                    }
                }
            })
        }))
    }
}

/// A row as it is split.
pub(super) struct Record<'a> {
    line: u64,
    pub text: &'a str,
    /// Ranges of `text`, and whether doubled quotes have to be undone.
    pub fields: Vec<(Range<usize>, bool)>,
}

impl Record<'_> {
    /// A field as it is written, without quotes around it.
    fn raw(&self, index: usize) -> &str {
        &self.text[self.fields[index].0.clone()]
    }

    fn field(&self, index: usize) -> String {
        let (range, doubled) = &self.fields[index];
        let field = &self.text[range.clone()];
        let field = match doubled {
            true => field.replace("\"\"", "\""),
            false => field.to_owned(),
        };
        // As spreadsheets keep a text from being read as a number.
        match field
            .strip_prefix("=\"")
            .and_then(|field| field.strip_suffix('"'))
        {
            Some(inside) => inside.replace("\"\"", "\""),
            None => field,
        }
    }

    /// All fields.
    pub fn all(&self) -> Vec<String> {
        (0..self.fields.len())
            .map(|index| self.field(index))
            .collect()
    }
}

/// The rows of a file, split.
#[derive(Clone)]
pub(super) struct Records<'a> {
    bytes: &'a [u8],
    at: usize,
    line: u64,
    delimiter: u8,
    quoting: bool,
}

impl<'a> Iterator for Records<'a> {
    type Item = Result<Record<'a>, (u64, BadReason)>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            match &self.bytes[self.at..] {
                [] | [b'\r'] => return None,
                [b'\n', ..] => self.at += 1,
                [b'\r', b'\n', ..] => self.at += 2,
                _ => break,
            }
            self.line += 1;
        }
        let (start, line) = (self.at, self.line);
        let fields = match self.fields() {
            Ok(fields) => fields,
            Err(reason) => {
                // A stray quote may have run far ahead: go on with the next physical line.
                self.at = start
                    + find(&self.bytes[start..], |byte| byte == b'\n')
                        .map_or(self.bytes.len() - start, |n| n + 1);
                self.line = line + 1;
                return Some(Err((line, reason)));
            }
        };
        Some(utf8(&self.bytes[start..self.at], line).map(|text| Record { line, text, fields }))
    }
}

impl<'a> Records<'a> {
    pub fn new(bytes: &'a [u8], delimiter: u8, quoting: bool) -> Self {
        Self {
            bytes,
            at: 0,
            line: 1,
            delimiter,
            quoting,
        }
    }

    /// Splits one record and steps over its line end. Ranges count from the record's start.
    fn fields(&mut self) -> Result<Vec<(Range<usize>, bool)>, BadReason> {
        let start = self.at;
        let mut fields = Vec::new();
        loop {
            let (mut field, doubled, quoted) = self.field(start)?;
            let end = self.bytes.get(self.at).copied();
            if end != Some(self.delimiter) {
                if !quoted && self.bytes[field.clone()].last() == Some(&b'\r') {
                    field.end -= 1;
                }
                fields.push((field.start - start..field.end - start, doubled));
                self.at = (self.at + 1).min(self.bytes.len());
                self.line += 1;
                return Ok(fields);
            }
            fields.push((field.start - start..field.end - start, doubled));
            self.at += 1;
        }
    }

    /// The next field of the record that begins at `record`: its range, whether doubled quotes have to be undone, and
    /// whether it was quoted.
    fn field(&mut self, record: usize) -> Result<(Range<usize>, bool, bool), BadReason> {
        let start = self.at;
        let spaces = self.spaces(start);
        if self.quoting && self.bytes.get(start + spaces) == Some(&b'"') {
            self.at = start + spaces;
            match self.quoted(record) {
                Ok((field, doubled)) => return Ok((field, doubled, true)),
                // Behind spaces, what is no quoted field as a whole is text with a quote in it.
                Err(_) if spaces > 0 => self.at = start,
                Err(reason) => return Err(reason),
            }
        }
        let (field, doubled) = self.plain();
        Ok((field, doubled, false))
    }

    /// How many spaces and tabs begin there that are no delimiters.
    fn spaces(&self, at: usize) -> usize {
        let is_space = |byte: u8| matches!(byte, b' ' | b'\t') && byte != self.delimiter;
        find(&self.bytes[at..], |byte| !is_space(byte)).unwrap_or(0)
    }

    /// A field up to the next delimiter or line end.
    fn plain(&mut self) -> (Range<usize>, bool) {
        let rest = &self.bytes[self.at..];
        let field = self.at
            ..self.at
                + find(rest, |byte| byte == self.delimiter || byte == b'\n').unwrap_or(rest.len());
        self.at = field.end;
        (field, false)
    }

    /// A field in quotes; leaves `at` on the delimiter or line feed behind it, or at the end.
    fn quoted(&mut self, record: usize) -> Result<(Range<usize>, bool), BadReason> {
        let open = self.at;
        let column_of = |at: usize| {
            let line_start = self.bytes[record..at]
                .iter()
                .rposition(|&byte| byte == b'\n')
                .map_or(record, |n| record + n + 1);
            (at - line_start) as u64 + 1
        };
        let mut doubled = false;
        let mut at = open + 1;
        let close = loop {
            match find(&self.bytes[at..], |byte| byte == b'"') {
                None => {
                    return Err(BadReason::UnclosedQuote {
                        column: column_of(open),
                    });
                }
                Some(n) if self.bytes.get(at + n + 1) == Some(&b'"') => {
                    doubled = true;
                    at += n + 2;
                }
                Some(n) => break at + n,
            }
        };
        let line_ends = self.bytes[open..close]
            .iter()
            .filter(|&&byte| byte == b'\n')
            .count() as u64;
        let spaces = self.spaces(close + 1);
        let next = close + 1 + spaces;
        let behind = match &self.bytes[next..] {
            [] | [b'\n', ..] => next,
            [b'\r'] | [b'\r', b'\n', ..] => next + 1,
            [byte, ..] if *byte == self.delimiter => next,
            _ => {
                return Err(BadReason::TextAfterQuote {
                    line: self.line + line_ends,
                    column: column_of(close),
                });
            }
        };
        self.line += line_ends;
        self.at = behind;
        Ok((open + 1..close, doubled))
    }
}

fn find(bytes: &[u8], is: impl Fn(u8) -> bool) -> Option<usize> {
    bytes.iter().position(|&byte| is(byte))
}
