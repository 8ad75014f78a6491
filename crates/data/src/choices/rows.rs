//! A row of JSON to a [`ChoiceQuestion`], in two steps: which choice is meant by an answer is known when the answers of all rows are.

use std::collections::HashSet;

use serde_json::{Map, Value};

use super::{AnswerForm, ChoiceQuestion, ChoiceReason};
use crate::tables::{kind_of, normal};
use crate::{BadReason, Place};

/// Names of columns, as [`normal`] writes them.
const QUESTIONS: [&str; 6] = [
    "question",
    "question_stem",
    "sent2",
    "query",
    "goal",
    "sentence",
];
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
const LISTS: [&str; 4] = ["choices", "options", "endings", "choice"];
/// What stands before the number or letter of a column that holds one choice.
const SINGLE: [&str; 6] = ["choice", "option", "ending", "answer", "sol", "op"];
/// The same of choices that are wrong; the right one has its own column.
const WRONG: &str = "distractor";
/// A list of choices where something else says which is right.
const ANSWER_LISTS: [&str; 1] = ["answers"];
const ANSWERS: [&str; 15] = [
    "answer",
    "label",
    "answerkey",
    "answer_key",
    "correct_answer",
    "correct_answer(s)",
    "correct_answer_id",
    "correct_option",
    "correct_choice",
    "correct",
    "right_answer",
    "right",
    "solution",
    "key",
    "cop",
];
/// What an answer can be.
pub(super) const RIGHT: &str = "a number, a letter or a text";
/// How data sets mark that nobody is told the answer.
const UNTOLD: &str = "-1";

/// Columns that are named, the first that a row has; before the well-known ones.
pub(super) struct Named<'a> {
    pub question: &'a [&'a Option<String>],
    pub context: &'a [&'a Option<String>],
    pub answer: &'a [&'a Option<String>],
    /// The column of all choices, or one for each.
    pub choices: &'a [Vec<String>],
}

/// A question whose answer is as written.
pub(super) struct Draft {
    context: Option<String>,
    question: String,
    found: Found,
    /// The columns of question and context.
    texts: [Option<String>; 2],
    /// Columns that may say which choice is right, the likeliest first, and what stands there.
    answers: Vec<(String, Written)>,
}

/// What stands in a column of answers.
#[derive(Clone)]
pub(super) struct Written {
    text: String,
    /// Whether it is a number, and no text of digits.
    is_number: bool,
}

/// The column of a row's first choice.
pub(super) struct First {
    /// Its number, or that of its letter from 0.
    pub number: usize,
    /// Whether it ends in a letter.
    is_letter: bool,
}

/// The choices of a row.
#[derive(Default)]
struct Found {
    choices: Vec<String>,
    /// Their labels; empty where they have none.
    labels: Vec<String>,
    /// Their columns: one of all, or one of each.
    columns: Vec<String>,
    /// Whether any of them is a number, and no text of digits.
    of_numbers: bool,
    /// The column of the first, where each has one.
    first: Option<First>,
}

impl Found {
    /// The choices in the columns that are `named`, of which the row has some, or else in those that are usual; `None` where there
    /// are no such columns. A row to ask need have none.
    fn of(
        row: &Map<String, Value>,
        named: &[Vec<String>],
        asks: bool,
    ) -> Result<Option<Self>, BadReason> {
        let mut named = named.iter().map(Vec::as_slice);
        let named = named.find(|names| names.iter().any(|name| row.contains_key(name)));
        let list = match named {
            Some([one]) => row.get(one).map(|value| (one.as_str(), value)),
            Some(_) => None,
            None => known(row, &LISTS).or_else(|| {
                let answered = known(row, &ANSWERS).is_some();
                known(row, &ANSWER_LISTS).filter(|_| answered)
            }),
        };
        let found = match list.filter(|(_, value)| !is_blank(value)) {
            Some((at, value)) => {
                let (choices, labels) = of_list(value, at)?;
                Self {
                    choices,
                    labels,
                    columns: vec![at.to_owned()],
                    of_numbers: has_numbers(value),
                    first: None,
                }
            }
            None => {
                let singles = match named {
                    Some([_]) => None,
                    Some(names) => Some(named_columns(row, names)?),
                    None => of_columns(row)?,
                };
                let is_named = named.is_some();
                match singles {
                    Some(singles) => Self::of_singles(&singles, is_named)?,
                    None if asks => Self::default(),
                    None => return Ok(None),
                }
            }
        };
        let count = found.choices.len();
        match count >= 2 || (asks && count == 0) {
            true => Ok(Some(found)),
            false => Err(ChoiceReason::TooFew { found: count }.into()),
        }
    }

