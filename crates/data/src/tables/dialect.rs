//! How a CSV or TSV file is written: its delimiter, and whether its first row is a header.
//!
//! Both are told from the rows, where the user does not say. "Known names" are those in `columns`: `text`, `label` and
//! so on.
//!
//! **Delimiter.** A first line `sep=;`, as spreadsheets write it, says so and is no row. A TSV file has tabs. Otherwise
//! comma, semicolon, tab and `|` are tried on the first rows: good is a row that has as many fields as the first, at
//! least two. Of the delimiters with at least nine tenths of the most good rows, that one is taken
//! 1. under which most fields of the first row are known names,
//! 2. then the one that stands least often beside a space or between two digits, as punctuation and decimal commas do,
//! 3. then the first in that order.
//!
//! A file without any of them has one column.
//!
//! **Header.** The first of these that applies:
//! 1. Columns are asked for by name, or a known name of a text and one of a label stand in the first row: a header.
//! 2. A number stands in the first row: data.
//! 3. A field of the first row comes again in its column: data. In a column of which most values are different, as
//!    texts are, in more than one row of twenty: a text can be the word that names its column. Rows that repeat the
//!    whole first row do not count: they are headers of files that were put together.
//! 4. A known name stands in the first row; or below a field that is no number are only numbers; or in a column of ten
//!    rows or more every value comes again except the first row's: a header.
//! 5. The whole first row comes again: data.
//! 6. Otherwise it is unclear, which is an error.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::path::Path;

use super::columns::{Known, all_there, known};
use super::delimited::Records;
use super::{Column, Format, ReadOptions};
use crate::DataError;
use crate::related::names_a_pair;

/// Delimiters that are tried, in this order.
const DELIMITERS: [u8; 4] = [b',', b';', b'\t', b'|'];
/// Rows and bytes looked at for the delimiter.
const DELIMITER_SAMPLE: (usize, usize) = (500, 1 << 18);
/// Rows looked at for the header.
const HEADER_SAMPLE: usize = 10_000;
/// Rows that a column must have for its values to say that the first row is none of them.
const ENOUGH: usize = 10;

/// The delimiter that a first line `sep=;` names, and the length of that line.
pub(super) fn named_delimiter(bytes: &[u8]) -> Option<(u8, usize)> {
    let end = bytes.iter().position(|&byte| byte == b'\n')?;
    let line = bytes[..end].strip_suffix(b"\r").unwrap_or(&bytes[..end]);
    let line = match line {
        [b'"', inside @ .., b'"'] => inside,
        // Tools that write their own delimiters fill the line up with them.
        line => line,
    };
    let (name, rest) = line.split_at_checked(4)?;
    let &delimiter = rest.first()?;
    let rest_is_same = rest.iter().all(|&byte| byte == delimiter || byte == b'"');
    let is_named = name.eq_ignore_ascii_case(b"sep=") && rest_is_same && delimiter.is_ascii();
    (is_named && !delimiter.is_ascii_alphanumeric() && delimiter != b'"')
        .then_some((delimiter, end + 1))
}

/// What may be wrong with a file of one column, by its rows as they are written: lines above its header, quotes around whole
/// rows, a form of its own, or a delimiter that is not looked for.
pub(super) fn why_one_column(rows: &[&str]) -> Option<String> {
    const LINES: usize = 10;
    let has_both = |row: &str, delimiter: u8| {
        let fields = row.split(char::from(delimiter));
        let names: Vec<Option<Known>> =
            fields.map(|field| known(field.trim_matches('"'))).collect();
        names.contains(&Some(Known::Text)) && names.contains(&Some(Known::Label))
    };
    let is_header = |row: &str| DELIMITERS.iter().any(|&delimiter| has_both(row, delimiter));
    let above = rows.iter().take(LINES).position(|row| is_header(row));
    if let Some(above @ 1..) = above {
        let lines = if above == 1 { "line" } else { "lines" };
        return Some(format!(
            "remove the {above} {lines} above `{}`, which looks like the header",
            rows[above]
        ));
    }
    let all = |is: &dyn Fn(&str) -> bool| rows.iter().all(|row| is(row));
    if all(&|row| row.starts_with("__label__")) {
        return Some(
            "its rows are fastText's: sed -E 's/^__label__([^ ]+) (.*)/\\1\\t\\2/' FILE > rows.tsv"
                .to_owned(),
        );
    }
    if all(&|row| row.len() > 2 && row.starts_with('"') && row.ends_with('"')) && rows.len() > 1 {
        let inside = rows[0].trim_matches('"');
        return is_header(inside).then(|| {
            "whole rows stand in quotes: remove the first and the last quote of each".to_owned()
        });
    }
    // Signs that stand as often in nearly every row.
    let signs = [',', ';', '\t', '|', '~', '^', ':', '#', '\u{1}', ' '];
    let is_in_most = |sign: &char| {
        let count = |row: &&str| row.matches(*sign).count();
        let first = rows.first().map_or(0, count);
        let same = rows.iter().filter(|row| count(row) == first).count();
        first > 0 && rows.len() > 1 && same * 10 >= rows.len() * 9
    };
    let sign = signs.into_iter().find(is_in_most)?;
    let written = match sign {
        sign if sign.is_control() => format!("$'\\x{:02x}'", u32::from(sign)),
        sign => format!("'{sign}'"),
    };
    Some(format!(
        "its rows look separated by {written}: --set data.delimiter={written}"
    ))
}

