//! Extracted answers: exact match and F1 of words as the official scripts of SQuAD 1.1 (Rajpurkar et al., "SQuAD: 100,000+
//! questions for machine comprehension of text", 2016) and 2.0 (Rajpurkar et al., "Know what you don't know: unanswerable
//! questions for SQuAD", 2018) compute them. The scripts print 100 times these shares.
//!
//! Their habits are kept, since figures are compared across papers. Answers are compared without letter case, ASCII
//! punctuation, the English articles `a`, `an` and `the`, and extra white space. So other punctuation (`«`, `’`, `–`) and
//! articles of other languages count, and `state-of-the-art` is the one word `stateoftheart`.

use regex::{Captures, Regex};
use serde::{Deserialize, Serialize};
use std::{collections::HashMap, sync::LazyLock};

/// Whose rules decide. They differ only where nothing is left of an answer without articles and punctuation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SquadVersion {
    /// SQuAD 1.1: an answer that becomes empty has F1 0, against an equal right one too. A question without right answers
    /// has no score; it counts as wrong here, where the script fails.
    V1,
    /// SQuAD 2.0: right answers that become empty are left out; with none left, only an empty answer is right, and has F1 1.
    V2,
}

/// How good one answer is.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct ExtractiveScore {
    /// Whether it equals one of the right answers.
    pub exact: bool,
    /// F1 of its words and those of a right answer, the best of them, in `0..=1`.
    pub f1: f64,
}

/// The score of an answer against all that are right; the best counts.
#[must_use]
pub fn extractive_score<S: AsRef<str>>(
    answer: &str,
    right: &[S],
    version: SquadVersion,
) -> ExtractiveScore {
    let answer = normalized(answer);
    let mut right: Vec<String> = right.iter().map(|text| normalized(text.as_ref())).collect();
    if version == SquadVersion::V2 {
        right.retain(|text| !text.is_empty());
        if right.is_empty() {
            right.push(String::new());
        }
    }
    let f1 = right.iter().map(|right| f1(&answer, right, version));
    ExtractiveScore {
        exact: right.contains(&answer),
        f1: f1.fold(0.0, f64::max),
    }
}

/// As Python's `\w`, without the underscore, which is gone by then. This is not the regex crate's, which has marks too.
static WORD: LazyLock<Regex> =
    // The tests would see a pattern that is none.
    LazyLock::new(|| Regex::new(r"[\p{L}\p{N}]+").expect("a pattern"));

/// Without letter case, ASCII punctuation, English articles and extra white space.
fn normalized(text: &str) -> String {
    let text = text.to_lowercase();
    let text: String = text.chars().filter(|c| !c.is_ascii_punctuation()).collect();
    let text = WORD.replace_all(&text, |word: &Captures<'_>| match &word[0] {
        "a" | "an" | "the" => " ".to_owned(),
        other => other.to_owned(),
    });
    // Python's white space: Unicode's and four separators of ASCII.
    let is_space = |c: char| c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c);
    let words: Vec<&str> = text
        .split(is_space)
        .filter(|word| !word.is_empty())
        .collect();
    words.join(" ")
}

/// F1 of the words of two normalized texts, which count as often as they occur.
fn f1(answer: &str, right: &str, version: SquadVersion) -> f64 {
    if version == SquadVersion::V2 && (answer.is_empty() || right.is_empty()) {
        return f64::from(answer == right);
    }
    let words = |text: &str| text.split(' ').filter(|word| !word.is_empty()).count() as f64;
    let mut left: HashMap<&str, u64> = HashMap::new();
    for word in right.split(' ').filter(|word| !word.is_empty()) {
        *left.entry(word).or_default() += 1;
    }
    let mut same = 0.0;
    for word in answer.split(' ') {
        if let Some(count) = left.get_mut(word).filter(|count| **count > 0) {
            *count -= 1;
            same += 1.0;
        }
    }
    if same == 0.0 {
        return 0.0;
    }
    let (precision, recall) = (same / words(answer), same / words(right));
    2.0 * precision * recall / (precision + recall)
}

