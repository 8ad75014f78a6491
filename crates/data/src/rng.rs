//! Counter-based random numbers: a value is a pure function of `(seed, stream, epoch, index)`.
//!
//! There is no generator state to save, so resuming anywhere costs nothing and every machine and thread count
//! sees the same numbers. The function is SplitMix64's finaliser (Steele, Lea and Flood, "Fast splittable
//! pseudorandom number generators", 2014) chained over the four arguments; for a fixed stream and epoch, `index`
//! walks a SplitMix64 sequence.
//!
//! The values are part of this crate's contract: they do not change between versions, because a changed order would
//! change what a resumed run trains on. Tests pin them.

/// What a number is used for in this crate. Two uses of one seed must not share a stream: numbers below 100 belong to
/// this crate, other crates take theirs from 100 on.
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

const GAMMA: u64 = 0x9E37_79B9_7F4A_7C15;

fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// 64 random bits for `(seed, stream, epoch, index)`.
///
/// `stream` is a number so that other crates can have streams of their own, apart from [`Stream`].
pub fn hash(seed: u64, stream: u64, epoch: u64, index: u64) -> u64 {
    let key = mix(mix(seed.wrapping_add(GAMMA)) ^ stream).wrapping_add(GAMMA);
    let key = mix(mix(key) ^ epoch);
    mix(key.wrapping_add(index.wrapping_add(1).wrapping_mul(GAMMA)))
}

/// A number in `0..n` from 64 random bits (Lemire's multiply-shift; the bias is below `n / 2^64`).
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
