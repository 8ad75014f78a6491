//! Attention with relative positions: attention's own loops, with what distances add to the scores of a block. A bias is laid
//! out along the distances and added row by row. Of keys and queries of distances, the products with a block of queries and
//! with a block of keys are made for those rows alone that the two blocks need, in buffers of the thread, and each score picks
//! two of them.

use super::attention::{Block, Pair, Plan, Terms, clear, forward_with, ranges};
use super::util::{Place, from_vec, matrix, product, wide, written};
use crate::ops::{
    AttentionConfig, AttentionGrads, Distances, Relative, RelativeAttentionGrads, Sequences,
};
use burn::backend::{Flex, flex::FlexTensor};
use gemm::Parallelism;
use rayon::prelude::*;
use std::cell::RefCell;
use std::ops::Range;

/// Keys whose products are made at once: with as many queries of a block, they are at up to twice as many distances.
const KEYS: usize = 128;
/// Sums of the tables' gradients, each over every so many'th sequence: of each head, so many tasks.
const PARTS: usize = 4;

thread_local! {
    /// Products of a block's queries and of its keys, or their gradients.
    static SCRATCH: RefCell<[Vec<f32>; 2]> = const { RefCell::new([Vec::new(), Vec::new()]) };
}

/// The tables as the loops want them.
#[derive(Debug, Clone, Copy)]
struct Tables<'a> {
    distances: &'a Distances,
    /// Matrices `[R, H]` or `[R, D]`.
    tables: Relative<Place>,
    /// What their gradients are added to.
    sums: Option<Relative<Place>>,
}

/// Some keys of a block, and the rows of the tables at which its queries stand to them.
struct Part {
    keys: Range<usize>,
    /// The first row in use, and their number.
    first: usize,
    rows: usize,
    /// Of falling distances, the row less `first`: those of a query to all keys lie one behind the other.
    index: Vec<u32>,
    /// Of each query of the block, where its own begin.
    begins: Vec<usize>,
}

impl Part {
    /// The rows of query `i` to each key.
    #[inline(always)]
    fn of(&self, i: usize) -> &[u32] {
        &self.index[self.begins[i]..][..self.keys.len()]
    }
}

impl Tables<'_> {
    /// The parts of a block, each of up to `most` keys.
    fn parts(&self, block: &Block, most: usize) -> impl Iterator<Item = Part> {
        let place = |i| self.distances.place(block.pair.queries.start + i, i);
        let places: Vec<usize> = block.rows.clone().map(place).collect();
        let low = places.iter().copied().min().unwrap_or(0);
        let high = places.iter().copied().max().unwrap_or(0);
        let end = block.seen.end;
        block.seen.clone().step_by(most).map(move |start| {
            let keys = start..end.min(start + most);
            let falling = (0..high - low + keys.len()).map(|x| {
                self.distances
                    .row(high as isize - start as isize - x as isize)
            });
            let mut index: Vec<u32> = falling.collect();
            let first = index.iter().copied().min().unwrap_or(0);
            let last = index.iter().copied().max().unwrap_or(0);
            index.iter_mut().for_each(|row| *row -= first);
            Part {
                keys,
                first: first as usize,
                rows: (last - first) as usize + 1,
                index,
                begins: places.iter().map(|place| high - place).collect(),
            }
        })
    }
}

/// Where the block's queries and the part's keys begin in `q` and `k`, or in their gradients.
fn beginnings(plan: Plan, block: &Block, part: &Part, [q, k]: [Place; 2]) -> [Place; 2] {
    [
        plan.queries(block, q),
        plan.keys(block, k)
            .at(part.keys.start - block.seen.start, 0),
    ]
}

