//! Extractive question answering: questions whose answers are pieces of a text.
//!
//! | step | here |
//! |---|---|
//! | a file -> [`Question`]s | [`read_questions`]: SQuAD's JSON, rows of `question`, `context` and `answers` |
//! | questions -> windows of tokens with two positions | [`TextEncoder::encode_questions`](crate::TextEncoder::encode_questions) -> [`QuestionSet`] |
//! | windows -> examples of a run, whose targets they are | [`Asked`] |
//! | two logits a token -> answers | [`QuestionSet::answer`], [`Asked::answer`] |
//!
//! Places in a context are characters (Unicode code points) counted from 0.

mod answer;
mod asked;
mod encode;
mod read;
mod reason;
mod rows;
mod squad;

use std::borrow::Cow;
use std::path::PathBuf;
use std::sync::Arc;

use crate::split::{deal, parts_by_text};
use crate::{DataError, Examples, Fractions, Place};

pub use answer::{AnswerOptions, FoundAnswer, FoundAnswers};
pub use asked::Asked;
pub use encode::{QuestionBatch, QuestionOptions, QuestionSet, QuestionWindow};
pub use read::{QuestionColumns, QuestionFile, Questions, read_questions};
pub use reason::QuestionReason;

/// A piece of a context.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Answer {
    /// The text, exactly as in the context. Never blank.
    pub text: String,
    /// Its first character, counted from 0.
    pub start: usize,
}

impl Answer {
    /// The character behind the last.
    pub fn end(&self) -> usize {
        self.start + self.text.chars().count()
    }
}

/// A question about a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// What the file calls it, if it names its questions.
    pub id: Option<String>,
    /// The question, as in the file; never blank.
    pub question: String,
    /// The text to find the answer in, which many questions share; never blank.
    pub context: Arc<str>,
    /// The right answers; none where the context has no answer. `None` where the file does not say.
    pub answers: Option<Vec<Answer>>,
    /// Where the question starts in its file.
    pub place: Place,
}

impl Examples for Vec<Question> {
    fn count(&self) -> usize {
        self.len()
    }

    fn class(&self, _index: usize) -> Option<Cow<'_, str>> {
        None
    }

    fn labels(&self, _index: usize) -> &[String] {
        &[]
    }

    fn source(&self) -> PathBuf {
        self.first()
            .map_or_else(PathBuf::new, |row| row.place.path.to_path_buf())
    }

    fn into_parts(self, to: &[u8]) -> [Self; 3] {
        deal(self, to)
    }

    /// Questions about the same text stay together.
    fn parts(&self, fractions: Fractions, stratify: bool, seed: u64) -> Result<Vec<u8>, DataError> {
        parts_by_text(self, |row| &self[row].context, fractions, stratify, seed)
    }
}
