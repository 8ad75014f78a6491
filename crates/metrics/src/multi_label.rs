//! Multi-label classification: precision, recall and F1 in four averages, exact match, Hamming loss and average
//! precision, for any threshold of each label; and the thresholds that give the best F1.
//!
//! The figures are scikit-learn's with `zero_division=0`. One difference: average precision of a label without positives
//! is NaN here and left out of the mean, where scikit-learn warns and returns 0.

use serde::{Deserialize, Serialize};

use crate::counts::{Counts, ratio};
use crate::ranking::{Cut, average_precision, rank};
use crate::{Mean, MetricsError};

/// The threshold of a label for which the data decide nothing.
const DEFAULT_THRESHOLD: f64 = 0.5;

/// Adds up scores of `L` labels, example by example.
///
/// Thresholds are chosen afterwards and average precision needs an order, so the accumulator keeps scores and truth:
/// 9 bytes an example and label.
#[derive(Debug, Clone, PartialEq)]
pub struct MultiLabel {
    labels: usize,
    /// `[N, L]`, row by row.
    scores: Vec<f64>,
    /// `[N, L]`, row by row.
    truth: Vec<bool>,
    loss: Mean,
}

/// The figures of a whole split at given thresholds. JSON's `null` stands for NaN.
///
/// Shares are in `0..=1`. With no examples (`n == 0`) shares are 0, and average precisions and the loss NaN. A score that
/// is not finite makes every figure NaN.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MultiLabelReport {
    /// Examples counted.
    pub n: u64,
    /// Mean loss in nats over examples; NaN when any was not finite.
    #[serde(with = "crate::nan_as_null")]
    pub loss: f64,
    /// Scores and losses that were NaN or infinite.
    pub nonfinite: u64,
    /// Share of examples whose labels are all right (exact match).
    #[serde(with = "crate::nan_as_null")]
    pub subset_accuracy: f64,
    /// Share of wrong decisions among all examples and labels.
    #[serde(with = "crate::nan_as_null")]
    pub hamming_loss: f64,
    /// Precision over all decisions together.
    #[serde(with = "crate::nan_as_null")]
    pub micro_precision: f64,
    /// Recall over all decisions together.
    #[serde(with = "crate::nan_as_null")]
    pub micro_recall: f64,
    /// F1 of the above.
    #[serde(with = "crate::nan_as_null")]
    pub micro_f1: f64,
    /// Mean precision over labels.
    #[serde(with = "crate::nan_as_null")]
    pub macro_precision: f64,
    /// Mean recall over labels, those without examples as 0.
    #[serde(with = "crate::nan_as_null")]
    pub macro_recall: f64,
    /// Mean F1 over labels.
    #[serde(with = "crate::nan_as_null")]
    pub macro_f1: f64,
    /// Mean precision over labels, weighted by support.
    #[serde(with = "crate::nan_as_null")]
    pub weighted_precision: f64,
    /// Mean recall over labels, weighted by support.
    #[serde(with = "crate::nan_as_null")]
    pub weighted_recall: f64,
    /// Mean F1 over labels, weighted by support.
    #[serde(with = "crate::nan_as_null")]
    pub weighted_f1: f64,
    /// Mean over examples of the precision of each example's labels; an example for which none is predicted counts as 0.
    #[serde(with = "crate::nan_as_null")]
    pub samples_precision: f64,
    /// Mean over examples of the recall of each example's labels; an example that has none counts as 0.
    #[serde(with = "crate::nan_as_null")]
    pub samples_recall: f64,
    /// Mean over examples of the F1 of each example's labels; an example without labels, had or predicted, counts as 0.
    #[serde(with = "crate::nan_as_null")]
    pub samples_f1: f64,
    /// Mean average precision over the labels with at least one positive (mAP); NaN if there is none.
    #[serde(with = "crate::nan_as_null")]
    pub mean_average_precision: f64,
    /// Average precision over all decisions together; NaN without positives.
    #[serde(with = "crate::nan_as_null")]
    pub micro_average_precision: f64,
    /// One entry a label.
    pub per_label: Vec<PerLabel>,
}

