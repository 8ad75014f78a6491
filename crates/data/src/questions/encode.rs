//! Questions to windows of tokens with the first and last token of the answer, as `prepare_train_features` and
//! `prepare_validation_features` of transformers' `examples/pytorch/question-answering/run_qa.py`.
//!
//! Difference: where the answer begins with the last token of a window, `run_qa.py` runs past the end of the context and gives
//! the last token of the row, a special token or padding, as the start. Here it is the token itself. And where a tokenizer drops
//! a combining mark (of an accent written apart), `run_qa.py` looks for the end of an answer in the next token; here a mark
//! belongs to the token of its letter.

use std::ops::Range;

use rayon::prelude::*;
use tokenizers::Encoding;
use unicode_normalization::char::is_combining_mark;

use super::{Answer, Question, QuestionReason};
use crate::text::{CHUNK, Failed, Pieces};
use crate::{BadReason, DataError, Encoded, EncodedSet, OnBad, Skipped, TextBatch, TextEncoder};

/// How to encode questions. The default is that of `run_qa.py`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QuestionOptions {
    /// Tokens of the context that windows share (`doc_stride`).
    pub overlap: usize,
    /// What to do with a question that leaves no room for its context.
    pub on_bad_example: OnBad,
}

impl Default for QuestionOptions {
    fn default() -> Self {
        Self {
            overlap: 128,
            on_bad_example: OnBad::Error,
        }
    }
}

/// What is known of the tokens of a window.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QuestionWindow {
    /// Index of its question.
    pub example: usize,
    /// For each token its characters of the context; none for special tokens and those of the question.
    pub offsets: Vec<Option<(u32, u32)>>,
    /// First and last token of the first answer; both 0, the first token of the row, where the window does not hold it or there
    /// is none. `None` for a question without answers to learn.
    pub answer: Option<(u32, u32)>,
}

/// A set of questions as windows of tokens.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct QuestionSet {
    /// The tokens of the windows, those of one question side by side; without targets.
    pub set: EncodedSet,
    /// What is known of them, as long.
    pub windows: Vec<QuestionWindow>,
    /// Questions that leave no room for their context: they have no windows. Empty unless [`OnBad::Skip`].
    pub skipped: Vec<Skipped>,
    /// The first window of each question, and behind the last.
    first: Vec<usize>,
}

/// Windows packed into one row of T tokens.
#[derive(Debug, Clone, PartialEq)]
pub struct QuestionBatch {
    /// The tokens; without targets.
    pub text: TextBatch,
    /// First token of the answer, counted from the start of its window, `[B]`; empty for a set without answers to learn.
    pub starts: Vec<i32>,
    /// Last token of the answer, likewise, `[B]`.
    pub ends: Vec<i32>,
}

impl QuestionSet {
    /// Number of questions, those without windows too.
    pub fn examples(&self) -> usize {
        self.first.len().saturating_sub(1)
    }

    /// The windows of a question.
    ///
    /// # Panics
    /// Where there is no such question.
    pub fn windows_of(&self, example: usize) -> Range<usize> {
        self.first[example]..self.first[example + 1]
    }

    /// Packs the windows `indices` of the set, in that order.
    ///
    /// # Panics
    /// Where an index is outside of the set.
    pub fn pack(&self, indices: &[usize]) -> QuestionBatch {
        let answers = indices
            .iter()
            .filter_map(|&index| self.windows[index].answer);
        let (starts, ends) = answers
            .map(|(start, end)| (start as i32, end as i32))
            .unzip();
        QuestionBatch {
            text: TextBatch::pack(&self.set, indices),
            starts,
            ends,
        }
    }
}

/// The windows of a question, or why there are none.
type Made = Result<Vec<(Encoded, QuestionWindow)>, BadReason>;

