//! What is wrong with a question, its context or its answers.

use std::borrow::Cow;

use thiserror::Error;

use rekindle_base::near::quoted_list;

use crate::error::LISTED;

/// Why a question cannot be used. `at` says where in the row: a key of JSON, or the path to it, elements counted from 0.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum QuestionReason {
    /// None of the keys that make a row a question.
    #[error("no `{wanted}`{}: found the keys {}", at.as_ref().map_or_else(String::new, |at| format!(" in {at}")), quoted_list(found, LISTED))]
    NoKey {
        /// The key that is missing.
        wanted: String,
        /// The object that lacks it, where it is not the row.
        at: Option<String>,
        /// The keys of the object.
        found: Vec<String>,
    },
    /// A question without answers in a file to learn from.
    #[error("the question in {at} has no answers")]
    NoAnswers {
        /// Where.
        at: String,
    },
    /// Two fields that cannot both be meant.
    #[error("{at} has {first} and {second}, which say different things")]
    Contradiction {
        /// Where.
        at: String,
        /// One field.
        first: &'static str,
        /// The other.
        second: &'static str,
    },
    /// Another kind of value.
    #[error("expected {expected} in {at}, found {found}")]
    WrongType {
        /// Where.
        at: String,
        /// What can stand there.
        expected: &'static str,
        /// What stands there.
        found: String,
    },
    /// Blank text.
    #[error("the text in {at} is empty")]
    Empty {
        /// Where.
        at: String,
    },
    /// Texts and starts of answers that do not belong together.
    #[error("{at} has {texts} texts and {starts} starts")]
    Counts {
        /// Where.
        at: String,
        /// How many texts.
        texts: usize,
        /// How many starts.
        starts: usize,
    },
    /// An answer that does not stand where it should.
    #[error("the answer `{text}` in {at} should begin at character {start} of the context, where {} stands", found.as_ref().map_or_else(|| "nothing".to_owned(), |found| format!("`{found}`")))]
    OtherText {
        /// Where.
        at: String,
        /// The answer.
        text: String,
        /// Where it should begin.
        start: i64,
        /// What stands there; none where the context is shorter.
        found: Option<String>,
        /// Where the answer does stand: its first place.
        elsewhere: Option<usize>,
    },
    /// An answer that the context does not hold.
    #[error("the answer `{text}` in {at} does not stand in the context")]
    NotThere {
        /// Where.
        at: String,
        /// The answer.
        text: String,
    },
    /// An answer without a start that stands in more than one place.
    #[error(
        "the answer `{text}` in {at} stands {times} times in the context, first at the characters {first} and {second}"
    )]
    Ambiguous {
        /// Where.
        at: String,
        /// The answer.
        text: String,
        /// How often it stands there.
        times: usize,
        /// Its first place.
        first: usize,
        /// Its second place.
        second: usize,
    },
    /// A question that leaves no room for its context.
    #[error(
        "the question has {tokens} tokens: with max_length = {max_length} there is no room for more of the context than the {overlap} tokens that windows share"
    )]
    TooLong {
        /// Tokens of the question.
        tokens: usize,
        /// The maximum length, in tokens.
        max_length: usize,
        /// Tokens that windows share.
        overlap: usize,
        /// The smallest length that would do.
        least: usize,
    },
}

impl QuestionReason {
    /// What the user can do about it.
    pub fn hint(&self) -> Cow<'static, str> {
        match self {
            Self::NoKey { .. } => {
                "write `question`, `context` and `answers` {\"text\": [...], \"answer_start\": [...]}, or the JSON of SQuAD".into()
            }
            Self::NoAnswers { .. } => {
                "give `answers`; where the context has none, empty lists, or is_impossible = true".into()
            }
            Self::Contradiction { .. } => "leave out the one that is wrong".into(),
            Self::WrongType { .. } | Self::Empty { .. } => "fill in or remove the row".into(),
            Self::Counts { .. } => "give every text of an answer its start".into(),
            Self::OtherText {
                elsewhere: Some(start),
                ..
            } => format!(
                "it stands at character {start}: starts count characters (Unicode code points, not bytes) from 0"
            )
            .into(),
            Self::OtherText { .. } | Self::NotThere { .. } => {
                "an answer must be a piece of the context, letter for letter".into()
            }
            Self::Ambiguous { .. } => "say which with `answer_start`".into(),
            Self::TooLong { least, .. } => {
                format!("set max_length to {least} or more, a smaller overlap, or shorten the question").into()
            }
        }
    }
}
