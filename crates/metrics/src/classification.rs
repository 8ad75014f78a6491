//! Single-label classification: accuracy, loss, precision, recall, F1, MCC and balanced accuracy in one accumulator.
//!
//! The figures are those of scikit-learn with `zero_division=0`: macro averages are over the classes that are a target or
//! predicted at least once.

use serde::{Deserialize, Serialize};

use crate::{ConfusionMatrix, Mean, MetricsError};

/// Adds up predictions and losses, batch by batch.
#[derive(Debug, Clone, PartialEq)]
pub struct Classification {
    confusion: ConfusionMatrix,
    loss: Mean,
}

/// The figures of a whole split.
///
/// Shares are in `0..=1`. With no examples (`n == 0`) every figure is 0 and the loss NaN.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ClassificationReport {
    /// Examples counted.
    pub n: u64,
    /// Share of right predictions.
    pub accuracy: f64,
    /// Mean loss in nats; NaN when none was given or any was not finite. JSON's `null` stands for NaN.
    #[serde(with = "crate::nan_as_null")]
    pub loss: f64,
    /// Updates whose loss was NaN or infinite.
    pub nonfinite: u64,
    /// Mean precision over the classes that are a target or predicted.
    pub macro_precision: f64,
    /// Mean recall over those classes; of one that is only predicted it is 0.
    pub macro_recall: f64,
    /// Mean F1 over those classes.
    pub macro_f1: f64,
    /// Precision over all predictions together; with one label an example it is the accuracy.
    pub micro_precision: f64,
    /// Recall over all examples together; with one label an example it is the accuracy.
    pub micro_recall: f64,
    /// F1 of the above.
    pub micro_f1: f64,
    /// Mean precision over classes, weighted by support.
    pub weighted_precision: f64,
    /// Mean recall over classes, weighted by support.
    pub weighted_recall: f64,
    /// Mean F1 over classes, weighted by support.
    pub weighted_f1: f64,
    /// Matthews' correlation coefficient, in `-1..=1`; 0 where undefined.
    pub mcc: f64,
    /// Mean recall over the classes that have examples.
    pub balanced_accuracy: f64,
    /// One entry a class, by class id.
    pub per_class: Vec<PerClass>,
    /// Counts; rows are targets, columns predictions.
    pub confusion: Vec<Vec<u64>>,
}

/// The figures of one class.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct PerClass {
    /// Share of this class's predictions that are right.
    pub precision: f64,
    /// Share of this class's examples that are found.
    pub recall: f64,
    /// Harmonic mean of precision and recall.
    pub f1: f64,
    /// Examples of this class.
    pub support: u64,
}

impl Classification {
    /// An empty accumulator over the class ids `0..classes`.
    pub fn new(classes: usize) -> Self {
        Self {
            confusion: ConfusionMatrix::new(classes),
            loss: Mean::new(),
        }
    }

    /// Adds a batch: its class ids, and `loss_sum`, the loss summed (not averaged) over `n` examples or tokens.
    ///
    /// A loss that is not finite is counted and makes the report's loss NaN.
    ///
    /// # Errors
    /// Slices of different lengths, or a class id outside `0..classes`. Nothing is added then.
    pub fn update(
        &mut self,
        predicted: &[u32],
        target: &[u32],
        loss_sum: f64,
        n: u64,
    ) -> Result<(), MetricsError> {
        self.confusion.update(predicted, target)?;
        self.loss.add_sum(loss_sum, n);
        Ok(())
    }

    /// Adds everything `other` has seen. Commutative.
    ///
    /// # Errors
    /// `other` is over another number of classes.
    pub fn merge(&mut self, other: &Self) -> Result<(), MetricsError> {
        self.confusion.merge(&other.confusion)?;
        self.loss.merge(&other.loss);
        Ok(())
    }

    /// The counts so far.
    pub fn confusion(&self) -> &ConfusionMatrix {
        &self.confusion
    }

    /// The loss so far.
    pub fn loss(&self) -> &Mean {
        &self.loss
    }

    /// All figures of what was added so far.
    pub fn report(&self) -> ClassificationReport {
        let n = self.confusion.total();
        let predictions = self.confusion.predicted_counts();
        let targets = self.confusion.target_counts();
        let counts = targets.iter().zip(&predictions);
        let occur = counts.filter(|(target, predicted)| *target + *predicted > 0);
        let occur = occur.count() as u64;
        let per_class: Vec<PerClass> = targets
            .into_iter()
            .zip(predictions)
            .enumerate()
            .map(|(class, (support, predicted))| {
                let right = self.confusion.count(class, class);
                PerClass {
                    precision: ratio(right as f64, predicted),
                    recall: ratio(right as f64, support),
                    f1: ratio(2.0 * right as f64, support + predicted),
                    support,
                }
            })
            .collect();
        // A class that does not occur has figures of 0, which add nothing.
        let macro_mean =
            |figure: fn(&PerClass) -> f64| ratio(per_class.iter().map(figure).sum(), occur);
        let weighted_mean = |figure: fn(&PerClass) -> f64| {
            ratio(
                per_class
                    .iter()
                    .map(|class| figure(class) * class.support as f64)
                    .sum(),
                n,
            )
        };
        let accuracy = ratio(self.confusion.correct() as f64, n);
        let supported = per_class.iter().filter(|class| class.support > 0);
        ClassificationReport {
            n,
            accuracy,
            loss: self.loss.mean(),
            nonfinite: self.loss.nonfinite(),
            macro_precision: macro_mean(|class| class.precision),
            macro_recall: macro_mean(|class| class.recall),
            macro_f1: macro_mean(|class| class.f1),
            micro_precision: accuracy,
            micro_recall: accuracy,
            micro_f1: accuracy,
            weighted_precision: weighted_mean(|class| class.precision),
            weighted_recall: weighted_mean(|class| class.recall),
            weighted_f1: weighted_mean(|class| class.f1),
            mcc: self.confusion.mcc(),
            balanced_accuracy: ratio(
                supported.clone().map(|class| class.recall).sum(),
                supported.count() as u64,
            ),
            per_class,
            confusion: self.confusion.rows(),
        }
    }
}

