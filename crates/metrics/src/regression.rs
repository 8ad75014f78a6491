//! Regression: mean squared and absolute error, R² (as scikit-learn's `r2_score`), Pearson's and Spearman's correlation
//! (as SciPy's `pearsonr` and `spearmanr`), one or several targets.
//!
//! Two differences from scikit-learn: R² of a single example is NaN without a warning, and a target counts as constant
//! when all its values are equal, not when the rounded sum of squares happens to be 0.

use serde::{Deserialize, Serialize};

use crate::{Mean, MetricsError};

/// The most points of a scatter plot, over all targets together.
const MAX_POINTS: usize = 2000;

/// Adds up predictions of `K` numbers, example by example.
///
/// Ranks need the values, so the accumulator keeps predictions and targets: 16 bytes an example and target. Every figure
/// is computed from them when asked for, in two passes, so that a large mean costs no digits.
#[derive(Debug, Clone, PartialEq)]
pub struct Regression {
    targets: Vec<Target>,
}

/// What was seen of one target, and the mean that it has in the training data.
#[derive(Debug, Clone, PartialEq)]
struct Target {
    training_mean: Option<f64>,
    predicted: Vec<f64>,
    expected: Vec<f64>,
}

/// The figures of one target, or their means over all targets. JSON's `null` stands for NaN.
///
/// A figure that is not defined is NaN: every figure with no examples or with a value that is not finite; R² of a single
/// example; a correlation with fewer than two examples or where predictions or targets are constant; the baselines
/// without a training mean. A mean over targets is NaN if any of them is. NaN is never a good figure: compare with care.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct RegressionFigures {
    /// Mean squared error.
    #[serde(with = "crate::nan_as_null")]
    pub mse: f64,
    /// Root of the mean squared error, in the target's unit.
    #[serde(with = "crate::nan_as_null")]
    pub rmse: f64,
    /// Mean absolute error, in the target's unit.
    #[serde(with = "crate::nan_as_null")]
    pub mae: f64,
    /// Coefficient of determination, at most 1; 0 is as good as always predicting this split's mean. For a constant
    /// target 1 if every prediction equals it, else 0.
    #[serde(with = "crate::nan_as_null")]
    pub r2: f64,
    /// Pearson's correlation, in `-1..=1`.
    #[serde(with = "crate::nan_as_null")]
    pub pearson: f64,
    /// Spearman's rank correlation, in `-1..=1`; tied values share their mean rank.
    #[serde(with = "crate::nan_as_null")]
    pub spearman: f64,
    /// Standard deviation of the targets of this split (divided by `n`): the RMSE of always predicting their mean.
    #[serde(with = "crate::nan_as_null")]
    pub target_std: f64,
    /// Mean squared error of always predicting the training mean.
    #[serde(with = "crate::nan_as_null")]
    pub baseline_mse: f64,
    /// Mean absolute error of always predicting the training mean.
    #[serde(with = "crate::nan_as_null")]
    pub baseline_mae: f64,
}

/// The figures of a whole split.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RegressionReport {
    /// Examples counted.
    pub n: u64,
    /// Predictions and targets that were NaN or infinite.
    pub nonfinite: u64,
    /// Mean over targets of each figure; of one target, its own figures.
    #[serde(flatten)]
    pub overall: RegressionFigures,
    /// One entry a target.
    pub per_target: Vec<RegressionFigures>,
    /// For a scatter plot, points `[target, prediction]` of each target: at most 2,000 over all targets, evenly spaced in
    /// the order seen, without those that are not finite. May be cleared to save space.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub points: Vec<Vec<[f64; 2]>>,
}

impl Regression {
    /// An empty accumulator over this many targets; the baselines will be NaN.
    #[must_use]
    pub fn new(targets: usize) -> Self {
        Self::with_means(vec![None; targets])
    }

    /// An empty accumulator that compares with always predicting these means of the training data, one a target.
    #[must_use]
    pub fn with_training_means(means: &[f64]) -> Self {
        Self::with_means(means.iter().copied().map(Some).collect())
    }

    fn with_means(means: Vec<Option<f64>>) -> Self {
        let target = |training_mean| Target {
            training_mean,
            predicted: Vec::new(),
            expected: Vec::new(),
        };
        Self {
            targets: means.into_iter().map(target).collect(),
        }
    }

