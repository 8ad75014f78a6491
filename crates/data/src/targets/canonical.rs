//! Raw label cells to the one form that each kind of target has.
//!
//! This is where a row's label is accepted or refused, so that `on_bad_example` covers labels as it covers texts.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use rekindle_base::words::{counted, first_of};
use unicode_normalization::UnicodeNormalization;

use super::classes::{EXACT, whole_number};
use super::missing;
use crate::{BadReason, RawTarget, RawValue, TargetKind};

/// Separators that are looked for in a text column of labels, in this order where they are equally frequent.
pub(crate) const SEPARATORS: [char; 3] = ['|', ';', ','];

/// A row has at most so many labels.
const MOST_LABELS: usize = 10_000;

/// A label's name as it is meant: composed Unicode (NFC), no spaces or invisible characters around it, single spaces inside.
pub(crate) fn tidy(name: &str) -> Cow<'_, str> {
    let invisible = |c: char| {
        c.is_whitespace() || matches!(c, '\u{200B}'..='\u{200F}' | '\u{2060}' | '\u{FEFF}')
    };
    let name = name.trim_matches(invisible);
    let single =
        |name: &str| !name.contains("  ") && name.chars().all(|c| c == ' ' || !c.is_whitespace());
    if name.is_ascii() && single(name) {
        return Cow::Borrowed(name);
    }
    let words: Vec<&str> = name.split_whitespace().collect();
    Cow::Owned(words.join(" ").nfc().collect())
}

/// What is left of a name without case, signs between words and forms of letters; numbers by their value.
fn folded(name: &str) -> String {
    let is_number = name.bytes().any(|byte| byte.is_ascii_digit());
    match name.parse::<f64>() {
        Ok(number) if is_number && number.abs() < EXACT => number.to_string(),
        _ => name
            .nfkc()
            .map(|c| if matches!(c, '_' | '-') { ' ' } else { c })
            .collect::<String>()
            .to_lowercase(),
    }
}

/// A remark on labels that are taken as different though they look like one, if there are any. `counts` are the rows of each.
pub(crate) fn look_alikes(counts: &BTreeMap<String, usize>) -> Option<String> {
    const NAMED: usize = 3;
    let mut alike: BTreeMap<String, BTreeMap<String, usize>> = BTreeMap::new();
    // Whole numbers are compared by value where all labels are, see `LabelMap::from_examples`.
    let whole = counts.keys().all(|name| whole_number(name).is_some());
    for (name, rows) in counts {
        let name = whole_number(name)
            .filter(|_| whole)
            .unwrap_or_else(|| name.clone());
        *alike
            .entry(folded(&name))
            .or_default()
            .entry(name)
            .or_default() += rows;
    }
    let groups: Vec<String> = alike
        .values()
        .filter(|names| names.len() > 1)
        .map(|names| {
            let names = names
                .iter()
                .map(|(name, rows)| format!("`{name}` ({})", counted(*rows, "row", "rows")));
            first_of(&names.collect::<Vec<_>>())
        })
        .collect();
    let more = match groups.len().saturating_sub(NAMED) {
        0 => String::new(),
        more => format!("; and {more} more such groups"),
    };
    (!groups.is_empty()).then(|| {
        format!(
            "labels that look alike are different classes: {}{more}; write them alike if they are one",
            groups[..groups.len().min(NAMED)].join("; ")
        )
    })
}

/// How a file writes sets of labels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SetForm {
    /// One column: lists, or text that a separator divides if there is one.
    Column { separator: Option<char> },
    /// One column for each label, which says whether it is there.
    Flags,
}

impl SetForm {
    /// The form of the label columns, from all their rows. A single column whose every value is 0 or 1 is a flag.
    pub fn of<'a>(
        columns: usize,
        separator: Option<char>,
        rows: impl Iterator<Item = &'a RawTarget> + Clone,
    ) -> Self {
        let first = rows.filter_map(|target| target.0.first());
        let is_digit_flag = |value: &RawValue| match value {
            RawValue::Bool(_) | RawValue::Int(0 | 1) | RawValue::Missing => true,
            RawValue::Text(text) => matches!(text.as_str(), "" | "0" | "1" | "true" | "false"),
            _ => false,
        };
        let any = first.clone().any(|value| !value.is_missing());
        if columns > 1 || (separator.is_none() && any && first.clone().all(is_digit_flag)) {
            return Self::Flags;
        }
        let texts = first.filter_map(|value| match value {
            RawValue::Text(text) => Some((text.as_str(), 1)),
            _ => None,
        });
        Self::Column {
            separator: separator.or_else(|| most_frequent_separator(texts)),
        }
    }
}

