//! A look at an unknown file: what it holds and how it would be read. For `rekindle init`.

use std::collections::BTreeMap;
use std::path::Path;

use super::{Cell, Format, ReadOptions, Row, Source, Table, to_example};
use crate::columns::{self, ResolvedColumns};
use crate::{DataError, Place};

/// Rows shown.
const SHOWN: usize = 3;

/// What [`sniff`] saw.
#[derive(Debug)]
pub struct Sniffed {
    /// The file's format.
    pub format: Format,
    /// Whether the first row is a header; `None` where that cannot be told and the file was looked at as if it were.
    pub header: Option<bool>,
    /// Names of all columns; numbers where there is no header.
    pub names: Vec<String>,
    /// The columns that [`read_examples`](super::read_examples) would take, with reasons, or the error it would give.
    pub columns: Result<ResolvedColumns, DataError>,
    /// Rows below the header.
    pub rows: usize,
    /// Rows that are no good examples for these columns.
    pub bad_rows: usize,
    /// Labels and how many good rows have each, by name.
    pub labels: BTreeMap<String, usize>,
    /// The first rows, one value for each column.
    pub examples: Vec<Vec<String>>,
}

/// Looks at a file: columns, rows, labels, and a guess which column is what where `options` do not say.
///
/// # Errors
/// Where the file cannot be read at all; unclear columns are part of the answer.
pub fn sniff(path: &Path, options: &ReadOptions) -> Result<Sniffed, DataError> {
    let source = Source::load(path, options)?;
    match source.table(path, options) {
        Ok(table) => {
            let columns = columns::resolve(path, table.as_ref(), options);
            look(path, table.as_ref(), Some(table.has_header()), columns)
        }
        Err(unclear @ DataError::HeaderUnclear { .. }) => {
            let table = source.table(
                path,
                &ReadOptions {
                    header: Some(true),
                    ..options.clone()
                },
            )?;
            look(path, table.as_ref(), None, Err(unclear))
        }
        Err(error) => Err(error),
    }
}

fn look(
    path: &Path,
    table: &dyn Table,
    header: Option<bool>,
    columns: Result<ResolvedColumns, DataError>,
) -> Result<Sniffed, DataError> {
    let names = table.columns().to_vec();
    let all: Vec<usize> = (0..names.len()).collect();
    let mut examples = Vec::new();
    for row in table.rows(&all).take(SHOWN) {
        if let Ok(cells) = row?.cells {
            examples.push(cells.iter().map(Cell::to_string).collect());
        }
    }

    let wanted: Vec<usize> = match &columns {
        Ok(columns) => [
            Some(&columns.text),
            columns.text_pair.as_ref(),
            columns.label.as_ref(),
        ]
        .into_iter()
        .flatten()
        .map(|column| column.index)
        .collect(),
        Err(_) => Vec::new(),
    };
    let (mut rows, mut bad_rows) = (0, 0);
    let mut labels = BTreeMap::new();
    for row in table.rows(&wanted) {
        let Row { line, cells } = row?;
        rows += 1;
        let good = match &columns {
            Ok(columns) => cells.and_then(|cells| {
                let require_label = columns.label.is_some();
                to_example(
                    cells,
                    columns,
                    require_label,
                    Place {
                        path: path.into(),
                        line,
                    },
                )
                .map(|example| example.label)
            }),
            Err(_) => cells.map(|_| None),
        };
        match good {
            Ok(Some(label)) => *labels.entry(label.to_string()).or_default() += 1,
            Ok(None) => {}
            Err(_) => bad_rows += 1,
        }
    }
    Ok(Sniffed {
        format: table.format(),
        header,
        names,
        columns,
        rows,
        bad_rows,
        labels,
        examples,
    })
}
