//! Attention over (sequence, head) pairs in parallel, in blocks of queries: a head is a block of columns that the
//! products read in place, the probabilities of one block live in a buffer of the thread, and nothing is padded. The
//! backward pass computes them again (as FlashAttention does, Dao et al. 2022, but with whole rows: keys are not cut).

use super::math::exp;
use super::util::{Place, from_vec, largest, matrix, product, sum_by, wide, written};
use crate::ops::{AttentionConfig, AttentionGrads, Sequences, attention::seen};
use burn::backend::{Flex, flex::FlexTensor};
use gemm::Parallelism;
use rayon::prelude::*;
use rekindle_base::rng::{Row, drop_threshold};
use std::cell::RefCell;
use std::ops::Range;

/// Queries of a block: bounds the buffers to 128 rows of the longest sequence.
const QUERIES: usize = 128;

thread_local! {
    /// Probabilities of a block, and their gradients.
    static SCRATCH: RefCell<(Vec<f32>, Vec<f32>)> = const { RefCell::new((Vec::new(), Vec::new())) };
}

/// The settings as the loops want them.
#[derive(Debug, Clone, Copy)]
struct Plan {
    heads: usize,
    head_width: usize,
    causal: bool,
    /// 1/√K
    scale: f32,
    /// Key and threshold of dropout.
    dropout: Option<(u64, u32)>,
    /// 1/(1-p), or 1.
    keep: f32,
}

/// Queries `rows` of a sequence of `queries` that begin at `start`, against the first `seen` of its `keys` that begin at
/// `keys_start`: those that the last of these queries sees.
#[derive(Debug)]
struct Block {
    start: usize,
    queries: usize,
    rows: Range<usize>,
    keys_start: usize,
    keys: usize,
    seen: usize,
    head: usize,
}

impl Plan {
    /// `None` where the shapes do not fit together.
    fn new(
        [queries, keys]: [usize; 2],
        width: usize,
        sequences: (&Sequences, &Sequences),
        config: AttentionConfig,
    ) -> Option<Self> {
        let head_width = width
            .checked_div(config.heads)
            .filter(|&k| k > 0 && k * config.heads == width)?;
        let fit = (sequences.0.tokens(), sequences.1.tokens()) == (queries, keys);
        (fit && sequences.0.count() == sequences.1.count()).then_some(())?;
        Some(Self {
            heads: config.heads,
            head_width,
            causal: config.causal,
            scale: (1.0 / (head_width as f64).sqrt()) as f32,
            dropout: config.dropout.map(|d| (d.key, drop_threshold(d.rate))),
            keep: config
                .dropout
                .map_or(1.0, |d| (1.0 / (1.0 - d.rate)) as f32),
        })
    }

    /// `work(block)` for every block; the blocks of a (sequence, head) pair in order on one thread. A sequence without
    /// queries has one block without rows.
    fn for_each(
        self,
        (queries, keys): (&Sequences, &Sequences),
        work: impl Fn(&Block, &mut Vec<f32>, &mut Vec<f32>) + Sync,
    ) {
        let (offsets, keys_offsets) = (queries.offsets(), keys.offsets());
        (0..queries.count() * self.heads)
            .into_par_iter()
            .for_each(|n| {
                let (s, head) = (n / self.heads, n % self.heads);
                let (start, keys_start) = (offsets[s], keys_offsets[s]);
                let (queries, keys) = (offsets[s + 1] - start, keys_offsets[s + 1] - keys_start);
                SCRATCH.with_borrow_mut(|(p, s)| {
                    for first in (0..queries.max(1)).step_by(QUERIES) {
                        let rows = first..queries.min(first + QUERIES);
                        let seen = match rows.len() {
                            0 => 0,
                            _ => seen(self.causal, rows.end - 1, queries, keys),
                        };
                        let block = Block {
                            start,
                            queries,
                            rows,
                            keys_start,
                            keys,
                            seen,
                            head,
                        };
                        work(&block, p, s);
                    }
                });
            });
    }

    /// Where the block's queries (of q, the output and their gradients) begin.
    fn queries(self, block: &Block, matrix: Place) -> Place {
        matrix.at(block.start + block.rows.start, block.head * self.head_width)
    }

