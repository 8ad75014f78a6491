//! Parquet, through the record API (no Arrow). The place of a row is its number, counted from 1.

use std::fs::File;
use std::path::Path;
use std::path::PathBuf;

use parquet::basic::{ConvertedType, LogicalType, Repetition, Type as PhysicalType};
use parquet::errors::ParquetError;
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::Field;
use parquet::record::reader::RowIter;
use parquet::schema::types::Type;
use serde_json::{Map, Value};

use super::{Cell, Format, ReadOptions, Role, Row, Table, pages};
use crate::guard::guarded;
use crate::{DataError, TargetKind};

/// A file may become so much text, whatever its size, in bytes; [`ReadOptions::max_unpacked`] takes the place of this bound
/// and the next.
const TEXT: usize = 256 << 20;
/// Beyond that, at most so many bytes of text a byte of the file: repeated text compresses well, but not that well.
const RATIO: usize = 1000;

/// Bytes of memory that a row takes beside its text: a kilobyte can say "and the same, two thousand million times".
const ROW: usize = 128;

/// Rows with their numbers, counted from 1.
type NumberedRows<'a, T> = Box<dyn Iterator<Item = Result<(u64, Vec<T>), DataError>> + 'a>;

pub(super) struct Parquet {
    path: PathBuf,
    /// Size of the file, in bytes.
    size: usize,
    file: File,
    reader: SerializedFileReader<File>,
    columns: Vec<String>,
    /// Names of the classes that a column's integers stand for, by the column.
    classes: Vec<Option<Vec<String>>>,
    /// Bytes that the file may become, where the user says.
    max_unpacked: Option<u64>,
}

impl Parquet {
    pub fn open(path: &Path, file: &File, options: &ReadOptions) -> Result<Self, DataError> {
        let clone = || {
            file.try_clone().map_err(|source| DataError::Io {
                path: path.to_owned(),
                source,
            })
        };
        let (file, own) = (clone()?, clone()?);
        let size = file.metadata().map_or(0, |metadata| metadata.len()) as usize;
        let reader = guarded(|| SerializedFileReader::new(file))
            .map_err(|panic| damaged(path, panic))?
            .map_err(|error| unreadable(path, &error))?;
        let about = reader.metadata().file_metadata();
        let columns: Vec<String> = about
            .schema()
            .get_fields()
            .iter()
            .map(|field| field.name().to_owned())
            .collect();
        let features = about
            .key_value_metadata()
            .into_iter()
            .flatten()
            .find(|entry| entry.key == "huggingface")
            .and_then(|entry| serde_json::from_str(entry.value.as_deref()?).ok())
            .unwrap_or(Value::Null);
        let is_known = |names: &Vec<String>| {
            let known = &options.known_labels;
            known.is_empty() || names.iter().any(|name| known.contains(name))
        };
        let classes = columns.iter().map(|column| {
            class_names(&features["info"]["features"][column])
                .filter(|names| options.target != TargetKind::Real && is_known(names))
        });
        Ok(Self {
            classes: classes.collect(),
            max_unpacked: options.max_unpacked,
            file: own,
            path: path.to_owned(),
            size,
            reader,
            columns,
        })
    }

    /// Refuses columns whose pages unpack to far more than they hold, by the summary or by their own headers.
    fn check_sizes(&self, columns: &[usize]) -> Result<(), DataError> {
        let schema = self.reader.metadata().file_metadata().schema_descr();
        for group in self.reader.metadata().row_groups() {
            for (leaf, chunk) in group.columns().iter().enumerate() {
                let is_wanted = columns.contains(&schema.get_column_root_idx(leaf));
                let summed = u64::try_from(chunk.uncompressed_size()).unwrap_or(u64::MAX);
                if !is_wanted {
                    continue;
                }
                // The range of a damaged summary is no range.
                let offsets = [
                    Some(chunk.data_page_offset()),
                    chunk.dictionary_page_offset(),
                    Some(chunk.compressed_size()),
                ];
                if offsets.into_iter().flatten().any(|offset| offset < 0) {
                    continue;
                }
                let (start, length) = chunk.byte_range();
                // Headers that cannot be read are the reader's to name.
                let pages = self
                    .file
                    .try_clone()
                    .and_then(|file| pages::unpacked_size(file, start, length));
                let unpacked =
                    usize::try_from(summed.max(pages.unwrap_or(0))).unwrap_or(usize::MAX);
                let packed = usize::try_from(chunk.compressed_size()).unwrap_or(0);
                if self.is_too_much(unpacked, packed) {
                    return Err(DataError::ParquetSize {
                        path: self.path.clone(),
                        packed,
                        unpacked,
                    });
                }
            }
        }
        Ok(())
    }

