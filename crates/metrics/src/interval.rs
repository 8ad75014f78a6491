//! Confidence intervals of proportions (Wilson, "Probable inference, the law of succession, and statistical
//! inference", 1927), equal to SciPy's `binomtest(k, n).proportion_ci(method="wilson")`.

/// The 97.5 % quantile of the normal distribution.
const Z: f64 = 1.959_963_984_540_054;

/// The 95 % Wilson interval of a proportion, such as an accuracy, as (low, high) within `0..=1`.
///
/// With no trials nothing is known and the interval is `(0, 1)`. More successes than trials count as all of them.
pub fn wilson_95(successes: u64, trials: u64) -> (f64, f64) {
    if trials == 0 {
        return (0.0, 1.0);
    }
    let n = trials as f64;
    let p = successes.min(trials) as f64 / n;
    let centre = (2.0 * n * p + Z * Z) / (2.0 * (n + Z * Z));
    let half_width = Z / (2.0 * (n + Z * Z)) * (4.0 * n * p * (1.0 - p) + Z * Z).sqrt();
    // At the ends the bound is exact; rounding must not move it inside.
    let low = if successes == 0 {
        0.0
    } else {
        (centre - half_width).max(0.0)
    };
    let high = if successes >= trials {
        1.0
    } else {
        (centre + half_width).min(1.0)
    };
    (low, high)
}
