//! Batch norm by channels: one pass for the moments' sums, one for the output with residual and activation, one or two
//! for the gradients.

use super::util::{ROWS, column_sums, from_vec, matrix, wide, written};
use crate::ops::{BatchNormConfig, BatchNormGrads};
use burn::backend::{Flex, flex::FlexTensor};
use rayon::prelude::*;

pub(super) fn moments(x: &FlexTensor) -> Option<FlexTensor> {
    let ([rows, channels], x) = matrix(x)?;
    (rows > 0 && channels > 0).then_some(())?;
    let count = rows as f32;
    let mut mean = column_sums(rows, channels, |sums, rows| {
        wide(
            #[inline(always)]
            || {
                for x in x[rows.start * channels..rows.end * channels].chunks_exact(channels) {
                    for (sum, &x) in sums.iter_mut().zip(x) {
                        *sum += x;
                    }
                }
            },
        );
    });
    mean.iter_mut().for_each(|m| *m /= count);
    // From the mean, not from the sum of squares: that would lose digits where the mean is large.
    let mean_of = &mean;
    let variance = column_sums(rows, channels, |sums, rows| {
        wide(
            #[inline(always)]
            || {
                for x in x[rows.start * channels..rows.end * channels].chunks_exact(channels) {
                    for ((sum, &x), &mean) in sums.iter_mut().zip(x).zip(mean_of) {
                        *sum = (x - mean).mul_add(x - mean, *sum);
                    }
                }
            },
        );
    });
    mean.extend(variance.into_iter().map(|v| v / count));
    Some(from_vec(mean, [2, channels]))
}

/// Mean and 1/σ of the channels.
fn split(moments: &FlexTensor, channels: usize, epsilon: f64) -> Option<(&[f32], Vec<f32>)> {
    let ([two, width], values) = matrix(moments)?;
    ((two, width) == (2, channels) && channels > 0).then_some(())?;
    let (mean, variance) = values.split_at(channels);
    let epsilon = epsilon as f32;
    let inverse = variance.iter().map(|v| 1.0 / (v + epsilon).sqrt());
    Some((mean, inverse.collect()))
}

/// NaN stays NaN, so that a run that diverges is seen to.
#[inline(always)]
fn rectified(y: f32, low: f32, high: f32) -> f32 {
    if y < low {
        low
    } else if y > high {
        high
    } else {
        y
    }
}

/// The gradient where the output is between the limits, else 0. No branch, so that loops over it vectorise.
#[inline(always)]
fn passed(grad: f32, y: f32, low: f32, high: f32) -> f32 {
    if (y > low) & (y < high) { grad } else { 0.0 }
}

pub(super) fn forward(
    x: &FlexTensor,
    residual: Option<&FlexTensor>,
    gamma: &FlexTensor,
    beta: &FlexTensor,
    moments: &FlexTensor,
    config: BatchNormConfig,
) -> Option<FlexTensor> {
    let ([rows, channels], x) = matrix(x)?;
    let residual = match residual {
        Some(residual) => Some(matrix(residual).filter(|(s, _)| *s == [rows, channels])?.1),
        None => None,
    };
    let (mean, inverse) = split(moments, channels, config.epsilon)?;
    let gamma = gamma.as_slice::<f32>().filter(|g| g.len() == channels)?;
    let beta = beta.as_slice::<f32>().filter(|b| b.len() == channels)?;
    let scale: Vec<f32> = inverse.iter().zip(gamma).map(|(i, g)| i * g).collect();
    let (low, high) = config.rectify.range();
    let size = ROWS * channels;
    // SAFETY: pieces and rows of all sides have the same lengths, so the loops write every element.
    let output = unsafe {
        written(rows * channels, |output| {
            let pieces = output.par_chunks_mut(size).enumerate();
            pieces.for_each(|(piece, output)| {
                let x = &x[piece * size..][..output.len()];
                let residual = residual.map(|r| &r[piece * size..][..output.len()]);
                wide(
                    #[inline(always)]
                    || {
                        for (row, output) in output.chunks_exact_mut(channels).enumerate() {
                            let x = &x[row * channels..][..channels];
                            let norms = mean.iter().zip(&scale).zip(beta);
                            match residual {
                                Some(residual) => {
                                    let residual = &residual[row * channels..][..channels];
                                    for (((output, &x), &r), ((&mean, &scale), &beta)) in
                                        output.iter_mut().zip(x).zip(residual).zip(norms)
                                    {
                                        let y = (x - mean).mul_add(scale, beta) + r;
                                        output.write(rectified(y, low, high));
                                    }
                                }
                                None => {
                                    for ((output, &x), ((&mean, &scale), &beta)) in
                                        output.iter_mut().zip(x).zip(norms)
                                    {
                                        let y = (x - mean).mul_add(scale, beta);
                                        output.write(rectified(y, low, high));
                                    }
                                }
                            }
                        }
                    },
                );
            });
        })
    };
    Some(from_vec(output, [rows, channels]))
}

