//! Data files to examples.
//!
//! Every format is a `Table`: columns, and rows with their place. What makes a row a good example, which columns
//! are meant, and what happens to bad rows is decided here, once for all formats.

mod columns;
mod delimited;
mod dialect;
mod jsonl;
mod objects;
mod pages;
mod parquet;
mod sniff;
mod source;

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use rekindle_base::thousands;

use crate::targets::canonical::{self, SetForm};
use crate::targets::{Looker, by_value};
use crate::{
    BadReason, DataError, Example, Examples, Input, Limit, Place, RawTarget, RawValue, TargetHint,
    TargetKind,
};

pub(crate) use jsonl::{bad_json, is_cut_off, kind as kind_of};
pub(crate) use objects::{Opened, each_json, each_object, each_object_by, looks_like_json, open};
pub(crate) use source::Source;

pub(crate) use source::no_such_file;
pub use source::{holds_tables, read_text};

pub use columns::is_label_name;
pub(crate) use columns::{Chooser, check_distinct, is_id, is_set_name, normal};
pub use columns::{Column, ResolvedColumn, ResolvedColumns, Role, UsualColumns};
pub use sniff::{Sniffed, may_be_labelled, sniff};

/// The most columns of a table of examples. A file with more is something else, and looking at each would take hours.
const MOST_COLUMNS: usize = 4096;

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
    /// `.pq`; each also with `.gz` behind it.
    pub fn from_path(path: &Path) -> Option<Self> {
        if source::has_end(path, "gz") {
            return Self::from_path(Path::new(path.file_stem()?));
        }
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
    /// Columns of the label: one, or several numbers or labels. Empty: guessed from well-known names.
    pub labels: Vec<Column>,
    /// The column of all choices of a question, or one for each. Empty: found by well-known names.
    pub choices: Vec<Column>,
    /// Columns that a model was tuned on: taken before any guess, where the file has them.
    pub usual: UsualColumns,
    /// What is learned from the labels: decides which columns are guessed, and which labels are good.
    pub target: TargetKind,
    /// What the text column holds: texts, or paths of pictures.
    pub input: Input,
    /// Names that a model puts out. Where no label column is named and the file has a column of each of these names, they are
    /// the label columns, in this order; classes are no columns, and tell whether a file's own names of them are meant.
    pub known_labels: Vec<String>,
    /// What separates the labels in a text column of sets of labels. Default: the one of `|`, `;` and `,` that most
    /// rows hold.
    pub separator: Option<char>,
    /// CSV and TSV: whether the first row is a header. Default: told from the rows, an error where it cannot be.
    pub header: Option<bool>,
    /// CSV and TSV: the delimiter. Default: tab for TSV; for CSV told from the rows.
    pub delimiter: Option<u8>,
    /// CSV and TSV: whether a field may be put in quotes. Default: true for CSV, false for TSV, where a stray quote
    /// is more common than a quoted tab.
    pub quoting: Option<bool>,
    /// What to do with bad rows.
    pub on_bad_example: OnBad,
    /// Keep only so many examples. Without stratification these are the first rows, bad ones counted, and reading stops
    /// there; otherwise they are drawn from all good rows.
    pub limit: Option<Limit>,
    /// A file without label column, or a row without label, is an error.
    pub require_label: bool,
    /// Labels that are there are not read: the file is to be labelled.
    pub without_labels: bool,
    /// Bytes that a file may take once it is unpacked, or that come through a pipe. Default: 4 GiB.
    pub max_unpacked: Option<u64>,
    /// Bytes that a picture may take while it is decoded. Default: 1 GiB.
    pub max_picture: Option<u64>,
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
    /// Of each row that was read, whether it is among the examples, in file order; without a limit.
    pub good: Vec<bool>,
    /// Which columns were read, and why those.
    pub columns: ResolvedColumns,
    /// What the labels look like, as they are written: of all rows that were read, before a limit was drawn.
    pub hint: TargetHint,
    /// Names of what is learned, for [`TargetEncoder::fit`](crate::TargetEncoder::fit). Sets of labels: every label
    /// of the file, by name (by value where all are integers), also where a limit leaves none of its rows. Numbers:
    /// their columns. Classes: those that the file has names for, in its order; empty where it names none.
    pub label_names: Vec<String>,
    /// What was done to the file or stands out in it, a line each.
    pub notes: Vec<String>,
}

/// Reads the examples of a file.
///
/// # Errors
/// Any of [`DataError`]'s file, column and row errors. A file without a single good row is an error too.
pub fn read_examples(path: &Path, options: &ReadOptions) -> Result<ReadOutcome, DataError> {
    read_source(path, &Source::load(path, options)?, options)
}

