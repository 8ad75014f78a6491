//! Depthwise convolution (one kernel a channel) of channels-last images: sums over taps in registers, blocks of channels
//! side by side.

use super::conv2d::images;
use super::util::{from_vec, wide, written};
use crate::ops::Window;
use burn::backend::flex::FlexTensor;
use burn::tensor::TensorMetadata;
use rayon::prelude::*;
use std::mem::MaybeUninit;

/// Channels summed side by side: two AVX-512 registers.
const LANES: usize = 32;

/// `weight [C, 1, kh, kw]` -> `[kh kw, C]`.
fn by_taps(weight: &[f32], channels: usize, taps: usize) -> Vec<f32> {
    let mut turned = vec![0f32; weight.len()];
    for (c, weight) in weight.chunks_exact(taps).enumerate() {
        for (tap, &value) in weight.iter().enumerate() {
            turned[tap * channels + c] = value;
        }
    }
    turned
}

/// `to[c] = sum over taps of x[at + c] weight[tap C + c]`, for pairs (at, tap).
#[inline(always)]
fn sum_taps(to: &mut [MaybeUninit<f32>], x: &[f32], weight: &[f32], taps: &[(usize, usize)]) {
    let channels = to.len();
    let mut first = 0;
    while first + LANES <= channels {
        let mut sums = [0f32; LANES];
        for &(at, tap) in taps {
            let x = &x[at + first..][..LANES];
            let weight = &weight[tap * channels + first..][..LANES];
            for i in 0..LANES {
                sums[i] = x[i].mul_add(weight[i], sums[i]);
            }
        }
        for (to, sum) in to[first..first + LANES].iter_mut().zip(sums) {
            to.write(sum);
        }
        first += LANES;
    }
    for (c, to) in to.iter_mut().enumerate().skip(first) {
        let mut sum = 0f32;
        for &(at, tap) in taps {
            sum = x[at + c].mul_add(weight[tap * channels + c], sum);
        }
        to.write(sum);
    }
}

pub(super) fn forward(x: &FlexTensor, weight: &FlexTensor, window: Window) -> Option<FlexTensor> {
    let (([n, height, width, channels], x), ([outputs, one, kh, kw], weight)) =
        (images(x)?, images(weight)?);
    ((outputs, one) == (channels, 1) && [kh, kw] == window.kernel && channels > 0).then_some(())?;
    let [rows, columns] = window.output([height, width]);
    let weight = by_taps(weight, channels, kh * kw);
    let ([top, _, left, _], [down, right]) = (window.padding, window.stride);
    // SAFETY: every row of the output is a task's, and `sum_taps` writes every channel of every pixel.
    let output = unsafe {
        written(n * rows * columns * channels, |output| {
            output
                .par_chunks_mut((columns * channels).max(1))
                .enumerate()
                .for_each(|(row, output)| {
                    let (image, y) = (row / rows, row % rows);
                    let mut taps = Vec::with_capacity(kh * kw);
                    for (column, output) in output.chunks_exact_mut(channels).enumerate() {
                        taps.clear();
                        for k in 0..kh {
                            let Some(row) = (y * down + k).checked_sub(top).filter(|&r| r < height)
                            else {
                                continue;
                            };
                            for l in 0..kw {
                                if let Some(column) = (column * right + l)
                                    .checked_sub(left)
                                    .filter(|&c| c < width)
                                {
                                    let at = ((image * height + row) * width + column) * channels;
                                    taps.push((at, k * kw + l));
                                }
                            }
                        }
                        wide(
                            #[inline(always)]
                            || sum_taps(output, x, &weight, &taps),
                        );
                    }
                });
        })
    };
    Some(from_vec(output, [n, rows, columns, channels]))
}

