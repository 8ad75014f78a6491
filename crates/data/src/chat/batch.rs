//! The packed batch of conversations: sequences of unequal length laid end to end, with the tokens to predict.

use super::EncodedChats;

/// Conversations as one packed row of tokens.
///
/// With B sequences, T tokens in all and R tokens that count: `rows[r]` is the index of a token in the packed row whose
/// *next* token counts, and `targets[r]` is that next token. Both lie in one sequence, so conversations never see each
/// other.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ChatBatch {
    /// Token ids, `[T]`.
    pub ids: Vec<i32>,
    /// Position of each token in its sequence, from 0, `[T]`.
    pub positions: Vec<i32>,
    /// Where the sequences start, and T at the end, `[B + 1]`.
    pub offsets: Vec<usize>,
    /// Tokens from which a counted one is predicted, ascending, `[R]`.
    pub rows: Vec<i32>,
    /// The counted tokens, `[R]`.
    pub targets: Vec<i32>,
    /// Where the rows of each sequence start in `rows`, and R at the end, `[B + 1]`.
    pub row_offsets: Vec<usize>,
    /// Index of each sequence in its set, `[B]`.
    pub indices: Vec<usize>,
}

impl ChatBatch {
    /// Packs the sequences `indices` of a set, in that order.
    ///
    /// # Panics
    /// Where an index is outside of the set.
    pub fn pack(set: &EncodedChats, indices: &[usize]) -> Self {
        let mut batch = Self {
            offsets: vec![0],
            row_offsets: vec![0],
            indices: indices.to_vec(),
            ..Self::default()
        };
        for &index in indices {
            let item = &set.items[index];
            let start = batch.ids.len();
            // Ids are below the vocabulary size and batches far below 2^31 tokens.
            batch.ids.extend(item.ids.iter().map(|&id| id as i32));
            batch.positions.extend(0..item.ids.len() as i32);
            for (at, (&id, &counts)) in item.ids.iter().zip(&item.counts).enumerate() {
                // Nothing predicts the first token.
                if counts && at > 0 {
                    batch.rows.push((start + at - 1) as i32);
                    batch.targets.push(id as i32);
                }
            }
            batch.offsets.push(batch.ids.len());
            batch.row_offsets.push(batch.rows.len());
        }
        batch
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

    /// Number of tokens that count, R.
    pub fn counted(&self) -> usize {
        self.rows.len()
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