/// [`read_examples`] of a file that is loaded.
pub(crate) fn read_source(
    path: &Path,
    source: &Source,
    options: &ReadOptions,
) -> Result<ReadOutcome, DataError> {
    let table = source.table(path, options)?;
    let mut columns = columns::resolve(path, table.as_ref(), options)?;
    if options.without_labels {
        columns.labels.clear();
    }
    let shared: Arc<Path> = path.into();
    let names = columns.label_names();
    let first_rows = options.limit.filter(|limit| !limit.stratify);
    let first_rows = first_rows.map_or(usize::MAX, |limit| limit.examples);

    let mut examples = Vec::new();
    let (mut skipped, mut good_rows) = (Vec::new(), Vec::new());
    let mut looker = Looker::new(names.iter().cloned());
    let wanted = columns.wanted();
    for row in table.rows(&wanted).take(first_rows) {
        let Row { line, cells } = row?;
        let place = Place {
            path: Arc::clone(&shared),
            line,
        };
        let example = cells.and_then(|cells| {
            let example = to_example(cells, &columns, place.clone())?;
            if let Some(raw) = &example.label {
                looker.look(raw, line);
            }
            // Sets of labels are read when the form of all rows is known.
            match options.target {
                TargetKind::Classes => Ok(example),
                _ => with_target(example, &names, options, SetForm::Flags),
            }
        });
        good_rows.push(example.is_ok());
        match example {
            Ok(example) => examples.push(example),
            Err(reason) => skipped.push(Skipped { place, reason }),
        }
    }
    let mut label_names = Vec::new();
    let mut several = None;
    let mut hint = looker.hint();
    match options.target {
        TargetKind::Next
        | TargetKind::Tags
        | TargetKind::Answer
        | TargetKind::Choice
        | TargetKind::Related => {}
        TargetKind::Class => {
            let column = columns.labels.first();
            let named = column.and_then(|column| table.class_names(column.index));
            label_names = named.unwrap_or_default().to_vec();
        }
        TargetKind::Real => label_names = names,
        TargetKind::Classes => {
            let rows = examples.iter().filter_map(|example| example.label.as_ref());
            let form = SetForm::of(names.len(), options.separator, rows);
            let mut good = Vec::with_capacity(examples.len());
            for example in examples {
                let place = example.place.clone();
                match with_target(example, &names, options, form) {
                    Ok(example) => good.push(example),
                    Err(reason) => skipped.push(Skipped { place, reason }),
                }
            }
            examples = good;
            several = several_labels(&examples, form, &columns);
            hint = hint_of_sets(&examples, form, &names, hint);
            label_names = by_value(hint.counts().into_keys().collect());
        }
    }
    skipped.sort_by_key(|row| row.place.line);
    if options.on_bad_example == OnBad::Error {
        // What the other labels look like may say more than the one that is bad.
        if let Some(Skipped { place, reason }) = skipped.first() {
            looker.check_row(path, &columns.labels, options, place, reason)?;
        }
        if let Some(error) = DataError::of_bad_rows(std::mem::take(&mut skipped)) {
            return Err(error);
        }
    }

    if examples.is_empty() && options.limit.is_none_or(|limit| limit.examples != 0) {
        let path = path.to_owned();
        let bad = skipped.len();
        return Err(match skipped.into_iter().next() {
            Some(Skipped { place, reason }) => {
                looker.check_row(&path, &columns.labels, options, &place, &reason)?;
                DataError::AllBad {
                    path,
                    skipped: bad,
                    line: place.line,
                    reason,
                }
            }
            None if matches!(columns.format, Format::Csv | Format::Tsv) => {
                DataError::HeaderOnly { path }
            }
            None => DataError::NoRows { path },
        });
    }
    let mut notes = source.notes.clone();
    notes.extend(
        columns
            .unusual(options)
            .map(|note| format!("{}: {note}", path.display())),
    );
    notes.extend(
        table
            .notes()
            .iter()
            .map(|note| format!("{}: {note}", path.display())),
    );
    let parts = columns::several_parts(path, table.as_ref(), &columns)?;
    notes.extend(parts.map(|note| format!("{}: {note}", path.display())));
    if options.target == TargetKind::Class && options.input == Input::Text {
        let unread = columns::unread_choices(table.as_ref(), &columns)?;
        notes.extend(unread.map(|note| format!("{}: {note}", path.display())));
    }
    notes.extend(several.map(|note| format!("{}: {note}", path.display())));
    if options.target != TargetKind::Real {
        let alike = canonical::look_alikes(&hint.counts());
        notes.extend(alike.map(|note| format!("warning: {}: {note}", path.display())));
    }
    Ok(ReadOutcome {
        notes,
        examples: examples.limited(options.limit.as_ref()),
        skipped,
        good: good_rows,
        columns,
        hint,
        label_names,
    })
}

/// The example with its label in the form of the target.
fn with_target(
    mut example: Example,
    names: &[String],
    options: &ReadOptions,
    form: SetForm,
) -> Result<Example, BadReason> {
    if let Some(raw) = example.label.take() {
        example.label = canonical::target(raw, names, options.target, form, options.require_label)?;
    }
    Ok(example)
}