    /// Adds one example: its predictions `[K]` and its targets `[K]`. Values that are not finite are counted and make
    /// the target's figures NaN.
    ///
    /// # Errors
    /// A slice of another length than the number of targets. Nothing is added then.
    pub fn update(&mut self, predicted: &[f64], target: &[f64]) -> Result<(), MetricsError> {
        MetricsError::check_width("predictions", self.targets.len(), predicted.len())?;
        MetricsError::check_width("targets", self.targets.len(), target.len())?;
        for ((column, &predicted), &target) in self.targets.iter_mut().zip(predicted).zip(target) {
            column.predicted.push(predicted);
            column.expected.push(target);
        }
        Ok(())
    }

    /// Adds everything `other` has seen. Its training means are not looked at.
    ///
    /// # Errors
    /// `other` is over another number of targets.
    pub fn merge(&mut self, other: &Self) -> Result<(), MetricsError> {
        MetricsError::check_width("merged targets", self.targets.len(), other.targets.len())?;
        for (column, other) in self.targets.iter_mut().zip(&other.targets) {
            column.predicted.extend(&other.predicted);
            column.expected.extend(&other.expected);
        }
        Ok(())
    }

    /// All figures of what was added so far.
    #[must_use]
    pub fn report(&self) -> RegressionReport {
        let per_target: Vec<RegressionFigures> = self.targets.iter().map(Target::figures).collect();
        let most = (MAX_POINTS / self.targets.len().max(1)).max(1);
        RegressionReport {
            n: self
                .targets
                .first()
                .map_or(0, |target| target.expected.len()) as u64,
            nonfinite: self.targets.iter().map(Target::nonfinite).sum(),
            overall: RegressionFigures::mean_of(&per_target),
            per_target,
            points: self.targets.iter().map(|t| t.points(most)).collect(),
        }
    }
}

impl Target {
    fn nonfinite(&self) -> u64 {
        let values = self.predicted.iter().chain(&self.expected);
        values.filter(|value| !value.is_finite()).count() as u64
    }

    fn figures(&self) -> RegressionFigures {
        if self.nonfinite() > 0 {
            return RegressionFigures::UNDEFINED;
        }
        let residuals = || {
            self.predicted
                .iter()
                .zip(&self.expected)
                .map(|(p, t)| t - p)
        };
        let deviations = deviations(&self.expected);
        let mse = mean(residuals().map(|r| r * r));
        let variance = mean(deviations.iter().map(|d| d * d));
        let r2 = if self.expected.len() < 2 {
            f64::NAN
        } else if is_constant(&self.expected) {
            if mse == 0.0 { 1.0 } else { 0.0 }
        } else {
            1.0 - mse / variance
        };
        let from_training_mean = self
            .training_mean
            .map(|guess| self.expected.iter().map(move |t| t - guess));
        RegressionFigures {
            mse,
            rmse: mse.sqrt(),
            mae: mean(residuals().map(f64::abs)),
            r2,
            pearson: correlation(&self.predicted, &self.expected),
            spearman: correlation(&ranks(&self.predicted), &ranks(&self.expected)),
            target_std: variance.sqrt(),
            baseline_mse: from_training_mean
                .clone()
                .map_or(f64::NAN, |d| mean(d.map(|d| d * d))),
            baseline_mae: from_training_mean.map_or(f64::NAN, |d| mean(d.map(f64::abs))),
        }
    }

    /// At most `most` points `[target, prediction]`, evenly spaced in the order seen.
    fn points(&self, most: usize) -> Vec<[f64; 2]> {
        let n = self.expected.len();
        let kept = n.min(most);
        (0..kept)
            .map(|i| i * n / kept)
            .map(|i| [self.expected[i], self.predicted[i]])
            .filter(|point| point.iter().all(|value| value.is_finite()))
            .collect()
    }
}

impl RegressionFigures {
    const UNDEFINED: Self = Self {
        mse: f64::NAN,
        rmse: f64::NAN,
        mae: f64::NAN,
        r2: f64::NAN,
        pearson: f64::NAN,
        spearman: f64::NAN,
        target_std: f64::NAN,
        baseline_mse: f64::NAN,
        baseline_mae: f64::NAN,
    };

    /// The mean of each figure over targets.
    fn mean_of(targets: &[Self]) -> Self {
        let over = |figure: fn(&Self) -> f64| mean(targets.iter().map(figure));
        Self {
            mse: over(|target| target.mse),
            rmse: over(|target| target.rmse),
            mae: over(|target| target.mae),
            r2: over(|target| target.r2),
            pearson: over(|target| target.pearson),
            spearman: over(|target| target.spearman),
            target_std: over(|target| target.target_std),
            baseline_mse: over(|target| target.baseline_mse),
            baseline_mae: over(|target| target.baseline_mae),
        }
    }
}

