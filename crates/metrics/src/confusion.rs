//! The confusion matrix, as scikit-learn's `confusion_matrix(target, predicted, labels=range(classes))`.

use crate::MetricsError;

/// Counts of (target, predicted) pairs. Rows are targets, columns predictions.
///
/// Holds `classes²` counters of 8 bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfusionMatrix {
    classes: usize,
    counts: Vec<u64>,
}

impl ConfusionMatrix {
    /// An empty matrix over the class ids `0..classes`.
    pub fn new(classes: usize) -> Self {
        Self {
            classes,
            counts: vec![0; classes * classes],
        }
    }

    /// Of two classes, by its rows.
    pub(crate) fn of_two(rows: [[u64; 2]; 2]) -> Self {
        Self {
            classes: 2,
            counts: rows.concat(),
        }
    }

    /// Counts pairs of class ids.
    ///
    /// # Errors
    /// Slices of different lengths, or a class id outside `0..classes`. Nothing is counted then.
    pub fn update(&mut self, predicted: &[u32], target: &[u32]) -> Result<(), MetricsError> {
        if predicted.len() != target.len() {
            return Err(MetricsError::LengthMismatch {
                predicted: predicted.len(),
                target: target.len(),
            });
        }
        self.check("predicted", predicted)?;
        self.check("target", target)?;
        for (&predicted, &target) in predicted.iter().zip(target) {
            self.counts[target as usize * self.classes + predicted as usize] += 1;
        }
        Ok(())
    }

    /// Adds the counts of `other`.
    ///
    /// # Errors
    /// `other` is over another number of classes.
    pub fn merge(&mut self, other: &Self) -> Result<(), MetricsError> {
        if self.classes != other.classes {
            return Err(MetricsError::ClassCountMismatch {
                expected: self.classes,
                found: other.classes,
            });
        }
        for (count, other) in self.counts.iter_mut().zip(&other.counts) {
            *count += other;
        }
        Ok(())
    }

    /// The number of classes.
    pub fn classes(&self) -> usize {
        self.classes
    }

    /// How often `predicted` was given where `target` was right; 0 for ids outside `0..classes`.
    pub fn count(&self, target: usize, predicted: usize) -> u64 {
        if target < self.classes && predicted < self.classes {
            self.counts[target * self.classes + predicted]
        } else {
            0
        }
    }

    /// The matrix, one vector a target class.
    pub fn rows(&self) -> Vec<Vec<u64>> {
        (0..self.classes)
            .map(|row| self.counts[row * self.classes..(row + 1) * self.classes].to_vec())
            .collect()
    }

    /// How many pairs were counted.
    pub fn total(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// How many predictions were right.
    pub fn correct(&self) -> u64 {
        (0..self.classes)
            .map(|class| self.count(class, class))
            .sum()
    }

    /// How often each class was the target (row sums).
    pub fn target_counts(&self) -> Vec<u64> {
        (0..self.classes)
            .map(|row| {
                (0..self.classes)
                    .map(|column| self.count(row, column))
                    .sum()
            })
            .collect()
    }

    /// How often each class was predicted (column sums).
    pub fn predicted_counts(&self) -> Vec<u64> {
        (0..self.classes)
            .map(|column| (0..self.classes).map(|row| self.count(row, column)).sum())
            .collect()
    }

    /// Matthews' correlation coefficient, in `-1..=1`, as `matthews_corrcoef`; 0 where it is undefined (all targets
    /// or all predictions in one class).
    pub fn mcc(&self) -> f64 {
        // Gorodkin's multi-class form, in integers until the last step.
        let n = i128::from(self.total());
        let targets = self.target_counts();
        let predictions = self.predicted_counts();
        let dot = |a: &[u64], b: &[u64]| -> i128 {
            a.iter()
                .zip(b)
                .map(|(&a, &b)| i128::from(a) * i128::from(b))
                .sum()
        };
        let covariance = i128::from(self.correct()) * n - dot(&targets, &predictions);
        let target_variance = n * n - dot(&targets, &targets);
        let predicted_variance = n * n - dot(&predictions, &predictions);
        if target_variance == 0 || predicted_variance == 0 {
            return 0.0;
        }
        let both = (target_variance as f64).sqrt() * (predicted_variance as f64).sqrt();
        // Rounding must not lead beyond the ends.
        (covariance as f64 / both).clamp(-1.0, 1.0)
    }

    fn check(&self, role: &'static str, ids: &[u32]) -> Result<(), MetricsError> {
        match ids.iter().position(|&id| id as usize >= self.classes) {
            None => Ok(()),
            Some(index) => Err(MetricsError::ClassOutOfRange {
                role,
                index,
                expected: self.classes,
                found: ids[index],
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn rows_are_targets_and_columns_predictions() {
        let mut matrix = ConfusionMatrix::new(3);
        matrix.update(&[1, 1, 2], &[0, 1, 0]).unwrap();
        assert_eq!(matrix.rows(), [[0, 1, 1], [0, 1, 0], [0, 0, 0]]);
        assert_eq!(matrix.target_counts(), [2, 1, 0]);
        assert_eq!(matrix.predicted_counts(), [0, 2, 1]);
        assert_eq!(
            (
                matrix.total(),
                matrix.correct(),
                matrix.count(0, 2),
                matrix.count(9, 0)
            ),
            (3, 1, 1, 0)
        );
    }

    #[test]
    fn a_refused_update_changes_nothing() {
        let mut matrix = ConfusionMatrix::new(2);
        let cases: [(&[u32], &[u32], MetricsError); 3] = [
            (
                &[0, 1],
                &[0],
                MetricsError::LengthMismatch {
                    predicted: 2,
                    target: 1,
                },
            ),
            (
                &[0, 2],
                &[0, 1],
                MetricsError::ClassOutOfRange {
                    role: "predicted",
                    index: 1,
                    expected: 2,
                    found: 2,
                },
            ),
            (
                &[0, 1],
                &[u32::MAX, 1],
                MetricsError::ClassOutOfRange {
                    role: "target",
                    index: 0,
                    expected: 2,
                    found: u32::MAX,
                },
            ),
        ];
        for (predicted, target, expected) in cases {
            assert_eq!(matrix.update(predicted, target), Err(expected));
            assert_eq!(matrix.total(), 0);
        }
        let mismatch = MetricsError::ClassCountMismatch {
            expected: 2,
            found: 3,
        };
        assert_eq!(matrix.merge(&ConfusionMatrix::new(3)), Err(mismatch));
    }

    #[test]
    fn a_matrix_of_no_classes_is_harmless() {
        let mut matrix = ConfusionMatrix::new(0);
        assert!(matrix.update(&[], &[]).is_ok());
        assert!(matrix.update(&[0], &[0]).is_err());
        assert_eq!((matrix.mcc(), matrix.total()), (0.0, 0));
    }
}