    /// Where the block's keys (of k, v and their gradients) begin.
    fn keys(self, block: &Block, matrix: Place) -> Place {
        matrix.at(block.keys_start, block.head * self.head_width)
    }

    /// The probabilities `[rows, seen]` of the block in `p`, those dropped multiplied by `mark`.
    ///
    /// # Safety
    /// `q` and `k` are matrices `[T, D]` that nobody writes.
    unsafe fn probabilities(self, block: &Block, p: &mut Vec<f32>, [q, k]: [Place; 2], mark: f32) {
        let (rows, keys) = (block.rows.len(), block.seen);
        p.resize(rows * keys, 0.0);
        let sizes = [rows, self.head_width, keys];
        let factors = (self.queries(block, q), self.keys(block, k).transposed());
        // SAFETY: the block lies in both matrices, and `p` has rows * keys elements.
        unsafe {
            product(
                Place::of_mut(p, keys),
                factors,
                sizes,
                self.scale,
                false,
                Parallelism::None,
            )
        };
        wide(
            #[inline(always)]
            move || {
                for (row, p) in block.rows.clone().zip(p.chunks_exact_mut(keys)) {
                    let seen = seen(self.causal, row, block.queries, block.keys);
                    let (seen, hidden) = p.split_at_mut(seen);
                    hidden.fill(0.0);
                    let shift = largest(seen);
                    for x in seen.iter_mut() {
                        *x = exp(*x - shift);
                    }
                    let inverse = 1.0
                        / sum_by(
                            [seen],
                            #[inline(always)]
                            |[x]| x,
                        );
                    let Some((key, threshold)) = self.dropout else {
                        seen.iter_mut().for_each(|x| *x *= inverse);
                        continue;
                    };
                    let generator =
                        Row::new(key, ((block.start + row) * self.heads + block.head) as u64);
                    for (column, x) in seen.iter_mut().enumerate() {
                        let dropped = generator.bits(column as u32) < threshold;
                        *x *= inverse * if dropped { mark } else { 1.0 };
                    }
                }
            },
        );
    }
}

/// Writes zeros.
///
/// # Safety
/// `output` is valid for writing `rows` by `columns` by this call alone.
unsafe fn clear(output: Place, rows: usize, columns: usize) {
    for row in 0..rows {
        // SAFETY: the caller's promise.
        unsafe { output.at(row, 0).pointer.write_bytes(0, columns) };
    }
}

pub(super) fn forward(
    [q, k, v]: [&FlexTensor; 3],
    sequences: (&Sequences, &Sequences),
    config: AttentionConfig,
) -> Option<FlexTensor> {
    let ((shape, q), (shape_k, k), (shape_v, v)) = (matrix(q)?, matrix(k)?, matrix(v)?);
    (shape_k == shape_v && shape[1] == shape_k[1]).then_some(())?;
    let [queries, width] = shape;
    let plan = Plan::new([queries, shape_k[0]], width, sequences, config)?;
    let [q, k, v] = [q, k, v].map(|x| Place::of(x, width));
    // SAFETY: the blocks of all pairs cover all queries and columns, each once; inputs are only read.
    let output = unsafe {
        written(queries * width, |output| {
            let output = Place::of_new(output, width);
            plan.for_each(sequences, |block, p, _| {
                let output = plan.queries(block, output);
                if block.seen == 0 {
                    return clear(output, block.rows.len(), plan.head_width);
                }
                plan.probabilities(block, p, [q, k], 0.0);
                let sizes = [block.rows.len(), block.seen, plan.head_width];
                let factors = (Place::of(p, block.seen), plan.keys(block, v));
                product(output, factors, sizes, plan.keep, false, Parallelism::None);
            });
        })
    };
    Some(from_vec(output, shape))
}

