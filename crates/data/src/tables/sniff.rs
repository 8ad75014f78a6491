//! A look at an unknown file: what it holds and how it would be read. For `rekindle init`.

use std::path::Path;

use super::columns::{self, ResolvedColumns};
use super::{
    Cell, Format, ReadOptions, Row, Source, Table, hint_of_sets, raw_value, to_example, with_target,
};
use crate::targets::Looker;
use crate::targets::canonical::{SetForm, flag};
use crate::{DataError, Example, Place, RawTarget, TargetHint, TargetKind};

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
    /// What the labels look like.
    pub hint: TargetHint,
    /// Columns of 0 and 1 only that have no other purpose: labels of a multi-label task, if they are several.
    pub binary_columns: Vec<String>,
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
            look(
                path,
                table.as_ref(),
                Some(table.has_header()),
                columns,
                options,
            )
        }
        Err(unclear @ DataError::HeaderUnclear { .. }) => {
            let table = source.table(
                path,
                &ReadOptions {
                    header: Some(true),
                    ..options.clone()
                },
            )?;
            look(path, table.as_ref(), None, Err(unclear), options)
        }
        Err(error) => Err(error),
    }
}

/// Whether a file with a column `text` says more of its texts than a language model would learn of them: whether labels may
/// stand beside them.
///
/// In a table that is any other column with a label's name, or whose values are classes, sets of labels or numbers; and the only
/// other one, whatever it holds. Ids and columns without values are none. JSON objects carry much that is no label: there it is a
/// field with a label's name, all fields where they hold 0 and 1 only, or the only other one where it holds labels.
#[must_use]
pub fn may_be_labelled(path: &Path, options: &ReadOptions) -> bool {
    let found = Source::load(path, options).and_then(|source| {
        let table = source.table(path, options)?;
        has_labels(table.as_ref())
    });
    match found {
        Ok(found) => found,
        // Who reads the labels says so.
        Err(DataError::TooManyColumns { .. }) => true,
        Err(_) => false,
    }
}

fn has_labels(table: &dyn Table) -> Result<bool, DataError> {
    let names = table.columns();
    let is_text = |name: &String| name.trim().eq_ignore_ascii_case("text");
    let text = names.iter().position(is_text);
    let others: Vec<usize> = (0..names.len())
        .filter(|&index| Some(index) != text && !columns::is_id(&names[index]))
        .collect();
    if others
        .iter()
        .any(|&index| columns::is_label_name(&names[index]))
    {
        return Ok(true);
    }
    let mut lookers: Vec<Looker> = others
        .iter()
        .map(|&index| Looker::new([names[index].clone()]))
        .collect();
    let (mut holds, mut all_flags) = (vec![false; others.len()], true);
    for row in table.rows(&others).take(columns::SAMPLE) {
        let Row { line, cells } = row?;
        for ((looker, holds), cell) in lookers
            .iter_mut()
            .zip(&mut holds)
            .zip(cells.into_iter().flatten())
        {
            let is_other = matches!(cell, Cell::Other(_));
            let value = raw_value(cell);
            *holds |= is_other || !value.is_missing();
            all_flags &= flag(&value).is_some();
            looker.look(&RawTarget(vec![value]), line);
        }
    }
    let is_label = |looker: &Looker| {
        !matches!(
            looker.hint(),
            TargetHint::Nothing | TargetHint::MostlyUnique { numbers: false, .. }
        )
    };
    let holding = holds.into_iter().filter(|&holds| holds).count();
    Ok(match (table.format(), holding) {
        (_, 0) => false,
        (Format::Jsonl, 2..) => all_flags,
        (Format::Csv | Format::Tsv | Format::Parquet, 1) => true,
        _ => lookers.iter().any(is_label),
    })
}

fn look(
    path: &Path,
    table: &dyn Table,
    header: Option<bool>,
    columns: Result<ResolvedColumns, DataError>,
    options: &ReadOptions,
) -> Result<Sniffed, DataError> {
    let names = table.columns().to_vec();
    let all: Vec<usize> = (0..names.len()).collect();
    let mut examples = Vec::new();
    for row in table.rows(&all).take(SHOWN) {
        if let Ok(cells) = row?.cells {
            examples.push(cells.iter().map(Cell::to_string).collect());
        }
    }

    let (mut rows, mut readable) = (0, 0);
    let mut good: Vec<Example> = Vec::new();
    // Whether each column holds flags only, once it holds anything.
    let mut flags: Vec<Option<bool>> = vec![None; names.len()];
    for row in table.rows(&all) {
        let Row { line, cells } = row?;
        rows += 1;
        let Ok(cells) = cells else { continue };
        let place = Place {
            path: path.into(),
            line,
        };
        if let Ok(columns) = &columns {
            let wanted = columns.wanted().into_iter();
            let wanted = wanted.map(|index| cells[index].clone()).collect();
            good.extend(to_example(wanted, columns, place).ok());
        } else {
            readable += 1;
        }
        for (flags, cell) in flags.iter_mut().zip(cells) {
            let value = raw_value(cell);
            if !value.is_missing() {
                *flags = Some(flags.unwrap_or(true) && flag(&value).is_some());
            }
        }
    }
    let mut hint = TargetHint::default();
    let mut good_rows = readable;
    if let Ok(columns) = &columns {
        let names = columns.label_names();
        let mut looker = Looker::new(names.iter().cloned());
        let options = ReadOptions {
            require_label: true,
            ..options.clone()
        };
        let targets = good.iter().filter_map(|example| example.label.as_ref());
        let form = SetForm::of(names.len(), options.separator, targets);
        let mut labelled = Vec::new();
        for example in good {
            if let Some(raw) = &example.label {
                looker.look(raw, example.place.line);
            }
            labelled.extend(with_target(example, &names, &options, form));
        }
        good_rows += labelled.len();
        hint = match options.target {
            TargetKind::Classes => hint_of_sets(&labelled, form, &names, looker.hint()),
            _ => looker.hint(),
        };
    }
    let text = columns
        .as_ref()
        .map_or(names.len(), |columns| columns.text.index);
    let binary_columns = (0..names.len())
        .filter(|&index| index != text && flags[index] == Some(true))
        .map(|index| names[index].clone())
        .collect();
    Ok(Sniffed {
        format: table.format(),
        header,
        names,
        columns,
        rows,
        bad_rows: rows - good_rows,
        hint,
        binary_columns,
        examples,
    })
}