/// The separator that most texts hold, if any does. Texts come with the number of rows that have them; a text in
/// brackets is a list and has none.
pub(crate) fn most_frequent_separator<'a>(
    texts: impl Iterator<Item = (&'a str, usize)>,
) -> Option<char> {
    let mut rows = [0usize; SEPARATORS.len()];
    for (text, count) in texts.filter(|(text, _)| !is_bracketed(text)) {
        for (rows, separator) in rows.iter_mut().zip(SEPARATORS) {
            *rows += count * usize::from(text.contains(separator));
        }
    }
    let most = *rows.iter().max()?;
    let position = rows.iter().position(|&rows| rows == most)?;
    (most > 0).then(|| SEPARATORS[position])
}

/// Brings the label of one row into its form. `names` are the label columns.
///
/// `required`: a row without label is bad. Where labels are not needed, one that cannot be read is none.
pub(crate) fn target(
    raw: RawTarget,
    names: &[String],
    kind: TargetKind,
    form: SetForm,
    required: bool,
) -> Result<Option<RawTarget>, BadReason> {
    let name = |index: usize| names.get(index).map_or("label", String::as_str);
    let is_blank = raw.0.iter().all(RawValue::is_missing);
    let made = match (kind, form) {
        (TargetKind::Classes, SetForm::Column { separator }) => match raw.0.first() {
            Some(value) => label_list(value, separator, name(0)),
            None => Err(missing(name(0))),
        },
        (TargetKind::Classes, SetForm::Flags) => flags(&raw, names),
        _ if is_blank => Err(missing(name(0))),
        (
            TargetKind::Next
            | TargetKind::Tags
            | TargetKind::Answer
            | TargetKind::Choice
            | TargetKind::Related,
            _,
        ) => Ok(raw),
        (TargetKind::Class, _) => Ok(RawTarget(raw.0.into_iter().map(class).collect())),
        (TargetKind::Real, _) => {
            let numbers = raw.0.iter().enumerate();
            let numbers = numbers.map(|(i, value)| number(value, name(i)).map(RawValue::Real));
            numbers.collect::<Result<_, _>>().map(RawTarget)
        }
    };
    match made {
        Ok(target) => Ok(Some(target)),
        Err(_) if !required => Ok(None),
        Err(reason) => Err(reason),
    }
}

/// A class as a name: floats as their digits, so that a class is never a float.
fn class(value: RawValue) -> RawValue {
    match value {
        RawValue::Real(_) => match value.class_name() {
            Some(name) => RawValue::Text(name.into_owned()),
            None => RawValue::Missing,
        },
        RawValue::Text(text) => RawValue::Text(tidy(&text).into_owned()),
        other => other,
    }
}

/// A finite number in the range of f32.
///
/// # Errors
/// What is wrong with the value of `column`.
pub(crate) fn number(value: &RawValue, column: &str) -> Result<f64, BadReason> {
    let not_a_number = |found: String| BadReason::NotANumber {
        column: column.to_owned(),
        found,
    };
    let number = match value {
        RawValue::Missing => return Err(missing(column)),
        RawValue::Int(number) => *number as f64,
        RawValue::Real(number) => *number,
        RawValue::Bool(value) => return Err(not_a_number(format!("the boolean {value}"))),
        RawValue::List(_) => return Err(not_a_number("a list".to_owned())),
        RawValue::Text(text) if text.is_empty() => return Err(missing(column)),
        RawValue::Text(text) => match text.parse::<f64>() {
            Ok(number) => number,
            Err(_) if text.replacen(',', ".", 1).parse::<f64>().is_ok() => {
                return Err(BadReason::DecimalComma {
                    column: column.to_owned(),
                    found: text.clone(),
                });
            }
            Err(_) => return Err(not_a_number(format!("`{}`", short(text)))),
        },
    };
    match (number as f32).is_finite() {
        true => Ok(number),
        false => Err(BadReason::NotFinite {
            column: column.to_owned(),
            found: value.to_string(),
        }),
    }
}

/// The first characters of a text, for a message.
fn short(text: &str) -> String {
    const SHOWN: usize = 40;
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.to_owned(),
    }
}

/// A list of labels, each once, blanks dropped.
fn label_list(
    value: &RawValue,
    separator: Option<char>,
    column: &str,
) -> Result<RawTarget, BadReason> {
    let names: Vec<String> = match (value, separator) {
        // A table has no other way to write an empty set.
        (RawValue::Text(text), _) if text.is_empty() => Vec::new(),
        (value, _) if value.is_missing() => return Err(missing(column)),
        (RawValue::List(names), _) => names.clone(),
        (RawValue::Text(text), _) if is_bracketed(text) => {
            written_list(text).ok_or_else(|| BadReason::NotAList {
                column: column.to_owned(),
                found: short(text),
            })?
        }
        (RawValue::Text(text), Some(separator)) => {
            text.split(separator).map(str::to_owned).collect()
        }
        (other, _) => other
            .class_name()
            .map(|name| name.into_owned())
            .into_iter()
            .collect(),
    };
    if names.len() > MOST_LABELS {
        return Err(BadReason::TooManyLabels {
            column: column.to_owned(),
            found: names.len(),
            most: MOST_LABELS,
        });
    }
    let mut seen = BTreeSet::new();
    let names = names.iter().map(|name| tidy(name).into_owned());
    let names = names.filter(|name| !name.is_empty() && seen.insert(name.clone()));
    Ok(RawTarget(vec![RawValue::List(names.collect())]))
}

