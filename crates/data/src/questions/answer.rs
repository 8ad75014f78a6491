//! Two logits a token to answers, as `postprocess_qa_predictions` of transformers'
//! `examples/pytorch/question-answering/utils_qa.py`.
//!
//! Difference: where no pair of tokens can be an answer, transformers makes up the answer "empty"; here there is none.

use std::cmp::Ordering;

use super::{Question, QuestionSet, QuestionWindow};
use crate::tokens::Characters;

/// How to choose answers. The default is that of `run_qa.py`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AnswerOptions {
    /// So many starts and ends of each window are looked at, and so many answers are told.
    pub n_best: usize,
    /// Tokens that an answer may have.
    pub max_answer_length: usize,
    /// Whether there may be no answer (`version_2_with_negative`): the set holds impossible questions.
    pub may_have_none: bool,
    /// There is no answer where that scores more than so much higher than the best answer.
    pub null_score_diff_threshold: f32,
}

impl Default for AnswerOptions {
    fn default() -> Self {
        Self {
            n_best: 20,
            max_answer_length: 30,
            may_have_none: false,
            null_score_diff_threshold: 0.0,
        }
    }
}

/// A piece of a context, or nothing.
#[derive(Debug, Clone, PartialEq)]
pub struct FoundAnswer {
    /// The text, as in the context; empty for no answer.
    pub text: String,
    /// Its first character, counted from 0.
    pub start: usize,
    /// The character behind the last.
    pub end: usize,
    /// The start's logit.
    pub start_logit: f32,
    /// The end's logit.
    pub end_logit: f32,
    /// Among the answers that are told.
    pub probability: f32,
}

impl FoundAnswer {
    /// The sum of the logits.
    fn score(&self) -> f32 {
        self.start_logit + self.end_logit
    }
}

/// The answers to a question, best first.
#[derive(Debug, Clone, PartialEq)]
pub struct FoundAnswers {
    /// The one to give; `None` where the context holds none.
    pub answer: Option<FoundAnswer>,
    /// The best ones; no answer among them is an empty text.
    pub n_best: Vec<FoundAnswer>,
    /// How much higher no answer scores than the best answer; `None` where there must be one.
    pub null_score_diff: Option<f32>,
}

impl QuestionSet {
    /// The answers to the question `example`: `logits` gives the start's and the end's logits of each token of a window, by the
    /// window's number.
    ///
    /// # Panics
    /// Where there is no such question.
    pub fn answer<'l>(
        &self,
        example: usize,
        question: &Question,
        options: &AnswerOptions,
        mut logits: impl FnMut(usize) -> (&'l [f32], &'l [f32]),
    ) -> FoundAnswers {
        let mut found: Vec<FoundAnswer> = Vec::new();
        let mut null: Option<FoundAnswer> = None;
        for window in self.windows_of(example) {
            let (starts, ends) = logits(window);
            if let (Some(&start_logit), Some(&end_logit)) = (starts.first(), ends.first()) {
                let none = answer((0, 0), start_logit, end_logit);
                // Every window must agree that there is none.
                if null.as_ref().is_none_or(|null| null.score() > none.score()) {
                    null = Some(none);
                }
            }
            of_window(&self.windows[window], starts, ends, options, &mut found);
        }
        let null = null.filter(|_| options.may_have_none);
        found.extend(null.clone());
        found.sort_by(|a, b| descending(a.score(), b.score()));
        found.truncate(options.n_best);
        if let Some(null) = &null
            && !found
                .iter()
                .any(|answer| (answer.start, answer.end) == (0, 0))
        {
            found.push(null.clone());
        }
        let characters = Characters::new(&question.context);
        for answer in &mut found {
            answer.text = characters.slice(answer.start..answer.end).to_owned();
        }
        softmax(&mut found);
        let best = match &null {
            // What has no text counts as no answer.
            Some(_) => found.iter().find(|answer| !answer.text.is_empty()),
            None => found.first(),
        };
        let null_score_diff = null
            .as_ref()
            .zip(best)
            .map(|(null, best)| null.score() - best.start_logit - best.end_logit);
        let is_none = null_score_diff
            .is_some_and(|difference| difference > options.null_score_diff_threshold);
        FoundAnswers {
            answer: best.filter(|_| !is_none).cloned(),
            n_best: found,
            null_score_diff,
        }
    }
}

fn answer((start, end): (usize, usize), start_logit: f32, end_logit: f32) -> FoundAnswer {
    FoundAnswer {
        text: String::new(),
        start,
        end,
        start_logit,
        end_logit,
        probability: 0.0,
    }
}

/// The pairs of the best starts and ends that can be an answer.
fn of_window(
    window: &QuestionWindow,
    starts: &[f32],
    ends: &[f32],
    options: &AnswerOptions,
    found: &mut Vec<FoundAnswer>,
) {
    let offsets = |token: usize| window.offsets.get(token).copied().flatten();
    let best_ends = best(ends, options.n_best);
    for start in best(starts, options.n_best) {
        for &end in &best_ends {
            let (Some(from), Some(to)) = (offsets(start), offsets(end)) else {
                continue;
            };
            if end >= start && end - start < options.max_answer_length {
                let range = (from.0 as usize, to.1 as usize);
                found.push(answer(range, starts[start], ends[end]));
            }
        }
    }
}

/// The numbers of the `most` highest logits, highest first; of equal ones the last first, as in numpy.
fn best(logits: &[f32], most: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..logits.len()).collect();
    order.sort_by(|&a, &b| descending(logits[a], logits[b]).then(b.cmp(&a)));
    order.truncate(most);
    order
}

fn descending(a: f32, b: f32) -> Ordering {
    b.total_cmp(&a)
}

/// Turns scores into probabilities.
fn softmax(found: &mut [FoundAnswer]) {
    let most = found
        .iter()
        .map(FoundAnswer::score)
        .fold(f32::NEG_INFINITY, f32::max);
    let weights: Vec<f32> = found
        .iter()
        .map(|answer| (answer.score() - most).exp())
        .collect();
    let sum: f32 = weights.iter().sum();
    for (answer, weight) in found.iter_mut().zip(weights) {
        answer.probability = weight / sum;
    }
}
