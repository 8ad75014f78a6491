//! RMS norm by rows; each row is read from the first-level cache after its first pass.

use super::util::{ROWS, column_sums, from_vec, matrix, sum_by, wide, written};
use crate::ops::RmsNormGrads;
use burn::backend::{Flex, flex::FlexTensor};
use rayon::prelude::*;

/// 1/RMS of a row.
#[inline(always)]
fn inverse(x: &[f32], epsilon: f32) -> f32 {
    let square = sum_by(
        [x],
        #[inline(always)]
        |[x]| x * x,
    );
    1.0 / (square / x.len() as f32 + epsilon).sqrt()
}

/// The values of x and of gamma, where they fit together.
fn operands<'a>(
    x: &'a FlexTensor,
    gamma: &'a FlexTensor,
) -> Option<([usize; 2], &'a [f32], &'a [f32])> {
    let (shape, x) = matrix(x)?;
    let gamma = gamma
        .as_slice::<f32>()
        .filter(|g| g.len() == shape[1] && shape[1] > 0)?;
    Some((shape, x, gamma))
}

pub(super) fn forward(x: &FlexTensor, gamma: &FlexTensor, epsilon: f64) -> Option<FlexTensor> {
    let (shape, x, gamma) = operands(x, gamma)?;
    let width = shape[1];
    // SAFETY: pieces and rows of both sides have the same lengths, so the loops write every element.
    let output = unsafe {
        written(x.len(), |output| {
            let pieces = output
                .par_chunks_mut(ROWS * width)
                .zip(x.par_chunks(ROWS * width));
            pieces.for_each(|(output, x)| {
                wide(
                    #[inline(always)]
                    move || {
                        let rows = output.chunks_exact_mut(width).zip(x.chunks_exact(width));
                        for (output, x) in rows {
                            let inverse = inverse(x, epsilon as f32);
                            for ((output, &x), &gamma) in output.iter_mut().zip(x).zip(gamma) {
                                output.write(x * inverse * gamma);
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
    gamma: &FlexTensor,
    grad: &FlexTensor,
    epsilon: f64,
    needs: (bool, bool),
) -> Option<RmsNormGrads<Flex>> {
    let (shape, x, gamma) = operands(x, gamma)?;
    let [tokens, width] = shape;
    let (_, grad) = matrix(grad).filter(|(s, _)| *s == shape)?;
    let epsilon = epsilon as f32;
    let for_gamma = needs.1.then(|| {
        let sums = column_sums(tokens, width, |sums, rows| {
            let values = rows.start * width..rows.end * width;
            wide(
                #[inline(always)]
                move || {
                    let rows = x[values.clone()].chunks_exact(width);
                    for (x, grad) in rows.zip(grad[values].chunks_exact(width)) {
                        let inverse = inverse(x, epsilon);
                        for ((sum, &x), &grad) in sums.iter_mut().zip(x).zip(grad) {
                            *sum += grad * (x * inverse);
                        }
                    }
                },
            );
        });
        from_vec(sums, [width])
    });
    let for_x = needs.0.then(|| {
        // SAFETY: pieces and rows of all sides have the same lengths, so the loops write every element.
        let output = unsafe {
            written(x.len(), |output| {
                let inputs = x
                    .par_chunks(ROWS * width)
                    .zip(grad.par_chunks(ROWS * width));
                let pieces = output.par_chunks_mut(ROWS * width).zip(inputs);
                pieces.for_each(|(output, (x, grad))| {
                    wide(
                        #[inline(always)]
                        move || {
                            let rows = x.chunks_exact(width).zip(grad.chunks_exact(width));
                            for (output, (x, grad)) in output.chunks_exact_mut(width).zip(rows) {
                                let inverse = inverse(x, epsilon);
                                let along = sum_by(
                                    [grad, gamma, x],
                                    #[inline(always)]
                                    |[g, gamma, x]| g * gamma * x,
                                );
                                let along = along * inverse * inverse / width as f32;
                                for (((output, &x), &grad), &gamma) in
                                    output.iter_mut().zip(x).zip(grad).zip(gamma)
                                {
                                    output.write((grad * gamma - x * along) * inverse);
                                }
                            }
                        },
                    );
                });
            })
        };
        from_vec(output, shape)
    });
    Some(RmsNormGrads {
        x: for_x,
        gamma: for_gamma,
    })
}