    fn of_singles(singles: &[Single<'_>], are_named: bool) -> Result<Self, BadReason> {
        let first = singles.first().map(|(number, name, _)| First {
            number: *number,
            is_letter: !are_named && name.trim_end().ends_with(|c: char| c.is_alphabetic()),
        });
        let texts = singles.iter().map(|(_, name, value)| choice(value, name));
        let columns = singles.iter().map(|(_, name, _)| (*name).to_owned());
        Ok(Self {
            choices: texts.collect::<Result<_, _>>()?,
            labels: Vec::new(),
            columns: columns.collect(),
            of_numbers: singles.iter().any(|(_, _, value)| value.is_number()),
            first,
        })
    }
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
        let of_question = find(row, named.question, &QUESTIONS, None);
        let taken = of_question.map(|(name, _)| name);
        let of_context = find(row, named.context, &CONTEXTS, taken);
        let question = of_question.map(text_of).transpose()?;
        let context = of_context.map(text_of).transpose()?;
        let missing = |wanted| ChoiceReason::Missing {
            wanted,
            found: row.keys().cloned().collect(),
        };
        let name = |found: Option<(&str, &Value)>| found.map(|(name, _)| name.to_owned());
        let (of_question, of_context) = (name(of_question), name(of_context));
        // A context alone is what the choices go on from.
        let (question, context, texts) = match (question, context) {
            (Some(question), Some(context)) => (question, Some(context), [of_question, of_context]),
            (Some(question), None) => (question, None, [of_question, None]),
            (None, Some(context)) => (context, None, [of_context, None]),
            (None, None) => return Err(missing("question and no context").into()),
        };
        let Some(found) = Found::of(row, named.choices, asks)? else {
            return Err(missing("choices").into());
        };
        let answers = match asks {
            true => Vec::new(),
            false => answers_of(row, named.answer, &found.choices)?,
        };
        Ok(Self {
            context,
            question,
            found,
            texts,
            answers,
        })
    }

    /// The columns of question and context.
    pub fn texts(&self) -> &[Option<String>; 2] {
        &self.texts
    }

    /// The column of all choices, or those of each.
    pub fn columns(&self) -> &[String] {
        &self.found.columns
    }

    /// The column of the first choice, where each has one.
    pub fn first(&self) -> Option<&First> {
        self.found.first.as_ref()
    }

    /// Columns that may say which choice is right, the likeliest first.
    pub fn answered_in(&self) -> impl Iterator<Item = &str> {
        self.answers.iter().map(|(column, _)| column.as_str())
    }

    /// What stands in the column of answers.
    pub fn written(&self, column: &str) -> Option<&Written> {
        let found = self.answers.iter().find(|(name, _)| name == column)?;
        Some(&found.1)
    }

    /// Whether its choices have labels.
    pub fn has_labels(&self) -> bool {
        !self.found.labels.is_empty()
    }

    /// Whether its choices have columns with numbers, the first being at least 1.
    pub fn is_numbered(&self) -> bool {
        let first = self.first();
        first.is_some_and(|first| !first.is_letter && first.number > 0)
    }

