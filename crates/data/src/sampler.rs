//! The order of an epoch: which examples make which batch.
//!
//! Grouping by length follows transformers' `LengthGroupedSampler` (`trainer_pt_utils.py`): shuffle everything, cut
//! mega-batches of up to 50 batches, sort by length inside each. Differences: the order of the finished batches is
//! shuffled too (theirs runs from long to short inside each mega-batch), the short last batch stays last, and the
//! whole order is a pure function of `(seed, epoch)`.

use rekindle_base::rng::{self, Stream};

/// Batches in a mega-batch, at most; transformers' number.
const MEGA_BATCH: usize = 50;

/// How an epoch is cut into batches. Two equal samplers give equal batches on every machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sampler {
    /// Seed of the run.
    pub seed: u64,
    /// A new order each epoch; `false` keeps the order of the set.
    pub shuffle: bool,
    /// Batches of examples of similar length: less padding, or attention of more equal cost. Without `shuffle` the
    /// set is sorted by length, longest first, which suits evaluation.
    pub group_by_length: bool,
    /// Examples in a batch, at least 1 (0 is taken as 1).
    pub batch_size: usize,
    /// Leave out the last batch when it is short.
    pub drop_last: bool,
}

impl Sampler {
    /// The batches of an epoch, as indices into the set; `lengths[i]` is the length of example `i` in tokens.
    ///
    /// Every example appears exactly once, except those that `drop_last` leaves out (with `shuffle`, others in
    /// each epoch). In epoch 0 of a shuffled, grouped order the longest batch comes first, so that a run that does
    /// not fit into memory fails at once.
    pub fn epoch(&self, lengths: &[u32], epoch: u64) -> Vec<Vec<usize>> {
        let size = self.batch_size.max(1);
        let mut order: Vec<usize> = (0..lengths.len()).collect();
        if self.shuffle {
            rng::shuffle(&mut order, self.seed, Stream::Shuffle as u64, epoch);
        }
        if self.drop_last {
            order.truncate(order.len() / size * size);
        }
        if self.group_by_length {
            let mega = if self.shuffle {
                size * mega_batches(order.len(), size)
            } else {
                order.len().max(1)
            };
            for group in order.chunks_mut(mega) {
                group.sort_by_key(|&i| std::cmp::Reverse(lengths[i]));
            }
        }
        let mut batches: Vec<Vec<usize>> = order.chunks(size).map(<[usize]>::to_vec).collect();
        if self.shuffle && self.group_by_length {
            let full = order.len() / size;
            rng::shuffle(
                &mut batches[..full],
                self.seed,
                Stream::BatchOrder as u64,
                epoch,
            );
            if epoch == 0 && full > 0 {
                // Inside a batch the longest example comes first.
                let longest = (0..full)
                    .rev()
                    .max_by_key(|&b| lengths[batches[b][0]])
                    .unwrap_or(0);
                batches.swap(0, longest);
            }
        }
        batches
    }

    /// How many batches an epoch of `examples` has.
    pub fn batches(&self, examples: usize) -> usize {
        let size = self.batch_size.max(1);
        if self.drop_last {
            examples / size
        } else {
            examples.div_ceil(size)
        }
    }
}

