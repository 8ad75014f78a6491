//! Attention over (sequence, head) pairs in parallel, in blocks of queries: a head is a block of columns that the
//! products read in place, the probabilities of one block live in a buffer of the thread, and nothing is padded. The
//! backward pass computes them again (as FlashAttention does, Dao et al. 2022, but with whole rows: keys are not cut).
//! A block multiplies the keys alone that one of its queries sees.

use super::math::exp;
use super::util::{Place, from_vec, largest, matrix, product, sum_by, wide, written};
use crate::ops::{AttentionConfig, AttentionGrads, Sequences};
use burn::backend::{Flex, flex::FlexTensor};
use gemm::Parallelism;
use rayon::prelude::*;
use rekindle_base::rng::{Row, drop_threshold};
use std::cell::RefCell;
use std::ops::Range;

/// Queries of a block: bounds the buffers to so many rows of the longest sequence. Under a mask smaller blocks compute fewer
/// probabilities that nobody may see.
const QUERIES: usize = 128;
const MASKED_QUERIES: usize = 64;
/// Queries below which keys and values are read in order rather than laid out for a product: those of generation.
const FEW: usize = 4;
/// Queries of a sequence from which on the heads that share keys are differentiated in parallel, each into sums of its own:
/// such a sequence comes with few others.
const LONG: usize = 1024;

thread_local! {
    /// Probabilities of a block, and their gradients.
    static SCRATCH: RefCell<(Vec<f32>, Vec<f32>)> = const { RefCell::new((Vec::new(), Vec::new())) };
}

/// The settings as the loops want them.
#[derive(Debug, Clone, Copy)]
pub(super) struct Plan {
    pub config: AttentionConfig,
    pub head_width: usize,
    pub scale: f32,
    /// Key and threshold of dropout.
    dropout: Option<(u64, u32)>,
    /// 1/(1-p), or 1.
    keep: f32,
}

/// One head of the queries `queries` and keys `keys` of a sequence.
#[derive(Debug, Clone)]
pub(super) struct Pair {
    pub head: usize,
    pub queries: Range<usize>,
    pub keys: Range<usize>,
}

/// Queries `rows` of a pair, against those of its keys `seen` that one of these queries sees, all counted in the sequence.
#[derive(Debug)]
pub(super) struct Block {
    pub pair: Pair,
    pub rows: Range<usize>,
    pub seen: Range<usize>,
}

/// What is added to scores besides the products of queries and keys.
pub(super) trait Terms: Sync {
    /// Adds to the scores `[rows, seen]` of a block.
    ///
    /// # Safety
    /// `q` and `k` are matrices `[T, D]` that nobody writes.
    unsafe fn add(&self, plan: Plan, block: &Block, q_and_k: [Place; 2], scores: &mut [f32]);

    /// Adds to gradients what the `slopes [rows, seen]` of a block's scores make of these terms.
    ///
    /// # Safety
    /// `q` and `k` are matrices `[T, D]` that nobody writes, the gradients of the block's queries and keys (which begin at these
    /// places) and of the terms this call's alone.
    unsafe fn back(
        &self,
        plan: Plan,
        block: &Block,
        q_and_k: [Place; 2],
        slopes: &[f32],
        dq_and_dk: [Place; 2],
    );
}

/// Nothing.
impl Terms for () {
    unsafe fn add(&self, _: Plan, _: &Block, _: [Place; 2], _: &mut [f32]) {}

    unsafe fn back(&self, _: Plan, _: &Block, _: [Place; 2], _: &[f32], _: [Place; 2]) {}
}

impl Plan {
    /// `None` where the shapes do not fit together.
    pub(super) fn new(
        [queries, width]: [usize; 2],
        [keys, key_width]: [usize; 2],
        sequences: (&Sequences, &Sequences),
        config: AttentionConfig,
    ) -> Option<Self> {
        let head_width = width
            .checked_div(config.heads)
            .filter(|&k| k > 0 && k * config.heads == width)?;
        (config.heads.checked_rem(config.kv_heads)? == 0).then_some(())?;
        let fit = (sequences.0.tokens(), sequences.1.tokens()) == (queries, keys)
            && key_width == config.kv_heads * head_width;
        (fit && sequences.0.count() == sequences.1.count()).then_some(())?;
        Some(Self {
            config,
            head_width,
            scale: config.factor(head_width) as f32,
            dropout: config.dropout.map(|d| (d.key, drop_threshold(d.rate))),
            keep: config
                .dropout
                .map_or(1.0, |d| (1.0 / (1.0 - d.rate)) as f32),
        })
    }

    /// Heads of queries that share keys.
    fn group(self) -> usize {
        self.config.heads / self.config.kv_heads
    }