    /// Whether so many bytes become too many.
    fn is_too_much(&self, unpacked: usize, packed: usize) -> bool {
        match self.max_unpacked {
            Some(most) => unpacked as u64 > most,
            None => unpacked > TEXT && unpacked / RATIO > packed,
        }
    }

    /// The rows as JSON objects, nested columns included, each with its number.
    pub fn objects(
        &self,
    ) -> impl Iterator<Item = Result<(u64, Map<String, Value>), DataError>> + '_ {
        let all: Vec<usize> = (0..self.columns.len()).collect();
        self.converted(&all, json, json_size).map(|row| {
            let (line, values) = row?;
            let values = values.into_iter().enumerate().map(|(index, value)| {
                match self.classes.get(index).and_then(Option::as_deref) {
                    Some(names) => named_json(value, names),
                    None => value,
                }
            });
            Ok((line, self.columns.iter().cloned().zip(values).collect()))
        })
    }

    /// The rows, each with its number and the values of the columns `wanted`, in that order. An error ends the file.
    ///
    /// `convert` makes a value of a field, `size` tells its bytes of text.
    fn converted<'a, T: 'a>(
        &'a self,
        wanted: &[usize],
        convert: fn(Field) -> T,
        size: fn(&T) -> usize,
    ) -> NumberedRows<'a, T> {
        let wanted = wanted.to_vec();
        // A projection keeps the schema's order and cannot be empty.
        let mut projected = wanted.clone();
        projected.sort_unstable();
        projected.dedup();
        if projected.is_empty() && !self.columns.is_empty() {
            projected.push(0);
        }
        if let Err(error) = self.check_sizes(&projected) {
            return Box::new(std::iter::once(Err(error)));
        }
        let fields = projected
            .iter()
            .map(|&index| self.root().get_fields()[index].clone())
            .collect();
        let rows = guarded(|| {
            Type::group_type_builder(self.root().name())
                .with_fields(fields)
                .build()
                .and_then(|projection| RowIter::from_file(Some(projection), &self.reader))
        });
        let mut rows = match rows.map_err(|panic| damaged(&self.path, panic)) {
            Ok(Ok(rows)) => rows,
            Err(error) => return Box::new(std::iter::once(Err(error))),
            Ok(Err(error)) => {
                return Box::new(std::iter::once(Err(unreadable(&self.path, &error))));
            }
        };
        let at: Vec<usize> = wanted
            .iter()
            .filter_map(|index| projected.iter().position(|other| other == index))
            .collect();
        // Nothing is read behind a row that could not be.
        let mut ended = false;
        let next = std::iter::from_fn(move || {
            if ended {
                return None;
            }
            let row = match guarded(|| rows.next()) {
                Ok(row) => row?.map_err(|error| unreadable(&self.path, &error)),
                Err(panic) => Err(damaged(&self.path, panic)),
            };
            ended = row.is_err();
            Some(row)
        });
        let mut text = 0;
        Box::new((1..).zip(next).map(move |(line, row)| {
            let row = row?;
            let mut cells: Vec<Option<T>> = row
                .into_columns()
                .into_iter()
                .map(|(_, field)| Some(convert(field)))
                .collect();
            text += ROW + cells.iter().flatten().map(size).sum::<usize>();
            if self.is_too_much(text, self.size) {
                return Err(DataError::ParquetSize {
                    path: self.path.clone(),
                    packed: self.size,
                    unpacked: text,
                });
            }
            // No column is wanted twice, so each cell can be moved out.
            let cells = at.iter().filter_map(|&index| cells[index].take()).collect();
            Ok((line, cells))
        }))
    }

    fn root(&self) -> &Type {
        self.reader.metadata().file_metadata().schema()
    }
}

impl Table for Parquet {
    fn format(&self) -> Format {
        Format::Parquet
    }

    fn columns(&self) -> &[String] {
        &self.columns
    }

    fn class_names(&self, index: usize) -> Option<&[String]> {
        self.classes.get(index)?.as_deref()
    }

