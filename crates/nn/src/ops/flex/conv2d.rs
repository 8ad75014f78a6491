//! Convolution of channels-last images without laying out patches (but for `pairs`, where that is faster): a row of the product is a list of runs of values in the
//! image (one a tap, or one a row of taps where channels are few), and tiles of sums read them where they stand (the
//! indirect convolution of Dukhan 2019). The gradient of the image is such a convolution again, one for each remainder of
//! the stride; that of the weight sums over the same runs.

use super::rows::{Packed, Target, View, clear, multiply, sum_rows};
use super::util::{Place, from_vec, written};
use crate::ops::Window;
use burn::backend::flex::FlexTensor;
use burn::tensor::TensorMetadata;
use rayon::prelude::*;

/// With fewer channels, a row of taps is one run of a padded copy of the image.
const FEW_CHANNELS: usize = 16;

/// The four dimensions and the values of a contiguous f32 tensor.
pub(super) fn images(x: &FlexTensor) -> Option<([usize; 4], &[f32])> {
    let shape = x.shape();
    (shape.num_dims() == 4).then_some(())?;
    Some(([shape[0], shape[1], shape[2], shape[3]], x.as_slice()?))
}

/// The patches of a convolution.
fn patches(x: &[f32], image: [usize; 4], window: Window) -> View<'_> {
    let [n, height, width, channels] = image;
    let ([kh, kw], [top, bottom, left, right]) = (window.kernel, window.padding);
    let view = View {
        values: x.into(),
        image,
        size: window.output([height, width]),
        step: window.stride,
        rows: (0..kh).map(|k| k as isize - top as isize).collect(),
        columns: (0..kw).map(|l| l as isize - left as isize).collect(),
        len: channels,
    };
    if channels >= FEW_CHANNELS || kw == 1 {
        return view;
    }
    let padded = [n, height + top + bottom, width + left + right, channels];
    let mut values = vec![0f32; padded.iter().product()];
    let row = padded[2] * channels;
    values
        .par_chunks_mut((padded[1] * row).max(1))
        .enumerate()
        .for_each(|(n, image)| {
            for y in 0..height {
                let from = &x[(n * height + y) * width * channels..][..width * channels];
                image[(y + top) * row + left * channels..][..from.len()].copy_from_slice(from);
            }
        });
    View {
        values: values.into(),
        image: padded,
        rows: (0..kh as isize).collect(),
        columns: vec![0],
        len: kw * channels,
        ..view
    }
}

pub(super) fn forward(x: &FlexTensor, weight: &FlexTensor, window: Window) -> Option<FlexTensor> {
    let ((image, x), (sizes, weight)) = (images(x)?, images(weight)?);
    let [outputs, channels, kh, kw] = sizes;
    (channels == image[3] && [kh, kw] == window.kernel && channels * outputs > 0).then_some(())?;
    let (view, taps) = (patches(x, image, window), kh * kw);
    let [height, width] = view.size;
    // `[O, C, taps]` -> `[blocks, taps, C, width]`, read in order.
    let packed = Packed::new(outputs, taps * channels, |first, across, block| {
        let weights = weight[first * channels * taps..].chunks_exact(channels * taps);
        for (lane, weights) in weights.take(across).enumerate() {
            for (c, weights) in weights.chunks_exact(taps).enumerate() {
                for (tap, &value) in weights.iter().enumerate() {
                    block[(tap * channels + c) * across + lane] = value;
                }
            }
        }
    });
    // SAFETY: every pixel of the output is a row's, and the products write all of it.
    let output = unsafe {
        written(view.count() * outputs, |output| {
            let target = Target {
                pixels: Place::of_new(output, outputs),
                size: view.size,
                step: [1, 1],
                first: [0, 0],
            };
            multiply(&view, &packed, &target);
        })
    };
    Some(from_vec(output, [image[0], height, width, outputs]))
}