/// Adds up answers to questions, question by question.
///
/// Thresholds are chosen afterwards, so the accumulator keeps the scores: 40 bytes a question.
#[derive(Debug, Clone, PartialEq)]
pub struct ExtractiveAnswers {
    version: SquadVersion,
    questions: Vec<Question>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
struct Question {
    score: ExtractiveScore,
    /// Whether there is a right answer at all.
    has_answer: bool,
    /// Whether an answer was given.
    answered: bool,
    no_answer: Option<f64>,
}

/// The figures of a whole split. Shares are in `0..=1`. JSON's `null` stands for NaN, or for what there is not.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ExtractiveReport {
    /// Of all questions.
    #[serde(flatten)]
    pub overall: ExtractiveShare,
    /// Of the questions that have an answer; none if there are none. The script's `HasAns`.
    pub has_answer: Option<ExtractiveShare>,
    /// Of the questions without one: the share where none was given. The script's `NoAns`.
    pub no_answer: Option<ExtractiveShare>,
    /// What the best thresholds reach; none unless every question came with a finite score that it has no answer.
    pub best: Option<BestThresholds>,
}

/// The figures of some questions.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct ExtractiveShare {
    /// Questions.
    pub n: u64,
    /// Share of questions whose answer is exactly right; NaN without questions.
    #[serde(with = "crate::nan_as_null")]
    pub exact_match: f64,
    /// Mean F1; NaN without questions.
    #[serde(with = "crate::nan_as_null")]
    pub f1: f64,
}

/// The best thresholds above which a question counts as having no answer, as the script of SQuAD 2.0 finds them.
///
/// It goes through the questions from the lowest no-answer score on and takes the best place to stop, also between
/// questions with equal scores, in the order they were added. So what it promises may be a little more than its threshold
/// reaches. It counts any answer to a question without one as wrong, also one of articles and punctuation alone. Where it is
/// best to answer nothing the threshold is 0.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct BestThresholds {
    /// The best share of exact answers.
    pub exact_match: f64,
    /// The no-answer score that reaches it.
    pub exact_match_threshold: f64,
    /// The best mean F1.
    pub f1: f64,
    /// The no-answer score that reaches it.
    pub f1_threshold: f64,
}

impl ExtractiveAnswers {
    /// Figures of nothing.
    #[must_use]
    pub fn new(version: SquadVersion) -> Self {
        Self {
            version,
            questions: Vec::new(),
        }
    }

    /// Adds a question: the answer given (empty for none), all right ones (none if it has no answer), and how sure it is that
    /// there is no answer, a probability or any other score, if known.
    pub fn update<S: AsRef<str>>(&mut self, answer: &str, right: &[S], no_answer: Option<f64>) {
        self.questions.push(Question {
            score: extractive_score(answer, right, self.version),
            has_answer: !right.is_empty(),
            answered: !answer.is_empty(),
            no_answer,
        });
    }

    /// Adds everything `other` has seen, with the scores it gave.
    pub fn merge(&mut self, other: &Self) {
        self.questions.extend(&other.questions);
    }

    /// All figures of the answers as they were given.
    #[must_use]
    pub fn report(&self) -> ExtractiveReport {
        self.report_at(f64::INFINITY)
    }

    /// All figures if a question whose no-answer score is above this threshold counts as having no answer, whatever
    /// answer was given. `best` does not depend on it.
    #[must_use]
    pub fn report_at(&self, no_answer_threshold: f64) -> ExtractiveReport {
        let scored = || {
            self.questions.iter().map(|question| {
                let withheld = question.no_answer.is_some_and(|s| s > no_answer_threshold);
                (question.has_answer, question.at(withheld))
            })
        };
        let of = |wanted: bool| {
            let chosen = scored().filter(|(has_answer, _)| *has_answer == wanted);
            let share = ExtractiveShare::of(chosen.map(|(_, score)| score));
            (share.n > 0).then_some(share)
        };
        ExtractiveReport {
            overall: ExtractiveShare::of(scored().map(|(_, score)| score)),
            has_answer: of(true),
            no_answer: of(false),
            best: self.best(),
        }
    }