/// The names of the columns that are on.
fn flags(raw: &RawTarget, names: &[String]) -> Result<RawTarget, BadReason> {
    let mut on = Vec::new();
    for (value, name) in raw.0.iter().zip(names) {
        if value.is_missing() {
            return Err(missing(name));
        }
        match flag(value) {
            Some(true) => on.push(name.clone()),
            Some(false) => {}
            None => {
                return Err(BadReason::NotBinary {
                    column: name.clone(),
                    found: short(&value.to_string()),
                });
            }
        }
    }
    Ok(RawTarget(vec![RawValue::List(on)]))
}

/// Whether a value says yes or no: 0 and 1, true and false, yes and no.
pub(crate) fn flag(value: &RawValue) -> Option<bool> {
    match value {
        RawValue::Bool(value) => Some(*value),
        RawValue::Int(number @ (0 | 1)) => Some(*number == 1),
        RawValue::Real(number) if *number == 0.0 || *number == 1.0 => Some(*number == 1.0),
        RawValue::Text(text) => match text.to_lowercase().as_str() {
            "1" | "1.0" | "true" | "yes" | "t" | "y" => Some(true),
            "0" | "0.0" | "false" | "no" | "f" | "n" => Some(false),
            _ => None,
        },
        _ => None,
    }
}

/// Whether a text is a list as JSON or Python writes it.
pub(crate) fn is_bracketed(text: &str) -> bool {
    text.starts_with('[') && text.ends_with(']') && text.len() >= 2
}

/// The elements of a list as JSON or Python writes it: `["a", "b"]`, `['a', 'b']`, `[1, 2]`; or as NumPy does, with spaces
/// between them: `['a' 'b']`, `[1 2]`. Data frames write such cells into CSV files.
pub(crate) fn written_list(text: &str) -> Option<Vec<String>> {
    let inner = text.strip_prefix('[')?.strip_suffix(']')?;
    let mut elements = Vec::new();
    let mut rest = inner.trim_start();
    while !rest.is_empty() {
        let quote = rest.chars().next().filter(|c| matches!(c, '"' | '\''));
        let (element, after) = match quote {
            Some(quote) => quoted(&rest[1..], quote)?,
            None => {
                let end = rest.find(',').unwrap_or(rest.len());
                let mut words = rest[..end].split_whitespace();
                let end = match words.all(|word| word.parse::<f64>().is_ok()) {
                    true => rest.find([',', ' ', '\n', '\r', '\t']).unwrap_or(end),
                    false => end,
                };
                (rest[..end].trim().to_owned(), &rest[end..])
            }
        };
        elements.push(element);
        rest = after.trim_start();
        match rest.strip_prefix(',') {
            Some(after) => rest = after.trim_start(),
            // NumPy writes none.
            None if rest.is_empty() || after.len() > rest.len() => {}
            None => return None,
        }
    }
    Some(elements)
}

/// A quoted element, and what follows the closing quote.
fn quoted(text: &str, quote: char) -> Option<(String, &str)> {
    let mut element = String::new();
    let mut characters = text.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '\\' => element.push(match characters.next()?.1 {
                'n' => '\n',
                't' => '\t',
                'u' => {
                    let code = text.get(at + 2..at + 6)?;
                    characters.nth(3)?;
                    char::from_u32(u32::from_str_radix(code, 16).ok()?)?
                }
                other => other,
            }),
            character if character == quote => return Some((element, &text[at + 1..])),
            other => element.push(other),
        }
    }
    None
}