/// For output pixels `first, first + stride, ...`: the taps that see them, and the gradient's row (or column) under each, as
/// an offset from the pixel's number.
fn seen_by(first: usize, stride: usize, pad: usize, kernel: usize) -> (Vec<usize>, Vec<isize>) {
    (0..kernel)
        .filter(|k| (first + pad + stride * kernel - k).is_multiple_of(stride))
        .map(|k| (k, (first + pad) as isize - k as isize))
        .map(|(k, apart)| (k, apart.div_euclid(stride as isize)))
        .unzip()
}

pub(super) fn backward_x(
    size: [usize; 4],
    weight: &FlexTensor,
    grad: &FlexTensor,
    window: Window,
) -> Option<FlexTensor> {
    let ((sizes, weight), (grad_size, grad)) = (images(weight)?, images(grad)?);
    let [outputs, channels, kh, kw] = sizes;
    (channels == size[3] && grad_size[3] == outputs && channels * outputs > 0).then_some(())?;
    let ([top, _, left, _], [down, right]) = (window.padding, window.stride);
    // SAFETY: every pixel is of one pair of remainders, a row of its product, which writes all of it.
    let values = unsafe {
        written(size.iter().product(), |values| {
            let pixels = Place::of_new(values, channels);
            for (y, x) in (0..down).flat_map(|y| (0..right).map(move |x| (y, x))) {
                let (rows, down_by) = seen_by(y, down, top, kh);
                let (columns, right_by) = seen_by(x, right, left, kw);
                let view = View {
                    values: grad.into(),
                    image: grad_size,
                    size: [
                        size[1].saturating_sub(y).div_ceil(down),
                        size[2].saturating_sub(x).div_ceil(right),
                    ],
                    step: [1, 1],
                    rows: down_by,
                    columns: right_by,
                    len: outputs,
                };
                let taps: Vec<usize> = rows
                    .iter()
                    .flat_map(|k| columns.iter().map(move |l| k * kw + l))
                    .collect();
                // `[O, C, taps]` -> `[blocks, these taps, O, width]`, read in order.
                let packed = Packed::new(channels, taps.len() * outputs, |first, across, block| {
                    for o in 0..outputs {
                        let weights = &weight[(o * channels + first) * kh * kw..];
                        let weights = weights.chunks_exact(kh * kw);
                        let lanes = across.min(channels - first);
                        for (lane, weights) in weights.take(lanes).enumerate() {
                            for (run, &tap) in taps.iter().enumerate() {
                                block[(run * outputs + o) * across + lane] = weights[tap];
                            }
                        }
                    }
                });
                let target = Target {
                    pixels,
                    size: [size[1], size[2]],
                    step: [down, right],
                    first: [y, x],
                };
                match taps.len() {
                    0 => clear(&view, &target, channels),
                    _ => multiply(&view, &packed, &target),
                }
            }
        })
    };
    Some(from_vec(values, size))
}

pub(super) fn backward_weight(
    x: &FlexTensor,
    weight: &FlexTensor,
    grad: &FlexTensor,
    window: Window,
) -> Option<FlexTensor> {
    let ((image, x), (grad_size, grad)) = (images(x)?, images(grad)?);
    let shape = weight.shape();
    (shape.num_dims() == 4).then_some(())?;
    let sizes = [shape[0], shape[1], shape[2], shape[3]];
    let [outputs, channels, kh, kw] = sizes;
    (channels == image[3] && grad_size[3] == outputs && outputs * channels > 0).then_some(())?;
    let view = patches(x, image, window);
    (view.size == [grad_size[1], grad_size[2]]).then_some(())?;
    let (sums, [apart, outputs_apart]) = sum_rows(&view, grad, outputs);
    // Taps, C by O -> `[O, C, taps]`.
    let taps = kh * kw;
    let mut values = vec![0f32; outputs * channels * taps];
    values
        .par_chunks_mut(channels * taps)
        .enumerate()
        .for_each(|(o, weight)| {
            for (i, value) in weight.iter_mut().enumerate() {
                let (c, tap) = (i / taps, i % taps);
                *value = sums[(tap * channels + c) * apart + o * outputs_apart];
            }
        });
    Some(from_vec(values, sizes))
}