/// How a delimiter fits the first rows.
#[derive(Debug, Clone, Copy)]
struct Fit {
    delimiter: u8,
    /// Rows with as many fields as the first.
    good: usize,
    /// Fields of the first row that are known names.
    known: usize,
    /// Share of the delimiters that stand as punctuation does.
    loose: f64,
}

/// The delimiter of a CSV file, by its rows.
pub(super) fn guess_delimiter(bytes: &[u8], quoting: bool) -> u8 {
    let mut sample = &bytes[..bytes.len().min(DELIMITER_SAMPLE.1)];
    if sample.len() < bytes.len()
        && let Some(end) = sample.iter().rposition(|&byte| byte == b'\n')
    {
        sample = &sample[..=end];
    }
    let fits = DELIMITERS.map(|delimiter| fit(sample, delimiter, quoting));
    let most = fits.iter().map(|fit| fit.good).max().unwrap_or(0);
    let mut best: Option<Fit> = None;
    for fit in fits
        .into_iter()
        .filter(|fit| fit.good > 0 && fit.good * 10 >= most * 9)
    {
        let is_better = best.is_none_or(|best| {
            fit.known > best.known || (fit.known == best.known && fit.loose < best.loose)
        });
        if is_better {
            best = Some(fit);
        }
    }
    best.map_or(b',', |fit| fit.delimiter)
}

fn fit(sample: &[u8], delimiter: u8, quoting: bool) -> Fit {
    const LEAST: usize = 2;
    let mut fit = Fit {
        delimiter,
        good: 0,
        known: 0,
        loose: 0.0,
    };
    let mut rows = Records::new(sample, delimiter, quoting).take(DELIMITER_SAMPLE.0);
    let Some(Ok(first)) = rows.next() else {
        return fit;
    };
    if first.fields.len() < LEAST {
        return fit;
    }
    fit.known = first
        .all()
        .iter()
        .filter(|field| known(field).is_some())
        .count();
    let (mut loose, mut all) = (0, 0);
    let width = first.fields.len();
    let rows = std::iter::once(first).chain(rows.flatten());
    for row in rows.filter(|row| row.fields.len() == width) {
        fit.good += 1;
        all += width - 1;
        let text = row.text.as_bytes();
        for pair in row.fields.windows(2) {
            // Between the two fields and their quotes.
            let between = &text[pair[0].0.end..pair[1].0.start];
            let quotes = between.contains(&b'"');
            let before = pair[0].0.end.checked_sub(1).and_then(|at| text.get(at));
            let after = text.get(pair[1].0.start);
            let digits = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_digit);
            let space = |byte: Option<&u8>| byte == Some(&b' ');
            let is_loose =
                !quotes && (space(before) || space(after) || (digits(before) && digits(after)));
            loose += usize::from(is_loose);
        }
    }
    fit.loose = loose as f64 / all.max(1) as f64;
    fit
}

/// What stands below a field of the first row.
#[derive(Debug, Default)]
struct Below {
    /// Rows of each value, by hash.
    values: HashMap<u64, usize>,
    rows: usize,
    /// Rows with the first row's value.
    same: usize,
    numbers: usize,
    blank: usize,
}

impl Below {
    fn look(&mut self, field: &str, first: &str, hasher: &RandomState) {
        let field = field.trim();
        self.rows += 1;
        self.same += usize::from(field == first);
        self.numbers += usize::from(is_number(field));
        self.blank += usize::from(is_blank(field));
        *self.values.entry(hasher.hash_one(field)).or_default() += 1;
    }

    /// Whether the first row's value is one of those below.
    fn comes_again(&self, first: &str) -> bool {
        const ROWS_PER_WORD: usize = 20;
        let mostly_different = self.values.len() * 2 > self.rows;
        match mostly_different {
            _ if first.is_empty() => false,
            true => self.same * ROWS_PER_WORD > self.rows,
            false => self.same > 0,
        }
    }

    /// Whether the first row's value is of another kind than those below.
    fn is_named(&self, first: &str) -> bool {
        const LEAST: usize = 3;
        let full = self.rows - self.blank;
        let only_numbers = full >= LEAST && self.numbers == full;
        let all_again = self.rows >= ENOUGH
            && self.values.len() > 1
            && self.values.values().all(|&rows| rows > 1)
            && self.same == 0;
        !is_blank(first) && !is_number(first) && (only_numbers || all_again)
    }
}