    /// Which of its sequence's keys a query of the block's sees.
    fn visible(self, pair: &Pair, row: usize) -> Range<usize> {
        self.config
            .visible(row, pair.queries.len(), pair.keys.len())
    }

    /// The blocks of a pair.
    fn blocks(self, pair: Pair) -> impl Iterator<Item = Block> {
        let masked = self.config.causal || self.config.window.is_some();
        let (queries, size) = match masked {
            true => (pair.queries.len(), MASKED_QUERIES),
            false => (pair.queries.len(), QUERIES),
        };
        (0..queries).step_by(size).map(move |first| {
            let rows = first..queries.min(first + size);
            let seen = self.visible(&pair, first).start..self.visible(&pair, rows.end - 1).end;
            Block {
                pair: pair.clone(),
                rows,
                seen,
            }
        })
    }

    /// Where the block's queries (of q, the output and their gradients) begin.
    pub(super) fn queries(self, Block { pair, rows, .. }: &Block, matrix: Place) -> Place {
        matrix.at(pair.queries.start + rows.start, pair.head * self.head_width)
    }

    /// Where the keys that the block sees (of k and v) begin.
    pub(super) fn keys(self, Block { pair, seen, .. }: &Block, matrix: Place) -> Place {
        let head = pair.head / self.group();
        matrix.at(pair.keys.start + seen.start, head * self.head_width)
    }

    /// The probabilities `[rows, seen]` of the block in `p`, those dropped multiplied by `mark`.
    ///
    /// # Safety
    /// `q` and `k` are matrices `[T, D]` that nobody writes.
    unsafe fn probabilities(
        self,
        block: &Block,
        p: &mut Vec<f32>,
        q_and_k: [Place; 2],
        mark: f32,
        terms: &impl Terms,
    ) {
        let (rows, keys) = (block.rows.len(), block.seen.len());
        p.resize(rows * keys, 0.0);
        let [q, k] = q_and_k;
        let (q, k) = (self.queries(block, q), self.keys(block, k));
        if rows < FEW {
            // SAFETY: the block lies in both matrices.
            unsafe { self.dot(p, keys, q, k) };
        } else {
            let sizes = [rows, self.head_width, keys];
            let p = Place::of_mut(p, keys);
            // SAFETY: the block lies in both matrices, and `p` has rows * keys elements.
            unsafe {
                product(
                    p,
                    (q, k.transposed()),
                    sizes,
                    self.scale,
                    false,
                    Parallelism::None,
                );
            }
        }
        // SAFETY: the caller's promise.
        unsafe { terms.add(self, block, q_and_k, p) };
        let Block { pair, seen, .. } = block;
        wide(
            #[inline(always)]
            move || {
                for (row, p) in block.rows.clone().zip(p.chunks_exact_mut(keys)) {
                    let visible = self.visible(pair, row);
                    p[visible.end - seen.start..].fill(0.0);
                    let (before, visible_p) =
                        p[..visible.end - seen.start].split_at_mut(visible.start - seen.start);
                    before.fill(0.0);
                    let shift = largest(visible_p);
                    for x in visible_p.iter_mut() {
                        *x = exp(*x - shift);
                    }
                    let inverse = 1.0
                        / sum_by(
                            [visible_p],
                            #[inline(always)]
                            |[x]| x,
                        );
                    let Some((key, threshold)) = self.dropout else {
                        visible_p.iter_mut().for_each(|x| *x *= inverse);
                        continue;
                    };
                    let token = pair.queries.start + row;
                    let generator = Row::new(key, (token * self.config.heads + pair.head) as u64);
                    for (column, x) in visible.zip(visible_p) {
                        let dropped = generator.bits(column as u32) < threshold;
                        *x *= inverse * if dropped { mark } else { 1.0 };
                    }
                }
            },
        );
    }

    /// `p [rows, keys]` = the scaled products of few queries with the keys.
    ///
    /// # Safety
    /// The places can be read for that.
    unsafe fn dot(self, p: &mut [f32], keys: usize, q: Place, k: Place) {
        wide(
            #[inline(always)]
            move || {
                for (row, p) in p.chunks_exact_mut(keys).enumerate() {
                    // SAFETY: the caller's promise.
                    let q = unsafe { q.row(row, self.head_width) };
                    for (key, p) in p.iter_mut().enumerate() {
                        // SAFETY: as above.
                        let k = unsafe { k.row(key, self.head_width) };
                        *p = self.scale
                            * sum_by(
                                [q, k],
                                #[inline(always)]
                                |[q, k]| q * k,
                            );
                    }
                }
            },
        );
    }

