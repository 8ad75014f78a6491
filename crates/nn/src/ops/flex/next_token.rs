//! Next-token losses by chunks of logits: all threads multiply one chunk, then its rows are summed in parallel. The weights are
//! read once for every [`ROWS`] rows, and a chunk stays in the last-level cache between its passes.

use super::math::{exp, tanh};
use super::pairs;
use super::util::{
    Factor, PIECE, Place, from_vec, indices, largest, matrix, product, sum_by, wide,
};
use crate::ops::{NextToken, Precision};
use burn::backend::{Flex, flex::FlexTensor};
use burn::tensor::{Int, Tensor, TensorData};
use gemm::Parallelism;
use rayon::prelude::*;
use std::ops::Range;

/// Rows and words of a chunk.
const ROWS: usize = 1024;
const WORDS: usize = 1024;

/// The operands.
struct Head<'a> {
    /// `[R, D]`
    hidden: &'a [f32],
    /// `[V, D]`
    weight: &'a [f32],
    targets: Vec<usize>,
    width: usize,
    words: usize,
    cap: Option<f32>,
}

/// What has been seen of a row.
#[derive(Debug, Clone, Copy)]
struct Row {
    /// The largest logit, and the sum of exponentials relative to it.
    shift: f32,
    sum: f32,
    /// The target's logit.
    target: f32,
    /// The first word with the largest logit.
    best: usize,
    /// What earlier sums have been multiplied by for the last chunk.
    factor: f32,
}

/// Consecutive ranges of at most `size` that make up `0..len`.
fn chunks(len: usize, size: usize) -> impl Iterator<Item = Range<usize>> {
    (0..len)
        .step_by(size)
        .map(move |first| first..len.min(first + size))
}

/// `to [m, n]` = the product of `a [m, k]` and `b [k, n]`, added to what stands there where `add`.
fn multiply(to: &mut [f32], (a, b): (Factor<'_>, Factor<'_>), sizes: [usize; 3], add: bool) {
    if let Some(values) = pairs::product((a, b), sizes, None, Precision::F32) {
        to.par_chunks_mut(PIECE)
            .zip(values.par_chunks(PIECE))
            .for_each(|(to, values)| match add {
                false => to.copy_from_slice(values),
                true => wide(
                    #[inline(always)]
                    || {
                        for (to, x) in to.iter_mut().zip(values) {
                            *to += x;
                        }
                    },
                ),
            });
        return;
    }
    let [m, k, n] = sizes;
    assert_eq!(to.len(), m * n, "a product's size");
    let factors = (a.place(m, k), b.place(n, k).transposed());
    let to = Place::of_mut(to, n);
    // SAFETY: the slices have the lengths that the sizes say.
    unsafe { product(to, factors, sizes, 1.0, add, Parallelism::Rayon(0)) };
}

impl<'a> Head<'a> {
    /// `None` where the shapes do not fit or a target is no word.
    fn new(
        hidden: &'a FlexTensor,
        weight: &'a FlexTensor,
        targets: &FlexTensor,
        softcap: Option<f64>,
    ) -> Option<Self> {
        let (([rows, width], hidden), ([words, width_of_weight], weight)) =
            (matrix(hidden)?, matrix(weight)?);
        let targets = indices(targets, words).filter(|targets| targets.len() == rows)?;
        (width == width_of_weight && width > 0).then_some(())?;
        Some(Self {
            hidden,
            weight,
            targets,
            width,
            words,
            cap: softcap.map(|cap| cap as f32),
        })
    }

