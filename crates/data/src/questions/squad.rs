//! SQuAD's JSON, versions 1.1 and 2.0: one object, `data` -> `paragraphs` -> `qas`. Plausible answers to impossible questions
//! are not read.

use std::path::Path;
use std::sync::Arc;

use serde_json::{Map, Value};

use super::rows::{of_object, question, text, wrong_type};
use super::{Question, QuestionFile};
use crate::chat::Reader;
use crate::{BadReason, Place};

/// Reads the questions of a document, or the rows of `{"data": [rows]}`.
pub(super) fn read(
    data: &[Value],
    source: &str,
    path: &Path,
    options: &QuestionFile,
    reader: &mut Reader<Question>,
) {
    let mut lines = Lines {
        source,
        path: path.into(),
        byte: 0,
        line: 1,
    };
    for (article, value) in data.iter().enumerate() {
        let at = format!("data[{article}]");
        let Value::Object(object) = value else {
            let reason = wrong_type(&format!("`{at}`"), "an object", value);
            reader.add(lines.here(), Err(reason));
            continue;
        };
        let Some(paragraphs) = object.get("paragraphs") else {
            let place = lines.of(object);
            let row = question(object.clone(), options, place.clone());
            reader.add(place, row);
            continue;
        };
        let paragraphs = list(paragraphs, &format!("{at}.paragraphs"));
        let paragraphs = or_add(paragraphs, lines.here(), reader);
        for (number, paragraph) in paragraphs.iter().enumerate() {
            let at = format!("{at}.paragraphs[{number}]");
            let questions = paragraph_of(paragraph, &at);
            let Some((context, questions)) = or_add(questions.map(Some), lines.here(), reader)
            else {
                continue;
            };
            for (number, value) in questions.iter().enumerate() {
                let at = format!("{at}.qas[{number}]");
                let (place, row) = match value {
                    Value::Object(object) => {
                        let place = lines.of(object);
                        let row = of_object(object, &context, &at, place.clone(), options);
                        (place, row)
                    }
                    other => {
                        let reason = wrong_type(&format!("`{at}`"), "an object", other);
                        (lines.here(), Err(reason))
                    }
                };
                reader.add(place, row);
            }
        }
    }
}

/// A paragraph's context and questions.
fn paragraph_of<'a>(value: &'a Value, at: &str) -> Result<(Arc<str>, &'a [Value]), BadReason> {
    let object: &Map<String, Value> = value
        .as_object()
        .ok_or_else(|| wrong_type(&format!("`{at}`"), "an object", value))?;
    let context = text(object, "context", Some(at))?.into();
    let questions = object.get("qas").unwrap_or(&Value::Null);
    Ok((context, list(questions, &format!("{at}.qas"))?))
}

fn list<'a>(value: &'a Value, at: &str) -> Result<&'a [Value], BadReason> {
    match value {
        Value::Array(list) => Ok(list),
        other => Err(wrong_type(&format!("`{at}`"), "a list", other)),
    }
}

/// What was read; what is wrong with it goes to the reader.
fn or_add<T: Default>(
    made: Result<T, BadReason>,
    place: Place,
    reader: &mut Reader<Question>,
) -> T {
    match made {
        Ok(made) => made,
        Err(reason) => {
            reader.add(place, Err(reason));
            T::default()
        }
    }
}

/// Finds the lines of questions: a parsed document does not know them, but its questions stand in its order.
struct Lines<'a> {
    source: &'a str,
    path: Arc<Path>,
    /// As far as the source was looked through, and the line there.
    byte: usize,
    line: u64,
}

impl Lines<'_> {
    fn here(&self) -> Place {
        Place {
            path: Arc::clone(&self.path),
            line: self.line,
        }
    }

    /// The line of an object: where its id, else its question, stands next.
    fn of(&mut self, object: &Map<String, Value>) -> Place {
        let known = ["id", "question"].iter().find_map(|key| {
            let text = serde_json::to_string(object.get(*key)?.as_str()?).ok()?;
            let at = self.byte + self.source.get(self.byte..)?.find(&text)?;
            Some((at, at + text.len()))
        });
        if let Some((at, end)) = known {
            let passed = &self.source.as_bytes()[self.byte..at];
            self.line += passed.iter().filter(|&&byte| byte == b'\n').count() as u64;
            self.byte = end;
        }
        self.here()
    }
}