/// The figures of one label.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct PerLabel {
    /// Share of the examples given this label that have it.
    #[serde(with = "crate::nan_as_null")]
    pub precision: f64,
    /// Share of the examples with this label that are given it.
    #[serde(with = "crate::nan_as_null")]
    pub recall: f64,
    /// Harmonic mean of precision and recall.
    #[serde(with = "crate::nan_as_null")]
    pub f1: f64,
    /// Examples that have this label.
    pub support: u64,
    /// An example is given the label if its score is at least this.
    #[serde(with = "crate::nan_as_null")]
    pub threshold: f64,
    /// Area under precision over recall, whatever the threshold; NaN without positives.
    #[serde(with = "crate::nan_as_null")]
    pub average_precision: f64,
}

impl MultiLabel {
    /// An empty accumulator over this many labels.
    #[must_use]
    pub fn new(labels: usize) -> Self {
        Self {
            labels,
            scores: Vec::new(),
            truth: Vec::new(),
            loss: Mean::new(),
        }
    }

    /// Adds one example: its probabilities `[L]`, which labels it has `[L]`, and its loss. Scores and losses that are not
    /// finite are counted.
    ///
    /// # Errors
    /// A slice of another length than the number of labels. Nothing is added then.
    pub fn update(
        &mut self,
        scores: &[f64],
        truth: &[bool],
        loss: f64,
    ) -> Result<(), MetricsError> {
        MetricsError::check_width("scores", self.labels, scores.len())?;
        MetricsError::check_width("labels", self.labels, truth.len())?;
        self.scores.extend(scores);
        self.truth.extend(truth);
        self.loss.add(loss);
        Ok(())
    }

    /// Adds everything `other` has seen.
    ///
    /// # Errors
    /// `other` is over another number of labels.
    pub fn merge(&mut self, other: &Self) -> Result<(), MetricsError> {
        MetricsError::check_width("merged labels", self.labels, other.labels)?;
        self.scores.extend(&other.scores);
        self.truth.extend(&other.truth);
        self.loss.merge(&other.loss);
        Ok(())
    }

    /// The threshold of each label that maximises its F1 on what was added so far. Every choice between two neighbouring
    /// scores is the same, so it lies halfway between them, or is 0.5 if 0.5 lies between them; among equally good ones
    /// the nearest to 0.5 wins, then the lower. A label without positives, without negatives or with a score that is not
    /// finite keeps 0.5.
    #[must_use]
    pub fn best_thresholds(&self) -> Vec<f64> {
        (0..self.labels)
            .map(|label| best_threshold(self.ranked(label)))
            .collect()
    }