    /// `output [rows, K]` = the sums of the values by few queries' probabilities `p [rows, keys]`.
    ///
    /// # Safety
    /// The values can be read for that, and the output written by this call alone.
    unsafe fn weigh(self, output: Place, p: &[f32], keys: usize, v: Place) {
        wide(
            #[inline(always)]
            move || {
                let mut sums = vec![0f32; self.head_width];
                for (row, p) in p.chunks_exact(keys).enumerate() {
                    sums.fill(0.0);
                    for (key, &p) in p.iter().enumerate() {
                        // SAFETY: the caller's promise.
                        let v = unsafe { v.row(key, self.head_width) };
                        for (sum, &v) in sums.iter_mut().zip(v) {
                            *sum = p.mul_add(v, *sum);
                        }
                    }
                    sums.iter_mut().for_each(|sum| *sum *= self.keep);
                    let to = output.at(row, 0).pointer;
                    // SAFETY: the caller's promise.
                    unsafe { to.copy_from_nonoverlapping(sums.as_ptr(), sums.len()) };
                }
            },
        );
    }

    /// The gradients of a pair: writes those of its queries, and adds to those of its keys and values, which begin at `dk` and
    /// `dv`.
    ///
    /// # Safety
    /// `inputs` (q, k, v and the gradient) are matrices that nobody writes, the others and the gradients of the terms this
    /// call's alone.
    pub(super) unsafe fn backward(
        self,
        pair: Pair,
        inputs: [Place; 4],
        [dq, dk, dv]: [Place; 3],
        terms: &impl Terms,
    ) {
        let [q, k, v, grad] = inputs;
        for block in self.blocks(pair) {
            let (rows, keys, head_width) = (block.rows.len(), block.seen.len(), self.head_width);
            if keys == 0 {
                // SAFETY: the caller's promise.
                unsafe { clear(self.queries(&block, dq), rows, head_width) };
                continue;
            }
            let [q_rows, grad, dq] = [q, grad, dq].map(|x| self.queries(&block, x));
            let [dk, dv] = [dk, dv].map(|x| x.at(block.seen.start, 0));
            SCRATCH.with_borrow_mut(|(p, s)| {
                s.resize(rows * keys, 0.0);
                let serial = Parallelism::None;
                // SAFETY: the block lies in the matrices, and the buffers have rows * keys elements.
                unsafe {
                    self.probabilities(&block, p, [q, k], -1.0, terms);
                    let to = Place::of_mut(s, keys);
                    let factors = (grad, self.keys(&block, v).transposed());
                    let sizes = [rows, head_width, keys];
                    product(to, factors, sizes, self.keep, false, serial);
                    through_softmax(p, s, keys);
                    let (p, slopes) = (Place::of(p, keys), s.as_slice());
                    let s = Place::of(slopes, keys);

                    let factors = (s, self.keys(&block, k));
                    let sizes = [rows, keys, head_width];
                    product(dq, factors, sizes, self.scale, false, serial);
                    let sizes = [keys, rows, head_width];
                    product(dv, (p.transposed(), grad), sizes, self.keep, true, serial);
                    product(
                        dk,
                        (s.transposed(), q_rows),
                        sizes,
                        self.scale,
                        true,
                        serial,
                    );
                    terms.back(self, &block, [q, k], slopes, [dq, dk]);
                }
            });
        }
    }
}

/// Writes zeros.
///
/// # Safety
/// `output` is valid for writing `rows` by `columns` by this call alone.
pub(super) unsafe fn clear(output: Place, rows: usize, columns: usize) {
    for row in 0..rows {
        // SAFETY: the caller's promise.
        unsafe { output.at(row, 0).pointer.write_bytes(0, columns) };
    }
}

/// Queries and keys of sequence `s`.
pub(super) fn ranges((queries, keys): (&Sequences, &Sequences), s: usize) -> [Range<usize>; 2] {
    [queries, keys].map(|x| x.offsets()[s]..x.offsets()[s + 1])
}

pub(super) fn forward(
    qkv: [&FlexTensor; 3],
    sequences: (&Sequences, &Sequences),
    config: AttentionConfig,
) -> Option<FlexTensor> {
    forward_with(qkv, sequences, config, &())
}

