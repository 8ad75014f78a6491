//! Files of preferences: two answers of which one was chosen, or one answer that was judged. See [`read_preferences`].

use std::path::Path;

use serde_json::{Map, Value};

use super::read::{Reader, answered, metadata, missing, side, text, tools};
use super::{ChatKind, ChatRole, Conversation, Message};
use crate::tables::kind_of;
use crate::{BadReason, DataError, OnBad, Place, Skipped};

/// Keys of a pair.
const PAIR: [&str; 3] = ["prompt", "chosen", "rejected"];
/// Keys of an answer that was judged.
const JUDGED: [&str; 3] = ["prompt", "completion", "label"];

/// Answers to one prompt, and what was thought of them. Each conversation is a [`ChatKind::Completion`].
#[derive(Debug, Clone, PartialEq)]
pub enum Preference {
    /// Two answers to the same prompt.
    Pair {
        /// The better one.
        chosen: Conversation,
        /// The other.
        rejected: Conversation,
    },
    /// One answer.
    Judged {
        /// With its prompt.
        answer: Conversation,
        /// Whether such answers are wanted.
        wanted: bool,
    },
}

impl Preference {
    /// Where the row starts.
    pub fn place(&self) -> &Place {
        match self {
            Self::Pair { chosen, .. } => &chosen.place,
            Self::Judged { answer, .. } => &answer.place,
        }
    }
}

/// What [`read_preferences`] found.
#[derive(Debug, Clone, PartialEq)]
pub struct Preferences {
    /// The good rows, in file order.
    pub rows: Vec<Preference>,
    /// The bad rows; empty unless [`OnBad::Skip`].
    pub skipped: Vec<Skipped>,
}

/// Reads preferences from JSONL, a JSON array, CSV, TSV or Parquet.
///
/// | keys | what it is |
/// |---|---|
/// | `prompt`, `chosen`, `rejected` | a prompt and two answers: texts, or lists of messages |
/// | `chosen`, `rejected` | two whole conversations; the turns that both begin with are the prompt |
/// | `prompt`, `completion`, `label` | a prompt, one answer, and whether such are wanted: true or false |
///
/// Answers that both repeat the prompt's messages are whole conversations too. `tools` may stand beside them, as in
/// [`read_conversations`](super::read_conversations).
///
/// # Errors
/// [`DataError::NoSuchFile`], [`DataError::UnknownFormat`] and the like for the file, [`DataError::BadExample`] with the
/// place of a bad row, [`DataError::AllBad`] where no row is good.
///
/// ```
/// use rekindle_data::{OnBad, chat::{Preference, read_preferences}};
///
/// # let dir = tempfile::tempdir()?;
/// # let path = dir.path().join("pairs.jsonl");
/// std::fs::write(&path, r#"{"prompt": "Is it open?", "chosen": "Yes, until six.", "rejected": "Yes."}"#)?;
/// let read = read_preferences(&path, OnBad::Error)?;
/// assert!(matches!(read.rows[0], Preference::Pair { .. }));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn read_preferences(path: &Path, on_bad_example: OnBad) -> Result<Preferences, DataError> {
    metadata(path)?;
    let mut reader = Reader::new(on_bad_example);
    reader.table(path, preference)?;
    let (rows, skipped) = reader.finish(path)?;
    Ok(Preferences { rows, skipped })
}