    fn check(&self, index: usize, role: Role) -> Result<(), DataError> {
        let column = &self.root().get_fields()[index];
        if is_text(column) || (role == Role::Label && (is_scalar(column) || is_list(column))) {
            return Ok(());
        }
        let expected = if role == Role::Label {
            "strings, numbers, booleans or lists of them"
        } else {
            "strings"
        };
        let found = if is_time(column) {
            "dates or times".to_owned()
        } else if column.is_group() {
            "a nested column".to_owned()
        } else if column.get_physical_type() == PhysicalType::BYTE_ARRAY {
            "bytes that are not marked as UTF-8".to_owned()
        } else {
            format!("{:?}", column.get_physical_type())
        };
        Err(DataError::UnsupportedColumn {
            path: self.path.clone(),
            column: self.columns[index].clone(),
            role,
            expected,
            found,
        })
    }

    fn rows<'a>(
        &'a self,
        wanted: &[usize],
    ) -> Box<dyn Iterator<Item = Result<Row, DataError>> + 'a> {
        let rows = self.converted(wanted, cell, Cell::size);
        let classes: Vec<Option<&[String]>> = wanted
            .iter()
            .map(|&index| self.class_names(index))
            .collect();
        Box::new(rows.map(move |row| {
            let (line, mut cells) = row?;
            for (cell, names) in cells.iter_mut().zip(&classes) {
                if let Some(names) = names {
                    *cell = named(std::mem::replace(cell, Cell::Missing), names);
                }
            }
            Ok(Row {
                line,
                cells: Ok(cells),
            })
        }))
    }
}

/// The names in the description that `datasets` writes of a column of classes, or of lists of them.
fn class_names(feature: &Value) -> Option<Vec<String>> {
    let feature = match &feature["feature"] {
        Value::Null => feature,
        element => element,
    };
    let names = feature["names"].as_array()?;
    let names = names.iter().map(|name| name.as_str().map(str::to_owned));
    let names: Option<Vec<String>> = names.collect();
    names.filter(|_| feature["_type"] == "ClassLabel")
}

/// A class by its name instead of its number, and lists likewise; -1 is no class.
fn named(cell: Cell, names: &[String]) -> Cell {
    let name = |number: i64| names.get(usize::try_from(number).ok()?).cloned();
    match cell {
        Cell::Int(-1) => Cell::Missing,
        Cell::Int(number) => name(number).map_or(Cell::Int(number), Cell::Text),
        Cell::List(numbers) => Cell::List(
            numbers
                .into_iter()
                .map(|text| text.parse().ok().and_then(name).unwrap_or(text))
                .collect(),
        ),
        other => other,
    }
}

/// The same of JSON; -1 is null.
fn named_json(value: Value, names: &[String]) -> Value {
    match value {
        Value::Number(number) => match number.as_i64() {
            Some(-1) => Value::Null,
            at => at
                .and_then(|at| names.get(usize::try_from(at).ok()?))
                .map_or(Value::Number(number), |name| name.as_str().into()),
        },
        Value::Array(values) => {
            let values = values.into_iter();
            values.map(|value| named_json(value, names)).collect()
        }
        other => other,
    }
}

fn is_text(column: &Type) -> bool {
    column.is_primitive()
        && column.get_physical_type() == PhysicalType::BYTE_ARRAY
        && (matches!(
            column.get_basic_info().logical_type_ref(),
            Some(LogicalType::String | LogicalType::Enum | LogicalType::Json)
        ) || matches!(
            column.get_basic_info().converted_type(),
            ConvertedType::UTF8 | ConvertedType::ENUM | ConvertedType::JSON
        ))
}

/// Whether a column holds dates or times.
fn is_time(column: &Type) -> bool {
    matches!(
        column.get_basic_info().logical_type_ref(),
        Some(LogicalType::Date | LogicalType::Time(_) | LogicalType::Timestamp(_))
    )
}

/// Whether a column holds numbers or booleans.
fn is_scalar(column: &Type) -> bool {
    let is_decimal = column.get_basic_info().converted_type() == ConvertedType::DECIMAL;
    let is_half = matches!(
        column.get_basic_info().logical_type_ref(),
        Some(LogicalType::Float16)
    );
    column.is_primitive()
        && !is_time(column)
        && (is_decimal
            || is_half
            || !matches!(
                column.get_physical_type(),
                PhysicalType::INT96 | PhysicalType::BYTE_ARRAY | PhysicalType::FIXED_LEN_BYTE_ARRAY
            ))
}

