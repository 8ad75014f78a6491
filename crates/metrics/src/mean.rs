//! A mean as a compensated sum and a count (Neumaier, "Rundungsfehleranalyse einiger Verfahren zur Summation
//! endlicher Summen", 1974), so that a million small losses added to a large sum still count.

/// A running mean of finite numbers that never hides one that is not finite.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Mean {
    sum: f64,
    compensation: f64,
    count: u64,
    nonfinite: u64,
}

impl Mean {
    /// A mean of nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds one value.
    pub fn add(&mut self, value: f64) {
        self.add_sum(value, 1);
    }

    /// Adds a sum over `count` values, such as a batch's summed loss and its number of unmasked examples.
    pub fn add_sum(&mut self, sum: f64, count: u64) {
        self.count += count;
        if sum.is_finite() {
            self.accumulate(sum);
        } else {
            self.nonfinite += 1;
        }
    }

    /// Adds everything `other` has seen. Commutative to the last bit.
    pub fn merge(&mut self, other: &Self) {
        self.accumulate(other.sum);
        self.compensation += other.compensation;
        self.count += other.count;
        self.nonfinite += other.nonfinite;
    }

    /// The mean; NaN when nothing was added or when anything added was NaN or infinite.
    pub fn mean(&self) -> f64 {
        self.sum() / self.count as f64
    }

    /// The sum; NaN when anything added was NaN or infinite.
    pub fn sum(&self) -> f64 {
        if self.nonfinite > 0 {
            f64::NAN
        } else {
            self.sum + self.compensation
        }
    }

    /// How many values were added.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// How many additions (values or batch sums) were NaN or infinite.
    pub fn nonfinite(&self) -> u64 {
        self.nonfinite
    }

    fn accumulate(&mut self, value: f64) {
        let total = self.sum + value;
        // The rounding error of the addition, exact whichever operand is larger.
        self.compensation += if self.sum.abs() >= value.abs() {
            (self.sum - total) + value
        } else {
            (value - total) + self.sum
        };
        self.sum = total;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_values_survive_a_large_sum() {
        let mut mean = Mean::new();
        mean.add(1e16);
        for _ in 0..1000 {
            mean.add(1.0);
        }
        mean.add(-1e16);
        assert_eq!(mean.sum(), 1000.0);
        assert_eq!(mean.count(), 1002);
    }

    #[test]
    fn a_mean_of_nothing_is_not_a_number() {
        assert!(Mean::new().mean().is_nan());
    }

    #[test]
    fn nonfinite_values_show() {
        for bad in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            let mut mean = Mean::new();
            mean.add(1.0);
            mean.add_sum(bad, 8);
            mean.add(2.0);
            assert!(mean.mean().is_nan(), "{bad}");
            assert_eq!((mean.count(), mean.nonfinite()), (10, 1));

            let mut other = Mean::new();
            other.add(1.0);
            other.merge(&mean);
            assert!(other.mean().is_nan());
            assert_eq!(other.nonfinite(), 1);
        }
    }

    #[test]
    fn merging_is_commutative() {
        let (mut a, mut b) = (Mean::new(), Mean::new());
        for i in 1..100_u32 {
            a.add(1.0 / f64::from(i));
            b.add(f64::from(i).sqrt() * 1e9);
        }
        let (mut ab, mut ba) = (a, b);
        ab.merge(&b);
        ba.merge(&a);
        assert_eq!(ab, ba);
    }
}
