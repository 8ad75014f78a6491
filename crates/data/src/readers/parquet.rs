//! Parquet, through the record API (no Arrow). The place of a row is its number, counted from 1.

use std::fs::File;
use std::path::Path;
use std::path::PathBuf;

use parquet::basic::{ConvertedType, LogicalType, Type as PhysicalType};
use parquet::errors::ParquetError;
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::Field;
use parquet::record::reader::RowIter;
use parquet::schema::types::Type;

use super::{Cell, Format, Row, Table};
use crate::DataError;
use crate::columns::Role;

pub(super) struct Parquet {
    path: PathBuf,
    reader: SerializedFileReader<File>,
    columns: Vec<String>,
}

impl Parquet {
    pub fn open(path: &Path, file: &File) -> Result<Self, DataError> {
        let file = file.try_clone().map_err(|source| DataError::Io {
            path: path.to_owned(),
            source,
        })?;
        let reader = SerializedFileReader::new(file).map_err(|error| unreadable(path, &error))?;
        let columns = reader
            .metadata()
            .file_metadata()
            .schema()
            .get_fields()
            .iter()
            .map(|field| field.name().to_owned())
            .collect();
        Ok(Self {
            path: path.to_owned(),
            reader,
            columns,
        })
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

    fn check(&self, index: usize, role: Role) -> Result<(), DataError> {
        let column = &self.root().get_fields()[index];
        let text = is_text(column);
        let integer = column.is_primitive()
            && matches!(
                column.get_physical_type(),
                PhysicalType::INT32 | PhysicalType::INT64 | PhysicalType::BOOLEAN
            );
        if text || (role == Role::Label && integer) {
            return Ok(());
        }
        let expected = if role == Role::Label {
            "strings, integers or booleans"
        } else {
            "strings"
        };
        let found = if column.is_group() {
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
        let wanted = wanted.to_vec();
        // A projection keeps the schema's order and cannot be empty.
        let mut projected = wanted.clone();
        projected.sort_unstable();
        projected.dedup();
        if projected.is_empty() && !self.columns.is_empty() {
            projected.push(0);
        }
        let fields = projected
            .iter()
            .map(|&index| self.root().get_fields()[index].clone())
            .collect();
        let rows = Type::group_type_builder(self.root().name())
            .with_fields(fields)
            .build()
            .and_then(|projection| RowIter::from_file(Some(projection), &self.reader));
        let rows = match rows {
            Ok(rows) => rows,
            Err(error) => return Box::new(std::iter::once(Err(unreadable(&self.path, &error)))),
        };
        let at: Vec<usize> = wanted
            .iter()
            .filter_map(|index| projected.iter().position(|other| other == index))
            .collect();
        Box::new((1..).zip(rows).map(move |(line, row)| {
            let row = row.map_err(|error| unreadable(&self.path, &error))?;
            let mut cells: Vec<Cell> = row
                .into_columns()
                .into_iter()
                .map(|(_, field)| cell(field))
                .collect();
            // No column is wanted twice, so each cell can be moved out.
            let cells = at
                .iter()
                .map(|&index| std::mem::replace(&mut cells[index], Cell::Missing))
                .collect();
            Ok(Row {
                line,
                cells: Ok(cells),
            })
        }))
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
        Field::Bytes(_) => Cell::Other("bytes"),
        Field::Group(_) | Field::ListInternal(_) | Field::MapInternal(_) => {
            Cell::Other("a nested value")
        }
        Field::Float16(_) | Field::Float(_) | Field::Double(_) | Field::Decimal(_) => {
            Cell::Other("a number with a fraction")
        }
        _ => Cell::Other("a date or time"),
    }
}

fn unreadable(path: &Path, error: &ParquetError) -> DataError {
    let message = match error {
        ParquetError::General(message) | ParquetError::EOF(message) => message.clone(),
        other => other.to_string(),
    };
    DataError::Parquet {
        path: path.to_owned(),
        message,
    }
}
