//! A row of JSON to a [`ChoiceQuestion`], in two steps: which choice is meant by an answer is known when the answers of all rows are.

use serde_json::{Map, Value};

use super::{AnswerForm, ChoiceQuestion, ChoiceReason};
use crate::tables::{kind_of, normal};
use crate::{BadReason, Place};

/// Names of columns, as [`normal`] writes them.
const QUESTIONS: [&str; 4] = ["question", "question_stem", "sent2", "query"];
const CONTEXTS: [&str; 10] = [
    "context",
    "article",
    "passage",
    "sent1",
    "ctx",
    "premise",
    "dialogue",
    "paragraph",
    "story",
    "support",
];
const LISTS: [&str; 3] = ["choices", "options", "endings"];
/// What stands before the number or letter of a column that holds one choice.
const SINGLE: [&str; 4] = ["choice", "option", "ending", "answer"];
const ANSWERS: [&str; 3] = ["answer", "label", "answerkey"];
/// How data sets mark that nobody is told the answer.
const UNTOLD: &str = "-1";

/// Columns that are named, the first that a row has; before the well-known ones.
pub(super) struct Named<'a> {
    pub question: &'a [&'a Option<String>],
    pub context: &'a [&'a Option<String>],
    pub answer: &'a [&'a Option<String>],
}

/// A question whose answer is as written.
pub(super) struct Draft {
    context: Option<String>,
    question: String,
    choices: Vec<String>,
    /// Labels of the choices; empty where they have none.
    labels: Vec<String>,
    /// The column of the first choice, where each choice has one.
    pub first: Option<First>,
    pub answer: Option<String>,
}

/// The column of a row's first choice.
pub(super) struct First {
    /// Its number, or that of its letter from 0.
    pub number: usize,
    /// Whether it ends in a letter.
    is_letter: bool,
    name: String,
}

impl Draft {
    /// `asks`: the row is to be asked, so that its answer is of no interest and choices may come from elsewhere.
    pub fn of(row: &Map<String, Value>, named: &Named<'_>, asks: bool) -> Result<Self, BadReason> {
        // ARC and CommonsenseQA as they were published: {"question": {"stem", "choices"}}.
        if let Some(Value::Object(inner)) = row.get("question").filter(|q| q.get("stem").is_some())
        {
            let mut flat = row.clone();
            flat.extend(inner.clone());
            let stem = inner.get("stem").cloned().unwrap_or_default();
            flat.insert("question".into(), stem);
            return Self::of(&flat, named, asks);
        }
        let question = text_of(row, named.question, &QUESTIONS, None)?;
        let taken = find(row, named.question, &QUESTIONS, None).map(|(name, _)| name);
        let context = text_of(row, named.context, &CONTEXTS, taken)?;
        let missing = |wanted| ChoiceReason::Missing {
            wanted,
            found: row.keys().cloned().collect(),
        };
        // A context alone is what the choices go on from.
        let (question, context) = match (question, context) {
            (Some(question), context) => (question, context),
            (None, Some(context)) => (context, None),
            (None, None) => return Err(missing("question and no context").into()),
        };
        let list = known(row, &LISTS).filter(|(_, value)| !is_blank(value));
        let (choices, labels, first) = match list {
            Some((at, value)) => {
                let (choices, labels) = of_list(value, at)?;
                (choices, labels, None)
            }
            None => {
                let columns = match of_columns(row)? {
                    Some(columns) => columns,
                    None if asks => Vec::new(),
                    None => return Err(missing("choices").into()),
                };
                let first = columns.first().map(|(number, name, _)| First {
                    number: *number,
                    is_letter: name.trim_end().ends_with(|c: char| c.is_alphabetic()),
                    name: (*name).to_owned(),
                });
                let texts = columns.iter().map(|(_, name, value)| choice(value, name));
                (texts.collect::<Result<Vec<_>, _>>()?, Vec::new(), first)
            }
        };
        if choices.len() < 2 && !(asks && choices.is_empty()) {
            return Err(ChoiceReason::TooFew {
                found: choices.len(),
            }
            .into());
        }
        let answer = find(row, named.answer, &ANSWERS, None);
        let answer = answer.filter(|(_, value)| !asks && !is_blank(value));
        let answer = match answer {
            Some((at, value)) => Some(plain(value, at, "a number, a letter or a text")?),
            None => None,
        };
        let is_told = |answer: &String| answer != UNTOLD || choices.contains(answer);
        let answer = answer.filter(is_told);
        Ok(Self {
            context,
            question,
            choices,
            labels,
            first,
            answer,
        })
    }

