//! A batch of texts as one row of tokens, without padding.

use std::ops::Range;

use crate::Targets;
use crate::text::EncodedSet;

/// B sequences packed into one row of T tokens.
///
/// Sequence `b` is `ids[offsets[b]..offsets[b + 1]]`; `type_ids` and `positions` run alongside.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct TextBatch {
    /// Token ids, `[T]`.
    pub ids: Vec<i32>,
    /// Token type (segment) ids, `[T]`.
    pub type_ids: Vec<i32>,
    /// Position of each token in its sequence, from 0, `[T]`.
    pub positions: Vec<i32>,
    /// Where the sequences start, and T at the end, `[B + 1]`.
    pub offsets: Vec<usize>,
    /// Targets of the B sequences; none for an unlabelled set.
    pub targets: Targets,
    /// Index of each sequence in its set, `[B]`.
    pub indices: Vec<usize>,
}

impl TextBatch {
    /// Packs the examples `indices` of a set, in that order.
    ///
    /// # Panics
    /// Where an index is outside of the set.
    pub fn pack(set: &EncodedSet, indices: &[usize]) -> Self {
        let tokens = indices
            .iter()
            .map(|&index| set.items[index].ids.len())
            .sum();
        let mut batch = Self {
            ids: Vec::with_capacity(tokens),
            type_ids: Vec::with_capacity(tokens),
            positions: Vec::with_capacity(tokens),
            offsets: Vec::with_capacity(indices.len() + 1),
            targets: set.targets.subset(indices),
            indices: indices.to_vec(),
        };
        batch.offsets.push(0);
        for &index in indices {
            let item = &set.items[index];
            // Ids are below the vocabulary size and lengths below the context length; both fit in 31 bits.
            batch.ids.extend(item.ids.iter().map(|&id| id as i32));
            batch
                .type_ids
                .extend(item.type_ids.iter().map(|&id| id as i32));
            batch.positions.extend(0..item.ids.len() as i32);
            batch.offsets.push(batch.ids.len());
        }
        batch
    }

    /// Some of the sequences, in their order, without their targets.
    ///
    /// # Panics
    /// Where the range is outside of the batch.
    pub fn slice(&self, sequences: Range<usize>) -> Self {
        let offsets = &self.offsets[sequences.start..=sequences.end];
        let (first, end) = (offsets[0], offsets[offsets.len() - 1]);
        Self {
            ids: self.ids[first..end].to_vec(),
            type_ids: self.type_ids[first..end].to_vec(),
            positions: self.positions[first..end].to_vec(),
            offsets: offsets.iter().map(|offset| offset - first).collect(),
            targets: Targets::None,
            indices: self.indices[sequences].to_vec(),
        }
    }

    /// Number of sequences, B.
    pub fn len(&self) -> usize {
        self.indices.len()
    }

    /// Whether there is no sequence.
    pub fn is_empty(&self) -> bool {
        self.indices.is_empty()
    }

    /// Number of tokens, T.
    pub fn tokens(&self) -> usize {
        self.ids.len()
    }

    /// Length of the longest sequence, in tokens.
    pub fn longest(&self) -> usize {
        self.offsets
            .windows(2)
            .map(|pair| pair[1] - pair[0])
            .max()
            .unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::Encoded;

    fn set() -> EncodedSet {
        let items =
            [vec![2, 10, 3], vec![2, 3], vec![2, 7, 8, 9, 3]].map(|ids: Vec<u32>| Encoded {
                type_ids: vec![0; ids.len()],
                ids,
                truncated: false,
            });
        EncodedSet {
            items: items.to_vec(),
            targets: Targets::Class(vec![1, 0, 2]),
        }
    }

    #[test]
    fn packing_then_unpacking_is_identity() {
        let set = set();
        for indices in [vec![], vec![0], vec![2, 0], vec![1, 2, 0, 1]] {
            let batch = TextBatch::pack(&set, &indices);
            assert_eq!(batch.len(), indices.len());
            assert_eq!(batch.offsets.len(), indices.len() + 1);
            assert_eq!(batch.offsets[batch.len()], batch.tokens());
            for (b, &index) in indices.iter().enumerate() {
                let range = batch.offsets[b]..batch.offsets[b + 1];
                let item = &set.items[index];
                let ids: Vec<u32> = batch.ids[range.clone()]
                    .iter()
                    .map(|&id| id as u32)
                    .collect();
                let type_ids: Vec<u32> = batch.type_ids[range.clone()]
                    .iter()
                    .map(|&id| id as u32)
                    .collect();
                assert_eq!((ids, type_ids), (item.ids.clone(), item.type_ids.clone()));
                assert!(
                    batch.positions[range]
                        .iter()
                        .copied()
                        .eq(0..item.ids.len() as i32)
                );
                assert_eq!(batch.targets.row(b), set.targets.row(index));
                assert_eq!(batch.indices[b], index);
            }
        }
    }

    #[test]
    fn a_slice_is_what_packing_those_sequences_gives() {
        let set = EncodedSet {
            targets: Targets::None,
            ..set()
        };
        let batch = TextBatch::pack(&set, &[2, 0, 1, 2]);
        assert_eq!(batch.slice(1..3), TextBatch::pack(&set, &[0, 1]));
        assert_eq!(batch.slice(0..4), batch);
        assert!(batch.slice(2..2).is_empty());
    }

    #[test]
    fn an_unlabelled_set_gives_no_targets() {
        let batch = TextBatch::pack(
            &EncodedSet {
                targets: Targets::None,
                ..set()
            },
            &[2, 1],
        );
        assert_eq!(batch.targets, Targets::None);
        assert_eq!(
            (batch.longest(), batch.tokens(), batch.is_empty()),
            (5, 7, false)
        );
    }
}