    /// All figures of what was added so far; an example is given a label if its score is at least the label's threshold.
    ///
    /// # Errors
    /// Not one threshold a label.
    pub fn report(&self, thresholds: &[f64]) -> Result<MultiLabelReport, MetricsError> {
        MetricsError::check_width("thresholds", self.labels, thresholds.len())?;
        let mut of_labels = vec![Counts::default(); self.labels];
        let mut of_samples = Vec::new();
        // A chunk of no labels is not allowed; there is then no score either.
        let rows = self.scores.chunks(self.labels.max(1));
        for (scores, truth) in rows.zip(self.truth.chunks(self.labels.max(1))) {
            let mut of_sample = Counts::default();
            for (label, (score, &truth)) in scores.iter().zip(truth).enumerate() {
                let predicted = *score >= thresholds[label];
                of_labels[label].add(predicted, truth);
                of_sample.add(predicted, truth);
            }
            of_samples.push(of_sample);
        }
        let all = of_labels
            .iter()
            .fold(Counts::default(), |sum, counts| Counts {
                both: sum.both + counts.both,
                predicted: sum.predicted + counts.predicted,
                support: sum.support + counts.support,
            });
        let per_label: Vec<PerLabel> = of_labels
            .iter()
            .zip(thresholds)
            .enumerate()
            .map(|(label, (counts, &threshold))| PerLabel {
                precision: counts.precision(),
                recall: counts.recall(),
                f1: counts.f1(),
                support: counts.support,
                threshold,
                average_precision: average_precision(&self.ranked(label)),
            })
            .collect();
        let n = self.loss.count();
        let exact = of_samples.iter().filter(|counts| counts.wrong() == 0);
        let macro_mean = |figure| Counts::mean(figure, &of_labels, |_| 1);
        let weighted_mean = |figure| Counts::mean(figure, &of_labels, |counts| counts.support);
        let samples_mean = |figure| Counts::mean(figure, &of_samples, |_| 1);
        let mut mean_average_precision = Mean::new();
        for label in per_label.iter().filter(|label| label.support > 0) {
            mean_average_precision.add(label.average_precision);
        }
        let bad_scores = self
            .scores
            .iter()
            .filter(|score| !score.is_finite())
            .count() as u64;
        let report = MultiLabelReport {
            n,
            loss: self.loss.mean(),
            nonfinite: self.loss.nonfinite() + bad_scores,
            subset_accuracy: ratio(exact.count() as u64, n),
            hamming_loss: ratio(all.wrong(), self.scores.len() as u64),
            micro_precision: all.precision(),
            micro_recall: all.recall(),
            micro_f1: all.f1(),
            macro_precision: macro_mean(Counts::precision),
            macro_recall: macro_mean(Counts::recall),
            macro_f1: macro_mean(Counts::f1),
            weighted_precision: weighted_mean(Counts::precision),
            weighted_recall: weighted_mean(Counts::recall),
            weighted_f1: weighted_mean(Counts::f1),
            samples_precision: samples_mean(Counts::precision),
            samples_recall: samples_mean(Counts::recall),
            samples_f1: samples_mean(Counts::f1),
            mean_average_precision: mean_average_precision.mean(),
            micro_average_precision: average_precision(&rank(
                self.scores.iter().copied().zip(self.truth.iter().copied()),
            )),
            per_label,
        };
        Ok(if bad_scores > 0 {
            report.undefined()
        } else {
            report
        })
    }

    /// The distinct scores of a label, highest first, with how many examples have at least this score, and how many of
    /// those have the label.
    fn ranked(&self, label: usize) -> Vec<Cut> {
        let column = |i: usize| (self.scores[i], self.truth[i]);
        rank((label..self.scores.len()).step_by(self.labels).map(column))
    }
}

impl MultiLabelReport {
    /// The counts kept, every figure NaN.
    fn undefined(self) -> Self {
        const NAN: f64 = f64::NAN;
        let undefined = |label: PerLabel| PerLabel {
            precision: NAN,
            recall: NAN,
            f1: NAN,
            average_precision: NAN,
            ..label
        };
        Self {
            n: self.n,
            loss: self.loss,
            nonfinite: self.nonfinite,
            subset_accuracy: NAN,
            hamming_loss: NAN,
            micro_precision: NAN,
            micro_recall: NAN,
            micro_f1: NAN,
            macro_precision: NAN,
            macro_recall: NAN,
            macro_f1: NAN,
            weighted_precision: NAN,
            weighted_recall: NAN,
            weighted_f1: NAN,
            samples_precision: NAN,
            samples_recall: NAN,
            samples_f1: NAN,
            mean_average_precision: NAN,
            micro_average_precision: NAN,
            per_label: self.per_label.into_iter().map(undefined).collect(),
        }
    }
}

