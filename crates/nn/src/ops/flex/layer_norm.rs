//! Layer norm by rows; each row is read from the first-level cache after its first pass.

use super::util::{ROWS, column_sums, from_vec, matrix, sum_by, wide, written};
use crate::ops::LayerNormGrads;
use burn::backend::{Flex, flex::FlexTensor};
use rayon::prelude::*;

/// Mean and 1/σ of a row.
#[inline(always)]
fn moments(x: &[f32], epsilon: f32) -> (f32, f32) {
    let width = x.len() as f32;
    let mean = sum_by(
        [x],
        #[inline(always)]
        |[x]| x,
    ) / width;
    let variance = sum_by(
        [x],
        #[inline(always)]
        |[x]| (x - mean) * (x - mean),
    ) / width;
    (mean, 1.0 / (variance + epsilon).sqrt())
}

/// The values of a residual of this shape.
fn added(residual: Option<&FlexTensor>, shape: [usize; 2]) -> Option<Option<&[f32]>> {
    match residual {
        None => Some(None),
        Some(residual) => Some(Some(matrix(residual).filter(|(s, _)| *s == shape)?.1)),
    }
}

/// Row `row` of x, or in `room` its sum with the residual.
#[inline(always)]
fn summed<'a>(
    x: &'a [f32],
    residual: Option<&[f32]>,
    row: usize,
    room: &'a mut [f32],
) -> &'a [f32] {
    let width = room.len();
    let x = &x[row * width..][..width];
    let Some(residual) = residual else { return x };
    for ((sum, &x), &r) in room.iter_mut().zip(x).zip(&residual[row * width..]) {
        *sum = x + r;
    }
    room
}

pub(super) fn forward(
    x: &FlexTensor,
    residual: Option<&FlexTensor>,
    gamma: &FlexTensor,
    beta: &FlexTensor,
    epsilon: f64,
) -> Option<FlexTensor> {
    let (shape, x) = matrix(x)?;
    let [tokens, width] = shape;
    let residual = added(residual, shape)?;
    let gamma = gamma
        .as_slice::<f32>()
        .filter(|g| g.len() == width && width > 0)?;
    let beta = beta.as_slice::<f32>().filter(|b| b.len() == width)?;
    // SAFETY: pieces and rows of both sides have the same lengths, so the loops write every element.
    let output = unsafe {
        written(tokens * width, |output| {
            let pieces = output.par_chunks_mut(ROWS * width).enumerate();
            pieces.for_each(|(piece, output)| {
                let mut room = vec![0f32; width];
                wide(
                    #[inline(always)]
                    move || {
                        for (row, output) in output.chunks_exact_mut(width).enumerate() {
                            let x = summed(x, residual, piece * ROWS + row, &mut room);
                            let (mean, inverse) = moments(x, epsilon as f32);
                            for (((output, &x), &gamma), &beta) in
                                output.iter_mut().zip(x).zip(gamma).zip(beta)
                            {
                                output.write(((x - mean) * inverse).mul_add(gamma, beta));
                            }
                        }
                    },
                );
            });
        })
    };
    Some(from_vec(output, shape))
}

pub(super) fn backward(
    x: &FlexTensor,
    residual: Option<&FlexTensor>,
    gamma: &FlexTensor,
    grad: &FlexTensor,
    epsilon: f64,
    needs: (bool, bool),
) -> Option<LayerNormGrads<Flex>> {
    let ((shape, x), (grad_shape, grad)) = (matrix(x)?, matrix(grad)?);
    let [tokens, width] = shape;
    let residual = added(residual, shape)?;
    let gamma = gamma
        .as_slice::<f32>()
        .filter(|g| g.len() == width && width > 0)?;
    (shape == grad_shape).then_some(())?;
    let epsilon = epsilon as f32;
    let affine = needs.1.then(|| {
        let mut sums = column_sums(tokens, 2 * width, |sums, rows| {
            let (for_gamma, for_beta) = sums.split_at_mut(width);
            let mut room = vec![0f32; width];
            wide(
                #[inline(always)]
                move || {
                    for row in rows {
                        let x = summed(x, residual, row, &mut room);
                        let grad = &grad[row * width..][..width];
                        let (mean, inverse) = moments(x, epsilon);
                        let sums = for_gamma.iter_mut().zip(for_beta.iter_mut());
                        for (((gamma, beta), &x), &grad) in sums.zip(x).zip(grad) {
                            *gamma += grad * ((x - mean) * inverse);
                            *beta += grad;
                        }
                    }
                },
            );
        });
        let beta = sums.split_off(width);
        (from_vec(sums, [width]), from_vec(beta, [width]))
    });
    let x = needs.0.then(|| {
        // SAFETY: pieces and rows of all sides have the same lengths, so the loops write every element.
        let output = unsafe {
            written(tokens * width, |output| {
                let pieces = output.par_chunks_mut(ROWS * width).enumerate();
                pieces.for_each(|(piece, output)| {
                    let mut room = vec![0f32; width];
                    wide(
                        #[inline(always)]
                        move || {
                            for (row, output) in output.chunks_exact_mut(width).enumerate() {
                                let row = piece * ROWS + row;
                                let x = summed(x, residual, row, &mut room);
                                let grad = &grad[row * width..][..width];
                                let (mean, inverse) = moments(x, epsilon);
                                let count = width as f32;
                                let level = sum_by(
                                    [grad, gamma],
                                    #[inline(always)]
                                    |[g, gamma]| g * gamma,
                                ) / count;
                                let along = sum_by(
                                    [grad, gamma, x],
                                    #[inline(always)]
                                    |[g, gamma, x]| g * gamma * (x - mean),
                                );
                                let along = along * inverse / count;
                                for (((output, &x), &grad), &gamma) in
                                    output.iter_mut().zip(x).zip(grad).zip(gamma)
                                {
                                    let normal = (x - mean) * inverse;
                                    output.write((grad * gamma - level - normal * along) * inverse);
                                }
                            }
                        },
                    );
                });
            })
        };
        from_vec(output, shape)
    });
    Some(LayerNormGrads { x, affine })
}