/// A row as what its keys say.
fn preference(mut row: Map<String, Value>, place: Place) -> Result<Preference, BadReason> {
    // A table has all columns in every row: null is none.
    row.retain(|_, value| !value.is_null());
    let tools = tools(&mut row)?;
    let has = |key: &str| row.contains_key(key);
    let conversation = |prompt: &[Message], answer: &[Message]| {
        let messages = [prompt, answer].concat();
        answered(&messages, prompt.len())?;
        Ok::<_, BadReason>(Conversation {
            messages,
            tools: tools.clone(),
            place: place.clone(),
            kind: ChatKind::Completion {
                prompt: prompt.len(),
            },
        })
    };
    if JUDGED.iter().all(|key| has(key)) {
        let prompt = side(&mut row, "prompt", ChatRole::User)?;
        let answer = answer(&mut row, "completion")?;
        return Ok(Preference::Judged {
            wanted: verdict(row.remove("label").unwrap_or_default())?,
            answer: conversation(&prompt, &answer)?,
        });
    }
    let whole = |key: &str| row.get(key).is_some_and(Value::is_array);
    let is_pair = has("chosen") && has("rejected");
    if !is_pair || !(has("prompt") || whole("chosen") && whole("rejected")) {
        let of_pair = ["chosen", "rejected"].into_iter().any(has);
        let of_judged = ["completion", "label"].into_iter().any(has);
        return Err(match (of_pair, of_judged) {
            (true, _) => missing(&row, &PAIR),
            (false, true) => missing(&row, &JUDGED),
            (false, false) => missing(
                &row,
                &["prompt", "chosen", "rejected", "completion", "label"],
            ),
        });
    }
    let prompt = match has("prompt") {
        true => Some(side(&mut row, "prompt", ChatRole::User)?),
        false => None,
    };
    let chosen = answer(&mut row, "chosen")?;
    let rejected = answer(&mut row, "rejected")?;
    if chosen == rejected {
        return Err(BadReason::SameAnswers { max_length: None });
    }
    let repeated = match &prompt {
        Some(prompt) => match (chosen.starts_with(prompt), rejected.starts_with(prompt)) {
            (true, true) => prompt.len(),
            (false, false) => 0,
            (true, false) => return Err(one_sided("chosen", "rejected")),
            (false, true) => return Err(one_sided("rejected", "chosen")),
        },
        // The answers are what is left: a turn at least of each.
        None => {
            let same = chosen.iter().zip(&rejected).take_while(|(a, b)| a == b);
            same.count().min(chosen.len().min(rejected.len()) - 1)
        }
    };
    let prompt = match prompt {
        Some(prompt) => prompt,
        None if repeated == 0 => return Err(BadReason::NoCommonPrompt),
        None => chosen[..repeated].to_vec(),
    };
    Ok(Preference::Pair {
        chosen: conversation(&prompt, &chosen[repeated..])?,
        rejected: conversation(&prompt, &rejected[repeated..])?,
    })
}

fn one_sided(with: &'static str, without: &'static str) -> BadReason {
    BadReason::PromptOnOneSide { with, without }
}

/// A column that is an answer: a text, or a list of messages. A number there is a score or an index, not what was said.
fn answer(row: &mut Map<String, Value>, column: &str) -> Result<Vec<Message>, BadReason> {
    match row.get(column) {
        Some(found @ (Value::Number(_) | Value::Bool(_))) => Err(BadReason::WrongType {
            column: column.to_owned(),
            expected: "text or a list of messages",
            found: kind_of(found).to_owned(),
        }),
        _ => side(row, column, ChatRole::Assistant),
    }
}

