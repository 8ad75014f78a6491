//! Pairs that are alike or not, judged by their similarity: the best accuracy and F1 of all thresholds, and average precision,
//! as sentence-transformers' `BinaryClassificationEvaluator` computes them.

use crate::ConfusionMatrix;
use crate::ranking::{Cut, average_precision, rank};
use serde::{Deserialize, Serialize};

/// Adds up pairs, one by one.
///
/// Thresholds are chosen afterwards, so the accumulator keeps similarities: 16 bytes a pair.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct PairClassification {
    pairs: Vec<(f64, bool)>,
}

/// The figures of all pairs. Shares are in `0..=1`; JSON's `null` stands for NaN. A similarity that is not finite makes
/// every figure NaN, as do no pairs.
///
/// A pair counts as alike if its similarity is at least the threshold. Thresholds are chosen on these very pairs, so the
/// figures flatter: for figures of new pairs choose on others. A threshold lies halfway between two similarities, or is the
/// lowest; of equally good ones it is the highest.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct PairReport {
    /// Pairs counted.
    pub n: u64,
    /// Pairs that are alike.
    pub support: u64,
    /// Similarities that were NaN or infinite.
    pub nonfinite: u64,
    /// The best share of pairs that are judged right.
    #[serde(with = "crate::nan_as_null")]
    pub accuracy: f64,
    /// The threshold that reaches it; just above the highest similarity where no pair should count as alike.
    #[serde(with = "crate::nan_as_null")]
    pub accuracy_threshold: f64,
    /// The best F1 of the pairs that are alike; 0 if none is, as are precision and recall.
    #[serde(with = "crate::nan_as_null")]
    pub f1: f64,
    /// The threshold that reaches it; NaN if no pair is alike, where sentence-transformers gives 0.
    #[serde(with = "crate::nan_as_null")]
    pub f1_threshold: f64,
    /// Precision at that threshold.
    #[serde(with = "crate::nan_as_null")]
    pub precision: f64,
    /// Recall at that threshold.
    #[serde(with = "crate::nan_as_null")]
    pub recall: f64,
    /// Area under precision over recall, whatever the threshold; NaN if no pair is alike, where scikit-learn gives 0.
    #[serde(with = "crate::nan_as_null")]
    pub average_precision: f64,
    /// Matthews' correlation coefficient at the threshold of the best F1; 0 where undefined.
    #[serde(with = "crate::nan_as_null")]
    pub mcc: f64,
}

impl PairClassification {
    /// Figures of nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a pair: how similar its two sides are (higher is more; negate a distance), and whether they are alike.
    pub fn update(&mut self, similarity: f64, alike: bool) {
        self.pairs.push((similarity, alike));
    }

    /// Adds everything `other` has seen.
    pub fn merge(&mut self, other: &Self) {
        self.pairs.extend(&other.pairs);
    }

    /// All figures of what was added so far.
    #[must_use]
    pub fn report(&self) -> PairReport {
        let not_finite = |(similarity, _): &&(f64, bool)| !similarity.is_finite();
        let mut report = PairReport {
            n: self.pairs.len() as u64,
            support: self.pairs.iter().filter(|(_, alike)| *alike).count() as u64,
            nonfinite: self.pairs.iter().filter(not_finite).count() as u64,
            ..UNDEFINED
        };
        let cuts = rank(self.pairs.iter().copied());
        let (Some(highest), 0) = (cuts.first(), report.nonfinite) else {
            return report;
        };
        let best = most_right(&cuts, highest.score, report.n - report.support);
        report.accuracy = best.0 as f64 / report.n as f64;
        report.accuracy_threshold = best.1;
        report.average_precision = average_precision(&cuts);
        let (precision, recall, f1, chosen) = best_f1(&cuts, report.support);
        (report.precision, report.recall, report.f1) = (precision, recall, f1);
        report.mcc = 0.0;
        if let Some(chosen) = chosen {
            report.f1_threshold = threshold(&cuts, chosen);
            let cut = cuts[chosen];
            let (alike, rest) = (report.support, report.n - report.support);
            let wrong = cut.predicted - cut.both;
            report.mcc =
                ConfusionMatrix::of_two([[rest - wrong, wrong], [alike - cut.both, cut.both]])
                    .mcc();
        }
        report
    }
}

