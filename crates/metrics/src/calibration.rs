//! Figures of probabilities: whether the right class is among the first k, and whether confidence is what comes true.

use serde::{Deserialize, Serialize};

/// Bins of confidence; as many as Guo et al. (2017) have.
const BINS: usize = 15;

/// Adds up probabilities, example by example.
#[derive(Debug, Clone, PartialEq)]
pub struct Calibration {
    k: usize,
    n: u64,
    among_first: u64,
    /// Examples, right predictions, and sum of confidences of each bin.
    bins: [(u64, u64, f64); BINS],
}

/// The figures; 0 with no examples.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CalibrationReport {
    /// k.
    pub k: usize,
    /// Share of examples whose class is among the k most probable.
    pub top_k_accuracy: f64,
    /// Expected calibration error: the mean difference between confidence and accuracy over 15 equal bins of confidence,
    /// weighted by their examples.
    pub ece: f64,
    /// The bins that have examples, by rising confidence.
    pub bins: Vec<CalibrationBin>,
}

/// Predictions of like confidence.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct CalibrationBin {
    /// Confidences above this.
    pub from: f64,
    /// Confidences up to this.
    pub to: f64,
    /// How many.
    pub examples: u64,
    /// Their mean confidence.
    pub confidence: f64,
    /// Share of them that is right.
    pub accuracy: f64,
}

impl Calibration {
    /// An empty accumulator; `k` is at least 1.
    #[must_use]
    pub fn new(k: usize) -> Self {
        Self {
            k: k.max(1),
            n: 0,
            among_first: 0,
            bins: [(0, 0, 0.0); BINS],
        }
    }

    /// Adds an example by its probabilities `[C]`. Of equal probabilities the first class goes first.
    ///
    /// # Panics
    /// If the target is no class.
    pub fn update(&mut self, probabilities: &[f64], target: usize) {
        let own = probabilities[target];
        let before = probabilities
            .iter()
            .enumerate()
            .filter(|&(class, &p)| p > own || (p == own && class < target))
            .count();
        let confidence = probabilities.iter().copied().fold(0.0, f64::max);
        // (0, 1/15], (1/15, 2/15] and so on.
        let bin = ((confidence * BINS as f64).ceil() as usize).clamp(1, BINS) - 1;
        self.n += 1;
        self.among_first += u64::from(before < self.k);
        let (examples, right, sum) = &mut self.bins[bin];
        *examples += 1;
        *right += u64::from(before == 0);
        *sum += confidence;
    }

    /// The figures of what was added so far.
    #[must_use]
    pub fn report(&self) -> CalibrationReport {
        let n = self.n.max(1) as f64;
        let off = |&(_, right, sum): &(u64, u64, f64)| (right as f64 - sum).abs();
        CalibrationReport {
            k: self.k,
            top_k_accuracy: self.among_first as f64 / n,
            ece: self.bins.iter().map(off).sum::<f64>() / n,
            bins: self.filled(),
        }
    }

    /// The bins that have examples.
    fn filled(&self) -> Vec<CalibrationBin> {
        let edge = |bin: usize| bin as f64 / BINS as f64;
        let bins = self.bins.iter().enumerate();
        bins.filter(|(_, (examples, ..))| *examples > 0)
            .map(|(bin, &(examples, right, sum))| CalibrationBin {
                from: edge(bin),
                to: edge(bin + 1),
                examples,
                confidence: sum / examples as f64,
                accuracy: right as f64 / examples as f64,
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_of_a_few_examples() {
        let mut figures = Calibration::new(2);
        figures.update(&[0.9, 0.06, 0.04], 0);
        figures.update(&[0.9, 0.06, 0.04], 1);
        figures.update(&[0.5, 0.3, 0.2], 2);
        figures.update(&[0.4, 0.4, 0.2], 1);
        let report = figures.report();
        // By hand: |1 - 1.8| in one bin, |0 - 0.5| and |0 - 0.4| in two others, over 4.
        assert!((report.ece - 1.7 / 4.0).abs() < 1e-12, "{}", report.ece);
        assert_eq!(report.top_k_accuracy, 0.75);
        let bins: Vec<(u64, f64)> = report
            .bins
            .iter()
            .map(|b| (b.examples, b.accuracy))
            .collect();
        assert_eq!(bins, [(1, 0.0), (1, 0.0), (2, 0.5)]);
        assert_eq!(
            (report.bins[2].from, report.bins[2].to),
            (13.0 / 15.0, 14.0 / 15.0)
        );
        assert!((report.bins[2].confidence - 0.9).abs() < 1e-12);
        assert!(Calibration::new(5).report().bins.is_empty());
        assert_eq!(Calibration::new(5).report().ece, 0.0);
    }
}
