//! What label columns look like: which kind of task fits them.
//!
//! A column of numbers or lists can be put under classification by mistake: every value then is a class of its own,
//! training runs, and nothing is learned. So a training file's labels are looked at before anything else.
//! The rules, for a column of R labelled rows with D different values:
//!
//! | column | looks like |
//! |---|---|
//! | lists of 0 and 1, all of one length | sets of labels whose names are missing |
//! | lists, or text that is written as a list | sets of labels |
//! | lists of numbers, some with a fraction | numbers to predict, which are no columns of their own |
//! | text that commas divide into fewer than D names, most of which stand alone in other rows, or into fewer than D / 2 | sets of labels |
//! | only numbers, some with a fraction, and D > 10 or D > R / 2 | a number to predict |
//! | the same, but for one row, or one of ten rows | a number to predict, and rows to correct |
//! | text of which a quarter holds `|` or `;`, which divides it into fewer than D names | sets of labels |
//! | text of which some holds `|` or `;`, which divides it into names that all stand alone in other rows | probably sets of labels |
//! | R of at least 20, D > R / 2 | nothing that repeats: no classes |
//! | several columns, all of 0 and 1 | sets of labels |
//! | several columns, all of numbers | numbers to predict |
//! | anything else, so integers of few different values too | classes |

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::canonical::{self, is_bracketed, most_frequent_separator, written_list};
use crate::tables::{ResolvedColumn, is_set_name};
use crate::{BadReason, DataError, Place, RawTarget, RawValue, ReadOptions, TargetKind};

/// From this many different values on, numbers with fractions are no classes, however often each comes again.
const FRACTIONS: usize = 10;
/// Labelled rows from which "most values are unique" means something.
const ENOUGH: usize = 20;

/// What a task's input is: the first part of its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Input {
    /// Texts.
    #[default]
    Text,
    /// Pictures.
    Image,
}

impl Input {
    /// Which task of this input learns such targets.
    pub(crate) fn task(self, kind: TargetKind) -> String {
        let name = match (self, kind) {
            (Self::Image, TargetKind::Real) => {
                return "there is no task that predicts numbers of pictures; name another label column"
                    .to_owned();
            }
            (Self::Text, TargetKind::Class) => "text-classification",
            (Self::Text, TargetKind::Classes) => "text-multi-label",
            (Self::Text, TargetKind::Real) => "text-regression",
            (Self::Image, TargetKind::Class) => "image-classification",
            (Self::Image, TargetKind::Classes) => "image-multi-label",
            (_, TargetKind::Next) => "text-generation",
            (_, TargetKind::Tags) => "token-classification",
            (_, TargetKind::Answer) => "question-answering",
            (_, TargetKind::Choice) => "multiple-choice",
            (_, TargetKind::Related) => "text-embedding",
        };
        format!("--task {name}")
    }
}

/// What the label columns of a file look like.
#[derive(Debug, Clone, PartialEq, Default)]
#[non_exhaustive]
pub enum TargetHint {
    /// There is no label column, or nothing in it.
    #[default]
    Nothing,
    /// Classes.
    Classes {
        /// Rows of each class.
        counts: BTreeMap<String, usize>,
    },
    /// A number to predict.
    Number {
        /// Labelled rows.
        rows: usize,
        /// Different values.
        distinct: usize,
        /// The smallest.
        min: f64,
        /// The largest.
        max: f64,
        /// One that has a fraction, as written.
        example: String,
        /// The first row that is no number as we read them, and what stands there.
        odd: Option<(u64, String)>,
    },
    /// Several numbers to predict.
    Numbers {
        /// Number of columns.
        columns: usize,
        /// Labelled rows.
        rows: usize,
    },
    /// Lists, or text with a separator: sets of labels.
    Lists {
        /// Rows of each label.
        counts: BTreeMap<String, usize>,
        /// Rows without any label.
        unlabelled: usize,
        /// What separates the labels of a text; `None` for lists.
        separator: Option<char>,
        /// Whether they can be nothing else. Of texts few of which have a separator, each may be one class.
        certain: bool,
    },
    /// Several columns of 0 and 1: sets of labels, named as the columns.
    Binary {
        /// Rows of each label, of every column.
        counts: BTreeMap<String, usize>,
        /// Rows without any label.
        unlabelled: usize,
    },
    /// Lists of 0 and 1, all of one length: sets of labels that nothing names.
    MultiHot {
        /// Their length.
        width: usize,
    },
    /// Lists of numbers with fractions: numbers to predict that are no columns of their own.
    Vectors {
        /// The length of the first.
        width: usize,
    },
    /// Values that do not come again: neither classes nor numbers with fractions.
    MostlyUnique {
        /// Labelled rows.
        rows: usize,
        /// Different values.
        distinct: usize,
        /// Whether all are numbers.
        numbers: bool,
        /// The first of them by name.
        example: String,
    },
}

