//! The counter-based generator behind initialisation and dropout: a value is a pure function of a key and an index, so
//! that a run resumed at any step draws what it would have drawn, and every backend draws the same.
//!
//! `mix64` is the finaliser of SplitMix64 (Steele, Lea and Flood 2014); `Row` is a 32-bit finaliser of the murmur kind
//! that vectorises. Both are part of the file format in effect: changing them changes every resumed run.

/// Golden-ratio increment of SplitMix64.
const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;

/// A bijective mix of 64 bits.
#[must_use]
pub const fn mix64(z: u64) -> u64 {
    let z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// The key of child `index` of `key`: independent streams from one seed.
#[must_use]
pub const fn child(key: u64, index: u64) -> u64 {
    mix64(key ^ mix64(index.wrapping_add(1).wrapping_mul(GOLDEN)))
}

/// A key from a name, for streams that are named by a parameter's path (FNV-1a, then mixed).
#[must_use]
pub fn named(key: u64, name: &str) -> u64 {
    let hash = name.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |h, b| {
        (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3)
    });
    child(key, hash)
}

/// Uniform in [0, 1), 53 bits: element `index` of stream `key`.
#[must_use]
pub fn uniform(key: u64, index: u64) -> f64 {
    (child(key, index) >> 11) as f64 / (1u64 << 53) as f64
}

/// Standard normal: element `index` of stream `key` (Box-Muller).
#[must_use]
pub fn normal(key: u64, index: u64) -> f64 {
    // 1 - u lies in (0, 1], where the logarithm is finite.
    let radius = (-2.0 * (1.0 - uniform(key, 2 * index)).ln()).sqrt();
    radius * (std::f64::consts::TAU * uniform(key, 2 * index + 1)).cos()
}

/// The 32-bit generator of one row of a mask: element `j` is a pure function of (key, row, j).
#[derive(Debug, Clone, Copy)]
pub struct Row {
    low: u32,
    high: u32,
}

impl Row {
    /// The generator of row `row` of stream `key`.
    #[must_use]
    pub const fn new(key: u64, row: u64) -> Self {
        let key = child(key, row);
        Self {
            low: key as u32,
            high: (key >> 32) as u32,
        }
    }

    /// 32 random bits for column `j`.
    #[inline(always)]
    #[must_use]
    pub const fn bits(self, j: u32) -> u32 {
        let mut h = j.wrapping_mul(0x9E37_79B9) ^ self.low;
        h ^= h >> 16;
        h = h.wrapping_mul(0x21f0_aaad) ^ self.high;
        h ^= h >> 15;
        h = h.wrapping_mul(0xd35a_2d97);
        h ^ (h >> 15)
    }
}

/// The threshold below which [`Row::bits`] drops an element with probability `p`.
#[must_use]
pub fn drop_threshold(p: f64) -> u32 {
    (p.clamp(0.0, 1.0) * f64::from(u32::MAX)).round() as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_those_of_the_distributions() {
        let n = 200_000;
        let mean = (0..n).map(|i| normal(7, i)).sum::<f64>() / n as f64;
        let variance = (0..n).map(|i| normal(7, i).powi(2)).sum::<f64>() / n as f64;
        assert!(mean.abs() < 0.01, "{mean}");
        assert!((variance - 1.0).abs() < 0.02, "{variance}");
        let threshold = drop_threshold(0.1);
        let dropped = (0..1000u64)
            .map(|r| {
                (0..200)
                    .filter(|&j| Row::new(3, r).bits(j) < threshold)
                    .count()
            })
            .sum::<usize>();
        assert!((dropped as f64 / n as f64 - 0.1).abs() < 0.003, "{dropped}");
    }

    #[test]
    fn streams_differ_and_repeat() {
        assert_eq!(uniform(1, 5), uniform(1, 5));
        assert_ne!(uniform(1, 5), uniform(2, 5));
        assert_ne!(named(1, "a"), named(1, "b"));
        assert_ne!(child(child(1, 0), 1), child(child(1, 1), 0));
    }
}