impl Terms for Tables<'_> {
    unsafe fn add(&self, plan: Plan, block: &Block, q_and_k: [Place; 2], scores: &mut [f32]) {
        let (rows, seen) = (block.rows.len(), block.seen.len());
        let (keys, queries) = match self.tables {
            Relative::Bias(table) => {
                for part in self.parts(block, seen) {
                    let table = table.at(part.first, block.pair.head);
                    // SAFETY: the part's rows lie in the table, which nobody writes.
                    let of = |&row: &u32| unsafe { *table.at(row as usize, 0).pointer };
                    let line: Vec<f32> = part.index.iter().map(of).collect();
                    wide(
                        #[inline(always)]
                        || {
                            for (i, scores) in scores.chunks_exact_mut(seen).enumerate() {
                                let line = &line[part.begins[i]..][..seen];
                                for (score, bias) in scores.iter_mut().zip(line) {
                                    *score += bias;
                                }
                            }
                        },
                    );
                }
                return;
            }
            Relative::Vectors { keys, queries } => (keys, queries),
        };
        for part in self.parts(block, KEYS) {
            let (width, count) = (part.rows, part.keys.len());
            let [q, k] = beginnings(plan, block, &part, q_and_k);
            let [rk, rq] = [keys, queries]
                .map(|table| table.at(part.first, block.pair.head * plan.head_width));
            SCRATCH.with_borrow_mut(|[met, meets]| {
                met.resize(rows * width, 0.0);
                meets.resize(count * width, 0.0);
                for (output, x, table, outer) in [(&mut *met, q, rk, rows), (meets, k, rq, count)] {
                    let sizes = [outer, plan.head_width, width];
                    let (output, factors) = (Place::of_mut(output, width), (x, table.transposed()));
                    // SAFETY: block, part and rows lie in the matrices, and the buffer has outer * width elements.
                    unsafe {
                        product(output, factors, sizes, plan.scale, false, Parallelism::None);
                    }
                }
                wide(
                    #[inline(always)]
                    || {
                        let offset = part.keys.start - block.seen.start;
                        for (i, scores) in scores.chunks_exact_mut(seen).enumerate() {
                            let met = &met[i * width..][..width];
                            let scores = &mut scores[offset..][..count];
                            let meets = meets.chunks_exact(width);
                            for ((score, &row), meets) in
                                scores.iter_mut().zip(part.of(i)).zip(meets)
                            {
                                *score += met[row as usize] + meets[row as usize];
                            }
                        }
                    },
                );
            });
        }
    }

    unsafe fn back(
        &self,
        plan: Plan,
        block: &Block,
        q_and_k: [Place; 2],
        slopes: &[f32],
        [dq, dk]: [Place; 2],
    ) {
        let (rows, seen) = (block.rows.len(), block.seen.len());
        let (keys, queries) = match self.tables {
            Relative::Bias(_) => {
                let Some(Relative::Bias(sums)) = self.sums else {
                    return;
                };
                for part in self.parts(block, seen) {
                    let mut line = vec![0f32; part.index.len()];
                    wide(
                        #[inline(always)]
                        || {
                            for (i, slopes) in slopes.chunks_exact(seen).enumerate() {
                                let line = &mut line[part.begins[i]..][..seen];
                                for (sum, slope) in line.iter_mut().zip(slopes) {
                                    *sum += slope;
                                }
                            }
                        },
                    );
                    let sums = sums.at(part.first, block.pair.head);
                    for (&row, sum) in part.index.iter().zip(line) {
                        // SAFETY: the part's rows lie in the sums, whose column is this call's alone.
                        unsafe { *sums.at(row as usize, 0).pointer += sum };
                    }
                }
                return;
            }
            Relative::Vectors { keys, queries } => (keys, queries),
        };
        for part in self.parts(block, KEYS) {
            let (width, count) = (part.rows, part.keys.len());
            let [q, k] = beginnings(plan, block, &part, q_and_k);
            let offset = part.keys.start - block.seen.start;
            let at_head = |table: Place| table.at(part.first, block.pair.head * plan.head_width);
            SCRATCH.with_borrow_mut(|[met, meets]| {
                for (buffer, outer) in [(&mut *met, rows), (&mut *meets, count)] {
                    buffer.clear();
                    buffer.resize(outer * width, 0.0);
                }
                for (i, slopes) in slopes.chunks_exact(seen).enumerate() {
                    let met = &mut met[i * width..][..width];
                    let slopes = &slopes[offset..][..count];
                    let meets = meets.chunks_exact_mut(width);
                    for ((slope, &row), meets) in slopes.iter().zip(part.of(i)).zip(meets) {
                        met[row as usize] += slope;
                        meets[row as usize] += slope;
                    }
                }
                let (met, meets) = (Place::of(met, width), Place::of(meets, width));
                let (head_width, scale, serial) = (plan.head_width, plan.scale, Parallelism::None);
                // SAFETY: block, part and rows lie in the matrices, the buffers have as many elements, and what is added to is
                // this call's alone.
                unsafe {
                    let sizes = [rows, width, head_width];
                    product(dq, (met, at_head(keys)), sizes, scale, true, serial);
                    let sizes = [count, width, head_width];
                    let dk = dk.at(offset, 0);
                    product(dk, (meets, at_head(queries)), sizes, scale, true, serial);
                    if let Some(Relative::Vectors { keys, queries }) = self.sums {
                        let sizes = [width, rows, head_width];
                        let factors = (met.transposed(), q);
                        product(at_head(keys), factors, sizes, scale, true, serial);
                        let sizes = [width, count, head_width];
                        let factors = (meets.transposed(), k);
                        product(at_head(queries), factors, sizes, scale, true, serial);
                    }
                }
            });
        }
    }
}

/// The tables' shape and places; `None` where they do not fit.
fn places(
    tables: Relative<&FlexTensor>,
    distances: &Distances,
    columns: usize,
) -> Option<Relative<Place>> {
    let shape = [distances.span().len(), columns];
    let fit = |table| matrix(table).is_some_and(|(found, _)| found == shape);
    tables.into_iter().all(fit).then_some(())?;
    let place = |table| matrix(table).map(|(_, values)| Place::of(values, columns));
    Some(match tables {
        Relative::Bias(bias) => Relative::Bias(place(bias)?),
        Relative::Vectors { keys, queries } => Relative::Vectors {
            keys: place(keys)?,
            queries: place(queries)?,
        },
    })
}