    fn hidden(&self, rows: &Range<usize>) -> &'a [f32] {
        &self.hidden[rows.start * self.width..rows.end * self.width]
    }

    fn weight(&self, words: &Range<usize>) -> &'a [f32] {
        &self.weight[words.start * self.width..words.end * self.width]
    }

    /// Writes the logits `[rows, words]` before the cap.
    fn logits(&self, rows: &Range<usize>, words: &Range<usize>, to: &mut Vec<f32>) {
        to.resize(rows.len() * words.len(), 0.0);
        let factors = (
            Factor::Rows(self.hidden(rows)),
            Factor::Rows(self.weight(words)),
        );
        multiply(to, factors, [rows.len(), self.width, words.len()], false);
    }

    /// Caps logits.
    #[inline(always)]
    fn bound(&self, logits: &mut [f32]) {
        if let Some(cap) = self.cap {
            for x in logits {
                *x = cap * tanh(*x / cap);
            }
        }
    }

    /// The slope of the cap at a capped logit.
    #[inline(always)]
    fn slope(&self, x: f32) -> f32 {
        self.cap.map_or(1.0, |cap| 1.0 - (x / cap) * (x / cap))
    }

    /// Takes up a row's logits of the words `words`, and leaves in their place, where `slopes`, what the weights are summed by.
    #[inline(always)]
    fn take_up(
        &self,
        row: &mut Row,
        logits: &mut [f32],
        (target, words): (usize, &Range<usize>),
        slopes: bool,
    ) {
        self.bound(logits);
        if words.contains(&target) {
            row.target = logits[target - words.start];
        }
        let top = largest(logits);
        row.factor = 1.0;
        if top > row.shift {
            row.factor = exp(row.shift - top);
            row.shift = top;
            row.best = words.start + logits.iter().position(|&x| x == top).unwrap_or(0);
        }
        let shift = row.shift;
        let sum = if slopes && self.cap.is_none() {
            logits.iter_mut().for_each(|x| *x = exp(*x - shift));
            sum_by(
                [logits],
                #[inline(always)]
                |[x]| x,
            )
        } else {
            let sum = sum_by(
                [logits],
                #[inline(always)]
                |[x]| exp(x - shift),
            );
            if slopes {
                logits
                    .iter_mut()
                    .for_each(|x| *x = exp(*x - shift) * self.slope(*x));
            }
            sum
        };
        row.sum = row.sum.mul_add(row.factor, sum);
    }

    /// What is to be known of each row; and `[R, D]`, the gradients of the losses by the hidden states.
    fn pass(&self, slopes: bool) -> (Vec<Row>, Option<Vec<f32>>) {
        let start = Row {
            shift: f32::NEG_INFINITY,
            sum: 0.0,
            target: 0.0,
            best: 0,
            factor: 1.0,
        };
        let width = self.width;
        let mut found = vec![start; self.targets.len()];
        let mut sums = slopes.then(|| vec![0f32; self.targets.len() * width]);
        let mut logits = Vec::new();
        for rows in chunks(self.targets.len(), ROWS) {
            let (found, targets) = (&mut found[rows.clone()], &self.targets[rows.clone()]);
            let mut sums = sums
                .as_mut()
                .map(|sums| &mut sums[rows.start * width..rows.end * width]);
            for words in chunks(self.words, WORDS) {
                self.logits(&rows, &words, &mut logits);
                found
                    .par_iter_mut()
                    .zip(logits.par_chunks_exact_mut(words.len()).zip(targets))
                    .with_min_len(16)
                    .for_each(|(row, (logits, &target))| {
                        wide(
                            #[inline(always)]
                            || self.take_up(row, logits, (target, &words), slopes),
                        );
                    });
                let Some(sums) = &mut sums else { continue };
                sums.par_chunks_exact_mut(width)
                    .zip(&*found)
                    .with_min_len(16)
                    .filter(|(_, row)| row.factor != 1.0)
                    .for_each(|(sums, row)| sums.iter_mut().for_each(|x| *x *= row.factor));
                let factors = (Factor::Rows(&logits), Factor::Columns(self.weight(&words)));
                multiply(sums, factors, [rows.len(), words.len(), width], true);
            }
            let Some(sums) = sums else { continue };
            sums.par_chunks_exact_mut(width)
                .zip(found.par_iter().zip(targets))
                .with_min_len(16)
                .for_each(|(sums, (row, &target))| {
                    let (inverse, slope) = (1.0 / row.sum, self.slope(row.target));
                    let own = &self.weight[target * width..][..width];
                    for (sum, own) in sums.iter_mut().zip(own) {
                        *sum = *sum * inverse - own * slope;
                    }
                });
        }
        (found, sums)
    }
}

