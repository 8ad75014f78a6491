//! What is wrong with a question, its choices or its answer.

use std::borrow::Cow;

use thiserror::Error;

use rekindle_base::near::quoted_list;

use super::{AnswerForm, rows::RIGHT};
use crate::error::LISTED;

/// Why a question with choices cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ChoiceReason {
    /// A part of the question that is not there.
    #[error("no {wanted}: found the columns {}", quoted_list(found, LISTED))]
    Missing {
        /// What is missing.
        wanted: &'static str,
        /// The columns of the row.
        found: Vec<String>,
    },
    /// A named column that is not there.
    #[error("no `{column}`: found the columns {}", quoted_list(found, LISTED))]
    NoColumn {
        /// The column.
        column: String,
        /// The columns of the row.
        found: Vec<String>,
    },
    /// Another kind of value.
    #[error("expected {expected} in `{at}`, found {found}")]
    WrongType {
        /// Where.
        at: String,
        /// What can stand there.
        expected: &'static str,
        /// What stands there.
        found: String,
    },
    /// Blank text.
    #[error("the text in `{at}` is empty")]
    Empty {
        /// Where.
        at: String,
    },
    /// Two columns of the same number.
    #[error("`{first}` and `{second}` are columns of the same choice")]
    Twice {
        /// One column.
        first: String,
        /// The other.
        second: String,
    },
    /// Fewer than two choices.
    #[error("expected at least 2 choices, found {found}")]
    TooFew {
        /// How many.
        found: usize,
    },
    /// Texts and labels of choices that do not belong together.
    #[error("`{at}` has {texts} texts and {labels} labels")]
    Counts {
        /// Where.
        at: String,
        /// How many texts.
        texts: usize,
        /// How many labels.
        labels: usize,
    },
    /// Choices that cannot be told apart by their labels.
    #[error("two choices in `{at}` have the label `{label}`")]
    SameLabel {
        /// Where.
        at: String,
        /// The label.
        label: String,
    },
    /// A row without an answer in a file to learn from.
    #[error("the question has no answer")]
    NoAnswer,
    /// A file to learn from of which no column says what is right.
    #[error(
        "no column says which choice is right: found the columns {}",
        quoted_list(found, LISTED)
    )]
    NoAnswerColumn {
        /// The columns of the file.
        found: Vec<String>,
    },
    /// An answer that is none of the choices, as the file's answers are read.
    #[error("the answer `{answer}` is {}", form.misses(choices, labels))]
    Answer {
        /// The answer as written.
        answer: String,
        /// What the file's answers are.
        form: AnswerForm,
        /// The choices.
        choices: Vec<String>,
        /// Their labels, where the file has some.
        labels: Vec<String>,
    },
}

impl AnswerForm {
    /// What an answer that is none of the choices is, in words.
    fn misses(self, choices: &[String], labels: &[String]) -> String {
        let last = choices.len() - 1;
        match self {
            Self::Label => format!("none of the labels {}", quoted_list(labels, LISTED)),
            Self::Index => format!(
                "no number of a choice: the {} choices are counted from 0 to {last}",
                choices.len()
            ),
            Self::Number => format!(
                "no number of a choice: the {} choices are counted from 1",
                choices.len()
            ),
            Self::Letter => format!(
                "no letter of a choice: the {} choices are A to {}",
                choices.len(),
                // More than 26 choices have no letters.
                char::from(b'A' + last.min(25) as u8)
            ),
            Self::Column => "no name of a choice's column".into(),
            Self::Text => format!(
                "not one of the choices {}, or more than one",
                quoted_list(choices, LISTED)
            ),
        }
    }
}

impl ChoiceReason {
    /// What the user can do about it.
    pub fn hint(&self) -> Cow<'static, str> {
        match self {
            Self::Missing { .. } => {
                "write `question` (or `context`), `choices` [\"...\", \"...\"] and `answer`; or columns as those of SWAG, RACE or ARC; --text, --text-pair and --label name the columns of question, context and answer, and --set 'data.choices=[\"...\", \"...\"]' those of the choices".into()
            }
            Self::NoColumn { .. } => "name a column that the file has".into(),
            Self::WrongType { expected, .. } if expected.starts_with("a list") => {
                "write a list such as [\"...\", \"...\"]".into()
            }
            Self::WrongType { expected, .. } if *expected == RIGHT => {
                "write the right choice by its number from 0, its letter or its text".into()
            }
            Self::WrongType { .. } => "write a text, or a number".into(),
            Self::Empty { .. } => "fill in or remove the row".into(),
            Self::SameLabel { .. } => "give each choice a label of its own".into(),
            Self::TooFew { .. } => {
                "give each row two choices or more: a JSON list in `choices`, or a column each, such as `choice0` and `choice1`".into()
            }
            Self::Twice { .. } => "remove one of them".into(),
            Self::Counts { .. } => "give every choice one text and one label".into(),
            Self::NoAnswerColumn { .. } => {
                "name the column with --label; it gives the right choice by its number from 0, its letter or its text".into()
            }
            Self::NoAnswer => "give the right choice by its number from 0, its letter or its text".into(),
            Self::Answer { answer, form: AnswerForm::Index, choices, .. } if *answer == choices.len().to_string() => {
                "numbers of choices begin at 0; if yours begin at 1, subtract 1, or write letters".into()
            }
            Self::Answer { form, .. } => format!(
                "most answers of the file are {}: write this one so, or remove the row", form.words()
            ).into(),
        }
    }
}