    /// Whether its choices have labels.
    pub fn has_labels(&self) -> bool {
        !self.labels.is_empty()
    }

    /// Whether its choices have columns with numbers, the first being at least 1.
    pub fn is_numbered(&self) -> bool {
        let first = self.first.as_ref();
        first.is_some_and(|first| !first.is_letter && first.number > 0)
    }

    /// The choice that the answer means in this form.
    pub fn index(&self, form: AnswerForm) -> Option<usize> {
        let answer = self.answer.as_deref()?;
        let only = |is: &dyn Fn(usize) -> bool, all: &[String]| {
            let mut equal = (0..all.len()).filter(|&i| is(i));
            let first = equal.next()?;
            equal.next().is_none().then_some(first)
        };
        let exactly = |texts: &[String]| only(&|i| texts[i].trim() == answer, texts);
        let roughly =
            |texts: &[String]| only(&|i| texts[i].trim().eq_ignore_ascii_case(answer), texts);
        // Data frames write whole numbers as 1.0 where one is missing.
        let number =
            || -> Option<usize> { answer.strip_suffix(".0").unwrap_or(answer).parse().ok() };
        let numbered = self.first.as_ref().filter(|_| self.is_numbered());
        let lettered = self.first.as_ref().filter(|first| first.is_letter);
        let index = match form {
            AnswerForm::Label => exactly(&self.labels).or_else(|| roughly(&self.labels)),
            AnswerForm::Index => number(),
            AnswerForm::Number => {
                number().and_then(|n| n.checked_sub(numbered.map_or(1, |first| first.number)))
            }
            AnswerForm::Letter => letter(answer.trim_matches(['(', ')', '.'].as_slice()))
                .and_then(|n| n.checked_sub(lettered.map_or(0, |first| first.number))),
            AnswerForm::Text => exactly(&self.choices),
        };
        index.filter(|&index| index < self.choices.len())
    }

    /// The question with its answer by this form. `first`: the least number of a first choice's column in the file.
    pub fn finish(
        self,
        form: Option<AnswerForm>,
        first: Option<usize>,
        required: bool,
        place: Place,
    ) -> Result<ChoiceQuestion, BadReason> {
        if let Some(own) = self.first.as_ref().filter(|own| Some(own.number) > first) {
            return Err(blank_before(&own.name));
        }
        let answer = form.and_then(|form| self.index(form));
        match (&self.answer, form) {
            (None, _) if required => return Err(ChoiceReason::NoAnswer.into()),
            (Some(written), Some(form)) if required && answer.is_none() => {
                return Err(ChoiceReason::Answer {
                    answer: written.clone(),
                    form,
                    choices: self.choices,
                    labels: self.labels,
                }
                .into());
            }
            _ => {}
        }
        Ok(ChoiceQuestion {
            context: self.context,
            question: self.question,
            choices: self.choices,
            answer,
            place,
        })
    }
}

/// The place of a letter in the alphabet, from 0.
fn letter(text: &str) -> Option<usize> {
    match text.as_bytes() {
        [letter] if letter.is_ascii_alphabetic() => {
            Some(usize::from(letter.to_ascii_uppercase() - b'A'))
        }
        _ => None,
    }
}

fn is_blank(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.trim().is_empty(),
        _ => false,
    }
}