/// Columns of the tables, for queries of this width.
fn columns(tables: Relative<&FlexTensor>, width: usize, config: AttentionConfig) -> usize {
    match tables {
        Relative::Bias(_) => config.heads,
        Relative::Vectors { .. } => width,
    }
}

/// Whether the call is one of those that are computed here.
fn fits(
    distances: &Distances,
    sequences: (&Sequences, &Sequences),
    config: AttentionConfig,
) -> bool {
    !config.causal && config.kv_heads == config.heads && distances.fit(sequences)
}

pub(super) fn forward(
    qkv: [&FlexTensor; 3],
    tables: Relative<&FlexTensor>,
    distances: &Distances,
    sequences: (&Sequences, &Sequences),
    config: AttentionConfig,
) -> Option<FlexTensor> {
    fits(distances, sequences, config).then_some(())?;
    let ([_, width], _) = matrix(qkv[0])?;
    let terms = Tables {
        distances,
        tables: places(tables, distances, columns(tables, width, config))?,
        sums: None,
    };
    forward_with(qkv, sequences, config, &terms)
}

pub(super) fn backward(
    [q, k, v, grad]: [&FlexTensor; 4],
    tables: Relative<&FlexTensor>,
    distances: &Distances,
    sequences: (&Sequences, &Sequences),
    config: AttentionConfig,
    needs: bool,
) -> Option<RelativeAttentionGrads<Flex>> {
    fits(distances, sequences, config).then_some(())?;
    let ((shape, q), (shape_k, k), (shape_v, v), (shape_grad, grad)) =
        (matrix(q)?, matrix(k)?, matrix(v)?, matrix(grad)?);
    (shape_k == shape_v && shape == shape_grad).then_some(())?;
    let plan = Plan::new(shape, shape_k, sequences, config)?;
    let ([queries, width], [keys, _]) = (shape, shape_k);
    let inputs = [q, k, v, grad].map(|x| Place::of(x, width));
    let columns = columns(tables, width, config);
    let places = places(tables, distances, columns)?;
    let rows = distances.span().len();
    let count = sequences.0.count();
    let (parts, size) = (count.min(PARTS), rows * columns);
    let mut sums = needs.then(|| tables.map(|_| vec![0f32; parts.max(1) * size]));
    let of_parts = sums.as_mut().map(Relative::as_mut);
    let of_parts = of_parts.map(|sums| sums.map(|sums| Place::of_mut(sums, columns)));
    let terms = |part: usize| Tables {
        distances,
        tables: places,
        sums: of_parts.map(|sums| sums.map(|sums| sums.at(part * rows, 0))),
    };
    let (mut dk, mut dv) = (Vec::new(), Vec::new());
    // SAFETY: every (sequence, head) writes its own tokens and columns of dq, dk and dv, and all together cover them: those of
    // dk and dv are cleared before they are added to. Every (part, head) adds to columns of its own of the part's sums. Inputs
    // are only read.
    let dq = unsafe {
        written(queries * width, |dq| {
            dk = written(keys * width, |dk| {
                dv = written(keys * width, |dv| {
                    let [dq, dk, dv] = [dq, dk, dv].map(|x| Place::of_new(x, width));
                    (0..parts * config.heads).into_par_iter().for_each(|n| {
                        let (part, head) = (n / config.heads, n % config.heads);
                        for s in (part..count).step_by(parts) {
                            let [queries, keys] = ranges(sequences, s);
                            let sums = [dk, dv].map(|x| x.at(keys.start, head * plan.head_width));
                            for sums in sums {
                                clear(sums, keys.len(), plan.head_width);
                            }
                            let pair = Pair {
                                head,
                                queries,
                                keys,
                            };
                            let [dk, dv] = sums;
                            plan.backward(pair, inputs, [dq, dk, dv], &terms(part));
                        }
                    });
                });
            });
        })
    };
    let relative = sums.map(|sums| {
        sums.map(|mut sums| {
            let (total, others) = sums.split_at_mut(size);
            for other in others.chunks_exact(size.max(1)) {
                wide(
                    #[inline(always)]
                    || {
                        for (total, x) in total.iter_mut().zip(other) {
                            *total += x;
                        }
                    },
                );
            }
            sums.truncate(size);
            from_vec(sums, [rows, columns])
        })
    });
    let attention = AttentionGrads {
        q: from_vec(dq, shape),
        k: from_vec(dk, shape_k),
        v: from_vec(dv, shape_k),
    };
    Some(RelativeAttentionGrads {
        attention,
        relative,
    })
}