/// scikit-learn's `zero_division=0`.
fn ratio(numerator: f64, denominator: u64) -> f64 {
    if denominator == 0 {
        0.0
    } else {
        numerator / denominator as f64
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// Sums of the same losses in another order differ by rounding alone.
    const LOSS_TOLERANCE: f64 = 1e-14;

    /// `n` examples over 5 classes with losses, from a fixed linear congruential generator.
    fn examples(n: usize) -> (Vec<u32>, Vec<u32>, Vec<f64>) {
        let mut state = 7_u64;
        let mut next = || {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as u32
        };
        let predicted = (0..n).map(|_| next() % 5).collect();
        let target = (0..n).map(|_| next() % 5).collect();
        let loss = (0..n).map(|_| f64::from(next() % 1000) / 300.0).collect();
        (predicted, target, loss)
    }

    fn whole(predicted: &[u32], target: &[u32], loss: &[f64]) -> Classification {
        let mut metrics = Classification::new(5);
        metrics
            .update(predicted, target, loss.iter().sum(), loss.len() as u64)
            .unwrap();
        metrics
    }

    fn assert_same(a: &ClassificationReport, b: &ClassificationReport) {
        assert!(
            (a.loss - b.loss).abs() < LOSS_TOLERANCE,
            "{} {}",
            a.loss,
            b.loss
        );
        assert_eq!(
            ClassificationReport {
                loss: 0.0,
                ..a.clone()
            },
            ClassificationReport {
                loss: 0.0,
                ..b.clone()
            }
        );
    }

    #[test]
    fn a_batch_split_anywhere_gives_the_same_report() {
        let (predicted, target, loss) = examples(97);
        let expected = whole(&predicted, &target, &loss).report();
        for cut in 0..=97 {
            let mut metrics = whole(&predicted[..cut], &target[..cut], &loss[..cut]);
            metrics
                .update(
                    &predicted[cut..],
                    &target[cut..],
                    loss[cut..].iter().sum(),
                    (97 - cut) as u64,
                )
                .unwrap();
            assert_same(&metrics.report(), &expected);
        }
    }

    #[test]
    fn merging_is_commutative_and_equals_seeing_everything() {
        let (predicted, target, loss) = examples(61);
        let a = whole(&predicted[..20], &target[..20], &loss[..20]);
        let b = whole(&predicted[20..], &target[20..], &loss[20..]);
        let (mut ab, mut ba) = (a.clone(), b.clone());
        ab.merge(&b).unwrap();
        ba.merge(&a).unwrap();
        assert_eq!(ab, ba);
        assert_same(&ab.report(), &whole(&predicted, &target, &loss).report());
        assert!(ab.merge(&Classification::new(4)).is_err());
    }

    #[test]
    fn a_loss_that_is_not_finite_shows_and_survives_json() {
        let mut metrics = Classification::new(2);
        metrics.update(&[0], &[0], 0.5, 1).unwrap();
        metrics.update(&[1], &[0], f64::NAN, 1).unwrap();
        let report = metrics.report();
        assert!(report.loss.is_nan());
        assert_eq!((report.nonfinite, report.accuracy), (1, 0.5));

        let json = serde_json::to_string(&report).unwrap();
        assert!(json.contains("\"loss\":null"), "{json}");
        let back: ClassificationReport = serde_json::from_str(&json).unwrap();
        assert!(back.loss.is_nan());
        assert_eq!(back.confusion, report.confusion);
    }

    #[test]
    fn a_refused_update_adds_no_loss() {
        let mut metrics = Classification::new(2);
        assert!(metrics.update(&[2], &[0], 1.0, 1).is_err());
        assert_eq!(metrics, Classification::new(2));
    }

    #[test]
    fn no_examples_give_zeros_and_no_loss() {
        let report = Classification::new(3).report();
        assert_eq!(
            (
                report.n,
                report.accuracy,
                report.macro_f1,
                report.balanced_accuracy
            ),
            (0, 0.0, 0.0, 0.0)
        );
        assert!(report.loss.is_nan());
    }
}