    /// The choice that an answer means in this form.
    pub fn index(&self, written: &Written, form: AnswerForm) -> Option<usize> {
        let answer = written.text.as_str();
        let found = &self.found;
        let [choices, labels, columns] =
            [&found.choices, &found.labels, &found.columns].map(Vec::as_slice);
        let only = |is: &dyn Fn(usize) -> bool, all: &[String]| {
            let mut equal = (0..all.len()).filter(|&i| is(i));
            let first = equal.next()?;
            equal.next().is_none().then_some(first)
        };
        let exactly = |texts: &[String]| only(&|i| texts[i].trim() == answer, texts);
        let roughly =
            |texts: &[String]| only(&|i| texts[i].trim().eq_ignore_ascii_case(answer), texts);
        let number = || Self::number(written);
        let numbered = self.first().filter(|_| self.is_numbered());
        let lettered = self.first().filter(|first| first.is_letter);
        let index = match form {
            AnswerForm::Label => exactly(labels).or_else(|| roughly(labels)),
            AnswerForm::Index => number(),
            AnswerForm::Number => {
                number().and_then(|n| n.checked_sub(numbered.map_or(1, |first| first.number)))
            }
            AnswerForm::Letter => letter(answer.trim_matches(['(', ')', '.'].as_slice()))
                .and_then(|n| n.checked_sub(lettered.map_or(0, |first| first.number))),
            // A number is none of the texts that have its digits.
            AnswerForm::Text if written.is_number && !found.of_numbers => None,
            AnswerForm::Text => exactly(choices),
            AnswerForm::Column if columns.len() < 2 => None,
            AnswerForm::Column => roughly(columns),
        };
        index.filter(|&index| index < choices.len())
    }

    /// The number that an answer is, where it is one. Data frames write whole numbers as 1.0 where one is missing.
    pub fn number(written: &Written) -> Option<usize> {
        let text = written.text.as_str();
        text.strip_suffix(".0").unwrap_or(text).parse().ok()
    }

    /// How many choices there are.
    pub fn choices(&self) -> usize {
        self.found.choices.len()
    }