const UNDEFINED: PairReport = PairReport {
    n: 0,
    support: 0,
    nonfinite: 0,
    accuracy: f64::NAN,
    accuracy_threshold: f64::NAN,
    f1: f64::NAN,
    f1_threshold: f64::NAN,
    precision: f64::NAN,
    recall: f64::NAN,
    average_precision: f64::NAN,
    mcc: f64::NAN,
};

/// The most pairs that a threshold judges right, and that threshold.
fn most_right(cuts: &[Cut], highest: f64, unlike: u64) -> (u64, f64) {
    let mut best = (unlike, highest.next_up());
    for (i, cut) in cuts.iter().enumerate() {
        let right = cut.both + unlike - (cut.predicted - cut.both);
        if right > best.0 {
            best = (right, threshold(cuts, i));
        }
    }
    best
}

/// Precision, recall and F1 of the cut with the best F1, and its index.
fn best_f1(cuts: &[Cut], alike: u64) -> (f64, f64, f64, Option<usize>) {
    let mut best = (0.0, 0.0, 0.0, None);
    for (i, cut) in cuts.iter().enumerate().filter(|(_, cut)| cut.both > 0) {
        let precision = cut.both as f64 / cut.predicted as f64;
        let recall = cut.both as f64 / alike as f64;
        // In this form F1s that are equal in theory may differ by rounding, and so the choice between them: as there.
        let f1 = 2.0 * precision * recall / (precision + recall);
        if f1 > best.2 {
            best = (precision, recall, f1, Some(i));
        }
    }
    best
}

/// Halfway between a cut and the next lower one, unless that rounds to the lower one; the lowest score itself.
fn threshold(cuts: &[Cut], index: usize) -> f64 {
    let score = cuts[index].score;
    match cuts.get(index + 1).map(|lower| lower.score) {
        Some(lower) => {
            let halfway = (score + lower) / 2.0;
            if halfway == lower { score } else { halfway }
        }
        None => score,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn of(pairs: &[(f64, bool)]) -> PairReport {
        let mut metrics = PairClassification::new();
        for &(similarity, alike) in pairs {
            metrics.update(similarity, alike);
        }
        metrics.report()
    }

    #[test]
    fn thresholds_lie_between_and_ties_stay_together() {
        let report = of(&[(0.75, true), (0.25, false), (0.75, true), (0.5, true)]);
        assert_eq!((report.accuracy, report.accuracy_threshold), (1.0, 0.375));
        assert_eq!(
            (report.f1, report.f1_threshold, report.mcc),
            (1.0, 0.375, 1.0)
        );
        assert_eq!(report.average_precision, 1.0);
        // One of two tied pairs cannot be had alone.
        let report = of(&[(0.5, true), (0.5, false)]);
        assert_eq!((report.accuracy, report.f1), (0.5, 2.0 / 3.0));
        assert_eq!(
            (report.f1_threshold, report.accuracy_threshold),
            (0.5, 0.5_f64.next_up())
        );
        // Neighbours without a number between them.
        let report = of(&[(1.0_f64.next_up(), true), (1.0, false)]);
        assert_eq!(
            (report.accuracy, report.accuracy_threshold),
            (1.0, 1.0_f64.next_up())
        );
    }

    #[test]
    fn what_is_undefined_is_nan_and_null() {
        let report = of(&[(0.5, false), (0.25, false)]);
        assert_eq!((report.accuracy, report.f1, report.mcc), (1.0, 0.0, 0.0));
        assert!(report.f1_threshold.is_nan() && report.average_precision.is_nan());
        assert!(of(&[]).accuracy.is_nan() && of(&[]).mcc.is_nan());
        let bad = of(&[(0.5, true), (f64::NAN, false), (f64::INFINITY, true)]);
        assert_eq!((bad.n, bad.support, bad.nonfinite), (3, 2, 2));
        assert!(bad.accuracy.is_nan() && bad.f1.is_nan() && bad.average_precision.is_nan());
        let json = serde_json::to_value(bad).unwrap();
        assert!(json["mcc"].is_null());
        let back: PairReport = serde_json::from_value(json).unwrap();
        assert!(back.mcc.is_nan());
    }

    #[test]
    fn merging_equals_seeing_everything() {
        let mut a = PairClassification::new();
        a.update(0.5, true);
        let mut b = PairClassification::new();
        b.update(0.25, false);
        a.merge(&b);
        assert_eq!(a.report(), of(&[(0.25, false), (0.5, true)]));
    }
}