/// The first column of these names, and its value.
fn known<'r>(row: &'r Map<String, Value>, names: &[&str]) -> Option<(&'r str, &'r Value)> {
    let of = |wanted: &&str| row.iter().find(|(name, _)| normal(name) == *wanted);
    let (name, value) = names.iter().find_map(of)?;
    Some((name, value))
}

/// A column that is named, else a well-known one that is not taken.
fn find<'r>(
    row: &'r Map<String, Value>,
    named: &[&Option<String>],
    names: &[&str],
    taken: Option<&str>,
) -> Option<(&'r str, &'r Value)> {
    let named = named.iter().filter_map(|name| name.as_ref());
    let mut there = named.filter_map(|name| row.get_key_value(name));
    match there.next() {
        Some((name, value)) => Some((name, value)),
        None => {
            let free: Vec<&str> = names
                .iter()
                .copied()
                .filter(|name| taken.is_none_or(|taken| normal(taken) != *name))
                .collect();
            known(row, &free)
        }
    }
}

/// The text of a column; `None` where it is not there or blank.
fn text_of(
    row: &Map<String, Value>,
    named: &[&Option<String>],
    names: &[&str],
    taken: Option<&str>,
) -> Result<Option<String>, BadReason> {
    match find(row, named, names, taken) {
        Some((_, value)) if is_blank(value) => Ok(None),
        Some((_, Value::String(text))) => Ok(Some(text.clone())),
        // A dialogue is a list of what was said.
        Some((at, Value::Array(lines))) => {
            let lines = lines.iter().map(|line| choice(line, at));
            Ok(Some(lines.collect::<Result<Vec<_>, _>>()?.join("\n")))
        }
        Some((at, other)) => Err(wrong_type(at, "text", other)),
        None => Ok(None),
    }
}

fn wrong_type(at: &str, expected: &'static str, found: &Value) -> BadReason {
    ChoiceReason::WrongType {
        at: at.to_owned(),
        expected,
        found: kind_of(found).to_owned(),
    }
    .into()
}

/// A text, or a number as its digits.
fn plain(value: &Value, at: &str, expected: &'static str) -> Result<String, BadReason> {
    match value {
        Value::String(text) => Ok(text.trim().to_owned()),
        Value::Number(number) => Ok(number.to_string()),
        other => Err(wrong_type(at, expected, other)),
    }
}

/// A choice's text, as written.
fn choice(value: &Value, at: &str) -> Result<String, BadReason> {
    match value {
        _ if is_blank(value) => Err(ChoiceReason::Empty { at: at.to_owned() }.into()),
        Value::String(text) => Ok(text.clone()),
        Value::Number(number) => Ok(number.to_string()),
        other => Err(wrong_type(at, "text", other)),
    }
}

/// Choices and their labels, of a column that holds them all.
fn of_list(value: &Value, at: &str) -> Result<(Vec<String>, Vec<String>), BadReason> {
    const LABEL: &str = "a text or a number";
    let list = |values: &[Value], key: &str| {
        let texts = values.iter().enumerate();
        let texts = texts.map(|(i, value)| choice(value, &format!("{at}{key}[{i}]")));
        texts.collect::<Result<Vec<_>, _>>()
    };
    match value {
        Value::String(text) => match serde_json::from_str(text) {
            Ok(inner @ (Value::Array(_) | Value::Object(_))) => of_list(&inner, at),
            _ => Err(wrong_type(at, "a list as JSON writes it", value)),
        },
        Value::Array(values) if values.iter().any(Value::is_object) => {
            let (mut texts, mut labels) = (Vec::new(), Vec::new());
            for (i, value) in values.iter().enumerate() {
                let part = |key| value.get(key).unwrap_or(&Value::Null);
                texts.push(choice(part("text"), &format!("{at}[{i}].text"))?);
                if value.get("label").is_some() {
                    labels.push(plain(part("label"), &format!("{at}[{i}].label"), LABEL)?);
                }
            }
            counted(texts, labels, at)
        }
        Value::Array(values) => Ok((list(values, "")?, Vec::new())),
        Value::Object(parts) => match (parts.get("text"), parts.get("label")) {
            (Some(Value::Array(texts)), Some(Value::Array(labels))) => {
                let texts = list(texts, ".text")?;
                let labels = labels
                    .iter()
                    .map(|l| plain(l, &format!("{at}.label"), LABEL));
                counted(texts, labels.collect::<Result<_, _>>()?, at)
            }
            _ => {
                let texts = parts.iter();
                let texts = texts.map(|(key, value)| choice(value, &format!("{at}.{key}")));
                let labels = parts.keys().map(|key| key.trim().to_owned()).collect();
                Ok((texts.collect::<Result<_, _>>()?, labels))
            }
        },
        other => Err(wrong_type(at, "a list", other)),
    }
}

