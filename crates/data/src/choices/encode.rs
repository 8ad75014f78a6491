//! Questions with choices to token ids: a sequence for each choice, as transformers' `run_swag.py` makes them.

use std::ops::Range;

use rayon::prelude::*;

use super::ChoiceQuestion;
use crate::text::CHUNK;
use crate::{DataError, EncodedSet, Targets, TextEncoder};

/// The choices of questions as token ids.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ChoiceSet {
    /// A sequence for each choice; those of a question follow one another.
    pub set: EncodedSet,
    /// Where each question's begin, and the end: `[N + 1]`.
    pub starts: Vec<usize>,
}

impl ChoiceSet {
    /// The sequences of a question, as numbers of the set's.
    ///
    /// # Panics
    /// Where there is no such question.
    pub fn choices_of(&self, question: usize) -> Range<usize> {
        self.starts[question]..self.starts[question + 1]
    }
}

impl TextEncoder {
    /// Encodes the choices of questions in parallel, each as [`ChoiceQuestion::pair`]; a pair that is too long loses tokens of whichever of its
    /// texts is the longer, one by one (`truncation=True`).
    ///
    /// # Errors
    /// As [`encode`](Self::encode).
    pub fn encode_choices(&self, questions: &[ChoiceQuestion]) -> Result<ChoiceSet, DataError> {
        let mut starts = vec![0];
        starts.extend(questions.iter().scan(0, |end, question| {
            *end += question.choices.len();
            Some(*end)
        }));
        let encode = |question: &ChoiceQuestion| {
            let choices = 0..question.choices.len();
            let encode = |choice| {
                let (first, second) = question.pair(choice);
                self.encode_at(first, Some(&second), Some(&question.place))
            };
            choices.map(encode).collect::<Result<Vec<_>, _>>()
        };
        let items = questions
            .par_iter()
            .with_min_len(CHUNK / 4)
            .map(encode)
            .collect::<Result<Vec<_>, _>>()?;
        Ok(ChoiceSet {
            set: EncodedSet {
                items: items.into_iter().flatten().collect(),
                targets: Targets::None,
            },
            starts,
        })
    }
}