/// See [`MultiLabel::best_thresholds`].
fn best_threshold(cuts: Vec<Cut>) -> f64 {
    let Some(&Cut {
        predicted: n,
        both: support,
        ..
    }) = cuts.last()
    else {
        return DEFAULT_THRESHOLD;
    };
    let all_finite = cuts.iter().all(|cut| cut.score.is_finite());
    if support == 0 || support == n || !all_finite {
        return DEFAULT_THRESHOLD;
    }
    // F1 is 2 both / (predicted + support). As fractions of integers, equal ones are equal.
    let compare = |a: &Cut, b: &Cut| {
        let left = u128::from(a.both) * u128::from(b.predicted + support);
        left.cmp(&(u128::from(b.both) * u128::from(a.predicted + support)))
    };
    let distance = |threshold: f64| (threshold - DEFAULT_THRESHOLD).abs();
    let below = cuts.iter().skip(1).map(|cut| cut.score).chain([0.0]);
    let mut best = (
        cuts[0],
        between(below.clone().next().unwrap_or(0.0), cuts[0].score),
    );
    for (&cut, below) in cuts.iter().zip(below).skip(1) {
        let threshold = between(below, cut.score);
        let order = compare(&cut, &best.0);
        // Thresholds fall, so of two at the same distance the later one is the lower.
        if order.is_gt() || (order.is_eq() && distance(threshold) <= distance(best.1)) {
            best = (cut, threshold);
        }
    }
    best.1
}