    /// The threshold to keep for other questions: of those with the best mean F1 here the one nearest to 0, halfway between two
    /// scores, so that [`report_at`](Self::report_at) reaches what it promises. None unless every question came with a finite
    /// no-answer score. Where few questions decide, that of [`BestThresholds`] is a score that was seen and may lie far out.
    #[must_use]
    pub fn best_threshold(&self) -> Option<f64> {
        let order = self.by_no_answer()?;
        let mut now: f64 = order.iter().map(|(_, q)| q.at(true).f1).sum();
        let mut best = (now, between(f64::NEG_INFINITY, order[0].0));
        for (i, (score, question)) in order.iter().enumerate() {
            now += question.at(false).f1 - question.at(true).f1;
            let next = order.get(i + 1).map_or(f64::INFINITY, |(next, _)| *next);
            let threshold = between(*score, next);
            // Sums that are equal may differ by rounding.
            let better = now > best.0 + 1e-9;
            if next > *score && (better || now > best.0 - 1e-9 && threshold.abs() < best.1.abs()) {
                best = (now, threshold);
            }
        }
        Some(best.1)
    }

    /// The questions from the lowest no-answer score on; none unless all have a finite one.
    fn by_no_answer(&self) -> Option<Vec<(f64, &Question)>> {
        let mut order = Vec::with_capacity(self.questions.len());
        for question in &self.questions {
            order.push((question.no_answer.filter(|s| s.is_finite())?, question));
        }
        // Stable, and 0 is -0.
        order.sort_by(|a, b| a.0.partial_cmp(&b.0).unwrap_or(std::cmp::Ordering::Equal));
        (!order.is_empty()).then_some(order)
    }

    fn best(&self) -> Option<BestThresholds> {
        let order = self.by_no_answer()?;
        let best = |figure: fn(&ExtractiveScore) -> f64| {
            let unanswerable = order.iter().filter(|(_, question)| !question.has_answer);
            let mut now = unanswerable.count() as f64;
            let mut best = (now, 0.0);
            for (no_answer, question) in &order {
                now += match question.has_answer {
                    true => figure(&question.score),
                    false => -f64::from(question.answered),
                };
                if now > best.0 {
                    best = (now, *no_answer);
                }
            }
            (best.0 / order.len() as f64, best.1)
        };
        let (exact_match, exact_match_threshold) = best(|score| f64::from(score.exact));
        let (f1, f1_threshold) = best(|score| score.f1);
        Some(BestThresholds {
            exact_match,
            exact_match_threshold,
            f1,
            f1_threshold,
        })
    }
}

/// A threshold that parts two scores, of which the lower is answered: 0 if it does, else halfway; beyond all, next to them.
fn between(lower: f64, upper: f64) -> f64 {
    if lower <= 0.0 && 0.0 < upper {
        return 0.0;
    }
    if lower == f64::NEG_INFINITY {
        return upper - 1.0;
    }
    let halfway = lower + (upper - lower) / 2.0;
    // Not halfway to infinity, nor where rounding gives the upper one.
    if halfway < upper { halfway } else { lower }
}

impl Question {
    /// The score if its answer is withheld, or not.
    fn at(&self, withheld: bool) -> ExtractiveScore {
        match withheld {
            true => ExtractiveScore {
                exact: !self.has_answer,
                f1: f64::from(!self.has_answer),
            },
            false => self.score,
        }
    }
}

