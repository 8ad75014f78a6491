//! Multiple choice: questions, each with choices of its own, one of which is right.
//!
//! | step | here |
//! |---|---|
//! | a file -> [`ChoiceQuestion`]s | [`read_choices`]: SWAG, RACE, CommonsenseQA, ARC, and flat rows like them |
//! | a question -> a pair of texts for each choice | [`ChoiceQuestion::pair`], as transformers' `run_swag.py` has it |
//! | pairs -> token ids | [`TextEncoder::encode_choices`](crate::TextEncoder::encode_choices) -> [`ChoiceSet`] |
//! | questions -> examples of a run, whose targets they are | [`Posed`] |

mod encode;
mod read;
mod reason;
mod rows;

use std::borrow::Cow;
use std::path::PathBuf;
use std::sync::Arc;

use crate::split::{deal, parts_by_text};
use crate::{DataError, Examples, Fractions, Place};

pub use encode::ChoiceSet;
pub use read::{AnswerForm, ChoiceQuestions, read_choices};
pub use reason::ChoiceReason;

/// A question with its choices.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChoiceQuestion {
    /// What the question is about; never blank.
    pub context: Option<String>,
    /// The question, or what the choices go on from; never blank.
    pub question: String,
    /// The choices, at least two, in the order of the file; none of them blank.
    pub choices: Vec<String>,
    /// The right one, counted from 0; `None` where the file does not say.
    pub answer: Option<usize>,
    /// Where the question starts in its file.
    pub place: Place,
}

impl ChoiceQuestion {
    /// The two texts that a model reads of a choice: the context, and the question with the choice behind it; without a context the question
    /// and the choice.
    ///
    /// # Panics
    /// Where there is no such choice.
    pub fn pair(&self, choice: usize) -> (&str, Cow<'_, str>) {
        let (question, choice) = (self.question.as_str(), self.choices[choice].as_str());
        match &self.context {
            None => (question, choice.into()),
            Some(context) => (context, format!("{question} {choice}").into()),
        }
    }

    /// The right choice, where the file says which.
    pub fn right(&self) -> Option<&str> {
        self.answer.map(|answer| self.choices[answer].as_str())
    }
}

impl Examples for Vec<ChoiceQuestion> {
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

    /// Questions about the same text stay together, as those of [`crate::questions`].
    fn parts(&self, fractions: Fractions, stratify: bool, seed: u64) -> Result<Vec<u8>, DataError> {
        let text = |row: usize| self[row].context.as_ref().unwrap_or(&self[row].question);
        parts_by_text(self, |row| text(row), fractions, stratify, seed)
    }
}

/// Questions as the targets of examples: all that a loss, figures and answers need to know of them.
#[derive(Debug, Clone, PartialEq)]
pub struct Posed {
    questions: Arc<Vec<ChoiceQuestion>>,
    /// Of each example the number of its question.
    examples: Vec<usize>,
}

impl Posed {
    /// An example a question.
    pub fn new(questions: Arc<Vec<ChoiceQuestion>>) -> Self {
        Self {
            examples: (0..questions.len()).collect(),
            questions,
        }
    }

    /// Number of examples, N.
    pub fn len(&self) -> usize {
        self.examples.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.examples.is_empty()
    }

    /// These examples, in this order.
    ///
    /// # Panics
    /// Where an index is outside of them.
    #[must_use]
    pub fn subset(&self, indices: &[usize]) -> Self {
        Self {
            questions: Arc::clone(&self.questions),
            examples: indices.iter().map(|&i| self.examples[i]).collect(),
        }
    }

    /// The question of an example.
    ///
    /// # Panics
    /// Where there is no such example.
    pub fn question(&self, example: usize) -> &ChoiceQuestion {
        &self.questions[self.examples[example]]
    }

    /// The questions of all examples, in order.
    pub fn questions(&self) -> impl Iterator<Item = &ChoiceQuestion> {
        self.examples.iter().map(|&number| &self.questions[number])
    }
}