impl TargetHint {
    /// Rows of each class or label; empty for numbers.
    pub fn counts(&self) -> BTreeMap<String, usize> {
        match self {
            Self::Classes { counts } | Self::Lists { counts, .. } | Self::Binary { counts, .. } => {
                counts.clone()
            }
            _ => BTreeMap::new(),
        }
    }

    /// The kind of target that fits; `None` where none does.
    pub fn kind(&self) -> Option<TargetKind> {
        match self {
            Self::Classes { .. } => Some(TargetKind::Class),
            Self::Lists { .. } | Self::Binary { .. } => Some(TargetKind::Classes),
            Self::Number { .. } | Self::Numbers { .. } => Some(TargetKind::Real),
            Self::MostlyUnique { numbers, .. } => numbers.then_some(TargetKind::Real),
            Self::Nothing | Self::MultiHot { .. } | Self::Vectors { .. } => None,
        }
    }

    /// Whether such targets can be learned from the labels. Where one of several kinds is unclear, as of integers, they can.
    pub fn fits(&self, kind: TargetKind) -> bool {
        match (self, kind) {
            (
                _,
                TargetKind::Next
                | TargetKind::Tags
                | TargetKind::Answer
                | TargetKind::Choice
                | TargetKind::Related,
            ) => true,
            (Self::Nothing, _) => true,
            (Self::MultiHot { .. } | Self::Vectors { .. }, _) => false,
            (_, TargetKind::Class) => matches!(
                self,
                Self::Classes { .. } | Self::Lists { certain: false, .. }
            ),
            (_, TargetKind::Classes) => self.kind() != Some(TargetKind::Real),
            // Every row says whether it is a number.
            (_, TargetKind::Real) => true,
        }
    }

    /// Refuses labels of a training file that such targets cannot be learned from.
    ///
    /// # Errors
    /// [`DataError::UnfitLabels`] says what the column `columns[0]` of `path` looks like and names the task that fits.
    pub fn check(
        &self,
        kind: TargetKind,
        path: &Path,
        columns: &[ResolvedColumn],
        input: Input,
    ) -> Result<(), DataError> {
        match self.fits(kind) {
            true => Ok(()),
            false => Err(self.unfit(path, columns, input, None)),
        }
    }