impl ExtractiveShare {
    fn of(scores: impl Iterator<Item = ExtractiveScore>) -> Self {
        let (mut n, mut exact, mut f1) = (0_u64, 0_u64, 0.0);
        for score in scores {
            n += 1;
            exact += u64::from(score.exact);
            f1 += score.f1;
        }
        Self {
            n,
            exact_match: exact as f64 / n as f64,
            f1: f1 / n as f64,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_does_not_count() {
        assert_eq!(
            normalized(" The  Lamp, an_d a\u{1f}hall! "),
            "lamp and hall"
        );
        // Parts of words, other languages' articles and punctuation stay.
        assert_eq!(normalized("theatre, die «Lampe»"), "theatre die «lampe»");
        // Python takes a combining mark for the end of a word.
        assert_eq!(normalized("a\u{301}b"), "\u{301}b");
    }

    #[test]
    fn versions_differ_in_what_becomes_empty() {
        let score = |version| extractive_score("the", &["The", "!"], version);
        assert_eq!(
            (score(SquadVersion::V1).exact, score(SquadVersion::V1).f1),
            (true, 0.0)
        );
        assert_eq!(
            (score(SquadVersion::V2).exact, score(SquadVersion::V2).f1),
            (true, 1.0)
        );
        let none: [&str; 0] = [];
        assert!(!extractive_score("", &none, SquadVersion::V1).exact);
        assert!(extractive_score("", &none, SquadVersion::V2).exact);
    }

    #[test]
    fn a_threshold_withholds_answers_and_the_best_one_is_found() {
        let mut answers = ExtractiveAnswers::new(SquadVersion::V2);
        let none: [&str; 0] = [];
        answers.update("lamp", &["the lamp"], Some(-2.0));
        answers.update("lamp", &none, Some(3.0));
        answers.update("hall", &["door"], Some(5.0));
        let report = answers.report();
        assert_eq!(
            (report.overall.n, report.overall.exact_match),
            (3, 1.0 / 3.0)
        );
        assert_eq!(report.no_answer.unwrap().exact_match, 0.0);
        let best = report.best.unwrap();
        assert_eq!(
            (best.exact_match, best.exact_match_threshold),
            (2.0 / 3.0, -2.0)
        );
        let at_best = answers.report_at(best.exact_match_threshold);
        assert_eq!(at_best.overall.exact_match, best.exact_match);
        assert_eq!(at_best.no_answer.unwrap().exact_match, 1.0);
        // 0 parts -2 and 3 as well as -2 does.
        assert_eq!(answers.best_threshold(), Some(0.0));
        // One question without a score, and nothing is known of thresholds.
        let mut other = ExtractiveAnswers::new(SquadVersion::V2);
        other.update("x", &["x"], None);
        answers.merge(&other);
        assert_eq!(
            (answers.report().best, answers.report().overall.n),
            (None, 4)
        );
        assert_eq!(answers.best_threshold(), None);
        assert_eq!(answers.report_at(-9.0).overall.exact_match, 0.5);
    }

    #[test]
    fn the_threshold_to_keep_lies_between_scores_and_near_zero() {
        // Of each question its no-answer score, and whether its answer is right; else it has none.
        let chosen = |questions: &[(f64, bool)]| {
            let mut answers = ExtractiveAnswers::new(SquadVersion::V2);
            for (score, answerable) in questions {
                let right: &[&str] = if *answerable { &["lamp"] } else { &[] };
                answers.update("lamp", right, Some(*score));
            }
            let threshold = answers.best_threshold().unwrap();
            let best = answers.report().best.unwrap();
            assert_eq!(answers.report_at(threshold).overall.f1, best.f1);
            threshold
        };
        assert_eq!(chosen(&[(-16.0, true), (12.0, false)]), 0.0);
        assert_eq!(chosen(&[(2.0, true), (6.0, false)]), 4.0);
        assert_eq!(chosen(&[(-9.0, true), (-3.0, false), (-2.0, false)]), -6.0);
        // All are answered, or none is.
        assert_eq!(chosen(&[(3.0, true), (5.0, true)]), 5.0);
        assert_eq!(chosen(&[(-3.0, false), (-5.0, false)]), -6.0);
        assert_eq!(chosen(&[(-3.0, true), (-5.0, true)]), 0.0);
        // Two places are as good: the one nearer to 0.
        let twice = [(-8.0, true), (-6.0, false), (1.0, true), (3.0, false)];
        assert_eq!(chosen(&twice), 2.0);
    }

    #[test]
    fn no_questions_have_no_figures() {
        let report = ExtractiveAnswers::new(SquadVersion::V1).report();
        assert!(report.overall.exact_match.is_nan() && report.overall.f1.is_nan());
        assert_eq!((report.has_answer, report.best), (None, None));
        let json = serde_json::to_value(&report).unwrap();
        assert!(json["exact_match"].is_null() && json["best"].is_null());
        let back: ExtractiveReport = serde_json::from_value(json).unwrap();
        assert!(back.overall.f1.is_nan());
    }
}