    /// The question with its answer, from the column and in the form that are the file's. `first`: the least number of a first
    /// choice's column in the file.
    pub fn finish(
        self,
        answers: Option<(&str, AnswerForm)>,
        first: Option<usize>,
        required: bool,
        place: Place,
    ) -> Result<ChoiceQuestion, BadReason> {
        let own = self.first().filter(|own| Some(own.number) > first);
        if let Some((_, name)) = own.zip(self.columns().first()) {
            return Err(blank_before(name));
        }
        let written = answers.and_then(|(column, form)| Some((self.written(column)?, form)));
        let answer = written.and_then(|(written, form)| self.index(written, form));
        match written {
            None if required => return Err(ChoiceReason::NoAnswer.into()),
            Some((written, form)) if required && answer.is_none() => {
                return Err(ChoiceReason::Answer {
                    answer: written.text.clone(),
                    form,
                    choices: self.found.choices,
                    labels: self.found.labels,
                }
                .into());
            }
            _ => {}
        }
        Ok(ChoiceQuestion {
            context: self.context,
            question: self.question,
            choices: self.found.choices,
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

/// A name as [`normal`] writes it, its words joined.
fn one_word(name: &str) -> String {
    normal(name).replace([' ', '-'], "_")
}

/// Whether a list has numbers.
fn has_numbers(list: &Value) -> bool {
    list.as_array()
        .is_some_and(|all| all.iter().any(Value::is_number))
}

/// The first column of these names that is not blank, and its value.
fn known<'r>(row: &'r Map<String, Value>, names: &[&str]) -> Option<(&'r str, &'r Value)> {
    let of = |wanted: &&str| {
        let mut there = row.iter().filter(|(_, value)| !is_blank(value));
        there.find(|(name, _)| one_word(name) == *wanted)
    };
    let (name, value) = names.iter().find_map(of)?;
    Some((name, value))
}

/// A column that is named, else a well-known one that is not taken; not blank.
fn find<'r>(
    row: &'r Map<String, Value>,
    named: &[&Option<String>],
    names: &[&str],
    taken: Option<&str>,
) -> Option<(&'r str, &'r Value)> {
    let named = named.iter().filter_map(|name| name.as_ref());
    let mut there = named.filter_map(|name| row.get_key_value(name));
    match there.next() {
        Some((_, value)) if is_blank(value) => None,
        Some((name, value)) => Some((name, value)),
        None => {
            let free: Vec<&str> = names
                .iter()
                .copied()
                .filter(|name| taken.is_none_or(|taken| one_word(taken) != *name))
                .collect();
            known(row, &free)
        }
    }
}

/// What may say which choice is right: the column that is named, or else the well-known ones.
fn answers_of(
    row: &Map<String, Value>,
    named: &[&Option<String>],
    choices: &[String],
) -> Result<Vec<(String, Written)>, BadReason> {
    let named = named.iter().filter_map(|name| name.as_ref());
    let mut there = named.filter_map(|name| row.get_key_value(name));
    let found: Vec<(&str, &Value)> = match there.next() {
        Some((_, value)) if is_blank(value) => Vec::new(),
        Some((name, value)) => vec![(name, value)],
        None => ANSWERS
            .iter()
            .filter_map(|name| known(row, &[*name]))
            .collect(),
    };
    let mut answers = Vec::new();
    for (at, value) in &found {
        match plain(value, at, RIGHT) {
            Ok(answer) if answer == UNTOLD && !choices.contains(&answer) => {}
            Ok(text) => {
                let is_number = value.is_number();
                answers.push(((*at).to_owned(), Written { text, is_number }));
            }
            Err(error) if found.len() == 1 => return Err(error),
            // Another column says it.
            Err(_) => {}
        }
    }
    Ok(answers)
}

/// The text of a column.
fn text_of((at, value): (&str, &Value)) -> Result<String, BadReason> {
    match value {
        Value::String(text) => Ok(text.clone()),
        // A dialogue is a list of what was said.
        Value::Array(lines) => {
            let lines = lines.iter().map(|line| choice(line, at));
            Ok(lines.collect::<Result<Vec<_>, _>>()?.join("\n"))
        }
        other => Err(wrong_type(at, "text", other)),
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
    if labels.len() != texts.len() && !labels.is_empty() {
        return Err(ChoiceReason::Counts {
            at: at.to_owned(),
            texts: texts.len(),
            labels: labels.len(),
        }
        .into());
    }
    let mut seen = HashSet::new();
    match labels.iter().find(|label| !seen.insert(*label)) {
        None => Ok((texts, labels)),
        Some(label) => Err(ChoiceReason::SameLabel {
            at: at.to_owned(),
            label: label.clone(),
        }
        .into()),
    }
}

/// A column of its own for a choice: its number, its name, the choice.
type Single<'r> = (usize, &'r str, &'r Value);

/// Choices by the columns that are named. Blank ones may only be the last.
fn named_columns<'r>(
    row: &'r Map<String, Value>,
    names: &[String],
) -> Result<Vec<Single<'r>>, BadReason> {
    let found = names.iter().enumerate().filter_map(|(number, name)| {
        let (name, value) = row.get_key_value(name)?;
        (!is_blank(value)).then_some((number, name.as_str(), value))
    });
    let found: Vec<Single<'_>> = found.collect();
    match (0..).zip(&found).find(|(at, found)| *at != found.0) {
        Some((at, _)) => Err(ChoiceReason::Empty {
            at: names[at].clone(),
        }
        .into()),
        None => Ok(found),
    }
}

/// Choices that have a column each, in order; `None` where there are no such columns. Blank ones may only be the last.
fn of_columns(row: &Map<String, Value>) -> Result<Option<Vec<Single<'_>>>, BadReason> {
    let wrong = row.iter().filter(|(_, value)| !is_blank(value));
    let wrong = wrong
        .filter_map(|(name, value)| Some((number_of(name, Some(&WRONG))?, name.as_str(), value)));
    let mut wrong: Vec<Single<'_>> = wrong.collect();
    if let (Some((name, value)), false) = (known(row, &["correct_answer"]), wrong.is_empty()) {
        wrong.sort_by_key(|(number, ..)| *number);
        let right = std::iter::once((0, name, value));
        return Ok(Some(right.chain(wrong).collect()));
    }
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