    /// What the labels look like and the task that fits, at the first row that is bad.
    fn unfit(
        &self,
        path: &Path,
        columns: &[ResolvedColumn],
        input: Input,
        bad: Option<(&Place, &BadReason)>,
    ) -> DataError {
        let regression = input.task(TargetKind::Real);
        let (mut looks, hint) = match self {
            Self::Nothing => (
                "is empty".to_owned(),
                "name another label column".to_owned(),
            ),
            Self::Classes { counts } => (
                format!("holds classes: {} different values", counts.len()),
                input.task(TargetKind::Class),
            ),
            Self::Number {
                rows,
                distinct,
                example,
                odd,
                ..
            } => (
                format!(
                    "looks like a number to predict: {distinct} different values in {rows} rows, such as {example}"
                ),
                match odd {
                    None => regression,
                    Some((line, found)) => format!(
                        "{regression}, and correct or remove what is no number, such as `{found}` at {}:{line}{}",
                        path.display(),
                        match decimal_comma(found) {
                            Some(number) => format!(" (write {number})"),
                            None => String::new(),
                        }
                    ),
                },
            ),
            Self::Numbers { columns, .. } => (
                format!("is one of {columns} columns of numbers"),
                regression,
            ),
            Self::Lists {
                separator: Some(separator),
                counts,
                ..
            } => (
                format!(
                    "holds several labels a row, {} in all, separated by `{separator}`",
                    counts.len()
                ),
                format!(
                    "{}; if each value is one class, write it without `{separator}`",
                    input.task(TargetKind::Classes)
                ),
            ),
            Self::Lists { .. } => ("holds lists".to_owned(), input.task(TargetKind::Classes)),
            Self::MultiHot { width } => (
                format!("holds lists of {width} times 0 or 1, which do not name the labels"),
                format!(
                    "write lists of the labels' names, or a column of 0 and 1 for each label, named as the label; and {}",
                    input.task(TargetKind::Classes)
                ),
            ),
            Self::Vectors { width } => (
                format!("holds lists of numbers with fractions, such as one of {width}"),
                format!(
                    "write each number into a column of its own, and name them: --set data.label=[\"a\", \"b\"] {regression}"
                ),
            ),
            Self::Binary { counts, .. } => (
                format!("is one of {} columns of 0 and 1", counts.len()),
                input.task(TargetKind::Classes),
            ),
            Self::MostlyUnique {
                rows,
                distinct,
                numbers,
                example,
            } => (
                format!(
                    "holds no classes: {distinct} different values in {rows} rows, such as `{example}`"
                ),
                match numbers {
                    true => format!(
                        "name another label column; or, for a number to predict, {regression}"
                    ),
                    false => "name another label column".to_owned(),
                },
            ),
        };
        if let Some((place, reason)) = bad {
            looks.push_str(&format!(" ({place}: {reason})"));
        }
        DataError::UnfitLabels {
            path: path.to_owned(),
            column: columns
                .first()
                .map_or_else(|| "label".to_owned(), |column| column.name.clone()),
            looks,
            hint,
        }
    }
}

/// A number with a decimal comma, a currency's sign or as a percentage, as it is to be written.
fn decimal_comma(text: &str) -> Option<String> {
    const SIGNS: [char; 5] = ['$', '€', '£', '¥', '%'];
    let bare = text.trim_matches(SIGNS).trim();
    let pointed = match text == bare {
        true => text.replacen(',', ".", 1),
        // Prices have commas between thousands.
        false if bare.contains('.') => bare.replace(',', ""),
        false => bare.replacen(',', ".", 1),
    };
    (pointed != text && pointed.parse::<f64>().is_ok()).then_some(pointed)
}

/// Collects the labels of a file, row by row, for a [`TargetHint`].
#[derive(Debug, Default)]
pub(crate) struct Looker {
    columns: Vec<Column>,
    rows: usize,
    /// Rows in which no column is on, where all are flags.
    all_off: usize,
}

/// What was seen of one column.
#[derive(Debug, Default)]
struct Column {
    name: String,
    /// Single values, as class names.
    values: BTreeMap<String, Seen>,
    /// Elements of lists, with their rows.
    elements: BTreeMap<String, usize>,
    lists: usize,
    /// Empty lists and blank texts.
    empty: usize,
    /// Rows that are yes.
    on: usize,
    /// Whether every value so far is 0 or 1, yes or no.
    flags: bool,
    multi_hot: MultiHot,
}

/// A value of a column.
#[derive(Debug, Clone, Copy)]
struct Seen {
    /// Rows that hold it.
    rows: usize,
    /// Line of the first.
    line: u64,
}