/// NaN with no values.
fn mean(values: impl Iterator<Item = f64>) -> f64 {
    let mut mean = Mean::new();
    values.for_each(|value| mean.add(value));
    mean.mean()
}

fn is_constant(values: &[f64]) -> bool {
    values.windows(2).all(|pair| pair[0] == pair[1])
}

/// Differences from the mean; exactly 0 for a constant, whose mean may be rounded.
fn deviations(values: &[f64]) -> Vec<f64> {
    let centre = match values.first() {
        Some(&first) if is_constant(values) => first,
        _ => mean(values.iter().copied()),
    };
    values.iter().map(|value| value - centre).collect()
}

/// Pearson's correlation; NaN with fewer than two values or where either side is constant.
fn correlation(a: &[f64], b: &[f64]) -> f64 {
    // Deviations of length 1, so that neither tiny nor huge values leave the range of f64 when squared.
    let unit = |values: &[f64]| {
        let mut deviations = deviations(values);
        let largest = deviations.iter().fold(0.0, |max: f64, d| max.max(d.abs()));
        deviations.iter_mut().for_each(|d| *d /= largest);
        let norm = deviations.iter().map(|d| d * d).sum::<f64>().sqrt();
        deviations.iter_mut().for_each(|d| *d /= norm);
        deviations
    };
    let product = |(a, b): (f64, f64)| a * b;
    let products = unit(a).into_iter().zip(unit(b)).map(product);
    if a.len() < 2 {
        f64::NAN
    } else {
        products.sum::<f64>().clamp(-1.0, 1.0)
    }
}

