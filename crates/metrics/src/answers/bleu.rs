//! BLEU of a corpus (Papineni et al., "BLEU: a method for automatic evaluation of machine translation", 2002) as sacrebleu computes
//! it: tokenizer 13a, letter case counts, n-grams of 1 to 4 words, exponential smoothing, one reference each; with its `effective_order`,
//! which differs from its default only where no answer has as many words as the longest n-grams: these then do not count, and right
//! answers of one word score 100 rather than 0.

use regex::Regex;
use std::{collections::HashMap, sync::LazyLock};

/// The longest n-grams.
const ORDER: usize = 4;

/// Adds up the n-grams of answers and of the right ones.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Bleu {
    /// N-grams of answers that the references have too, by length.
    correct: [u64; ORDER],
    /// N-grams of answers, by length.
    total: [u64; ORDER],
    /// Words of the answers.
    answered: u64,
    /// Words of the references.
    expected: u64,
}

impl Bleu {
    /// Adds an answer and the right one.
    pub fn update(&mut self, answer: &str, reference: &str) {
        let (answer, reference) = (tokens(answer), tokens(reference));
        self.answered += answer.len() as u64;
        self.expected += reference.len() as u64;
        for n in 1..=ORDER {
            let known = counts(&reference, n);
            for (ngram, count) in counts(&answer, n) {
                self.total[n - 1] += count;
                let there = known.get(ngram).copied().unwrap_or(0);
                self.correct[n - 1] += count.min(there);
            }
        }
    }

    /// The score in [0, 100]; NaN without answers and references.
    #[must_use]
    pub fn score(&self) -> f64 {
        if self.expected == 0 && self.answered == 0 {
            return f64::NAN;
        }
        if self.correct == [0; ORDER] {
            return 0.0;
        }
        // Shorter n-grams are there wherever longer ones are.
        let orders = self.total.iter().take_while(|&&total| total > 0).count();
        let mut smooth = 1.0;
        let mut logs = 0.0;
        for (&correct, &total) in self.correct.iter().zip(&self.total).take(orders) {
            let precision = match correct {
                0 => {
                    smooth *= 2.0;
                    100.0 / (smooth * total as f64)
                }
                _ => 100.0 * correct as f64 / total as f64,
            };
            logs += precision.ln();
        }
        let (answered, expected) = (self.answered as f64, self.expected as f64);
        let brevity = match answered < expected {
            true => (1.0 - expected / answered).exp(),
            false => 1.0,
        };
        brevity * (logs / orders as f64).exp()
    }
}

/// How often each n-gram occurs.
fn counts(tokens: &[String], n: usize) -> HashMap<&[String], u64> {
    let mut counts = HashMap::new();
    for ngram in tokens.windows(n) {
        *counts.entry(ngram).or_insert(0) += 1;
    }
    counts
}

/// Substitutions of mteval-v13a, in order: spaces around symbols; around a full stop or comma unless digits stand on both
/// sides; behind a dash that follows a digit.
static SPLITS: LazyLock<Vec<(Regex, &str)>> = LazyLock::new(|| {
    let splits = [
        (r"([{-~\[-` -&(-+:-@/])", " $1 "),
        (r"([^0-9])([.,])", "$1 $2 "),
        (r"([.,])([^0-9])", " $1 $2"),
        (r"([0-9])(-)", "$1 $2 "),
    ];
    // The patterns are these four: the tests would see one that is none.
    splits
        .map(|(pattern, to)| (Regex::new(pattern).expect("a pattern"), to))
        .to_vec()
});

fn tokens(text: &str) -> Vec<String> {
    let mut text = text
        .trim_end()
        .replace("<skipped>", "")
        .replace("-\n", "")
        .replace('\n', " ")
        .replace("&quot;", "\"")
        .replace("&amp;", "&")
        .replace("&lt;", "<")
        .replace("&gt;", ">");
    text = format!(" {text} ");
    for (pattern, to) in SPLITS.iter() {
        text = pattern.replace_all(&text, *to).into_owned();
    }
    text.split_whitespace().map(str::to_owned).collect()
}
