//! What label columns look like: which kind of task fits them.
//!
//! A column of numbers or lists can be put under classification by mistake: every value then is a class of its own,
//! training runs, and nothing is learned. So a training file's labels are looked at before anything else.
//! The rules, for a column of R labelled rows with D different values:
//!
//! | column | looks like |
//! |---|---|
//! | lists, or text that is written as a list | sets of labels |
//! | only numbers, some with a fraction, and D > 10 or D > R / 2 | a number to predict |
//! | R of at least 20, D > R / 2 | nothing that repeats: no classes |
//! | several columns, all of 0 and 1 | sets of labels |
//! | several columns, all of numbers | numbers to predict |
//! | anything else, so integers of few different values too | classes |

use std::collections::BTreeMap;
use std::path::Path;

use super::canonical::{self, is_bracketed, most_frequent_separator, written_list};
use crate::tables::ResolvedColumn;
use crate::{DataError, RawTarget, RawValue, TargetKind};

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
    /// The task of this input that learns sets of labels.
    fn multi_label(self) -> &'static str {
        match self {
            Self::Text => "text-multi-label",
            Self::Image => "image-multi-label",
        }
    }

    /// What to do about a number to predict.
    fn regression(self) -> &'static str {
        match self {
            Self::Text => "set task = \"text-regression\"",
            Self::Image => {
                "there is no task that predicts numbers of pictures; name another label column"
            }
        }
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
    },
    /// Several columns of 0 and 1: sets of labels, named as the columns.
    Binary {
        /// Rows of each label, of every column.
        counts: BTreeMap<String, usize>,
        /// Rows without any label.
        unlabelled: usize,
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
            Self::Nothing => None,
        }
    }

    /// Refuses what is no column of classes. For the labels of a training file under classification.
    ///
    /// # Errors
    /// [`DataError::NotClasses`] says what the column `columns[0]` of `path` looks like and names the task that fits.
    pub fn check_classes(
        &self,
        path: &Path,
        columns: &[ResolvedColumn],
        input: Input,
    ) -> Result<(), DataError> {
        let multi_label = || format!("set task = \"{}\"", input.multi_label());
        let (looks, hint) = match self {
            Self::Nothing | Self::Classes { .. } => return Ok(()),
            // A separator may belong to the name of a class.
            Self::Lists {
                separator: Some(_), ..
            } => return Ok(()),
            Self::Number {
                rows,
                distinct,
                example,
                ..
            } => (
                format!(
                    "looks like a number to predict: {distinct} different values in {rows} rows, such as {example}"
                ),
                input.regression().to_owned(),
            ),
            Self::Numbers { columns, .. } => (
                format!("is one of {columns} columns of numbers"),
                input.regression().to_owned(),
            ),
            Self::Lists { .. } => ("holds lists".to_owned(), multi_label()),
            Self::Binary { counts, .. } => (
                format!("is one of {} columns of 0 and 1", counts.len()),
                multi_label(),
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
                        "name another label column; or, for a number to predict, {}",
                        input.regression()
                    ),
                    false => "name another label column".to_owned(),
                },
            ),
        };
        Err(DataError::NotClasses {
            path: path.to_owned(),
            column: columns
                .first()
                .map_or_else(|| "label".to_owned(), |column| column.name.clone()),
            looks,
            hint,
        })
    }
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
    /// Single values, as class names, with their rows.
    values: BTreeMap<String, usize>,
    /// Elements of lists, with their rows.
    elements: BTreeMap<String, usize>,
    lists: usize,
    /// Empty lists and blank texts.
    empty: usize,
    /// Rows that are yes.
    on: usize,
    /// Whether every value so far is 0 or 1, yes or no.
    flags: bool,
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

    /// Looks at one row, as it is written.
    pub fn look(&mut self, target: &RawTarget) {
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
            *column.values.entry(name.into_owned()).or_default() += 1;
        }
        self.all_off += usize::from(!any_on);
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
        for element in elements {
            *self.elements.entry(element.clone()).or_default() += 1;
        }
    }

    fn is_binary(&self) -> bool {
        self.flags && self.lists == 0 && !self.values.is_empty()
    }

    /// The different values, if all are numbers.
    fn numbers(&self) -> Option<Vec<f64>> {
        let number = |name: &String| {
            let is_decimal = name.bytes().any(|byte| byte.is_ascii_digit());
            name.parse::<f64>().ok().filter(|_| is_decimal)
        };
        (self.lists == 0 && !self.values.is_empty())
            .then(|| self.values.keys().map(number).collect())
            .flatten()
    }

    fn hint(&self) -> TargetHint {
        if self.lists > 0 {
            return TargetHint::Lists {
                counts: self.elements.clone(),
                unlabelled: self.empty,
                separator: None,
            };
        }
        let rows: usize = self.values.values().sum();
        let distinct = self.values.len();
        let Some(example) = self.values.keys().next() else {
            return TargetHint::Nothing;
        };
        if let Some(lists) = self.written_lists() {
            return lists;
        }
        let mostly_unique = distinct * 2 > rows;
        let numbers = self.numbers();
        if let Some(numbers) = &numbers
            && let Some(fraction) = numbers.iter().position(|number| number.fract() != 0.0)
            && (distinct > FRACTIONS || mostly_unique)
        {
            return TargetHint::Number {
                rows,
                distinct,
                min: numbers.iter().copied().fold(f64::INFINITY, f64::min),
                max: numbers.iter().copied().fold(f64::NEG_INFINITY, f64::max),
                example: self
                    .values
                    .keys()
                    .nth(fraction)
                    .cloned()
                    .unwrap_or_default(),
            };
        }
        if let Some(lists) = self.separated() {
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
            counts: self.values.clone(),
        }
    }

    /// Texts that are all written as lists.
    fn written_lists(&self) -> Option<TargetHint> {
        if !self.values.keys().all(|text| is_bracketed(text)) {
            return None;
        }
        let (mut counts, mut unlabelled) = (BTreeMap::new(), self.empty);
        for (text, rows) in &self.values {
            let elements = written_list(text)?;
            unlabelled += rows * usize::from(elements.is_empty());
            for element in elements {
                *counts.entry(element).or_insert(0) += rows;
            }
        }
        Some(TargetHint::Lists {
            counts,
            unlabelled,
            separator: None,
        })
    }

    /// Texts of which many hold a separator (`|` or `;`: commas belong to prose) that divides them into fewer names.
    fn separated(&self) -> Option<TargetHint> {
        let texts = || {
            self.values
                .iter()
                .map(|(text, rows)| (text.as_str(), *rows))
        };
        let separator = most_frequent_separator(texts()).filter(|separator| *separator != ',')?;
        let rows = |texts: &mut dyn Iterator<Item = (&str, usize)>| -> usize {
            texts.map(|(_, rows)| rows).sum()
        };
        let with = rows(&mut texts().filter(|(text, _)| text.contains(separator)));
        let mut counts = BTreeMap::new();
        for (text, rows) in texts() {
            for name in text
                .split(separator)
                .map(str::trim)
                .filter(|name| !name.is_empty())
            {
                *counts.entry(name.to_owned()).or_insert(0) += rows;
            }
        }
        let fewer = counts.len() < self.values.len();
        (fewer && with * 4 >= rows(&mut texts())).then_some(TargetHint::Lists {
            counts,
            unlabelled: self.empty,
            separator: Some(separator),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hint(values: impl IntoIterator<Item = RawValue>) -> TargetHint {
        let mut looker = Looker::new(["label".to_owned()]);
        for value in values {
            looker.look(&RawTarget(vec![value]));
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
        match hint.check_classes(Path::new("a.csv"), &[column], Input::Text) {
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
                "a.csv: label looks like a number to predict: 3 different values in 3 rows, such as 0.25\nhint: set task = \"text-regression\"",
            ),
            (
                fractions.collect(),
                "a.csv: label looks like a number to predict: 13 different values in 40 rows, such as 0.125\nhint: set task = \"text-regression\"",
            ),
            (
                vec![RawValue::List(vec!["a".into(), "b".into()])],
                "a.csv: label holds lists\nhint: set task = \"text-multi-label\"",
            ),
            (
                texts(["['a', 'b']", "[]"]),
                "a.csv: label holds lists\nhint: set task = \"text-multi-label\"",
            ),
            (
                unique.collect(),
                "a.csv: label holds no classes: 30 different values in 30 rows, such as `title 0`\nhint: name another label column",
            ),
            (
                ids.collect(),
                "a.csv: label holds no classes: 30 different values in 30 rows, such as `0`\nhint: name another label column; or, for a number to predict, set task = \"text-regression\"",
            ),
            (texts(["version 1.5", "1.25", "x"]), "accepted"),
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
            }
        );
        assert_eq!(
            hint([RawValue::List(vec!["a".into()]), RawValue::List(vec![])]),
            TargetHint::Lists {
                counts: counts(&[("a", 1)]),
                unlabelled: 1,
                separator: None,
            }
        );
        let mut looker = Looker::new(["toxic", "rude"].map(str::to_owned));
        for (toxic, rude) in [("1", "0"), ("0", "0"), ("1", "1")] {
            looker.look(&RawTarget(texts([toxic, rude])));
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
            }
        );
        assert_eq!(
            hint([RawValue::Missing, RawValue::Real(f64::NAN)]),
            TargetHint::Nothing
        );
    }
}