fn counted(
    texts: Vec<String>,
    labels: Vec<String>,
    at: &str,
) -> Result<(Vec<String>, Vec<String>), BadReason> {
    match labels.len() == texts.len() || labels.is_empty() {
        true => Ok((texts, labels)),
        false => Err(ChoiceReason::Counts {
            at: at.to_owned(),
            texts: texts.len(),
            labels: labels.len(),
        }
        .into()),
    }
}

/// A column of its own for a choice: its number, its name, the choice.
type Single<'r> = (usize, &'r str, &'r Value);

/// Choices that have a column each, in order; `None` where there are no such columns. Blank ones may only be the last.
fn of_columns(row: &Map<String, Value>) -> Result<Option<Vec<Single<'_>>>, BadReason> {
    let mut alone = false;
    for prefix in SINGLE.iter().map(Some).chain([None]) {
        let mut columns: Vec<Single<'_>> = row
            .iter()
            .filter(|(_, value)| !is_blank(value))
            .filter_map(|(name, value)| Some((number_of(name, prefix)?, name.as_str(), value)))
            .collect();
        columns.sort_by_key(|(number, ..)| *number);
        // One letter alone is a name like any other, and so is `answers`.
        let &[(first, ..), _, ..] = columns.as_slice() else {
            alone |= prefix.is_some() && columns.first().is_some_and(|(number, ..)| *number < 2);
            continue;
        };
        if let Some([one, other]) = columns.windows(2).find(|pair| pair[0].0 == pair[1].0) {
            return Err(ChoiceReason::Twice {
                first: one.1.to_owned(),
                second: other.1.to_owned(),
            }
            .into());
        }
        if let Some((_, gap)) = (first..).zip(&columns).find(|(at, found)| *at != found.0) {
            return Err(blank_before(gap.1));
        }
        return Ok(Some(columns));
    }
    match alone {
        true => Err(ChoiceReason::TooFew { found: 1 }.into()),
        false => Ok(None),
    }
}

/// The error of a choice that is blank before one that is not, in the column of this name.
fn blank_before(name: &str) -> BadReason {
    let stem = name.trim_end_matches(|c: char| c.is_ascii_digit());
    let at = match (name[stem.len()..].parse::<usize>(), name.chars().last()) {
        (Ok(number), _) => format!("{stem}{}", number.saturating_sub(1)),
        (_, Some(letter)) => {
            let before = char::from((letter as u8).saturating_sub(1));
            format!("{}{before}", &name[..name.len() - letter.len_utf8()])
        }
        _ => name.to_owned(),
    };
    ChoiceReason::Empty { at }.into()
}

/// The number or letter behind a prefix, from 0; without a prefix a letter alone.
fn number_of(name: &str, prefix: Option<&&str>) -> Option<usize> {
    let name = normal(name);
    match prefix {
        None => letter(&name),
        Some(prefix) => {
            let behind = name
                .strip_prefix(prefix)?
                .trim_start_matches(['_', ' ', '-']);
            behind.parse().ok().or_else(|| letter(behind))
        }
    }
}