/// Whether an answer is wanted: true or false, as JSON, tables and people write it.
fn verdict(label: Value) -> Result<bool, BadReason> {
    let found = kind_of(&label).to_owned();
    let written = match label {
        Value::Bool(wanted) => return Ok(wanted),
        label => text(label, "label").unwrap_or_default().to_lowercase(),
    };
    match written.trim() {
        "true" | "1" => Ok(true),
        "false" | "0" => Ok(false),
        _ => Err(BadReason::WrongType {
            column: "label".to_owned(),
            expected: "true or false",
            found,
        }),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn read(row: &str) -> Result<Preference, String> {
        let Value::Object(row) = serde_json::from_str(row).unwrap() else {
            panic!("{row} is no object")
        };
        let place = Place {
            path: Path::new("pairs.jsonl").into(),
            line: 1,
        };
        preference(row, place).map_err(|reason| format!("{reason}; {}", reason.hint()))
    }

    /// The prompt and the answers of a row: roles and texts.
    fn said(row: &str) -> (String, Vec<String>) {
        let line = |messages: &[Message]| {
            let turns = messages
                .iter()
                .map(|message| format!("{} {}", message.role, message.content.as_deref().unwrap()));
            turns.collect::<Vec<_>>().join("; ")
        };
        let parts = |row: &Conversation| {
            let ChatKind::Completion { prompt } = row.kind else {
                panic!("no completion")
            };
            (line(&row.messages[..prompt]), line(&row.messages[prompt..]))
        };
        match read(row).unwrap() {
            Preference::Pair { chosen, rejected } => {
                let (chosen, rejected) = (parts(&chosen), parts(&rejected));
                assert_eq!(chosen.0, rejected.0);
                (chosen.0, vec![chosen.1, rejected.1])
            }
            Preference::Judged { answer, wanted } => {
                let (prompt, answer) = parts(&answer);
                (prompt, vec![answer, wanted.to_string()])
            }
        }
    }

    #[test]
    fn every_shape_of_a_row() {
        let turns = |text: &str| {
            format!(
                r#"[{{"role": "user", "content": "u"}}, {{"role": "assistant", "content": "{text}"}}]"#
            )
        };
        let (a, b) = (turns("a"), turns("b"));
        let pair = (
            "user u".to_owned(),
            vec!["assistant a".to_owned(), "assistant b".to_owned()],
        );
        for row in [
            r#"{"prompt": "u", "chosen": "a", "rejected": "b"}"#.to_owned(),
            r#"{"prompt": [{"role": "user", "content": "u"}], "chosen": [{"role": "assistant", "content": "a"}], "rejected": "b", "score": 3}"#.to_owned(),
            format!(r#"{{"chosen": {a}, "rejected": {b}}}"#),
            format!(r#"{{"prompt": "u", "chosen": {a}, "rejected": {b}}}"#),
        ] {
            assert_eq!(said(&row), pair, "{row}");
        }
        // One conversation is the beginning of the other: an answer is left of it all the same.
        let longer = a.replace(
            ']',
            r#", {"role": "user", "content": "v"}, {"role": "assistant", "content": "c"}]"#,
        );
        let (prompt, answers) = said(&format!(r#"{{"chosen": {longer}, "rejected": {a}}}"#));
        assert_eq!(prompt, "user u");
        assert_eq!(answers, ["assistant a; user v; assistant c", "assistant a"]);
        for (label, wanted) in [
            ("true", "true"),
            ("0", "false"),
            ("\"True\"", "true"),
            ("\"false\"", "false"),
        ] {
            let row = format!(r#"{{"prompt": "u", "completion": "a", "label": {label}}}"#);
            assert_eq!(said(&row).1, ["assistant a", wanted]);
        }
    }

    #[test]
    fn bad_rows_say_what_they_lack() {
        let turns = |first: &str| {
            format!(
                r#"[{{"role": "user", "content": "{first}"}}, {{"role": "assistant", "content": "{first}!"}}]"#
            )
        };
        let different = format!(
            r#"{{"chosen": {}, "rejected": {}}}"#,
            turns("u"),
            turns("v")
        );
        let one_sided = format!(
            r#"{{"prompt": [{{"role": "user", "content": "u"}}], "chosen": {}, "rejected": "b"}}"#,
            turns("u")
        );
        for (row, words) in [
            (
                r#"{"prompt": "u", "chosen": "a"}"#,
                &["found the keys `prompt` and `chosen`", "`rejected`"][..],
            ),
            (
                r#"{"prompt": "u", "choosen": "a", "rejected": "b"}"#,
                &["did you mean `chosen` where the row has `choosen`"],
            ),
            (
                r#"{"chosen": "a", "rejected": "b"}"#,
                &["expected `prompt`"],
            ),
            (
                r#"{"prompt": "u", "chosen": "a", "rejected": "a"}"#,
                &["are the same"],
            ),
            (
                r#"{"prompt": "u", "chosen": "a", "rejected": " "}"#,
                &["`rejected`", "empty"],
            ),
            (
                r#"{"prompt": "u", "chosen": [], "rejected": "a"}"#,
                &["`chosen`", "no messages"],
            ),
            (
                r#"{"prompt": "u", "completion": "a", "label": "good"}"#,
                &["`label`", "true or false"],
            ),
            (r#"{"prompt": "u", "completion": "a"}"#, &["`label`"]),
            (
                r#"{"prompt": "u", "chosen": "a", "rejected": [{"role": "user", "content": "b"}]}"#,
                &["no turn of the assistant"],
            ),
            (r#"{}"#, &["`chosen`", "`label`"]),
            (&different, &["begin with different turns"]),
            (
                &one_sided,
                &[
                    "`chosen` begins with the turns of `prompt`, `rejected` does not",
                    "both with it",
                ],
            ),
            (
                r#"{"prompt": "u", "chosen": 1, "rejected": 2}"#,
                &["`chosen`", "text or a list of messages", "number"],
            ),
            (
                r#"{"prompt": "u", "chosen": "a", "rejected": false}"#,
                &["`rejected`", "text or a list of messages", "boolean"],
            ),
            (
                r#"{"prompt": "u", "completion": 3, "label": true}"#,
                &["`completion`", "text or a list of messages", "number"],
            ),
        ] {
            let said = read(row).unwrap_err();
            for word in words {
                assert!(said.contains(word), "{row}: expected {word}, found {said}");
            }
        }
    }
}
