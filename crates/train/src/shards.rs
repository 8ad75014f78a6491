//! How a batch is cut into shards, which process has which, and in which order their gradients are added.
//!
//! The order is a binary tree over the shards and nothing else: node `(first, width)` is the sum of the shards
//! `first..first + width`, made of its two halves. Processes only decide who adds what. So the sum has the same bits for any
//! number of processes.

use std::ops::Range;

/// The shards of a batch, and those that are this process's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shards {
    count: usize,
    own: Range<usize>,
}

/// A node of the tree of sums.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Node {
    /// Its first shard.
    pub first: usize,
    /// A power of two; what lies beyond the last shard is nothing.
    pub width: usize,
}

impl Node {
    /// The two halves.
    pub(crate) fn halves(self) -> [Self; 2] {
        let width = self.width / 2;
        [self.first, self.first + width].map(|first| Self { first, width })
    }
}

impl Shards {
    /// A batch in one piece, for a process that is alone.
    #[must_use]
    pub fn whole() -> Self {
        Self::of(1, 0, 1)
    }

    /// So many shards (at least 1), of which process `rank` of `world` has its share: none, where there are more processes.
    #[must_use]
    pub fn of(count: usize, rank: usize, world: usize) -> Self {
        let count = count.max(1);
        let start = |rank: usize| rank * count / world.max(1);
        Self {
            count,
            own: start(rank)..start(rank + 1),
        }
    }

    /// How many shards a batch has.
    #[must_use]
    pub fn count(&self) -> usize {
        self.count
    }

    /// This process's.
    #[must_use]
    pub fn own(&self) -> Range<usize> {
        self.own.clone()
    }

    /// The items of a batch that are a shard's: every `count`-th, so that what is sorted by length is spread evenly.
    #[must_use]
    pub fn cut<T: Copy>(&self, batch: &[T], shard: usize) -> Vec<T> {
        batch
            .iter()
            .skip(shard)
            .step_by(self.count)
            .copied()
            .collect()
    }

    /// The number by which everything random about a shard of the `index`-th batch goes; in a batch of one shard, its own.
    #[must_use]
    pub fn draw(&self, index: u64, shard: usize) -> u64 {
        index * self.count as u64 + shard as u64
    }

    /// The node that is the sum of all.
    pub(crate) fn root(&self) -> Node {
        Node {
            first: 0,
            width: self.count.next_power_of_two(),
        }
    }

    /// Whether there is nothing in a node.
    pub(crate) fn is_empty(&self, node: Node) -> bool {
        node.first >= self.count
    }

    /// The largest nodes that this process can add up from its own shards.
    pub(crate) fn nodes(&self) -> Vec<Node> {
        let mut nodes = Vec::new();
        self.find(self.root(), &mut nodes);
        nodes
    }

    fn find(&self, node: Node, found: &mut Vec<Node>) {
        let shards = node.first..(node.first + node.width).min(self.count);
        let inside = self.own.start <= shards.start && shards.end <= self.own.end;
        let apart = shards.end <= self.own.start || self.own.end <= shards.start;
        match (shards.is_empty() || apart, inside) {
            (true, _) => {}
            (false, true) => found.push(node),
            (false, false) => node
                .halves()
                .into_iter()
                .for_each(|half| self.find(half, found)),
        }
    }

    /// Adds up nodes along the tree. `known` gives, and no longer has, the sum of a node.
    pub(crate) fn sum(
        &self,
        node: Node,
        known: &mut dyn FnMut(Node) -> Option<Vec<f32>>,
    ) -> Option<Vec<f32>> {
        if self.is_empty(node) {
            return None;
        }
        if let Some(sum) = known(node) {
            return Some(sum);
        }
        if node.width == 1 {
            return None;
        }
        let [left, right] = node.halves();
        let left = self.sum(left, known);
        let right = self.sum(right, known);
        match (left, right) {
            (Some(left), Some(right)) => Some(added(left, &right)),
            (one, other) => one.or(other),
        }
    }
}

/// The sum, value by value.
fn added(mut left: Vec<f32>, right: &[f32]) -> Vec<f32> {
    left.iter_mut().zip(right).for_each(|(l, r)| *l += r);
    left
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use rekindle_base::rng::uniform;
    use std::collections::BTreeMap;

    fn leaf(shard: usize) -> Vec<f32> {
        let value = |i| (uniform(shard as u64, i) - 0.5) as f32 * 10f32.powi(i as i32 - 3);
        (0..7).map(value).collect()
    }

    /// The sum of all shards as so many processes make it.
    fn total(count: usize, world: usize) -> Vec<u32> {
        let mut made = BTreeMap::new();
        for rank in 0..world {
            let shards = Shards::of(count, rank, world);
            for node in shards.nodes() {
                let mut leaves = |node: Node| {
                    let own = shards.own().contains(&node.first);
                    (node.width == 1 && own).then(|| leaf(node.first))
                };
                made.insert(node, shards.sum(node, &mut leaves).unwrap());
            }
        }
        let shards = Shards::of(count, 0, world);
        let sum = shards.sum(shards.root(), &mut |node| made.remove(&node));
        assert!(made.is_empty(), "{count} {world}: {made:?}");
        sum.unwrap().iter().map(|v| v.to_bits()).collect()
    }

    #[test]
    fn the_sum_has_the_same_bits_for_any_number_of_processes() {
        for count in 1..20 {
            let alone = total(count, 1);
            for world in 2..2 * count + 3 {
                assert_eq!(
                    total(count, world),
                    alone,
                    "{count} shards, {world} processes"
                );
            }
        }
        // It is not the order from left to right, so that the test can tell orders apart.
        let in_a_row = (1..19).fold(leaf(0), |sum, shard| added(sum, &leaf(shard)));
        assert_ne!(
            total(19, 1),
            in_a_row.iter().map(|v| v.to_bits()).collect::<Vec<_>>()
        );
    }

    #[test]
    fn every_shard_has_one_process_and_every_item_one_shard() {
        for (count, world) in [(1, 1), (4, 1), (4, 2), (4, 3), (4, 4), (2, 4), (7, 3)] {
            let owned: Vec<usize> = (0..world)
                .flat_map(|r| Shards::of(count, r, world).own())
                .collect();
            assert_eq!(owned, (0..count).collect::<Vec<_>>());
            let shards = Shards::of(count, 0, world);
            for items in 0..10 {
                let batch: Vec<usize> = (0..items).collect();
                let mut all: Vec<usize> = (0..count).flat_map(|s| shards.cut(&batch, s)).collect();
                all.sort_unstable();
                assert_eq!(all, batch);
            }
        }
        assert_eq!(Shards::whole().draw(5, 0), 5);
        assert_eq!(Shards::of(4, 0, 1).draw(5, 3), 23);
    }
}
