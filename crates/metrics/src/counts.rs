//! Decisions counted: precision, recall and F1 as scikit-learn defines them with `zero_division=0`, and their averages.

/// Decisions that were positive, and those that should have been.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// Predicted and true.
    pub(crate) both: u64,
    pub(crate) predicted: u64,
    /// True.
    pub(crate) support: u64,
}

impl Counts {
    pub(crate) fn add(&mut self, predicted: bool, truth: bool) {
        self.both += u64::from(predicted && truth);
        self.predicted += u64::from(predicted);
        self.support += u64::from(truth);
    }

    /// Both together.
    pub(crate) fn plus(&self, other: &Self) -> Self {
        Self {
            both: self.both + other.both,
            predicted: self.predicted + other.predicted,
            support: self.support + other.support,
        }
    }

    pub(crate) fn wrong(&self) -> u64 {
        self.predicted + self.support - 2 * self.both
    }

    pub(crate) fn precision(&self) -> f64 {
        ratio(self.both, self.predicted)
    }

    pub(crate) fn recall(&self) -> f64 {
        ratio(self.both, self.support)
    }

    pub(crate) fn f1(&self) -> f64 {
        ratio(2 * self.both, self.predicted + self.support)
    }

    /// The weighted mean of a figure; 0 where the weights are.
    pub(crate) fn mean(figure: fn(&Self) -> f64, of: &[Self], weight: fn(&Self) -> u64) -> f64 {
        let total: u64 = of.iter().map(weight).sum();
        let sum: f64 = of.iter().map(|c| figure(c) * weight(c) as f64).sum();
        if total == 0 { 0.0 } else { sum / total as f64 }
    }
}

/// scikit-learn's `zero_division=0`.
pub(crate) fn ratio(numerator: u64, denominator: u64) -> f64 {
    if denominator == 0 {
        0.0
    } else {
        numerator as f64 / denominator as f64
    }
}