/// The log of the sum of exponentials, and the loss.
fn log_sum(row: &Row) -> (f32, f32) {
    let log = row.sum.ln();
    // In this order: the difference of large logits is exact where they are alike.
    (row.shift + log, log + (row.shift - row.target))
}

pub(super) fn forward(
    hidden: &FlexTensor,
    weight: &FlexTensor,
    targets: &FlexTensor,
    softcap: Option<f64>,
    slopes: bool,
) -> Option<NextToken<Flex>> {
    let head = Head::new(hidden, weight, targets, softcap)?;
    let (rows, slopes) = head.pass(slopes);
    let count = rows.len();
    let (log_sums, losses): (Vec<f32>, Vec<f32>) = rows.iter().map(log_sum).unzip();
    Some(NextToken {
        losses: from_vec(losses, [count]),
        log_sums: from_vec(log_sums, [count]),
        slopes: slopes.map(|slopes| from_vec(slopes, [count, head.width])),
    })
}

pub(super) fn best(
    hidden: &FlexTensor,
    weight: &FlexTensor,
    targets: &FlexTensor,
    softcap: Option<f64>,
) -> Option<(FlexTensor, FlexTensor)> {
    let head = Head::new(hidden, weight, targets, softcap)?;
    let (rows, _) = head.pass(false);
    let count = rows.len();
    let losses = rows.iter().map(|row| log_sum(row).1).collect();
    // Indices below V were given as i32 or i64.
    let best: Vec<i64> = rows.iter().map(|row| row.best as i64).collect();
    let best = TensorData::new(best, [count]);
    let best: Tensor<Flex, 1, Int> = Tensor::from_data(best, &Default::default());
    Some((from_vec(losses, [count]), best.into_primitive()))
}

pub(super) fn backward_weight(
    hidden: &FlexTensor,
    weight: &FlexTensor,
    targets: &FlexTensor,
    log_sums: &FlexTensor,
    grad: &FlexTensor,
    softcap: Option<f64>,
) -> Option<FlexTensor> {
    let head = Head::new(hidden, weight, targets, softcap)?;
    let (count, width) = (head.targets.len(), head.width);
    let [log_sums, grad] =
        [log_sums, grad].map(|x| x.as_slice::<f32>().filter(|values| values.len() == count));
    let (log_sums, grad) = (log_sums?, grad?);
    let mut sums = vec![0f32; head.words * width];
    let mut logits = Vec::new();
    for words in chunks(head.words, WORDS) {
        let sums = &mut sums[words.start * width..words.end * width];
        for rows in chunks(count, ROWS) {
            head.logits(&rows, &words, &mut logits);
            let inputs = log_sums[rows.clone()]
                .par_iter()
                .zip(&grad[rows.clone()])
                .zip(&head.targets[rows.clone()]);
            logits
                .par_chunks_exact_mut(words.len())
                .zip(inputs)
                .with_min_len(16)
                .for_each(|(logits, ((&log_sum, &grad), target))| {
                    wide(
                        #[inline(always)]
                        || {
                            head.bound(logits);
                            let own = words
                                .contains(target)
                                .then(|| (target - words.start, logits[target - words.start]));
                            for x in logits.iter_mut() {
                                *x = exp(*x - log_sum) * head.slope(*x) * grad;
                            }
                            if let Some((own, x)) = own {
                                logits[own] = (exp(x - log_sum) - 1.0) * head.slope(x) * grad;
                            }
                        },
                    );
                });
            let factors = (
                Factor::Columns(&logits),
                Factor::Columns(head.hidden(&rows)),
            );
            let sizes = [words.len(), rows.len(), width];
            multiply(sums, factors, sizes, rows.start > 0);
        }
    }
    Some(from_vec(sums, [head.words, width]))
}
