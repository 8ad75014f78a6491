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
    /// Where the sequences start, and T at the end, `[B + 1]`. Where some tokens are shared, the first sequence is these.
    pub offsets: Vec<usize>,
    /// So many first tokens of all sequences are the same and stand in the row once, in front: see
    /// [`share_beginning`](Self::share_beginning).
    pub shared: usize,
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
            shared: 0,
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

    /// Keeps one copy of the tokens that all sequences begin with, such as a system prompt, where that is worth it. A token sees
    /// only what stands before it, so that these tokens are the same in every sequence whatever follows. None of them counts.
    #[must_use]
    pub fn share_beginning(mut self) -> Self {
        /// Tokens from which on, and the share of all tokens that must go for it.
        const WORTH: (usize, usize) = (8, 16);
        let starts = &self.offsets[..self.len()];
        let ranges = self.offsets.windows(2).map(|pair| pair[0]..pair[1]);
        let Some(first) = ranges.clone().next().map(|range| &self.ids[range]) else {
            return self;
        };
        let alike = |ids: &[i32]| first.iter().zip(ids).take_while(|(a, b)| a == b).count();
        let common =
            ranges.map(|range| alike(&self.ids[range.clone()]).min(range.len().saturating_sub(1)));
        // Rows of different groups may be of one sequence.
        let place = |row: i32| {
            let sequence = starts.partition_point(|&start| start <= row as usize) - 1;
            (sequence, row as usize - starts[sequence])
        };
        let asked = self.rows.iter().map(|&row| place(row).1);
        let shared = common.chain(asked).min().unwrap_or(0);
        let saved = shared * (self.len() - 1);
        if self.shared > 0 || shared < WORTH.0 || saved * WORTH.1 < self.ids.len() {
            return self;
        }
        let rows = self.rows.iter().map(|&row| {
            let (sequence, _) = place(row);
            row - (sequence * shared) as i32
        });
        let rows = rows.collect();
        let (mut ids, mut positions) = (
            self.ids[..shared].to_vec(),
            self.positions[..shared].to_vec(),
        );
        let mut offsets = vec![0, shared];
        for pair in self.offsets.windows(2) {
            let own = pair[0] + shared..pair[1];
            ids.extend_from_slice(&self.ids[own.clone()]);
            positions.extend_from_slice(&self.positions[own]);
            offsets.push(ids.len());
        }
        (self.ids, self.positions, self.offsets) = (ids, positions, offsets);
        (self.rows, self.shared) = (rows, shared);
        self
    }

    /// Number of sequences, B. Once [a beginning is shared](Self::share_beginning) these shared tokens count as one more.
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
