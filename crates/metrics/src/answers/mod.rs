//! Answers in words against the right ones: exact match, ROUGE-L, BLEU, and where the right answers are JSON, how much of it is right.

mod bleu;
mod json;
mod rouge;

pub use bleu::Bleu;
pub use json::{JsonAnswers, JsonReport, PerField};
pub use rouge::rouge_l;

use crate::Mean;
use serde::{Deserialize, Serialize};

/// Whether an answer is the right one, but for white space around it.
#[must_use]
pub fn exact_match(answer: &str, reference: &str) -> bool {
    answer.trim() == reference.trim()
}

/// Whether an answer is the right one, but for letter case, the amount of white space, and a full stop, exclamation or question
/// mark at the end.
#[must_use]
pub fn normalized_match(answer: &str, reference: &str) -> bool {
    normalized(answer) == normalized(reference)
}

fn normalized(text: &str) -> String {
    let text = text.to_lowercase();
    let words: Vec<&str> = text.split_whitespace().collect();
    let text = words.join(" ");
    text.trim_end_matches(['.', '!', '?']).trim_end().to_owned()
}

/// Adds up answers against the right ones.
#[derive(Debug, Clone, Default)]
pub struct Answers {
    exact: u64,
    normalized: u64,
    rouge_l: Mean,
    bleu: Bleu,
    json: JsonAnswers,
    /// Whether every reference so far is JSON.
    only_json: bool,
}

impl Answers {
    /// Figures of nothing.
    #[must_use]
    pub fn new() -> Self {
        Self {
            only_json: true,
            ..Self::default()
        }
    }

    /// Adds an answer and the right one.
    pub fn update(&mut self, answer: &str, reference: &str) {
        self.exact += u64::from(exact_match(answer, reference));
        self.normalized += u64::from(normalized_match(answer, reference));
        self.rouge_l.add(rouge_l(answer, reference));
        self.bleu.update(answer, reference);
        self.only_json &= self.json.update(answer, reference);
    }

    /// The figures so far.
    #[must_use]
    pub fn report(&self) -> AnswersReport {
        let n = self.rouge_l.count();
        let share = |part: u64| part as f64 / n as f64;
        AnswersReport {
            n,
            exact_match: share(self.exact),
            normalized_match: share(self.normalized),
            rouge_l: self.rouge_l.mean(),
            bleu: self.bleu.score(),
            json: (n > 0 && self.only_json).then(|| self.json.report()),
        }
    }
}

/// The figures of answers. All but `n` and `bleu` are shares, in [0, 1]; without answers they are NaN, `null` in JSON.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AnswersReport {
    /// Number of answers.
    pub n: u64,
    /// Share of answers that are the right ones, see [`exact_match`].
    #[serde(with = "crate::nan_as_null")]
    pub exact_match: f64,
    /// The same, but for what does not matter to people, see [`normalized_match`].
    #[serde(with = "crate::nan_as_null")]
    pub normalized_match: f64,
    /// Mean F measure of the longest common subsequence of words, see [`rouge_l`].
    #[serde(with = "crate::nan_as_null")]
    pub rouge_l: f64,
    /// BLEU of all answers together, in [0, 100], see [`Bleu`].
    #[serde(with = "crate::nan_as_null")]
    pub bleu: f64,
    /// What is right of JSON, where every right answer is a JSON object or array.
    pub json: Option<JsonReport>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn matches_are_exact_or_nearly() {
        for (answer, reference, exact, nearly) in [
            ("yes", "yes", true, true),
            (" yes\n", "yes", true, true),
            ("Yes.", "yes", false, true),
            ("two  words", "two words", false, true),
            ("yes, no", "yes no", false, false),
            ("", "", true, true),
            ("?", "", false, true),
            ("ÄPFEL", "äpfel!", false, true),
        ] {
            assert_eq!(exact_match(answer, reference), exact, "{answer:?}");
            assert_eq!(normalized_match(answer, reference), nearly, "{answer:?}");
        }
    }

    #[test]
    fn one_reference_in_words_and_nothing_is_said_of_json() {
        let mut answers = Answers::new();
        answers.update(r#"{"a": 1}"#, r#"{"a":1}"#);
        let report = answers.report();
        assert_eq!(report.exact_match, 0.0);
        assert_eq!(report.json.map(|json| json.exact), Some(1.0));
        answers.update("hello", "hello");
        assert_eq!(answers.report().json, None);
        assert_eq!(answers.report().exact_match, 0.5);
        assert_eq!(Answers::new().report().json, None);
        assert!(Answers::new().report().exact_match.is_nan());
    }
}