pub(super) fn backward(
    [q, k, v, grad]: [&FlexTensor; 4],
    sequences: (&Sequences, &Sequences),
    config: AttentionConfig,
) -> Option<AttentionGrads<Flex>> {
    let ((shape, q), (shape_k, k), (shape_v, v), (shape_grad, grad)) =
        (matrix(q)?, matrix(k)?, matrix(v)?, matrix(grad)?);
    let fit = shape_k == shape_v && shape == shape_grad && shape[1] == shape_k[1];
    fit.then_some(())?;
    let ([queries, width], keys) = (shape, shape_k[0]);
    let plan = Plan::new([queries, keys], width, sequences, config)?;
    let [q, k, v, grad] = [q, k, v, grad].map(|x| Place::of(x, width));
    let (mut dk, mut dv) = (Vec::new(), Vec::new());
    // SAFETY: every (sequence, head) pair writes its own tokens and columns of dq, dk and dv, and all pairs together
    // cover them. A key's gradient is written by the first block that sees it and added to by later ones, on the same
    // thread; the last query sees every key, and where there is no query, zeros are written. Inputs are only read.
    let dq = unsafe {
        written(queries * width, |dq| {
            dk = written(keys * width, |dk| {
                dv = written(keys * width, |dv| {
                    let [dq, dk, dv] = [dq, dk, dv].map(|x| Place::of_new(x, width));
                    plan.for_each(sequences, |block, p, s| {
                        let (rows, seen_keys, head_width) =
                            (block.rows.len(), block.seen, plan.head_width);
                        if rows == 0 {
                            for output in [dk, dv] {
                                clear(plan.keys(block, output), block.keys, head_width);
                            }
                            return;
                        }
                        if seen_keys == 0 {
                            return clear(plan.queries(block, dq), rows, head_width);
                        }
                        plan.probabilities(block, p, [q, k], -1.0);
                        s.resize(rows * seen_keys, 0.0);
                        let output_grad = plan.queries(block, grad);
                        let factors = (output_grad, plan.keys(block, v).transposed());
                        let sizes = [rows, head_width, seen_keys];
                        product(
                            Place::of_mut(s, seen_keys),
                            factors,
                            sizes,
                            plan.keep,
                            false,
                            Parallelism::None,
                        );
                        through_softmax(p, s, seen_keys);
                        let (p, s) = (Place::of(p, seen_keys), Place::of(s, seen_keys));

                        let factors = (s, plan.keys(block, k));
                        let sizes = [rows, seen_keys, head_width];
                        product(
                            plan.queries(block, dq),
                            factors,
                            sizes,
                            plan.scale,
                            false,
                            Parallelism::None,
                        );
                        // Keys that an earlier block has seen.
                        let old = match block.rows.start {
                            0 => 0,
                            first => seen(plan.causal, first - 1, block.queries, block.keys),
                        };
                        for (output, weights, values, factor) in [
                            (dv, p, output_grad, plan.keep),
                            (dk, s, plan.queries(block, q), plan.scale),
                        ] {
                            for (first, count, add) in
                                [(0, old, true), (old, seen_keys - old, false)]
                            {
                                let factors = (weights.at(0, first).transposed(), values);
                                let output = plan.keys(block, output).at(first, 0);
                                product(
                                    output,
                                    factors,
                                    [count, rows, head_width],
                                    factor,
                                    add,
                                    Parallelism::None,
                                );
                            }
                        }
                    });
                });
            });
        })
    };
    let q = from_vec(dq, shape);
    let [k, v] = [dk, dv].map(|x| from_vec(x, shape_k));
    Some(AttentionGrads { q, k, v })
}

/// From probabilities (negative where dropped) and their gradients, by rows of `keys`: the gradients of the scores in
/// `s`, and in `p` zeros where dropped.
fn through_softmax(p: &mut [f32], s: &mut [f32], keys: usize) {
    wide(
        #[inline(always)]
        move || {
            for (p, s) in p.chunks_exact_mut(keys).zip(s.chunks_exact_mut(keys)) {
                for (p, s) in p.iter().zip(s.iter_mut()) {
                    *s = if p.is_sign_negative() { 0.0 } else { *s };
                }
                let mean = sum_by(
                    [p, s],
                    #[inline(always)]
                    |[p, s]| p * s,
                );
                for (p, s) in p.iter_mut().zip(s) {
                    *s = p.abs() * (*s - mean);
                    *p = if *p < 0.0 { 0.0 } else { *p };
                }
            }
        },
    );
}