fn mega_batches(examples: usize, size: usize) -> usize {
    (examples / (size * 4)).clamp(1, MEGA_BATCH)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lengths(n: usize) -> Vec<u32> {
        (0..n)
            .map(|i| 3 + (rng::hash(5, 99, 0, i as u64) % 60) as u32)
            .collect()
    }

    fn samplers() -> Vec<Sampler> {
        let mut all = Vec::new();
        for shuffle in [false, true] {
            for group_by_length in [false, true] {
                for drop_last in [false, true] {
                    for batch_size in [1, 4, 7, 1000] {
                        all.push(Sampler {
                            seed: 3,
                            shuffle,
                            group_by_length,
                            batch_size,
                            drop_last,
                        });
                    }
                }
            }
        }
        all
    }

    #[test]
    fn every_example_appears_exactly_once() {
        for sampler in samplers() {
            for n in [0, 1, 6, 7, 8, 203, 1000] {
                let lengths = lengths(n);
                for epoch in [0, 1] {
                    let batches = sampler.epoch(&lengths, epoch);
                    assert_eq!(batches.len(), sampler.batches(n), "{sampler:?} n {n}");
                    let mut seen: Vec<usize> = batches.iter().flatten().copied().collect();
                    let kept = if sampler.drop_last {
                        n / sampler.batch_size * sampler.batch_size
                    } else {
                        n
                    };
                    seen.sort_unstable();
                    seen.dedup();
                    assert_eq!(seen.len(), kept, "{sampler:?} n {n}");
                    for (b, batch) in batches.iter().enumerate() {
                        assert!(
                            b + 1 == batches.len() || batch.len() == sampler.batch_size,
                            "{sampler:?}"
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn the_order_depends_on_the_arguments_alone() {
        let lengths = lengths(203);
        for sampler in samplers() {
            assert_eq!(
                sampler.epoch(&lengths, 4),
                sampler.clone().epoch(&lengths, 4)
            );
            if !sampler.shuffle || sampler.batch_size == 1000 {
                continue;
            }
            assert_ne!(
                sampler.epoch(&lengths, 1),
                sampler.epoch(&lengths, 2),
                "{sampler:?}"
            );
            let other = Sampler {
                seed: 4,
                ..sampler.clone()
            };
            assert_ne!(
                sampler.epoch(&lengths, 1),
                other.epoch(&lengths, 1),
                "{sampler:?}"
            );
        }
    }

    #[test]
    fn one_order_is_pinned() {
        let sampler = Sampler {
            seed: 42,
            shuffle: true,
            group_by_length: true,
            batch_size: 2,
            drop_last: false,
        };
        assert_eq!(
            sampler.epoch(&[5, 1, 4, 2, 3, 9, 7], 0),
            [vec![5, 4], vec![2, 3], vec![0, 1], vec![6]]
        );
    }

    #[test]
    fn grouping_cuts_padding_and_puts_the_longest_batch_first() {
        let lengths = lengths(4000);
        let padded = |grouped: bool| -> u32 {
            let sampler = Sampler {
                seed: 1,
                shuffle: true,
                group_by_length: grouped,
                batch_size: 16,
                drop_last: false,
            };
            let batches = sampler.epoch(&lengths, 1);
            batches
                .iter()
                .map(|b| b.len() as u32 * b.iter().map(|&i| lengths[i]).max().unwrap_or(0))
                .sum()
        };
        let tokens: u32 = lengths.iter().sum();
        let waste = |grouped| f64::from(padded(grouped)) / f64::from(tokens) - 1.0;
        assert!(waste(true) < 0.05, "grouped: {}", waste(true));
        assert!(waste(false) > 0.5, "ungrouped: {}", waste(false));

        let sampler = Sampler {
            seed: 1,
            shuffle: true,
            group_by_length: true,
            batch_size: 16,
            drop_last: false,
        };
        let first = &sampler.epoch(&lengths, 0)[0];
        let longest = lengths.iter().max();
        assert_eq!(first.iter().map(|&i| &lengths[i]).max(), longest);
    }

    #[test]
    fn without_shuffling_the_order_is_that_of_the_set_or_of_the_lengths() {
        let mut sampler = Sampler {
            seed: 0,
            shuffle: false,
            group_by_length: false,
            batch_size: 2,
            drop_last: false,
        };
        assert_eq!(sampler.epoch(&[1, 9, 5], 3), [vec![0, 1], vec![2]]);
        sampler.group_by_length = true;
        assert_eq!(sampler.epoch(&[1, 9, 5], 3), [vec![1, 2], vec![0]]);
    }
}
