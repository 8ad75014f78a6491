//! Max pooling of channels-last images; the backward pass looks for the winners again instead of keeping their places.

use super::conv2d::images;
use super::util::from_vec;
use crate::ops::Window;
use burn::backend::flex::FlexTensor;
use rayon::prelude::*;
use std::ops::Range;

/// The rows (or columns) of the image under window `at`.
fn under(at: usize, stride: usize, pad: usize, kernel: usize, size: usize) -> Range<usize> {
    let start = at * stride;
    start.saturating_sub(pad)..(start + kernel).saturating_sub(pad).min(size)
}

/// The larger, and NaN before any number, as PyTorch has it.
fn wins(x: f32, best: f32) -> bool {
    x > best || x.is_nan()
}

pub(super) fn forward(x: &FlexTensor, window: Window) -> Option<FlexTensor> {
    let ([n, height, width, channels], x) = images(x)?;
    let [rows, columns] = window.output([height, width]);
    let ([top, _, left, _], [kh, kw]) = (window.padding, window.kernel);
    (top < kh && left < kw && channels > 0 && columns > 0).then_some(())?;
    let mut output = vec![f32::NEG_INFINITY; n * rows * columns * channels];
    output
        .par_chunks_mut(columns * channels)
        .enumerate()
        .for_each(|(row, output)| {
            let (image, y) = (row / rows, row % rows);
            for (column, output) in output.chunks_exact_mut(channels).enumerate() {
                for y in under(y, window.stride[0], top, kh, height) {
                    for at in under(column, window.stride[1], left, kw, width) {
                        let x = &x[((image * height + y) * width + at) * channels..][..channels];
                        for (best, &x) in output.iter_mut().zip(x) {
                            *best = if wins(x, *best) { x } else { *best };
                        }
                    }
                }
            }
        });
    Some(from_vec(output, [n, rows, columns, channels]))
}

pub(super) fn backward(x: &FlexTensor, grad: &FlexTensor, window: Window) -> Option<FlexTensor> {
    let (([n, height, width, channels], x), (grad_size, grad)) = (images(x)?, images(grad)?);
    let [rows, columns] = window.output([height, width]);
    let ([top, _, left, _], [kh, kw]) = (window.padding, window.kernel);
    (grad_size == [n, rows, columns, channels] && top < kh && left < kw && channels > 0)
        .then_some(())?;
    let size = height * width * channels;
    let mut output = vec![0f32; n * size];
    output
        .par_chunks_mut(size.max(1))
        .zip(x.par_chunks(size.max(1)))
        .zip(grad.par_chunks((rows * columns * channels).max(1)))
        .for_each(|((output, x), grad)| {
            let mut best = vec![(f32::NEG_INFINITY, 0); channels];
            for y in 0..rows {
                for column in 0..columns {
                    let across = under(column, window.stride[1], left, kw, width);
                    for (i, y) in under(y, window.stride[0], top, kh, height).enumerate() {
                        for (j, at) in across.clone().enumerate() {
                            let from = (y * width + at) * channels;
                            for (best, &x) in best.iter_mut().zip(&x[from..from + channels]) {
                                if (i, j) == (0, 0) || wins(x, best.0) {
                                    *best = (x, from);
                                }
                            }
                        }
                    }
                    let grad = &grad[(y * columns + column) * channels..][..channels];
                    for (c, (&(_, from), &grad)) in best.iter().zip(grad).enumerate() {
                        output[from + c] += grad;
                    }
                }
            }
        });
    Some(from_vec(output, [n, height, width, channels]))
}
