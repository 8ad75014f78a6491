//! The packed batch of conversations: sequences of unequal length laid end to end, with the tokens to predict.

use super::EncodedChats;

/// Conversations as one packed row of tokens.
///
/// With B sequences, T tokens in all and R tokens that count: `rows[r]` is the index of a token in the packed row whose
/// *next* token counts, and `targets[r]` is that next token. Both lie in one sequence, so conversations never see each
/// other. The tokens that count form G groups, of which sums are wanted: usually one for each sequence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChatBatch {
    /// Token ids, `[T]`.
    pub ids: Vec<i32>,
    /// Position of each token in its sequence, from 0, `[T]`.
    pub positions: Vec<i32>,
    /// Where the sequences start, and T at the end, `[B + 1]`.
    pub offsets: Vec<usize>,
    /// Tokens from which a counted one is predicted, ascending in each group, `[R]`.
    pub rows: Vec<i32>,
    /// The counted tokens, `[R]`.
    pub targets: Vec<i32>,
    /// Where the rows of each group start in `rows`, and R at the end, `[G + 1]`.
    pub row_offsets: Vec<usize>,
    /// Index of each sequence in the set that was packed, `[B]`; empty where sequences were added by themselves.
    pub indices: Vec<usize>,
}

impl Default for ChatBatch {
    /// No sequence.
    fn default() -> Self {
        Self {
            ids: Vec::new(),
            positions: Vec::new(),
            offsets: vec![0],
            rows: Vec::new(),
            targets: Vec::new(),
            row_offsets: vec![0],
            indices: Vec::new(),
        }
    }
}

impl ChatBatch {
    /// Packs the sequences `indices` of a set, in that order.
    ///
    /// # Panics
    /// Where an index is outside of the set.
    pub fn pack(set: &EncodedChats, indices: &[usize]) -> Self {
        let mut batch = Self {
            indices: indices.to_vec(),
            ..Self::default()
        };
        for &index in indices {
            let item = &set.items[index];
            batch.push(&item.ids, &[&item.counts]);
        }
        batch
    }

    /// Adds a sequence of these token ids. Each of `groups` says for every token whether it counts in a group of its own;
    /// the first never does, for nothing predicts it.
    pub fn push(&mut self, ids: &[u32], groups: &[&[bool]]) {
        let start = self.ids.len();
        // Ids are below the vocabulary size and batches far below 2^31 tokens.
        self.ids.extend(ids.iter().map(|&id| id as i32));
        self.positions.extend(0..ids.len() as i32);
        self.offsets.push(self.ids.len());
        for counts in groups {
            for (at, (&id, &counts)) in ids.iter().zip(*counts).enumerate() {
                if counts && at > 0 {
                    self.rows.push((start + at - 1) as i32);
                    self.targets.push(id as i32);
                }
            }
            self.row_offsets.push(self.rows.len());
        }
    }

    /// Number of sequences, B.
    pub fn len(&self) -> usize {
        self.offsets.len() - 1
    }

    /// Whether there is no sequence.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
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
