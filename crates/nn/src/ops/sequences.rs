//! Where the sequences of a packed batch lie.

use std::sync::Arc;

/// The offsets of B sequences in a packed batch of T tokens: sequence `i` is tokens `offsets[i]..offsets[i + 1]`.
/// Cheap to clone. Empty sequences are allowed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sequences {
    offsets: Arc<[usize]>,
}

impl Sequences {
    /// From B + 1 offsets that start at 0 and never fall.
    ///
    /// # Panics
    /// If the offsets are empty, do not start at 0, or fall.
    #[must_use]
    pub fn new(offsets: impl Into<Arc<[usize]>>) -> Self {
        let offsets = offsets.into();
        assert_eq!(offsets.first(), Some(&0), "offsets start at 0");
        assert!(
            offsets.windows(2).all(|w| w[0] <= w[1]),
            "offsets never fall"
        );
        Self { offsets }
    }

    /// From the lengths of the sequences.
    #[must_use]
    pub fn from_lengths(lengths: &[usize]) -> Self {
        let mut offsets = Vec::with_capacity(lengths.len() + 1);
        offsets.push(0);
        offsets.extend(lengths.iter().scan(0, |sum, length| {
            *sum += length;
            Some(*sum)
        }));
        Self {
            offsets: offsets.into(),
        }
    }

    /// The B + 1 offsets.
    #[must_use]
    pub fn offsets(&self) -> &[usize] {
        &self.offsets
    }

    /// B.
    #[must_use]
    pub fn count(&self) -> usize {
        self.offsets.len() - 1
    }

    /// T.
    #[must_use]
    pub fn tokens(&self) -> usize {
        self.offsets[self.count()]
    }

    /// The longest sequence.
    #[must_use]
    pub fn longest(&self) -> usize {
        self.offsets
            .windows(2)
            .map(|w| w[1] - w[0])
            .max()
            .unwrap_or(0)
    }

    /// The token range of each sequence.
    pub fn ranges(&self) -> impl ExactSizeIterator<Item = std::ops::Range<usize>> + '_ {
        self.offsets.windows(2).map(|w| w[0]..w[1])
    }
}