/// Whether a column holds lists of text, numbers or booleans.
fn is_list(column: &Type) -> bool {
    let is_element = |element: &Type| is_text(element) || is_scalar(element);
    let marked = column.get_basic_info().converted_type() == ConvertedType::LIST;
    if !(column.is_group() && marked) {
        return column.is_primitive()
            && column.get_basic_info().has_repetition()
            && column.get_basic_info().repetition() == Repetition::REPEATED
            && is_element(column);
    }
    match column.get_fields() {
        [repeated] if repeated.is_group() => match repeated.get_fields() {
            [element] => element.is_primitive() && is_element(element),
            _ => false,
        },
        [repeated] => is_element(repeated),
        _ => false,
    }
}

fn cell(field: Field) -> Cell {
    match field {
        Field::Null => Cell::Missing,
        Field::Str(text) => Cell::Text(text),
        Field::Bool(value) => Cell::Bool(value),
        Field::Byte(number) => Cell::Int(number.into()),
        Field::Short(number) => Cell::Int(number.into()),
        Field::Int(number) => Cell::Int(number.into()),
        Field::Long(number) => Cell::Int(number),
        Field::UByte(number) => Cell::Int(number.into()),
        Field::UShort(number) => Cell::Int(number.into()),
        Field::UInt(number) => Cell::Int(number.into()),
        Field::ULong(number) => {
            i64::try_from(number).map_or(Cell::Other("an integer above 2^63"), Cell::Int)
        }
        Field::Float16(number) => Cell::Real(number.to_f64()),
        // The shortest decimal that names the float: 0.1 stays 0.1.
        Field::Float(number) => Cell::Real(number.to_string().parse().unwrap_or(f64::from(number))),
        Field::Double(number) => Cell::Real(number),
        Field::Decimal(_) => field
            .to_string()
            .parse()
            .map_or(Cell::Other("a decimal that is no number"), Cell::Real),
        Field::ListInternal(list) => list
            .elements()
            .iter()
            .map(|element| cell(element.clone()).element())
            .collect::<Option<Vec<_>>>()
            .map_or(Cell::Other("a list of lists, groups or nulls"), Cell::List),
        Field::Bytes(_) => Cell::Other("bytes"),
        Field::Group(_) | Field::MapInternal(_) => Cell::Other("a nested value"),
        _ => Cell::Other("a date or time"),
    }
}

/// A field as JSON; null for what JSON cannot say.
fn json(field: Field) -> Value {
    match field {
        Field::Group(group) => group
            .into_columns()
            .into_iter()
            .map(|(name, field)| (name, json(field)))
            .collect(),
        Field::ListInternal(list) => list.elements().iter().cloned().map(json).collect(),
        Field::MapInternal(map) => map
            .entries()
            .iter()
            .map(|(key, value)| (key.to_string(), json(value.clone())))
            .collect(),
        other => match cell(other) {
            Cell::Text(text) => Value::String(text),
            Cell::Int(number) => number.into(),
            Cell::Real(number) => number.into(),
            Cell::Bool(value) => value.into(),
            Cell::List(values) => values.into(),
            Cell::Missing | Cell::Other(_) => Value::Null,
        },
    }
}

/// Bytes of the text in a value.
fn json_size(value: &Value) -> usize {
    match value {
        Value::String(text) => text.len(),
        Value::Array(values) => values.iter().map(json_size).sum(),
        Value::Object(fields) => fields
            .iter()
            .map(|(name, value)| name.len() + json_size(value))
            .sum(),
        _ => 0,
    }
}

/// The error for a file that the reader panics on.
fn damaged(path: &Path, panic: String) -> DataError {
    DataError::Parquet {
        path: path.to_owned(),
        message: format!("the reader gave up on a damaged part ({panic})"),
        hint: "the file was probably cut off on its way; copy or write it again",
    }
}

fn unreadable(path: &Path, error: &ParquetError) -> DataError {
    const DAMAGED: &str = "the file was probably cut off on its way; copy or write it again";
    const OTHER: &str = "write it with another compression, such as zstd or snappy";
    let (message, hint) = match error {
        ParquetError::NYI(message) => (message.clone(), OTHER),
        ParquetError::General(message) if message.starts_with("Disabled feature") => {
            let codec = message.rsplit(' ').next().unwrap_or_default();
            (
                format!("its columns are packed with {codec}, which is not read"),
                OTHER,
            )
        }
        ParquetError::General(message) | ParquetError::EOF(message) => (message.clone(), DAMAGED),
        other => (other.to_string(), DAMAGED),
    };
    DataError::Parquet {
        path: path.to_owned(),
        message,
        hint,
    }
}