pub(super) fn backward_x(
    size: [usize; 4],
    weight: &FlexTensor,
    grad: &FlexTensor,
    window: Window,
) -> Option<FlexTensor> {
    let (([outputs, one, kh, kw], weight), ([_, rows, columns, depth], grad)) =
        (images(weight)?, images(grad)?);
    let [n, height, width, channels] = size;
    ((outputs, one, depth) == (channels, 1, channels) && channels > 0).then_some(())?;
    let weight = by_taps(weight, channels, kh * kw);
    let ([top, _, left, _], [down, right]) = (window.padding, window.stride);
    // The output row (or column) that saw pixel `at` through tap `k`.
    let seen = |at: usize, pad: usize, k: usize, stride: usize, count: usize| {
        let from = (at + pad).checked_sub(k)?;
        (from % stride == 0 && from / stride < count).then_some(from / stride)
    };
    // SAFETY: every row of the output is a task's, and `sum_taps` writes every channel of every pixel.
    let output = unsafe {
        written(n * height * width * channels, |output| {
            output
                .par_chunks_mut((width * channels).max(1))
                .enumerate()
                .for_each(|(row, output)| {
                    let (image, y) = (row / height, row % height);
                    let mut taps = Vec::with_capacity(kh * kw);
                    for (x, output) in output.chunks_exact_mut(channels).enumerate() {
                        taps.clear();
                        for k in 0..kh {
                            let Some(row) = seen(y, top, k, down, rows) else {
                                continue;
                            };
                            for l in 0..kw {
                                if let Some(column) = seen(x, left, l, right, columns) {
                                    let at = ((image * rows + row) * columns + column) * channels;
                                    taps.push((at, k * kw + l));
                                }
                            }
                        }
                        wide(
                            #[inline(always)]
                            || sum_taps(output, grad, &weight, &taps),
                        );
                    }
                });
        })
    };
    Some(from_vec(output, size))
}

pub(super) fn backward_weight(
    x: &FlexTensor,
    weight: &FlexTensor,
    grad: &FlexTensor,
    window: Window,
) -> Option<FlexTensor> {
    let (([n, height, width, channels], x), ([_, rows, columns, depth], grad)) =
        (images(x)?, images(grad)?);
    let shape = weight.shape();
    (shape.as_slice() == [channels, 1, window.kernel[0], window.kernel[1]]).then_some(())?;
    (depth == channels && channels > 0).then_some(())?;
    let [kh, kw] = window.kernel;
    let ([top, _, left, _], [down, right]) = (window.padding, window.stride);
    // Sums of one image each, added up in order.
    let mut sums = vec![0f32; n.max(1) * kh * kw * channels];
    sums.par_chunks_mut(kh * kw * channels)
        .enumerate()
        .take(n)
        .for_each(|(image, sums)| {
            for y in 0..rows {
                for k in 0..kh {
                    let Some(row) = (y * down + k).checked_sub(top).filter(|&r| r < height) else {
                        continue;
                    };
                    let sums = &mut sums[k * kw * channels..][..kw * channels];
                    let grad = &grad[(image * rows + y) * columns * channels..];
                    let x = &x[(image * height + row) * width * channels..];
                    wide(
                        #[inline(always)]
                        || {
                            for l in 0..kw {
                                let sums = &mut sums[l * channels..][..channels];
                                let inside = (0..columns).filter_map(|column| {
                                    let at = (column * right + l).checked_sub(left)?;
                                    (at < width).then_some((column, at))
                                });
                                add_products(sums, grad, x, inside);
                            }
                        },
                    );
                }
            }
        });
    let taps = kh * kw;
    let mut values = vec![0f32; channels * taps];
    for sums in sums.chunks_exact(taps * channels) {
        for (tap, sums) in sums.chunks_exact(channels).enumerate() {
            for (c, &sum) in sums.iter().enumerate() {
                values[c * taps + tap] += sum;
            }
        }
    }
    Some(from_vec(values, [channels, 1, kh, kw]))
}

/// `sums[c] += grad[i C + c] x[j C + c]` over the pairs (i, j).
#[inline(always)]
fn add_products(
    sums: &mut [f32],
    grad: &[f32],
    x: &[f32],
    pairs: impl Iterator<Item = (usize, usize)> + Clone,
) {
    let channels = sums.len();
    let mut first = 0;
    while first + LANES <= channels {
        let mut lanes = [0f32; LANES];
        for (i, j) in pairs.clone() {
            let grad = &grad[i * channels + first..][..LANES];
            let x = &x[j * channels + first..][..LANES];
            for k in 0..LANES {
                lanes[k] = grad[k].mul_add(x[k], lanes[k]);
            }
        }
        for (sum, lane) in sums[first..first + LANES].iter_mut().zip(lanes) {
            *sum += lane;
        }
        first += LANES;
    }
    for (c, sum) in sums.iter_mut().enumerate().skip(first) {
        for (i, j) in pairs.clone() {
            *sum = grad[i * channels + c].mul_add(x[j * channels + c], *sum);
        }
    }
}
