//! exp, erf and tanh without branches, so that loops over them vectorise.

/// e^x for x <= 88 (larger x count as 88); 2e-7 relative. Below -87 the result stays at e^-87; NaN stays NaN.
#[inline(always)]
pub(super) fn exp(x: f32) -> f32 {
    /// 1.5 * 2^23: adding it leaves the nearest integer in the low bits.
    const MAGIC: f32 = 12_582_912.0;
    const LN2_HIGH: f32 = 0.693_359_4;
    const LN2_LOW: f32 = -2.121_944_4e-4;
    // Comparisons, not `clamp` or `max`: those would lose a NaN or the branch-free form.
    let x = if x > 88.0 { 88.0 } else { x };
    let x = if x < -87.0 { -87.0 } else { x };
    let shifted = x.mul_add(std::f32::consts::LOG2_E, MAGIC);
    let n = shifted - MAGIC;
    let r = n.mul_add(-LN2_LOW, n.mul_add(-LN2_HIGH, x));
    // Cephes' expf.
    let p = 1.987_569_1e-4_f32
        .mul_add(r, 1.398_2e-3)
        .mul_add(r, 8.333_452e-3)
        .mul_add(r, 4.166_579_6e-2)
        .mul_add(r, 1.666_666_5e-1)
        .mul_add(r, 0.5);
    let p = p.mul_add(r * r, r) + 1.0;
    p * f32::from_bits((shifted.to_bits() << 23).wrapping_add(1.0f32.to_bits()))
}

/// erf, 4e-7 absolute: Eigen's and XLA's rational function, 1 beyond |x| = 4.
#[inline(always)]
pub(super) fn erf(x: f32) -> f32 {
    let x = if x > 4.0 { 4.0 } else { x };
    let x = if x < -4.0 { -4.0 } else { x };
    let s = x * x;
    let p = (-2.726_142_3e-10_f32)
        .mul_add(s, 2.770_681_4e-8)
        .mul_add(s, -2.101_024e-6)
        .mul_add(s, -5.692_506_5e-5)
        .mul_add(s, -7.349_906_3e-4)
        .mul_add(s, -2.954_6e-3)
        .mul_add(s, -1.609_603_3e-2);
    let q = (-1.456_607_2e-5_f32)
        .mul_add(s, -2.133_740_6e-4)
        .mul_add(s, -1.682_827e-3)
        .mul_add(s, -7.373_329e-3)
        .mul_add(s, -1.426_474e-2);
    x * p / q
}

/// tanh, 2e-7 absolute.
#[inline(always)]
pub(super) fn tanh(x: f32) -> f32 {
    let e = exp(-2.0 * x.abs());
    ((1.0 - e) / (1.0 + e)).copysign(x)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The largest |f - reference| over a fine grid, each scaled by `scale(reference)`.
    fn worst(
        range: (f64, f64),
        f: impl Fn(f32) -> f32,
        reference: impl Fn(f64) -> f64,
        scale: impl Fn(f64) -> f64,
    ) -> f64 {
        let at = |i: u32| (range.0 + (range.1 - range.0) * f64::from(i) / 2e5) as f32;
        (0..=200_000)
            .map(|i| {
                let expected = reference(f64::from(at(i)));
                (f64::from(f(at(i))) - expected).abs() / scale(expected)
            })
            .fold(0.0, f64::max)
    }

    #[test]
    fn errors_are_within_bounds() {
        let exp_error = worst((-87.0, 88.0), exp, f64::exp, |y| y);
        assert!(exp_error < 2e-7, "exp: {exp_error}");
        let tanh_error = worst((-12.0, 12.0), tanh, f64::tanh, |_| 1.0);
        assert!(tanh_error < 2e-7, "tanh: {tanh_error}");
        // erf is the integral of its derivative: composite Simpson over steps of 1/5000 from 0.
        let slope = |t: f64| (-t * t).exp() * std::f64::consts::FRAC_2_SQRT_PI;
        let (mut integral, h) = (0.0, 1.0 / 5000.0);
        for i in 0..30_000 {
            let t = f64::from(i) * h;
            let found = f64::from(erf(t as f32));
            let expected = integral + (t as f32 as f64 - t) * slope(t);
            assert!(
                (found - expected).abs() < 4e-7,
                "erf({t}): expected {expected}, found {found}"
            );
            assert_eq!(erf(-t as f32), -erf(t as f32));
            integral += h / 6.0 * (slope(t) + 4.0 * slope(t + h / 2.0) + slope(t + h));
        }
    }

    #[test]
    fn edges_stay_finite_and_nan_stays_nan() {
        for f in [exp, erf, tanh] {
            assert!(f(f32::NAN).is_nan());
            for x in [
                f32::INFINITY,
                f32::NEG_INFINITY,
                f32::MAX,
                f32::MIN,
                0.0,
                f32::MIN_POSITIVE,
            ] {
                assert!(f(x).is_finite(), "at {x}");
            }
        }
        assert_eq!((erf(0.0), tanh(0.0), exp(0.0)), (0.0, 0.0, 1.0));
        assert_eq!(tanh(f32::INFINITY), 1.0);
    }
}