/// The same with more in the scores.
pub(super) fn forward_with(
    [q, k, v]: [&FlexTensor; 3],
    sequences: (&Sequences, &Sequences),
    config: AttentionConfig,
    terms: &impl Terms,
) -> Option<FlexTensor> {
    let ((shape, q), (shape_k, k), (shape_v, v)) = (matrix(q)?, matrix(k)?, matrix(v)?);
    (shape_k == shape_v).then_some(())?;
    let plan = Plan::new(shape, shape_k, sequences, config)?;
    let ([queries, width], [_, key_width]) = (shape, shape_k);
    let (q, [k, v]) = (Place::of(q, width), [k, v].map(|x| Place::of(x, key_width)));
    let mut blocks = Vec::new();
    for s in 0..sequences.0.count() {
        let [queries, keys] = ranges(sequences, s);
        for head in 0..config.heads {
            let (queries, keys) = (queries.clone(), keys.clone());
            blocks.extend(plan.blocks(Pair {
                head,
                queries,
                keys,
            }));
        }
    }
    // SAFETY: the blocks of all pairs cover all queries and columns, each once; inputs are only read.
    let output = unsafe {
        written(queries * width, |output| {
            let output = Place::of_new(output, width);
            blocks.par_iter().for_each(|block| {
                let output = plan.queries(block, output);
                let (rows, keys) = (block.rows.len(), block.seen.len());
                if keys == 0 {
                    return clear(output, rows, plan.head_width);
                }
                SCRATCH.with_borrow_mut(|(p, _)| {
                    plan.probabilities(block, p, [q, k], 0.0, terms);
                    let v = plan.keys(block, v);
                    if rows < FEW {
                        return plan.weigh(output, p, keys, v);
                    }
                    let sizes = [rows, keys, plan.head_width];
                    let factors = (Place::of(p, keys), v);
                    product(output, factors, sizes, plan.keep, false, Parallelism::None);
                });
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
    (shape_k == shape_v && shape == shape_grad).then_some(())?;
    let plan = Plan::new(shape, shape_k, sequences, config)?;
    let ([queries, width], [keys, key_width]) = (shape, shape_k);
    let [q, grad] = [q, grad].map(|x| Place::of(x, width));
    let [k, v] = [k, v].map(|x| Place::of(x, key_width));
    let inputs = [q, k, v, grad];
    let (mut dk, mut dv) = (Vec::new(), Vec::new());
    // SAFETY: every (sequence, head of keys) writes its own tokens and columns of dq, dk and dv, and all together cover
    // them: those of dk and dv are cleared before they are added to. Inputs are only read.
    let dq = unsafe {
        written(queries * width, |dq| {
            dk = written(keys * key_width, |dk| {
                dv = written(keys * key_width, |dv| {
                    let dq = Place::of_new(dq, width);
                    let [dk, dv] = [dk, dv].map(|x| Place::of_new(x, key_width));
                    let count = sequences.0.count() * config.kv_heads;
                    (0..count).into_par_iter().for_each(|n| {
                        let (s, kv_head) = (n / config.kv_heads, n % config.kv_heads);
                        let [queries, keys] = ranges(sequences, s);
                        let sums = [dk, dv].map(|x| x.at(keys.start, kv_head * plan.head_width));
                        for sums in sums {
                            clear(sums, keys.len(), plan.head_width);
                        }
                        backward_of_keys(plan, kv_head, [queries, keys], inputs, (dq, sums));
                    });
                });
            });
        })
    };
    let q = from_vec(dq, shape);
    let [k, v] = [dk, dv].map(|x| from_vec(x, shape_k));
    Some(AttentionGrads { q, k, v })
}

/// The gradients of all heads that share keys: writes those of the queries, and adds to those of the keys and values.
///
/// # Safety
/// As of [`Plan::backward`].
unsafe fn backward_of_keys(
    plan: Plan,
    kv_head: usize,
    [queries, keys]: [Range<usize>; 2],
    inputs: [Place; 4],
    (dq, [dk, dv]): (Place, [Place; 2]),
) {
    let pair = |i: usize| Pair {
        head: kv_head * plan.group() + i,
        queries: queries.clone(),
        keys: keys.clone(),
    };
    if plan.group() == 1 || queries.len() < LONG {
        for i in 0..plan.group() {
            // SAFETY: the caller's promise.
            unsafe { plan.backward(pair(i), inputs, [dq, dk, dv], &()) };
        }
        return;
    }
    let len = keys.len() * plan.head_width;
    let sums: Vec<[Vec<f32>; 2]> = (0..plan.group())
        .into_par_iter()
        .map(|i| {
            let mut sums = [vec![0f32; len], vec![0f32; len]];
            let [dk, dv] = sums.each_mut().map(|x| Place::of_mut(x, plan.head_width));
            // SAFETY: the caller's promise; every head has columns of its own in dq.
            unsafe { plan.backward(pair(i), inputs, [dq, dk, dv], &()) };
            sums
        })
        .collect();
    for sums in sums {
        for (to, sums) in [dk, dv].into_iter().zip(sums) {
            for (key, sums) in sums.chunks_exact(plan.head_width).enumerate() {
                let to = to.at(key, 0).pointer;
                // SAFETY: the caller's promise.
                let to = unsafe { std::slice::from_raw_parts_mut(to, plan.head_width) };
                for (to, sum) in to.iter_mut().zip(sums) {
                    *to += sum;
                }
            }
        }
    }
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