impl TextEncoder {
    /// Encodes questions with their contexts in parallel, in their order. White space before a question is left out. A context
    /// that is too long is cut into windows; the question stands in each of them.
    ///
    /// # Errors
    /// [`DataError::BadExample`] for a question that leaves no room for its context, [`DataError::Overlap`],
    /// [`DataError::Tokenize`].
    pub fn encode_questions(
        &self,
        questions: &[Question],
        options: QuestionOptions,
    ) -> Result<QuestionSet, DataError> {
        self.check_overlap(options.overlap, true)?;
        let encoded = questions
            .par_iter()
            .with_min_len(CHUNK)
            .enumerate()
            .map(|(example, question)| {
                self.guarded(Some(&question.place), || {
                    self.encode_question(example, question, options.overlap)
                })
            })
            .collect::<Result<Vec<Made>, _>>()?;
        let mut set = QuestionSet::default();
        for (made, question) in encoded.into_iter().zip(questions) {
            set.first.push(set.windows.len());
            let place = question.place.clone();
            match made {
                Ok(windows) => {
                    for (encoded, window) in windows {
                        set.set.items.push(encoded);
                        set.windows.push(window);
                    }
                }
                Err(reason) if options.on_bad_example == OnBad::Skip => {
                    set.skipped.push(Skipped { place, reason });
                }
                Err(reason) => return Err(DataError::BadExample { place, reason }),
            }
        }
        set.first.push(set.windows.len());
        Ok(set)
    }

    fn encode_question(
        &self,
        example: usize,
        question: &Question,
        overlap: usize,
    ) -> Result<Made, Failed> {
        // Python's white space has four control characters more.
        let is_space = |c: char| c.is_whitespace() || ('\x1c'..='\x1f').contains(&c);
        let first = self.whole(question.question.trim_start_matches(is_space))?;
        let second = self.whole(&*question.context)?;
        let dropped = dropped_marks(&second, &question.context);
        if let Some(room) = self.room_beside(first.len())
            && second.len() > room
            && room <= overlap
        {
            let tokens = first.len();
            let max_length = self.max_length().unwrap_or_default();
            let reason = QuestionReason::TooLong {
                tokens,
                max_length,
                overlap,
                least: tokens + self.added[1] + overlap + 1,
            };
            return Ok(Err(reason.into()));
        }
        let windows = self.windows(first, Some(second), Some(overlap))?;
        let windows = windows.into_iter().map(|mut pieces| {
            let own = pieces.offsets.iter_mut().zip(&pieces.index);
            for ((_, end), _) in own.filter(|(_, index)| index.is_some()) {
                while dropped.get(*end).is_some_and(|&dropped| dropped) {
                    *end += 1;
                }
            }
            let answer = question.answers.as_ref().map(|answers| {
                let found = answers
                    .first()
                    .and_then(|answer| positions(&pieces, answer));
                found.unwrap_or((0, 0))
            });
            let offsets = pieces.offsets.iter().zip(&pieces.index);
            let offsets =
                offsets.map(|(&(start, end), index)| index.map(|_| (start as u32, end as u32)));
            let window = QuestionWindow {
                example,
                offsets: offsets.collect(),
                answer,
            };
            (pieces.encoded, window)
        });
        Ok(Ok(windows.collect()))
    }
}

/// Which characters are combining marks that no token holds; empty where there are no marks.
fn dropped_marks(context: &Encoding, text: &str) -> Vec<bool> {
    if !text.contains(is_combining_mark) {
        return Vec::new();
    }
    let mut dropped: Vec<bool> = text.chars().map(is_combining_mark).collect();
    for &(start, end) in context.get_offsets() {
        dropped[start..end].fill(false);
    }
    dropped
}

/// First and last token of an answer, if the window holds it.
fn positions(pieces: &Pieces, answer: &Answer) -> Option<(u32, u32)> {
    let inside = |index: &Option<u32>| index.is_some();
    let first = pieces.index.iter().position(inside)?;
    let last = pieces.index.iter().rposition(inside)?;
    let (start, end) = (answer.start, answer.end());
    if pieces.offsets[first].0 > start || pieces.offsets[last].1 < end {
        return None;
    }
    let from = (first..=last)
        .take_while(|&token| pieces.offsets[token].0 <= start)
        .last()?;
    let to = (first..=last)
        .rev()
        .take_while(|&token| pieces.offsets[token].1 >= end)
        .last()?;
    Some((from as u32, to as u32))
}