pub(super) fn backward(
    x: &FlexTensor,
    y: &FlexTensor,
    gamma: &FlexTensor,
    moments: &FlexTensor,
    grad: &FlexTensor,
    config: BatchNormConfig,
    (need_x, need_residual, need_affine): (bool, bool, bool),
) -> Option<BatchNormGrads<Flex>> {
    let (([rows, channels], x), (y_size, y), (grad_size, grad)) =
        (matrix(x)?, matrix(y)?, matrix(grad)?);
    (y_size == [rows, channels] && grad_size == y_size).then_some(())?;
    let (mean, inverse) = split(moments, channels, config.epsilon)?;
    let gamma = gamma.as_slice::<f32>().filter(|g| g.len() == channels)?;
    let (low, high) = config.rectify.range();
    let size = ROWS * channels;

    let sums = (need_affine || (need_x && config.of_batch)).then(|| {
        column_sums(rows, 2 * channels, |sums, rows| {
            let (for_gamma, for_beta) = sums.split_at_mut(channels);
            let range = rows.start * channels..rows.end * channels;
            let (x, y, grad) = (&x[range.clone()], &y[range.clone()], &grad[range]);
            wide(
                #[inline(always)]
                move || {
                    let rows = x
                        .chunks_exact(channels)
                        .zip(y.chunks_exact(channels))
                        .zip(grad.chunks_exact(channels));
                    for ((x, y), grad) in rows {
                        let sums = for_gamma.iter_mut().zip(for_beta.iter_mut());
                        let values = x.iter().zip(y).zip(grad).zip(mean);
                        for ((gamma, beta), (((&x, &y), &grad), &mean)) in sums.zip(values) {
                            let grad = passed(grad, y, low, high);
                            *gamma = grad.mul_add(x - mean, *gamma);
                            *beta += grad;
                        }
                    }
                },
            );
        })
    });
    let sums = sums.map(|mut sums| {
        let for_beta = sums.split_off(channels);
        for (sum, inverse) in sums.iter_mut().zip(&inverse) {
            *sum *= inverse;
        }
        (sums, for_beta)
    });
    // grad of x = a grad + b (x - mean) + c, by channels.
    let count = rows.max(1) as f32;
    let a: Vec<f32> = inverse.iter().zip(gamma).map(|(i, g)| i * g).collect();
    let (b, c): (Vec<f32>, Vec<f32>) = match (&sums, config.of_batch) {
        (Some((for_gamma, for_beta)), true) => (0..channels)
            .map(|i| {
                (
                    -a[i] * inverse[i] * for_gamma[i] / count,
                    -a[i] * for_beta[i] / count,
                )
            })
            .unzip(),
        _ => (vec![0.0; channels], vec![0.0; channels]),
    };
    let grad_x = need_x.then(|| {
        // SAFETY: pieces and rows of all sides have the same lengths, so the loops write every element.
        let output = unsafe {
            written(rows * channels, |output| {
                let pieces = output.par_chunks_mut(size).enumerate();
                pieces.for_each(|(piece, output)| {
                    let part = piece * size..piece * size + output.len();
                    let (x, y, grad) = (&x[part.clone()], &y[part.clone()], &grad[part]);
                    let (a, b, c) = (&a[..channels], &b[..channels], &c[..channels]);
                    wide(
                        #[inline(always)]
                        move || {
                            for (row, output) in output.chunks_exact_mut(channels).enumerate() {
                                let part = row * channels..(row + 1) * channels;
                                let values = x[part.clone()]
                                    .iter()
                                    .zip(&y[part.clone()])
                                    .zip(&grad[part]);
                                let norms = mean.iter().zip(a).zip(b).zip(c);
                                for ((output, ((&x, &y), &grad)), (((&mean, &a), &b), &c)) in
                                    output.iter_mut().zip(values).zip(norms)
                                {
                                    let grad = passed(grad, y, low, high);
                                    output.write(a.mul_add(grad, b.mul_add(x - mean, c)));
                                }
                            }
                        },
                    );
                });
            })
        };
        from_vec(output, [rows, channels])
    });
    let residual = need_residual.then(|| {
        // SAFETY: pieces of all sides have the same lengths, so the loops write every element.
        let output = unsafe {
            written(rows * channels, |output| {
                let inputs = y.par_chunks(size).zip(grad.par_chunks(size));
                output
                    .par_chunks_mut(size)
                    .zip(inputs)
                    .for_each(|(output, (y, grad))| {
                        wide(
                            #[inline(always)]
                            move || {
                                for ((output, &y), &grad) in output.iter_mut().zip(y).zip(grad) {
                                    output.write(passed(grad, y, low, high));
                                }
                            },
                        );
                    });
            })
        };
        from_vec(output, [rows, channels])
    });
    let affine = sums.filter(|_| need_affine).map(|(for_gamma, for_beta)| {
        (
            from_vec(for_gamma, [channels]),
            from_vec(for_beta, [channels]),
        )
    });
    Some(BatchNormGrads {
        x: grad_x,
        residual,
        affine,
    })
}
