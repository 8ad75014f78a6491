//! A row of JSON, or a question of SQuAD, to a [`Question`].

use std::sync::Arc;

use serde_json::{Map, Value};

use super::{Answer, Question, QuestionFile, QuestionReason};
use crate::tables::{kind_of, normal};
use crate::tokens::Characters;
use crate::{BadReason, Place};

/// Keys that make a row a question, in lower case; a header may spell them otherwise.
const KEYS: [&str; 7] = [
    "question",
    "context",
    "answers",
    "answer",
    "answer_start",
    "is_impossible",
    "id",
];

/// A flat row: `question`, `context`, and `answers` or `answer`, or the columns that are named.
pub(super) fn question(
    mut row: Map<String, Value>,
    options: &QuestionFile,
    place: Place,
) -> Result<Question, BadReason> {
    // A table has all columns in every row: null is none.
    row.retain(|_, value| !value.is_null());
    let columns = &options.columns;
    for key in KEYS
        .iter()
        .filter(|key| !row.contains_key(**key))
        .collect::<Vec<_>>()
    {
        let spelt = row.keys().find(|spelt| normal(spelt) == *key).cloned();
        if let Some(value) = spelt.and_then(|spelt| row.remove(&spelt)) {
            row.insert((*key).to_owned(), value);
        }
    }
    for (key, named) in [
        ("question", &columns.question),
        ("context", &columns.context),
        ("answers", &columns.answers),
    ] {
        let Some(named) = named.as_ref().filter(|named| *named != key) else {
            continue;
        };
        match row.remove(named) {
            // `answer` is the text alone, and `answer_start` is its.
            Some(value) if key == "answers" && value.is_string() => {
                row.remove("answers");
                row.insert("answer".into(), value);
            }
            Some(value) => {
                row.insert(key.into(), value);
            }
            None if key == "answers" && !options.require_answers => {}
            None => {
                return Err(QuestionReason::NoKey {
                    wanted: named.clone(),
                    at: None,
                    found: row.keys().cloned().collect(),
                }
                .into());
            }
        }
    }
    let has_context = row.get("context").is_some_and(|value| !is_blank(value));
    let context = match has_context || !options.asks {
        true => text(&row, "context", None)?.into(),
        false => "".into(),
    };
    of_object(&row, &context, "", place, options)
}

/// The question and answers of an object about a context. `at` is the path to it, empty for a row.
pub(super) fn of_object(
    row: &Map<String, Value>,
    context: &Arc<str>,
    at: &str,
    place: Place,
    options: &QuestionFile,
) -> Result<Question, BadReason> {
    let question = text(row, "question", Some(at).filter(|at| !at.is_empty()))?;
    let id = match row.get("id") {
        Some(Value::String(id)) => Some(id.clone()),
        Some(number @ Value::Number(_)) => Some(number.to_string()),
        _ => None,
    };
    Ok(Question {
        id,
        question: question.to_owned(),
        context: Arc::clone(context),
        answers: match options.asks {
            true => None,
            false => answers_of(row, context, at, options.require_answers)?,
        },
        place,
    })
}

/// The answers of an object about a context; none where it says that there is none, `None` where it does not say.
fn answers_of(
    row: &Map<String, Value>,
    context: &Arc<str>,
    at: &str,
    require_answers: bool,
) -> Result<Option<Vec<Answer>>, BadReason> {
    let is_impossible = match row.get("is_impossible") {
        Some(Value::Bool(is)) => *is,
        // CSV has text.
        Some(Value::String(is)) => is.eq_ignore_ascii_case("true") || is == "1",
        _ => false,
    };
    let inside = |key: &str| match at {
        "" => key.to_owned(),
        at => format!("{at}.{key}"),
    };
    let one = row
        .get("answer")
        .filter(|one| !is_impossible || !is_blank(one));
    let answers = match (row.get("answers"), one) {
        (Some(several), _) => Some(answers(several, context, &inside("answers"))?),
        (None, Some(one)) => {
            let start = row.get("answer_start");
            Some(vec![answer(one, start, context, &inside("answer"))?])
        }
        (None, None) => is_impossible.then(Vec::new),
    };
    let here = || match at {
        "" => "the row".to_owned(),
        at => format!("`{at}`"),
    };
    let contradicts = |first, second| {
        let at = here();
        Err(QuestionReason::Contradiction { at, first, second }.into())
    };
    match (&answers, one) {
        (None, _) if require_answers => {
            return Err(QuestionReason::NoAnswers { at: here() }.into());
        }
        (Some(answers), _) if is_impossible && !answers.is_empty() => {
            return contradicts("an answer", "`is_impossible` = true");
        }
        (Some(answers), Some(Value::String(one)))
            if !answers.iter().any(|answer| answer.text == *one) =>
        {
            return contradicts("`answer`", "`answers`");
        }
        _ => {}
    }
    Ok(answers)
}

fn is_blank(value: &Value) -> bool {
    value.as_str().is_some_and(|text| text.trim().is_empty())
}