/// Whether all lists are of one length and hold 0 and 1 only. No lists of names are: of two values, each list of more than
/// two would name one twice.
#[derive(Debug, Default)]
struct MultiHot {
    width: Option<usize>,
    other: bool,
    /// Whether there is a number with a fraction, and whether there is anything but numbers.
    fraction: bool,
    no_number: bool,
}

impl MultiHot {
    fn look(&mut self, elements: &[String]) {
        let flag =
            |element: &String| matches!(element.trim(), "0" | "1" | "0.0" | "1.0" | "0." | "1.");
        let width = *self.width.get_or_insert(elements.len());
        self.other |= width != elements.len() || !elements.iter().all(flag);
        for element in elements {
            match element.trim().parse::<f64>() {
                Ok(number) => self.fraction |= number.fract() != 0.0,
                Err(_) => self.no_number = true,
            }
        }
    }

    fn hint(&self) -> Option<TargetHint> {
        if self.fraction && !self.no_number {
            return Some(TargetHint::Vectors {
                width: self.width.unwrap_or(0),
            });
        }
        let width = self.width.filter(|&width| width > 1 && !self.other)?;
        Some(TargetHint::MultiHot { width })
    }
}

/// The values of a column of numbers.
struct Numbers<'a> {
    /// As they are written, and their value.
    values: Vec<(&'a str, f64)>,
    /// The first row that is no number as we read them, and what stands there.
    odd: Option<(u64, String)>,
}

impl Looker {
    pub fn new(names: impl IntoIterator<Item = String>) -> Self {
        let column = |name| Column {
            name,
            flags: true,
            ..Column::default()
        };
        Self {
            columns: names.into_iter().map(column).collect(),
            ..Self::default()
        }
    }

    /// Looks at the row of a line, as it is written.
    pub fn look(&mut self, target: &RawTarget, line: u64) {
        self.rows += usize::from(target.0.iter().any(|value| !value.is_missing()));
        let mut any_on = false;
        for (column, value) in self.columns.iter_mut().zip(&target.0) {
            if let RawValue::List(elements) = value {
                column.list(elements);
                continue;
            }
            let Some(name) = value.class_name() else {
                column.empty += usize::from(matches!(value, RawValue::Text(_)));
                continue;
            };
            match canonical::flag(value) {
                Some(on) => {
                    column.on += usize::from(on);
                    any_on |= on;
                }
                None => column.flags = false,
            }
            let seen = column.values.entry(canonical::tidy(&name).into_owned());
            seen.or_insert(Seen { rows: 0, line }).rows += 1;
        }
        self.all_off += usize::from(!any_on);
    }

    /// Refuses the labels for a row that is bad, where the others show that another task was meant.
    ///
    /// # Errors
    /// [`DataError::UnfitLabels`].
    pub fn check_row(
        &self,
        path: &Path,
        columns: &[ResolvedColumn],
        options: &ReadOptions,
        place: &Place,
        reason: &BadReason,
    ) -> Result<(), DataError> {
        let hint = self.hint();
        let numbers = || self.columns.iter().any(Column::is_mostly_numbers);
        let other_task = options.require_label
            && match options.target {
                // One value tells nothing.
                TargetKind::Real => {
                    let one = matches!(&hint, TargetHint::Classes { counts } if counts.len() < 2);
                    hint != TargetHint::Nothing && !one && !numbers()
                }
                kind => !hint.fits(kind) && hint.kind().is_some(),
            };
        match other_task && reason.is_of_label() {
            true => Err(hint.unfit(path, columns, options.input, Some((place, reason)))),
            false => Ok(()),
        }
    }