/// How the labels of a column of text were taken apart, where any were.
fn several_labels(
    examples: &[Example],
    form: SetForm,
    columns: &ResolvedColumns,
) -> Option<String> {
    let SetForm::Column {
        separator: Some(separator),
    } = form
    else {
        return None;
    };
    let column = columns.labels.first()?;
    let labels = |example: &&Example| {
        let label = example.label.as_ref().and_then(|label| label.0.first());
        matches!(label, Some(RawValue::List(labels)) if labels.len() > 1)
    };
    let several = examples.iter().filter(labels).count();
    (several > 0).then(|| {
        format!(
            "column `{}` is read as sets of labels, separated by `{separator}`: {} of {} rows have several",
            column.name,
            thousands(several as u64),
            thousands(examples.len() as u64)
        )
    })
}

/// What sets of labels look like whose form is known; as they are written, where that fits no sets. Their rows must be in
/// the form.
fn hint_of_sets(
    examples: &[Example],
    form: SetForm,
    columns: &[String],
    written: TargetHint,
) -> TargetHint {
    if !written.fits(TargetKind::Classes) {
        return written;
    }
    let rows = examples.iter().filter_map(|example| example.label.as_ref());
    let (mut counts, unlabelled) = canonical::count_labels(rows);
    match form {
        _ if columns.is_empty() => TargetHint::Nothing,
        SetForm::Flags => {
            for column in columns {
                counts.entry(column.clone()).or_default();
            }
            TargetHint::Binary { counts, unlabelled }
        }
        SetForm::Column { separator } => TargetHint::Lists {
            counts,
            unlabelled,
            separator,
            certain: true,
        },
    }
}

/// Makes an example of the cells of the text, the second text if there is one, and the label columns if there are any.
/// The label is still as written.
fn to_example(
    cells: Vec<Cell>,
    columns: &ResolvedColumns,
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
    let labels = columns.labels.iter().map(|column| label_of(next(), column));
    let labels = labels.collect::<Result<Vec<_>, _>>()?;
    Ok(Example {
        text,
        text_pair,
        label: (!labels.is_empty()).then_some(RawTarget(labels)),
        place,
    })
}

pub(crate) fn text_of(cell: Cell, column: &ResolvedColumn) -> Result<String, BadReason> {
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

fn label_of(cell: Cell, column: &ResolvedColumn) -> Result<RawValue, BadReason> {
    match cell {
        Cell::Other(found) => Err(BadReason::WrongType {
            column: column.name.clone(),
            expected: "a string, a number, a boolean or a list of them",
            found: found.to_owned(),
        }),
        cell => Ok(raw_value(cell)),
    }
}

/// A cell as a label. A blank text stays a text: where labels come in sets, it is the empty set.
pub(crate) fn raw_value(cell: Cell) -> RawValue {
    match cell {
        Cell::Missing | Cell::Other(_) => RawValue::Missing,
        Cell::Text(text) => RawValue::Text(text.trim().to_owned()),
        Cell::Int(number) => RawValue::Int(number),
        Cell::Real(number) => RawValue::Real(number),
        Cell::Bool(value) => RawValue::Bool(value),
        Cell::List(values) => RawValue::List(values),
    }
}

/// One value of a row.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Cell {
    /// No value: a JSON field that is absent or null, a Parquet null.
    Missing,
    Text(String),
    Int(i64),
    Real(f64),
    Bool(bool),
    /// A list of strings, numbers or booleans, as text.
    List(Vec<String>),
    /// Something that is neither text nor label, in words.
    Other(&'static str),
}

impl Cell {
    /// Bytes of its text.
    fn size(&self) -> usize {
        match self {
            Self::Text(text) => text.len(),
            Self::List(values) => values.iter().map(String::len).sum(),
            _ => 0,
        }
    }

    /// The cell as an element of a list; `None` for what can be none.
    fn element(self) -> Option<String> {
        match self {
            Self::Text(text) => Some(text),
            other => raw_value(other).class_name().map(|name| name.into_owned()),
        }
    }
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => f.write_str("nothing"),
            Self::Text(text) => f.write_str(text),
            Self::Int(number) => write!(f, "the number {number}"),
            Self::Real(number) => write!(f, "the number {number}"),
            Self::List(_) => f.write_str("an array"),
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

    /// What was guessed or passed over, once the rows were read.
    fn notes(&self) -> Vec<String> {
        Vec::new()
    }

    /// Names of the classes that a column's numbers stand for, in their order, where the file has them.
    fn class_names(&self, _index: usize) -> Option<&[String]> {
        None
    }

    /// What the rows of a table of one column show of why it has no other.
    fn only_column(&self) -> Option<String> {
        None
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

/// Text of a line, or where it stops being UTF-8: `(line, reason)`. `line` is that of the first byte.
pub(crate) fn utf8(bytes: &[u8], line: u64) -> Result<&str, (u64, BadReason)> {
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
