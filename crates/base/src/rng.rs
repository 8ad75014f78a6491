//! Counter-based random numbers: a value is a pure function of a key and an index. There is no generator state to save, so
//! resuming anywhere costs nothing, and every machine, backend and thread count draws the same.
//!
//! Two families. Keys ([`child`], [`named`]) with [`uniform`], [`normal`] and [`Row`] are behind initialisation and dropout.
//! [`hash`] of (seed, stream, epoch, index) with [`below`] and [`shuffle`] is behind order, splits and augmentation.
//!
//! `mix64` is the finaliser of SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", 2014);
//! `Row` is a 32-bit finaliser of the murmur kind that vectorises. The values are part of the contract: a changed one would
//! change what a resumed run trains on. Tests pin them.

/// Golden-ratio increment of SplitMix64.
const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;

/// A bijective mix of 64 bits.
#[inline]
#[must_use]
pub const fn mix64(z: u64) -> u64 {
    let z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// The key of child `index` of `key`: independent streams from one seed.
#[inline]
#[must_use]
pub const fn child(key: u64, index: u64) -> u64 {
    mix64(key ^ mix64(index.wrapping_add(1).wrapping_mul(GOLDEN)))
}

/// A key from a name, for streams that are named by a parameter's path (FNV-1a, then mixed).
#[inline]
#[must_use]
pub fn named(key: u64, name: &str) -> u64 {
    let hash = name.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |h, b| {
        (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3)
    });
    child(key, hash)
}

/// Uniform in [0, 1), 53 bits: element `index` of stream `key`.
#[inline]
#[must_use]
pub fn uniform(key: u64, index: u64) -> f64 {
    (child(key, index) >> 11) as f64 / (1u64 << 53) as f64
}

/// Standard normal: element `index` of stream `key` (Box-Muller).
#[inline]
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
#[inline]
#[must_use]
pub fn drop_threshold(p: f64) -> u32 {
    (p.clamp(0.0, 1.0) * f64::from(u32::MAX)).round() as u32
}

/// What a number of [`hash`] is used for. Two uses of one seed must not share a stream: numbers below 100 are listed here,
/// a stream of one crate alone takes its number from 100 on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u64)]
pub enum Stream {
    /// Splitting one set into train, validation and test.
    Split = 1,
    /// The order of the examples in an epoch.
    Shuffle = 2,
    /// The order of the batches in an epoch, when they are grouped by length.
    BatchOrder = 3,
    /// Which examples a limit keeps.
    Limit = 4,
    /// What is done to a picture; the epoch or view, and the picture, choose the rest.
    Augment = 10,
    /// Which pictures of a batch are mixed, and how much.
    Mix = 11,
    /// Which examples an epoch draws, where classes are drawn evenly.
    Weighted = 12,
}

/// 64 random bits for `(seed, stream, epoch, index)`.
///
/// `stream` is a number so that a crate can have streams of its own, apart from [`Stream`]. The function is SplitMix64's
/// finaliser chained over the four arguments; for a fixed stream and epoch, `index` walks a SplitMix64 sequence.
#[inline]
#[must_use]
pub fn hash(seed: u64, stream: u64, epoch: u64, index: u64) -> u64 {
    let key = mix64(mix64(seed.wrapping_add(GOLDEN)) ^ stream).wrapping_add(GOLDEN);
    let key = mix64(mix64(key) ^ epoch);
    mix64(key.wrapping_add(index.wrapping_add(1).wrapping_mul(GOLDEN)))
}

/// A number in `0..n` from 64 random bits (Lemire's multiply-shift; the bias is below `n / 2^64`).
#[inline]
#[must_use]
pub fn below(bits: u64, n: u64) -> u64 {
    ((u128::from(bits) * u128::from(n)) >> 64) as u64
}

/// Shuffles `items` in place (Fisher-Yates, from the end).
pub fn shuffle<T>(items: &mut [T], seed: u64, stream: u64, epoch: u64) {
    for i in (1..items.len()).rev() {
        let j = below(hash(seed, stream, epoch, i as u64), i as u64 + 1) as usize;
        items.swap(i, j);
    }
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

    #[test]
    fn values_are_pinned() {
        // From the definition above written out in Python. A change here changes what resumed runs train on.
        assert_eq!(hash(0, 0, 0, 0), 9_635_084_236_708_330_866);
        assert_eq!(hash(42, 2, 7, 1_000_000), 3_233_078_126_073_294_438);
        let mut items: Vec<u32> = (0..10).collect();
        shuffle(&mut items, 42, Stream::Shuffle as u64, 0);
        assert_eq!(items, [9, 0, 2, 3, 5, 4, 6, 7, 1, 8]);
    }

    #[test]
    fn every_argument_counts() {
        let base = hash(1, 2, 3, 4);
        for other in [
            hash(2, 2, 3, 4),
            hash(1, 3, 3, 4),
            hash(1, 2, 4, 4),
            hash(1, 2, 3, 5),
            hash(2, 1, 3, 4),
        ] {
            assert_ne!(base, other);
            let flipped = (base ^ other).count_ones();
            assert!((12..=52).contains(&flipped), "{flipped} of 64 bits differ");
        }
    }

    #[test]
    fn shuffling_is_uniform() {
        // Where does item 0 of 8 land? 8 cells, 7 degrees of freedom: chi-squared above 24.3 has p < 0.001.
        let trials = 8_000u64;
        let mut counts = [0u64; 8];
        for epoch in 0..trials {
            let mut items: Vec<usize> = (0..8).collect();
            shuffle(&mut items, 9, 2, epoch);
            let at = items
                .iter()
                .position(|&item| item == 0)
                .expect("a permutation");
            counts[at] += 1;
        }
        let expected = trials as f64 / 8.0;
        let chi2: f64 = counts
            .iter()
            .map(|&c| (c as f64 - expected).powi(2) / expected)
            .sum();
        assert!(chi2 < 24.3, "chi-squared {chi2}, counts {counts:?}");
    }
}
