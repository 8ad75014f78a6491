//! Linear: matrix products straight into fresh buffers, the bias laid down first and added to.

use super::super::Precision;
use super::pairs;
use super::util::{
    Factor, Place, column_sums, from_vec, is_whole, matrix, product, sum_by, wide, written,
};
use burn::backend::flex::FlexTensor;
use gemm::Parallelism;
use rayon::prelude::*;

/// All threads, where the product is worth them; `gemm` itself decides how many.
const PARALLEL: Parallelism = Parallelism::Rayon(0);
/// Rows up to which [`few`] multiplies; weights of one of its tasks; weights up to which waking a thread is not worth it.
const FEW: usize = 8;
const FEW_PIECE: usize = 32 * 1024;
const FEW_ALONE: usize = 128 * 1024;

pub(super) fn forward(
    x: &FlexTensor,
    weight: &FlexTensor,
    bias: Option<&FlexTensor>,
    precision: Precision,
) -> Option<FlexTensor> {
    let (([tokens, inner], x), ([outer, inner_of_weight], weight)) = (matrix(x)?, matrix(weight)?);
    let bias = match bias {
        Some(bias) => Some(bias.as_slice::<f32>().filter(|b| b.len() == outer)?),
        None => None,
    };
    (inner == inner_of_weight && outer > 0).then_some(())?;
    let sizes = [tokens, inner, outer];
    if (1..=FEW).contains(&tokens) && inner > 0 && precision == Precision::F32 {
        return Some(from_vec(few(x, weight, bias, sizes), [tokens, outer]));
    }
    let factors = (Factor::Rows(x), Factor::Rows(weight));
    multiplied(factors, sizes, bias, precision)
}

/// The product of few rows, a word of generated text each: every row of the weight is read once, where it lies.
fn few(
    x: &[f32],
    weight: &[f32],
    bias: Option<&[f32]>,
    [tokens, inner, outer]: [usize; 3],
) -> Vec<f32> {
    // `[outer, tokens]`
    let mut sums = vec![0f32; outer * tokens];
    let dots = |sums: &mut [f32], weight: &[f32]| {
        wide(
            #[inline(always)]
            move || {
                let weights = weight.chunks_exact(inner);
                for (sums, weight) in sums.chunks_exact_mut(tokens).zip(weights) {
                    for (sum, x) in sums.iter_mut().zip(x.chunks_exact(inner)) {
                        *sum = sum_by(
                            [x, weight],
                            #[inline(always)]
                            |[x, weight]| x * weight,
                        );
                    }
                }
            },
        );
    };
    if weight.len() <= FEW_ALONE {
        dots(&mut sums, weight);
    } else {
        let rows = (FEW_PIECE / inner).max(1);
        sums.par_chunks_mut(rows * tokens)
            .zip(weight.par_chunks(rows * inner))
            .for_each(|(sums, weight)| dots(sums, weight));
    }
    if let Some(bias) = bias {
        for (sums, bias) in sums.chunks_exact_mut(tokens).zip(bias) {
            sums.iter_mut().for_each(|sum| *sum += bias);
        }
    }
    if tokens == 1 {
        return sums;
    }
    (0..tokens * outer)
        .map(|i| sums[i % outer * tokens + i / outer])
        .collect()
}

/// The product `[m, n]` plus `bias [n]`; `None` where the precision has no kernel here. The factors have the lengths that the
/// sizes say.
fn multiplied(
    (a, b): (Factor<'_>, Factor<'_>),
    [m, k, n]: [usize; 3],
    bias: Option<&[f32]>,
    precision: Precision,
) -> Option<FlexTensor> {
    if let Some(values) = pairs::product((a, b), [m, k, n], bias, precision) {
        return Some(from_vec(values, [m, n]));
    }
    (precision == Precision::F32).then_some(())?;
    let (a, b) = (a.place(m, k), b.place(n, k).transposed());
    // SAFETY: the bias, if any, is copied to every row, and the product then writes (or adds to) every element, zeros over
    // nothing; the slices have the lengths that the sizes say.
    let output = unsafe {
        written(m * n, |output| {
            if let Some(bias) = bias {
                output.par_chunks_mut(n).with_min_len(16).for_each(|row| {
                    for (output, &bias) in row.iter_mut().zip(bias) {
                        output.write(bias);
                    }
                });
            }
            let output = Place::of_new(output, n);
            product(output, (a, b), [m, k, n], 1.0, bias.is_some(), PARALLEL);
        })
    };
    Some(from_vec(output, [m, n]))
}

/// Adds to `sum`, in its own buffer where nobody else holds it; `sum` back where the shapes do not fit.
pub(super) fn add(
    mut sum: FlexTensor,
    x: &FlexTensor,
    weight: &FlexTensor,
    scale: f64,
) -> Result<FlexTensor, FlexTensor> {
    let fit = || {
        let (([tokens, inner], x), ([outer, inner_of_weight], weight)) =
            (matrix(x)?, matrix(weight)?);
        let same = matrix(&sum)?.0 == [tokens, outer] && inner == inner_of_weight;
        (same && is_whole(&sum) && inner * outer > 0).then_some(([tokens, inner, outer], x, weight))
    };
    let Some((sizes, x, weight)) = fit() else {
        return Err(sum);
    };
    let [_, inner, outer] = sizes;
    let factors = (Place::of(x, inner), Place::of(weight, inner).transposed());
    // `storage_mut` copies first where somebody else holds the buffer.
    let to = Place::of_mut(sum.storage_mut::<f32>(), outer);
    // SAFETY: the slices have the lengths that the shapes say, and the sum is this call's alone.
    unsafe { product(to, factors, sizes, scale as f32, true, PARALLEL) };
    Ok(sum)
}

pub(super) fn backward_x(
    grad: &FlexTensor,
    weight: &FlexTensor,
    precision: Precision,
) -> Option<FlexTensor> {
    let (([tokens, outer], grad), ([outer_of_weight, inner], weight)) =
        (matrix(grad)?, matrix(weight)?);
    (outer == outer_of_weight).then_some(())?;
    let factors = (Factor::Rows(grad), Factor::Columns(weight));
    multiplied(factors, [tokens, outer, inner], None, precision)
}

pub(super) fn backward_weight(
    grad: &FlexTensor,
    x: &FlexTensor,
    precision: Precision,
) -> Option<FlexTensor> {
    let (([tokens, outer], grad), ([tokens_of_x, inner], x)) = (matrix(grad)?, matrix(x)?);
    (tokens == tokens_of_x).then_some(())?;
    let factors = (Factor::Columns(grad), Factor::Columns(x));
    multiplied(factors, [outer, tokens, inner], None, precision)
}

pub(super) fn backward_bias(grad: &FlexTensor) -> Option<FlexTensor> {
    let ([tokens, outer], grad) = matrix(grad)?;
    let sums = column_sums(tokens, outer, |sums, rows| {
        wide(
            #[inline(always)]
            move || {
                for row in grad[rows.start * outer..rows.end * outer].chunks_exact(outer) {
                    for (sum, &x) in sums.iter_mut().zip(row) {
                        *sum += x;
                    }
                }
            },
        );
    });
    Some(from_vec(sums, [outer]))
}
