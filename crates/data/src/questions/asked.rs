//! Questions as the targets of examples: all that a loss, figures and answers need to know of them.

use std::ops::Range;
use std::sync::Arc;

use super::{AnswerOptions, FoundAnswers, Question, QuestionSet, QuestionWindow};

/// Examples, each of which is some windows of one question: all of them, or one.
#[derive(Debug, Clone, PartialEq)]
pub struct Asked {
    questions: Arc<Vec<Question>>,
    set: Arc<QuestionSet>,
    /// The windows of each example. Never empty.
    examples: Vec<Range<usize>>,
}

impl Asked {
    /// Each window by itself: what a step of training takes.
    pub fn by_window(questions: Arc<Vec<Question>>, set: Arc<QuestionSet>) -> Self {
        let windows = 0..set.windows.len();
        Self {
            examples: windows.map(|window| window..window + 1).collect(),
            questions,
            set,
        }
    }

    /// Each question with all its windows: what is answered. Questions that were left out are none of them.
    pub fn by_question(questions: Arc<Vec<Question>>, set: Arc<QuestionSet>) -> Self {
        let windows = (0..set.examples()).map(|question| set.windows_of(question));
        Self {
            examples: windows.filter(|windows| !windows.is_empty()).collect(),
            questions,
            set,
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
            set: Arc::clone(&self.set),
            examples: indices.iter().map(|&i| self.examples[i].clone()).collect(),
        }
    }

    /// The windows of all questions.
    pub fn set(&self) -> &QuestionSet {
        &self.set
    }

    /// The windows of an example, as numbers of the set's.
    ///
    /// # Panics
    /// Where there is no such example.
    pub fn windows_of(&self, example: usize) -> Range<usize> {
        self.examples[example].clone()
    }

    /// The windows of all examples, one behind the other.
    pub fn windows(&self) -> impl Iterator<Item = &QuestionWindow> {
        let windows = self.examples.iter().flat_map(Clone::clone);
        windows.map(|window| &self.set.windows[window])
    }

    /// The question that an example is of.
    ///
    /// # Panics
    /// Where there is no such example.
    pub fn question(&self, example: usize) -> &Question {
        let first = self.examples[example].start;
        &self.questions[self.set.windows[first].example]
    }

    /// Tokens of an example.
    ///
    /// # Panics
    /// Where there is no such example.
    pub fn tokens(&self, example: usize) -> usize {
        let windows = self.set.windows[self.examples[example].clone()].iter();
        windows.map(|window| window.offsets.len()).sum()
    }

    /// The answers to a question of which the example has all windows: `logits` are the start's and the end's of each of its tokens, `[T, 2]`.
    ///
    /// # Panics
    /// Where there is no such example, or logits are missing.
    pub fn answer(&self, example: usize, logits: &[f32], options: &AnswerOptions) -> FoundAnswers {
        let windows = self.windows_of(example);
        let (first, mut at) = (windows.start, 0);
        let by_window: Vec<[Vec<f32>; 2]> = self.set.windows[windows]
            .iter()
            .map(|window| {
                let own = &logits[2 * at..][..2 * window.offsets.len()];
                at += window.offsets.len();
                let of = |which| own.iter().skip(which).step_by(2).copied().collect();
                [of(0), of(1)]
            })
            .collect();
        let number = self.set.windows[first].example;
        self.set
            .answer(number, self.question(example), options, |window| {
                let [starts, ends] = &by_window[window - first];
                (starts, ends)
            })
    }
}