/// The text of a key that must be there and not be blank.
pub(super) fn text<'r>(
    row: &'r Map<String, Value>,
    key: &'static str,
    at: Option<&str>,
) -> Result<&'r str, BadReason> {
    let place = || match at {
        Some(at) => format!("`{at}.{key}`"),
        None => format!("`{key}`"),
    };
    match row.get(key) {
        Some(Value::String(text)) if text.trim().is_empty() => {
            Err(QuestionReason::Empty { at: place() }.into())
        }
        Some(Value::String(text)) => Ok(text),
        Some(other) => Err(wrong_type(&place(), "text", other)),
        None => Err(QuestionReason::NoKey {
            wanted: key.to_owned(),
            at: at.map(|at| format!("`{at}`")),
            found: row.keys().cloned().collect(),
        }
        .into()),
    }
}

pub(super) fn wrong_type(at: &str, expected: &'static str, found: &Value) -> BadReason {
    let found = kind_of(found).to_owned();
    let at = at.to_owned();
    QuestionReason::WrongType {
        at,
        expected,
        found,
    }
    .into()
}

/// Answers in the shape of the `datasets` library, of SQuAD, or as texts alone.
fn answers(value: &Value, context: &str, at: &str) -> Result<Vec<Answer>, BadReason> {
    match value {
        Value::Object(lists) => {
            let list = |key: &str| match lists.get(key) {
                None | Some(Value::Null) => Ok(Vec::new()),
                Some(Value::Array(list)) => Ok(list.iter().collect()),
                Some(one @ (Value::String(_) | Value::Number(_))) => Ok(vec![one]),
                Some(other) => Err(wrong_type(&format!("`{at}.{key}`"), "a list", other)),
            };
            let (texts, starts) = (list("text")?, list("answer_start")?);
            if !starts.is_empty() && texts.len() != starts.len() {
                return Err(QuestionReason::Counts {
                    at: format!("`{at}`"),
                    texts: texts.len(),
                    starts: starts.len(),
                }
                .into());
            }
            let starts = starts.into_iter().map(Some).chain(std::iter::repeat(None));
            texts
                .into_iter()
                .zip(starts)
                .enumerate()
                .map(|(index, (text, start))| {
                    answer(text, start, context, &format!("{at}.text[{index}]"))
                })
                .collect()
        }
        Value::Array(list) => list
            .iter()
            .enumerate()
            .map(|(index, value)| match value {
                Value::Object(fields) => {
                    let text = fields.get("text").unwrap_or(&Value::Null);
                    let at = format!("{at}[{index}].text");
                    answer(text, fields.get("answer_start"), context, &at)
                }
                text => answer(text, None, context, &format!("{at}[{index}]")),
            })
            .collect(),
        // A table made of rows with lists holds them as JSON.
        Value::String(text) if text.starts_with(['{', '[']) && !context.contains(text) => {
            match serde_json::from_str(text) {
                Ok(inner @ (Value::Object(_) | Value::Array(_))) => answers(&inner, context, at),
                _ => Err(wrong_type(&format!("`{at}`"), "answers as JSON", value)),
            }
        }
        text @ Value::String(_) => Ok(vec![answer(text, None, context, at)?]),
        other => Err(wrong_type(&format!("`{at}`"), "answers", other)),
    }
}

/// An answer at its start; without one, where the context has it once.
fn answer(
    text: &Value,
    start: Option<&Value>,
    context: &str,
    at: &str,
) -> Result<Answer, BadReason> {
    let at = format!("`{at}`");
    let Value::String(text) = text else {
        return Err(wrong_type(&at, "text", text));
    };
    if text.trim().is_empty() {
        return Err(QuestionReason::Empty { at }.into());
    }
    let characters = Characters::new(context);
    let text = text.clone();
    let first = |text: &str| context.find(text).map(|byte| characters.number(byte));
    let Some(start) = start.filter(|start| !start.is_null()) else {
        let places: Vec<usize> = places(context, &text)
            .map(|byte| characters.number(byte))
            .collect();
        return match places[..] {
            [start] => Ok(Answer { text, start }),
            [] => Err(QuestionReason::NotThere { at, text }.into()),
            [first, second, ..] => {
                let times = places.len();
                Err(QuestionReason::Ambiguous {
                    at,
                    text,
                    times,
                    first,
                    second,
                }
                .into())
            }
        };
    };
    let said = match start {
        // CSV has text.
        Value::String(digits) => digits.trim().parse().ok(),
        number => number.as_i64(),
    };
    let said: i64 = said.ok_or_else(|| wrong_type(&at, "a whole number as start", start))?;
    let length = text.chars().count();
    let found = usize::try_from(said)
        .ok()
        .map(|start| characters.slice(start..start.saturating_add(length)));
    match (found, usize::try_from(said)) {
        (Some(found), Ok(start)) if found == text => Ok(Answer { text, start }),
        _ => Err(QuestionReason::OtherText {
            at,
            elsewhere: first(&text),
            text,
            start: said,
            found: found.filter(|found| !found.is_empty()).map(str::to_owned),
        }
        .into()),
    }
}

/// Where a text stands in another, also where its places overlap, in bytes.
fn places<'a>(context: &'a str, text: &'a str) -> impl Iterator<Item = usize> + 'a {
    let mut from = 0;
    std::iter::from_fn(move || {
        let at = from + context.get(from..)?.find(text)?;
        from = at + text.chars().next().map_or(1, char::len_utf8);
        Some(at)
    })
}