/// Whether a field is a number, with a point or a decimal comma.
fn is_number(field: &str) -> bool {
    let is_one = |field: &str| field.parse::<f64>().is_ok();
    field.bytes().any(|byte| byte.is_ascii_digit())
        && (is_one(field) || is_one(&field.replacen(',', ".", 1)))
}

/// Whether a field says that there is no value.
fn is_blank(field: &str) -> bool {
    const NONE: [&str; 7] = ["", "na", "n/a", "nan", "null", "none", "-"];
    NONE.contains(&field.to_lowercase().as_str())
}

/// Whether the first row of a delimited file is a header. `below` are the other rows.
///
/// # Errors
/// [`DataError::HeaderUnclear`] where it cannot be told.
pub(super) fn is_header(
    path: &Path,
    options: &ReadOptions,
    first_row: &[String],
    below: impl Iterator<Item = Vec<String>>,
) -> Result<bool, DataError> {
    let mut asked = [&options.text, &options.text_pair]
        .into_iter()
        .flatten()
        .chain(&options.labels);
    let first: Vec<&str> = first_row.iter().map(|field| field.trim()).collect();
    let names: Vec<Option<Known>> = first.iter().map(|field| known(field)).collect();
    let by_name = asked.any(|column| matches!(column, Column::Name(_)));
    let both = names.contains(&Some(Known::Text)) && names.contains(&Some(Known::Label));
    if by_name || all_there(options, first_row) || both || names_a_pair(first_row) {
        return Ok(true);
    }
    if first.iter().any(|field| is_number(field)) {
        return Ok(false);
    }
    let hasher = RandomState::new();
    let mut columns: Vec<Below> = first.iter().map(|_| Below::default()).collect();
    let mut whole_again = 0;
    for row in below
        .filter(|row| row.len() == first.len())
        .take(HEADER_SAMPLE)
    {
        if first.len() > 1 && is_same_row(row.iter().map(String::as_str), &first) {
            whole_again += 1;
            continue;
        }
        for ((column, field), first) in columns.iter_mut().zip(&row).zip(&first) {
            column.look(field, first, &hasher);
        }
    }
    let columns = || columns.iter().zip(&first);
    if columns().any(|(column, first)| column.comes_again(first)) {
        return Ok(false);
    }
    if names.iter().any(Option::is_some) || columns().any(|(column, first)| column.is_named(first))
    {
        return Ok(true);
    }
    if whole_again > 0 {
        return Ok(false);
    }
    Err(DataError::HeaderUnclear {
        path: path.to_owned(),
        first_row: first_row.to_vec(),
        hint: None,
    })
}

/// Whether a row repeats another, but for case and for what stands around its fields.
pub(super) fn is_same_row<'a>(row: impl Iterator<Item = &'a str>, other: &[&str]) -> bool {
    row.map(bare).eq(other.iter().map(|field| bare(field)))
}

/// A field of a header that is compared. A file that was put behind another brings its byte order mark, behind which quotes are
/// ordinary characters.
pub(super) fn bare(field: &str) -> String {
    let field = field.trim();
    let field = match field.strip_prefix('\u{FEFF}') {
        Some(rest) => rest.trim_matches('"'),
        None => field,
    };
    field.to_lowercase()
}

/// Whether quotes may stand around fields, where the user does not say: in CSV; in TSV, where a quote that is a character of its
/// text is more common, only if every field that begins with one is closed, and a whole column is in quotes or a quote is doubled.
pub(super) fn quoting(format: Format, delimiter: u8, bytes: &[u8], options: &ReadOptions) -> bool {
    match (options.quoting, format) {
        (Some(quoting), _) => quoting,
        (None, Format::Tsv) => {
            bytes.contains(&b'"') && is_quoted(Records::new(bytes, delimiter, true))
        }
        (None, _) => true,
    }
}

fn is_quoted(mut rows: Records<'_>) -> bool {
    let Some(Ok(first)) = rows.next() else {
        return false;
    };
    let width = first.fields.len();
    let (mut whole, mut doubled, mut count) = (vec![true; width], false, 0);
    for row in rows {
        let Ok(row) = row else { return false };
        if row.fields.len() != width {
            return false;
        }
        count += 1;
        for (whole, (field, has_double)) in whole.iter_mut().zip(&row.fields) {
            let before = field.start.checked_sub(1).map(|at| row.text.as_bytes()[at]);
            *whole &= before == Some(b'"');
            doubled |= has_double;
        }
    }
    count > 0 && width > 1 && (doubled || whole.contains(&true))
}

#[cfg(test)]
mod tests;