/// Ranks from 1; equal values share the mean of theirs.
fn ranks(values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_unstable_by(|&a, &b| values[a].total_cmp(&values[b]));
    let mut ranks = vec![0.0; values.len()];
    let mut before = 0;
    for tied in order.chunk_by(|&a, &b| values[a] == values[b]) {
        let rank = before as f64 + (tied.len() + 1) as f64 / 2.0;
        tied.iter().for_each(|&i| ranks[i] = rank);
        before += tied.len();
    }
    ranks
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// The same sums in another order differ by rounding alone.
    const ROUNDING: f64 = 1e-12;

    fn seen(pairs: &[(f64, f64)]) -> Regression {
        let mut metrics = Regression::with_training_means(&[1.0]);
        for &(predicted, target) in pairs {
            metrics.update(&[predicted], &[target]).unwrap();
        }
        metrics
    }

    fn figures(pairs: &[(f64, f64)]) -> RegressionFigures {
        seen(pairs).report().overall
    }

    #[test]
    fn figures_by_hand() {
        let found = figures(&[(1.0, 0.0), (2.0, 2.0), (1.0, 4.0)]);
        assert!((found.mse - 10.0 / 3.0).abs() < ROUNDING);
        assert!((found.rmse - (10.0_f64 / 3.0).sqrt()).abs() < ROUNDING);
        assert!((found.mae - 4.0 / 3.0).abs() < ROUNDING);
        assert!((found.r2 - (1.0 - 10.0 / 8.0)).abs() < ROUNDING);
        assert!(found.pearson.abs() < ROUNDING && found.spearman.abs() < ROUNDING);
        assert!((found.target_std - (8.0_f64 / 3.0).sqrt()).abs() < ROUNDING);
        // Always predicting 1.
        assert!((found.baseline_mse - 11.0 / 3.0).abs() < ROUNDING);
        assert!((found.baseline_mae - 5.0 / 3.0).abs() < ROUNDING);
    }

    #[test]
    fn what_is_undefined_is_nan_and_null() {
        let empty = figures(&[]);
        assert!(empty.mse.is_nan() && empty.r2.is_nan() && empty.baseline_mae.is_nan());
        let single = figures(&[(1.0, 2.0)]);
        assert!(single.mse == 1.0 && single.r2.is_nan() && single.pearson.is_nan());
        // 0.1 is no multiple of a power of two: a rounded mean must not make it vary.
        let constant = figures(&[(1.0, 0.1), (2.0, 0.1), (3.0, 0.1)]);
        assert!(constant.r2 == 0.0 && constant.target_std == 0.0);
        assert!(constant.pearson.is_nan() && constant.spearman.is_nan());
        assert_eq!(figures(&[(0.1, 0.1); 3]).r2, 1.0);
        let no_baseline = Regression::new(1).report().overall;
        assert!(no_baseline.baseline_mse.is_nan());

        let json = serde_json::to_value(seen(&[(1.0, 0.1), (2.0, 0.1)]).report()).unwrap();
        assert!(json["pearson"].is_null() && json["per_target"][0]["spearman"].is_null());
        let back: RegressionReport = serde_json::from_value(json).unwrap();
        assert!(back.overall.pearson.is_nan() && back.per_target[0].spearman.is_nan());
        assert_eq!(back.points, [[[0.1, 1.0], [0.1, 2.0]]]);
    }

    #[test]
    fn one_value_that_is_not_finite_makes_its_target_nan() {
        let mut metrics = Regression::new(2);
        metrics.update(&[1.0, 1.0], &[0.0, 2.0]).unwrap();
        metrics.update(&[f64::INFINITY, 2.0], &[1.0, 4.0]).unwrap();
        let report = metrics.report();
        assert_eq!((report.n, report.nonfinite), (2, 1));
        assert!(report.overall.mse.is_nan() && report.per_target[0].mae.is_nan());
        assert_eq!(report.per_target[1].mse, 2.5);
        assert_eq!(report.points[0], [[0.0, 1.0]]);
    }

    #[test]
    fn neither_a_large_mean_nor_extreme_values_cost_digits() {
        let pairs = [(0.0, 1.0), (1.0, 2.5), (2.5, 2.0), (3.0, 4.0)];
        let expected = figures(&pairs);
        let moved = figures(&pairs.map(|(p, t)| (p + 1e9, t + 1e9)));
        for (found, expected) in [
            (moved.r2, expected.r2),
            (moved.pearson, expected.pearson),
            (moved.target_std, expected.target_std),
        ] {
            // Numbers around 1e9 are themselves rounded to 1e-7, but halves are exact.
            assert!((found - expected).abs() < ROUNDING, "{found} {expected}");
        }
        for scale in [1e-200, 1e200] {
            let found = figures(&pairs.map(|(p, t)| (p * scale, t * scale))).pearson;
            assert!((found - expected.pearson).abs() < ROUNDING, "{found}");
        }
    }

    #[test]
    fn merging_equals_seeing_everything() {
        let pairs: Vec<(f64, f64)> = (0..40)
            .map(|i| (f64::from(i * 7 % 11), f64::from(i * 5 % 13) / 3.0))
            .collect();
        let expected = seen(&pairs).report().overall;
        let (mut ab, mut ba) = (seen(&pairs[..15]), seen(&pairs[15..]));
        let a = ab.clone();
        ab.merge(&ba).unwrap();
        ba.merge(&a).unwrap();
        assert_eq!(ab, seen(&pairs));
        let found = ba.report().overall;
        for (found, expected) in [
            (found.mse, expected.mse),
            (found.pearson, expected.pearson),
            (found.spearman, expected.spearman),
        ] {
            assert!((found - expected).abs() < ROUNDING, "{found} {expected}");
        }
    }

    #[test]
    fn a_row_of_another_width_is_refused_and_adds_nothing() {
        let mut metrics = Regression::new(2);
        let error = metrics.update(&[1.0, 2.0], &[1.0]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "expected 2 targets, found 1\n\
             hint: build the metric with as many columns as the model's head has outputs"
        );
        assert!(metrics.update(&[1.0], &[1.0, 2.0]).is_err());
        assert!(metrics.merge(&Regression::new(3)).is_err());
        assert_eq!(metrics, Regression::new(2));
    }

    #[test]
    fn points_are_spread_over_all_examples() {
        let mut metrics = Regression::new(2);
        for i in 0..5000 {
            let value = f64::from(i);
            metrics.update(&[-value, 0.0], &[value, 0.0]).unwrap();
        }
        let points = &metrics.report().points[0];
        assert_eq!(points.len(), MAX_POINTS / 2);
        assert_eq!((points[0], points[999]), ([0.0, 0.0], [4995.0, -4995.0]));
        assert!(points.windows(2).all(|pair| pair[1][0] == pair[0][0] + 5.0));
        assert_eq!(seen(&[(1.0, 2.0), (3.0, 4.0)]).report().points[0].len(), 2);
    }
}