    pub fn hint(&self) -> TargetHint {
        match self.columns.as_slice() {
            [] => TargetHint::Nothing,
            [column] => column.hint(),
            columns if columns.iter().all(Column::is_binary) => TargetHint::Binary {
                counts: columns
                    .iter()
                    .map(|column| (column.name.clone(), column.on))
                    .collect(),
                unlabelled: self.all_off,
            },
            columns if columns.iter().all(|column| column.numbers().is_some()) => {
                TargetHint::Numbers {
                    columns: columns.len(),
                    rows: self.rows,
                }
            }
            [first, ..] => first.hint(),
        }
    }
}

impl Column {
    fn list(&mut self, elements: &[String]) {
        self.flags = false;
        self.lists += 1;
        self.empty += usize::from(elements.is_empty());
        self.multi_hot.look(elements);
        for element in elements {
            *self.elements.entry(element.clone()).or_default() += 1;
        }
    }

    fn is_binary(&self) -> bool {
        self.flags && self.lists == 0 && !self.values.is_empty()
    }

    /// The different values, if all are numbers, or all but one row, or but one of ten. A decimal comma makes a number that
    /// is to be corrected.
    fn numbers(&self) -> Option<Numbers<'_>> {
        const ROWS_PER_ODD: usize = 10;
        const LEAST: usize = 5;
        if self.lists > 0 || self.values.is_empty() {
            return None;
        }
        let (mut values, mut odd, mut odd_rows) = (Vec::new(), None, 0);
        let mut correct = |seen: &Seen, text: &str| {
            let first = odd.as_ref().is_none_or(|(line, _)| seen.line < *line);
            if first {
                odd = Some((seen.line, text.to_owned()));
            }
        };
        for (text, seen) in &self.values {
            let is_decimal = text.bytes().any(|byte| byte.is_ascii_digit());
            let number = |text: &str| text.parse::<f64>().ok().filter(|_| is_decimal);
            if let Some(value) = number(text) {
                values.push((text.as_str(), value));
                continue;
            }
            correct(seen, text);
            match decimal_comma(text).and_then(|text| number(&text)) {
                Some(value) => values.push((text.as_str(), value)),
                None => odd_rows += seen.rows,
            }
        }
        let rows = self.rows();
        let few = odd_rows == 0 || rows >= LEAST && odd_rows <= (rows / ROWS_PER_ODD).max(1);
        (few && !values.is_empty()).then_some(Numbers { values, odd })
    }

    /// Rows of single values.
    fn rows(&self) -> usize {
        self.values.values().map(|seen| seen.rows).sum()
    }

    /// Rows of each value.
    fn counts(&self) -> BTreeMap<String, usize> {
        let counts = self.values.iter();
        counts
            .map(|(value, seen)| (value.clone(), seen.rows))
            .collect()
    }

    /// Whether at least half of the values are numbers, booleans not among them.
    fn is_mostly_numbers(&self) -> bool {
        let numbers = self
            .values
            .iter()
            .filter(|(text, _)| text.parse::<f64>().is_ok() || decimal_comma(text).is_some());
        let numbers: usize = numbers.map(|(_, seen)| seen.rows).sum();
        numbers > 0 && numbers * 2 >= self.rows() + self.lists
    }

    fn hint(&self) -> TargetHint {
        if self.lists > 0 {
            return self.multi_hot.hint().unwrap_or_else(|| TargetHint::Lists {
                counts: self.elements.clone(),
                unlabelled: self.empty,
                separator: None,
                certain: true,
            });
        }
        let rows = self.rows();
        let distinct = self.values.len();
        let Some(example) = self.values.keys().next() else {
            return TargetHint::Nothing;
        };
        if let Some(lists) = self.written_lists() {
            return lists;
        }
        let mostly_unique = distinct * 2 > rows;
        let numbers = self.numbers();
        let separated = self.separated();
        if let Some(lists @ TargetHint::Lists { .. }) = &separated
            && numbers.is_some()
            && self.lists_numbers()
        {
            return lists.clone();
        }
        if let Some(Numbers { values, odd }) = &numbers
            && let Some((fraction, _)) = values.iter().find(|(_, value)| value.fract() != 0.0)
            && (distinct > FRACTIONS || mostly_unique)
        {
            let values = || values.iter().map(|(_, value)| *value);
            return TargetHint::Number {
                rows,
                distinct,
                min: values().fold(f64::INFINITY, f64::min),
                max: values().fold(f64::NEG_INFINITY, f64::max),
                example: (*fraction).to_owned(),
                odd: odd.clone(),
            };
        }
        let is_comma = |lists: &TargetHint| {
            matches!(
                lists,
                TargetHint::Lists {
                    separator: Some(','),
                    ..
                }
            )
        };
        if let Some(lists) = separated.filter(|lists| numbers.is_none() || !is_comma(lists)) {
            return lists;
        }
        if mostly_unique && rows >= ENOUGH {
            return TargetHint::MostlyUnique {
                rows,
                distinct,
                numbers: numbers.is_some(),
                example: example.clone(),
            };
        }
        TargetHint::Classes {
            counts: self.counts(),
        }
    }

    /// Texts that are all written as lists.
    fn written_lists(&self) -> Option<TargetHint> {
        if !self.values.keys().all(|text| is_bracketed(text)) {
            return None;
        }
        let (mut counts, mut unlabelled) = (BTreeMap::new(), self.empty);
        let mut multi_hot = MultiHot::default();
        for (text, Seen { rows, .. }) in &self.values {
            let elements = written_list(text)?;
            multi_hot.look(&elements);
            unlabelled += rows * usize::from(elements.is_empty());
            for element in elements {
                *counts.entry(element).or_insert(0) += rows;
            }
        }
        Some(multi_hot.hint().unwrap_or(TargetHint::Lists {
            counts,
            unlabelled,
            separator: None,
            certain: true,
        }))
    }

    /// Whether values that may be numbers with decimal commas are lists of whole numbers: one has several commas, or the
    /// column's name is one of sets, and nothing stands behind a comma that does not stand alone too.
    fn lists_numbers(&self) -> bool {
        let several = |text: &String| text.matches(',').count() > 1;
        let all_alone = || {
            let parts = self.values.keys().flat_map(|text| text.split(','));
            parts
                .map(str::trim)
                .all(|part| self.values.contains_key(part))
        };
        self.values.keys().any(several) || (is_set_name(&self.name) && all_alone())
    }

    /// Texts of which many hold a separator that divides them into fewer names. Commas belong to prose and to names such as
    /// "Washington, DC" too: what they divide must stand alone as well, for the most part, or come again and again.
    fn separated(&self) -> Option<TargetHint> {
        let texts = || {
            self.values
                .iter()
                .map(|(text, seen)| (text.as_str(), seen.rows))
        };
        let separator = most_frequent_separator(texts())?;
        let rows = |texts: &mut dyn Iterator<Item = (&str, usize)>| -> usize {
            texts.map(|(_, rows)| rows).sum()
        };
        let divided = |text: &'_ str| -> Vec<String> {
            let names = text.split(separator).map(str::trim);
            let names = names.filter(|name| !name.is_empty());
            names.map(str::to_owned).collect()
        };
        let with = rows(&mut texts().filter(|(text, _)| text.contains(separator)));
        let mut counts = BTreeMap::new();
        for (text, rows) in texts() {
            for name in divided(text) {
                *counts.entry(name).or_insert(0) += rows;
            }
        }
        let fewer = counts.len() < self.values.len();
        let many = with * 4 >= rows(&mut texts());
        let alone = || counts.keys().all(|name| self.values.contains_key(name));
        let certain = match separator {
            ',' => {
                let of_lists = texts().filter(|(text, _)| text.contains(separator));
                let parts: BTreeSet<String> =
                    of_lists.flat_map(|(text, _)| divided(text)).collect();
                let known = parts
                    .iter()
                    .filter(|part| self.values.contains_key(*part))
                    .count();
                let again = many && counts.len() * 2 <= self.values.len();
                if known * 2 <= parts.len() && !again {
                    return None;
                }
                many
            }
            _ => many,
        };
        (fewer && with > 0 && (certain || alone())).then(|| TargetHint::Lists {
            counts: counts.clone(),
            unlabelled: self.empty,
            separator: Some(separator),
            certain,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hint(values: impl IntoIterator<Item = RawValue>) -> TargetHint {
        let mut looker = Looker::new(["label".to_owned()]);
        for (line, value) in (2..).zip(values) {
            looker.look(&RawTarget(vec![value]), line);
        }
        looker.hint()
    }

    fn texts<'a>(values: impl IntoIterator<Item = &'a str>) -> Vec<RawValue> {
        values.into_iter().map(RawValue::from).collect()
    }

    fn refused(hint: &TargetHint) -> String {
        let column = ResolvedColumn {
            index: 1,
            name: "label".to_owned(),
            reason: String::new(),
        };
        match hint.check(
            TargetKind::Class,
            Path::new("a.csv"),
            &[column],
            Input::Text,
        ) {
            Ok(()) => "accepted".to_owned(),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn what_is_no_class_is_refused_with_the_task_that_fits() {
        let fractions = (0..40).map(|i| RawValue::Real(f64::from(i % 13) / 8.0));
        let unique = (0..30).map(|i| RawValue::from(format!("title {i}").as_str()));
        let ids = (0..30).map(RawValue::Int);
        for (values, expect) in [
            (texts(["a", "b", "a"]), "accepted"),
            // One-hot data sets are small; a few different texts are classes.
            (texts(["a", "b", "c"]), "accepted"),
            (texts(["1", "2", "3", "4", "5", "1", "2"]), "accepted"),
            (texts(["1.0", "0.0", "1.0"]), "accepted"),
            // Half stars, each many times.
            (texts(["0.5", "1.5", "0.5", "1.5"]), "accepted"),
            (
                texts(["0.5", "0.25", "1"]),
                "a.csv: label looks like a number to predict: 3 different values in 3 rows, such as 0.25\nhint: --task text-regression",
            ),
            (
                fractions.collect(),
                "a.csv: label looks like a number to predict: 13 different values in 40 rows, such as 0.125\nhint: --task text-regression",
            ),
            (
                vec![RawValue::List(vec!["a".into(), "b".into()])],
                "a.csv: label holds lists\nhint: --task text-multi-label",
            ),
            (
                texts(["['a', 'b']", "[]"]),
                "a.csv: label holds lists\nhint: --task text-multi-label",
            ),
            (
                unique.collect(),
                "a.csv: label holds no classes: 30 different values in 30 rows, such as `title 0`\nhint: name another label column",
            ),
            (
                ids.collect(),
                "a.csv: label holds no classes: 30 different values in 30 rows, such as `0`\nhint: name another label column; or, for a number to predict, --task text-regression",
            ),
            (texts(["version 1.5", "1.25", "x"]), "accepted"),
            (
                texts(["$1,200.50", "$3.00", "$4.25", "$7.10"]),
                "a.csv: label looks like a number to predict: 4 different values in 4 rows, such as $1,200.50\nhint: --task text-regression, and correct or remove what is no number, such as `$1,200.50` at a.csv:2 (write 1200.50)",
            ),
            (
                texts(["a|b", "b", "a|c", "c|b", "a"]),
                "a.csv: label holds several labels a row, 3 in all, separated by `|`\nhint: --task text-multi-label; if each value is one class, write it without `|`",
            ),
            (
                texts(["0", "1,2", "2,3", "3", "0,1,2", "1", "2"]),
                "a.csv: label holds several labels a row, 4 in all, separated by `,`\nhint: --task text-multi-label; if each value is one class, write it without `,`",
            ),
            (
                texts(["a", "a,b", "b", "c, a", "a"]),
                "a.csv: label holds several labels a row, 3 in all, separated by `,`\nhint: --task text-multi-label; if each value is one class, write it without `,`",
            ),
            // A name with a comma in it is one class, also where a part of it stands alone.
            (
                texts([
                    "Washington, DC",
                    "Portland, OR",
                    "Portland, ME",
                    "Washington",
                    "Paris",
                ]),
                "accepted",
            ),
            // Half stars with decimal commas.
            (
                texts(["1", "1,5", "2", "5", "1,5", "2", "1", "5"]),
                "accepted",
            ),
            (
                texts(["[0 1]", "[1 0]", "[1. 1.]"]),
                "a.csv: label holds lists of 2 times 0 or 1, which do not name the labels\nhint: write lists of the labels' names, or a column of 0 and 1 for each label, named as the label; and --task text-multi-label",
            ),
            (
                vec![RawValue::List(vec!["0.1".into(), "0.3".into()])],
                "a.csv: label holds lists of numbers with fractions, such as one of 2\nhint: write each number into a column of its own, and name them: --set data.label=[\"a\", \"b\"] --task text-regression",
            ),
            // Paths of a hierarchy are no sets: each divides into a name of its own.
            (
                texts(["news|art", "news|sport", "tech|ai", "tech|web"]),
                "accepted",
            ),
            (
                texts(["[0, 1, 1]", "[1.0, 0.0, 0.0]"]),
                "a.csv: label holds lists of 3 times 0 or 1, which do not name the labels\nhint: write lists of the labels' names, or a column of 0 and 1 for each label, named as the label; and --task text-multi-label",
            ),
            (
                texts(["0.5", "0.25", "1", "1.5", "2.5", "n/a"]),
                "a.csv: label looks like a number to predict: 6 different values in 6 rows, such as 0.25\nhint: --task text-regression, and correct or remove what is no number, such as `n/a` at a.csv:7",
            ),
            // Two of six are too many to be mistakes.
            (texts(["0.5", "0.25", "1", "1.5", "a", "b"]), "accepted"),
        ] {
            assert_eq!(refused(&hint(values.clone())), expect, "{values:?}");
        }
    }

    #[test]
    fn labels_are_counted_whatever_their_form() {
        let counts = |pairs: &[(&str, usize)]| -> BTreeMap<String, usize> {
            pairs
                .iter()
                .map(|(name, n)| ((*name).to_owned(), *n))
                .collect()
        };
        assert_eq!(
            hint(texts(["a|b", "b", "a|c", "c|b", "a"])),
            TargetHint::Lists {
                counts: counts(&[("a", 3), ("b", 3), ("c", 2)]),
                unlabelled: 0,
                separator: Some('|'),
                certain: true,
            }
        );
        assert_eq!(
            hint([RawValue::List(vec!["a".into()]), RawValue::List(vec![])]),
            TargetHint::Lists {
                counts: counts(&[("a", 1)]),
                unlabelled: 1,
                separator: None,
                certain: true,
            }
        );
        let mut looker = Looker::new(["toxic", "rude"].map(str::to_owned));
        for (toxic, rude) in [("1", "0"), ("0", "0"), ("1", "1")] {
            looker.look(&RawTarget(texts([toxic, rude])), 1);
        }
        let binary = looker.hint();
        assert_eq!(
            binary,
            TargetHint::Binary {
                counts: counts(&[("toxic", 2), ("rude", 1)]),
                unlabelled: 1,
            }
        );
        assert_eq!(binary.kind(), Some(TargetKind::Classes));
    }

    #[test]
    fn numbers_have_a_range_and_missing_values_do_not_count() {
        let found = hint(texts(["1.5", "", "-2", "0.25"]));
        assert_eq!(
            found,
            TargetHint::Number {
                rows: 3,
                distinct: 3,
                min: -2.0,
                max: 1.5,
                example: "0.25".to_owned(),
                odd: None,
            }
        );
        assert_eq!(
            hint([RawValue::Missing, RawValue::Real(f64::NAN)]),
            TargetHint::Nothing
        );
    }
}