/// The labels of rows in their form, with the number of rows of each; and the rows without any.
pub(crate) fn count_labels<'a>(
    rows: impl Iterator<Item = &'a RawTarget>,
) -> (BTreeMap<String, usize>, usize) {
    let (mut counts, mut empty) = (BTreeMap::new(), 0);
    for row in rows {
        if let [RawValue::List(names)] = row.0.as_slice() {
            empty += usize::from(names.is_empty());
            for name in names {
                *counts.entry(name.clone()).or_insert(0) += 1;
            }
        }
    }
    (counts, empty)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn numbers_are_read_and_what_is_none_is_named() {
        for (value, expect) in [
            (RawValue::from("1.5"), Ok(1.5)),
            (RawValue::from(" -2 "), Ok(-2.0)),
            (RawValue::from("1e-3"), Ok(0.001)),
            (RawValue::Int(7), Ok(7.0)),
            (RawValue::Real(0.25), Ok(0.25)),
            (
                RawValue::from("1,5"),
                Err("`1,5` in `score` has a decimal comma"),
            ),
            (
                RawValue::from("good"),
                Err("expected a number in `score`, found `good`"),
            ),
            (
                RawValue::from("1,234.5"),
                Err("expected a number in `score`, found `1,234.5`"),
            ),
            (
                RawValue::from("NaN"),
                Err("expected a finite number in `score`, found NaN"),
            ),
            (
                RawValue::from("-inf"),
                Err("expected a finite number in `score`, found -inf"),
            ),
            (
                RawValue::Real(f64::NAN),
                Err("expected a finite number in `score`, found NaN"),
            ),
            (
                RawValue::from("1e39"),
                Err("expected a finite number in `score`, found 1e39"),
            ),
            (
                RawValue::Bool(true),
                Err("expected a number in `score`, found the boolean true"),
            ),
            (
                RawValue::List(vec![]),
                Err("expected a number in `score`, found a list"),
            ),
            (
                RawValue::from("  "),
                Err("the label in column `score` is missing"),
            ),
        ] {
            let found = number(&value, "score").map_err(|reason| reason.to_string());
            assert_eq!(found, expect.map_err(str::to_owned), "{value:?}");
        }
    }

    #[test]
    fn lists_are_read_as_json_and_python_write_them() {
        for (text, expect) in [
            ("[]", Some(vec![])),
            ("['a', 'b c']", Some(vec!["a", "b c"])),
            (
                r#"["it's", "a \"b\"", "\u00e9"]"#,
                Some(vec!["it's", "a \"b\"", "é"]),
            ),
            ("[1, 2]", Some(vec!["1", "2"])),
            ("[ 'a' , ]", Some(vec!["a"])),
            ("['a' 'b']", Some(vec!["a", "b"])),
            ("['a''b']", None),
            ("[0 1\n 1.5]", Some(vec!["0", "1", "1.5"])),
            ("[New York, Rome]", Some(vec!["New York", "Rome"])),
            ("['a]", None),
        ] {
            let expect = expect.map(|list| list.into_iter().map(str::to_owned).collect::<Vec<_>>());
            assert_eq!(written_list(text), expect, "{text}");
        }
    }

    #[test]
    fn names_are_one_whatever_their_spaces_and_unicode_form() {
        for (written, expect) in [
            (" pos\t", "pos"),
            ("\u{FEFF}pos\u{200B}", "pos"),
            ("card \u{A0} lost", "card lost"),
            ("cafe\u{301}", "café"),
            ("Pos", "Pos"),
        ] {
            assert_eq!(tidy(written), expect, "{written:?}");
        }
    }

    #[test]
    fn labels_that_look_alike_are_named() {
        let found = |names: &[&str]| {
            look_alikes(&names.iter().map(|name| ((*name).to_owned(), 2)).collect())
        };
        assert_eq!(
            found(&["Pos", "neg", "pos", "top up", "top_up"]).unwrap(),
            "labels that look alike are different classes: `Pos` (2 rows), `pos` (2 rows); `top up` (2 rows), `top_up` (2 rows); write them alike if they are one"
        );
        assert!(found(&["1", "1.0", "x"]).is_some());
        assert!(found(&["1", "01", "2"]).is_some());
        // All are whole numbers: they are taken by their value.
        assert_eq!(found(&["1", "1.0", "0"]), None);
        assert_eq!(found(&["None", "null", "NA", "nan"]), None);
    }

    #[test]
    fn the_separator_is_that_of_most_rows() {
        let found = |texts: &[&str]| most_frequent_separator(texts.iter().map(|&text| (text, 1)));
        assert_eq!(found(&["a|b", "c, d|e", "f"]), Some('|'));
        assert_eq!(found(&["a, b", "c, d", "e; f"]), Some(','));
        assert_eq!(found(&["a", "['b, c']"]), None);
    }

    #[test]
    fn flags_are_zero_and_one_in_many_spellings() {
        for (value, expect) in [
            (RawValue::from("Yes"), Some(true)),
            (RawValue::from("0"), Some(false)),
            (RawValue::from("1.0"), Some(true)),
            (RawValue::Int(1), Some(true)),
            (RawValue::Int(2), None),
            (RawValue::Real(0.0), Some(false)),
            (RawValue::Real(0.5), None),
            (RawValue::from("maybe"), None),
        ] {
            assert_eq!(flag(&value), expect, "{value:?}");
        }
    }
}