/// A threshold above `low` and at most `high`: 0.5 or halfway; `high` where nothing lies between.
fn between(low: f64, high: f64) -> f64 {
    let within = |threshold: &f64| *threshold > low && *threshold <= high;
    let halfway = low + (high - low) / 2.0;
    [DEFAULT_THRESHOLD, halfway]
        .into_iter()
        .find(within)
        .unwrap_or(high)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// Examples of one label.
    fn single(decisions: &[(f64, bool)]) -> MultiLabel {
        let mut metrics = MultiLabel::new(1);
        for &(score, truth) in decisions {
            metrics.update(&[score], &[truth], 0.5).unwrap();
        }
        metrics
    }

    fn best(decisions: &[(f64, bool)]) -> f64 {
        single(decisions).best_thresholds()[0]
    }

    #[test]
    fn figures_by_hand() {
        let mut metrics = MultiLabel::new(3);
        metrics
            .update(&[0.9, 0.2, 0.7], &[true, false, false], 1.0)
            .unwrap();
        metrics
            .update(&[0.1, 0.6, 0.5], &[true, true, true], 2.0)
            .unwrap();
        metrics
            .update(&[0.1, 0.1, 0.1], &[false, false, false], 0.0)
            .unwrap();
        let report = metrics.report(&[0.5; 3]).unwrap();
        assert_eq!((report.n, report.loss, report.nonfinite), (3, 1.0, 0));
        assert_eq!(report.subset_accuracy, 1.0 / 3.0);
        assert_eq!(report.hamming_loss, 2.0 / 9.0);
        assert_eq!((report.micro_precision, report.micro_recall), (0.75, 0.75));
        assert_eq!(report.macro_precision, 2.5 / 3.0);
        // Of the third example nothing is wrong and nothing is found: 0.
        assert_eq!(report.samples_precision, 1.5 / 3.0);
        assert_eq!(report.per_label[0].recall, 0.5);
        // 0.9 is right, and the second is found last, tied with a negative: (1 + 2/3) / 2.
        assert!((report.per_label[0].average_precision - 5.0 / 6.0).abs() < 1e-15);
        assert_eq!(report.per_label[2].average_precision, 0.5);
    }

    #[test]
    fn the_best_threshold_is_halfway_and_near_one_half() {
        // Halfway between the lowest positive and the highest negative.
        assert_eq!(best(&[(0.9, true), (0.8, true), (0.6, false)]), 0.7);
        assert_eq!(best(&[(0.25, true), (0.0, false)]), 0.125);
        // 0.5 separates as well as any other.
        assert_eq!(best(&[(0.9, true), (0.2, false)]), 0.5);
        assert_eq!(best(&[(0.5, true), (0.2, false)]), 0.5);
        // Two right and one wrong beat one right: 0.8 against 2/3. 0.5 itself would let the last one in.
        let decisions = [(0.9, true), (0.7, false), (0.6, true), (0.5, false)];
        assert_eq!(best(&decisions), 0.55);
        // F1 is 2/3 with the first alone (threshold 0.8) and with all (0.5): the nearer to 0.5 wins.
        let tied = [(0.9, true), (0.7, false), (0.65, false), (0.6, true)];
        assert_eq!(best(&tied), 0.5);
        // Everything is predicted, below the lowest score.
        assert_eq!(best(&[(0.4, false), (0.25, true)]), 0.125);
        // Neighbours without a number between them.
        let next = 0.75_f64.next_down();
        assert_eq!(best(&[(0.75, true), (next, false)]), 0.75);
        assert_eq!(best(&[(0.0, true), (0.0, false)]), 0.0);
    }

    #[test]
    fn labels_that_decide_nothing_keep_one_half() {
        for decisions in [
            &[][..],
            &[(0.9, true), (0.8, true)],
            &[(0.9, false), (0.8, false)],
            &[(0.9, true), (0.8, false), (f64::NAN, false)],
        ] {
            assert_eq!(single(decisions).best_thresholds(), [0.5]);
        }
    }

    #[test]
    fn no_positives_leave_average_precision_undefined() {
        let mut metrics = MultiLabel::new(2);
        metrics.update(&[0.9, 0.3], &[true, false], 0.5).unwrap();
        let report = metrics.report(&[0.5, 0.5]).unwrap();
        assert!(report.per_label[1].average_precision.is_nan());
        assert_eq!(report.mean_average_precision, 1.0);
        let json = serde_json::to_value(&report).unwrap();
        assert!(json["per_label"][1]["average_precision"].is_null());
        let back: MultiLabelReport = serde_json::from_value(json).unwrap();
        assert!(back.per_label[1].average_precision.is_nan());

        let empty = MultiLabel::new(2).report(&[0.5, 0.5]).unwrap();
        assert_eq!(
            (empty.n, empty.macro_f1, empty.subset_accuracy),
            (0, 0.0, 0.0)
        );
        assert!(empty.mean_average_precision.is_nan() && empty.loss.is_nan());
        assert!(empty.micro_average_precision.is_nan());
        assert_eq!(MultiLabel::new(0).report(&[]).unwrap().hamming_loss, 0.0);
    }

    #[test]
    fn a_score_that_is_not_finite_shows_in_every_figure() {
        let metrics = single(&[(0.9, true), (f64::NAN, false)]);
        let report = metrics.report(&[0.5]).unwrap();
        assert_eq!((report.n, report.nonfinite, report.loss), (2, 1, 0.5));
        let json = serde_json::to_value(&report).unwrap();
        for (name, value) in json.as_object().unwrap() {
            let known = ["n", "nonfinite", "loss", "per_label"].contains(&name.as_str());
            assert!(known || value.is_null(), "{name}: {value}");
        }
        assert!(report.per_label[0].f1.is_nan());
        assert_eq!(report.per_label[0].support, 1);
    }

    #[test]
    fn merging_equals_seeing_everything() {
        let decisions: Vec<(f64, bool)> = (0..30)
            .map(|i| (f64::from(i * 7 % 20) / 20.0, i % 3 == 0))
            .collect();
        let expected = single(&decisions);
        let (mut ab, mut ba) = (single(&decisions[..11]), single(&decisions[11..]));
        let a = ab.clone();
        ab.merge(&ba).unwrap();
        ba.merge(&a).unwrap();
        assert_eq!(ab, expected);
        assert_eq!(ba.best_thresholds(), expected.best_thresholds());
        assert_eq!(ba.report(&[0.4]).unwrap(), expected.report(&[0.4]).unwrap());
    }

    #[test]
    fn what_does_not_fit_is_refused_and_adds_nothing() {
        let mut metrics = MultiLabel::new(2);
        assert!(metrics.update(&[0.5], &[true, false], 1.0).is_err());
        assert!(metrics.update(&[0.5, 0.5], &[true], 1.0).is_err());
        assert!(metrics.merge(&MultiLabel::new(3)).is_err());
        assert!(metrics.report(&[0.5]).is_err());
        assert_eq!(metrics, MultiLabel::new(2));
    }
}
