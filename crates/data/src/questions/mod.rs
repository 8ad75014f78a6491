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

use std::sync::Arc;

use crate::Place;

pub use answer::{AnswerOptions, FoundAnswer, FoundAnswers};
pub use asked::Asked;
pub use encode::{QuestionBatch, QuestionOptions, QuestionSet, QuestionWindow};
pub use read::{QuestionFile, Questions, read_questions};
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
