//! Convolution of channels-last images as matrix products over patches: a strip of patches is laid out, `[rows, taps C]`,
//! and multiplied while it is in the cache. A 1 x 1 convolution with stride 1 is a product of the image itself.

use super::util::{Place, from_vec, product, written};
use crate::ops::Window;
use burn::backend::flex::FlexTensor;
use burn::tensor::TensorMetadata;
use gemm::Parallelism;
use rayon::prelude::*;
use std::ops::Range;

/// All threads, where the product is worth them; `gemm` itself decides how many.
const PARALLEL: Parallelism = Parallelism::Rayon(0);
/// Elements of a strip of patches: a few MB, so that it is read from the cache it was written to.
const STRIP: usize = 1 << 20;
/// Rows of a strip at least, so that packing the weights pays.
const LEAST_ROWS: usize = 256;

/// The four dimensions and the values of a contiguous f32 tensor.
pub(super) fn images(x: &FlexTensor) -> Option<([usize; 4], &[f32])> {
    let shape = x.shape();
    (shape.num_dims() == 4).then_some(())?;
    Some(([shape[0], shape[1], shape[2], shape[3]], x.as_slice()?))
}

/// The sizes of one convolution.
#[derive(Debug, Clone, Copy)]
pub(super) struct Geometry {
    /// N, H, W, C of what is read.
    pub image: [usize; 4],
    /// H', W' of what is written.
    pub output: [usize; 2],
    pub window: Window,
}

impl Geometry {
    /// Rows of patches: N H' W'.
    fn rows(&self) -> usize {
        self.image[0] * self.output[0] * self.output[1]
    }

    /// Values of a patch: taps times channels.
    fn patch(&self) -> usize {
        self.window.kernel[0] * self.window.kernel[1] * self.image[3]
    }

    /// Whether the patches are the image's own pixels.
    fn is_product(&self) -> bool {
        self.window == Window::square(1, 1, 0)
    }

    /// The kernel columns of a patch that lie in the image, and the image column of the first.
    fn columns(&self, x: usize) -> (Range<usize>, usize) {
        let (start, left) = (x * self.window.stride[1], self.window.padding[2]);
        let first = left.saturating_sub(start).min(self.window.kernel[1]);
        let last = (self.image[2] + left)
            .saturating_sub(start)
            .min(self.window.kernel[1]);
        (first..last.max(first), (start + first).saturating_sub(left))
    }

    /// The image row under kernel row `k` of output row `y`, if it lies in the image.
    fn row(&self, y: usize, k: usize) -> Option<usize> {
        (y * self.window.stride[0] + k)
            .checked_sub(self.window.padding[0])
            .filter(|&row| row < self.image[1])
    }

    /// Image, output row and output column of a row of patches.
    fn place(&self, row: usize) -> (usize, usize, usize) {
        let [height, width] = self.output;
        (row / (height * width), row / width % height, row % width)
    }

    /// Copies the patch of one row: `[kh, kw, C]`, zeros outside of the image.
    fn gather(&self, x: &[f32], row: usize, patch: &mut [f32]) {
        let (n, y, column) = self.place(row);
        let ([_, height, width, channels], [rows, taps]) = (self.image, self.window.kernel);
        let (inside, first) = self.columns(column);
        for k in 0..rows {
            let part = &mut patch[k * taps * channels..][..taps * channels];
            match self.row(y, k) {
                None => part.fill(0.0),
                Some(row) => {
                    let from = ((n * height + row) * width + first) * channels;
                    let (head, rest) = part.split_at_mut(inside.start * channels);
                    let (body, tail) = rest.split_at_mut(inside.len() * channels);
                    head.fill(0.0);
                    body.copy_from_slice(&x[from..from + body.len()]);
                    tail.fill(0.0);
                }
            }
        }
    }

    /// Adds the gradient of one patch to the gradient of its image `[H, W, C]`.
    fn scatter(&self, patch: &[f32], row: usize, image: &mut [f32]) {
        let (_, y, column) = self.place(row);
        let ([_, _, width, channels], [rows, taps]) = (self.image, self.window.kernel);
        let (inside, first) = self.columns(column);
        for k in 0..rows {
            if let Some(row) = self.row(y, k) {
                let from = (k * taps + inside.start) * channels;
                let patch = &patch[from..from + inside.len() * channels];
                let to = (row * width + first) * channels;
                for (sum, &x) in image[to..to + patch.len()].iter_mut().zip(patch) {
                    *sum += x;
                }
            }
        }
    }

    /// Strips of patches, laid out in parallel and handed on in order with their first row.
    fn strips(&self, x: &[f32], mut use_strip: impl FnMut(usize, &[f32])) {
        let (rows, patch) = (self.rows(), self.patch());
        let height = (STRIP / patch.max(1)).max(LEAST_ROWS).min(rows.max(1));
        let mut strip = vec![0f32; height * patch];
        for first in (0..rows).step_by(height) {
            let count = height.min(rows - first);
            strip[..count * patch]
                .par_chunks_mut(patch)
                .with_min_len(16)
                .enumerate()
                .for_each(|(i, patch)| self.gather(x, first + i, patch));
            use_strip(first, &strip[..count * patch]);
        }
    }
}

/// `weight [O, C, kh, kw]` -> `[O, kh, kw, C]`.
fn by_patches(weight: &[f32], [outputs, channels, kh, kw]: [usize; 4]) -> Vec<f32> {
    let (taps, size) = (kh * kw, channels * kh * kw);
    let mut turned = vec![0f32; outputs * size];
    turned
        .par_chunks_mut(size.max(1))
        .zip(weight.par_chunks(size.max(1)))
        .for_each(|(turned, weight)| {
            for (tap, turned) in turned.chunks_exact_mut(channels).enumerate() {
                for (c, value) in turned.iter_mut().enumerate() {
                    *value = weight[c * taps + tap];
                }
            }
        });
    turned
}

/// `[O, kh, kw, C]` -> `[O, C, kh, kw]`.
fn by_channels(turned: &[f32], [outputs, channels, kh, kw]: [usize; 4]) -> Vec<f32> {
    let (taps, size) = (kh * kw, channels * kh * kw);
    let mut weight = vec![0f32; outputs * size];
    weight
        .par_chunks_mut(size.max(1))
        .zip(turned.par_chunks(size.max(1)))
        .for_each(|(weight, turned)| {
            for (c, weight) in weight.chunks_exact_mut(taps).enumerate() {
                for (tap, value) in weight.iter_mut().enumerate() {
                    *value = turned[tap * channels + c];
                }
            }
        });
    weight
}

/// Patches times `weight [O, patch]`, `[rows, O]`.
fn multiply(geometry: &Geometry, x: &[f32], weight: &[f32], outputs: usize) -> Vec<f32> {
    let (rows, patch) = (geometry.rows(), geometry.patch());
    let weight = Place::of(weight, patch).transposed();
    // SAFETY: the strips cover all rows, and the products write every element of theirs.
    unsafe {
        written(rows * outputs, |output| {
            let output = Place::of_new(output, outputs);
            let one = |first: usize, strip: &[f32]| {
                let sizes = [strip.len() / patch.max(1), patch, outputs];
                let factors = (Place::of(strip, patch), weight);
                product(output.at(first, 0), factors, sizes, 1.0, false, PARALLEL);
            };
            match geometry.is_product() {
                true => one(0, x),
                false => geometry.strips(x, one),
            }
        })
    }
}

pub(super) fn forward(x: &FlexTensor, weight: &FlexTensor, window: Window) -> Option<FlexTensor> {
    let ((image, x), (sizes, weight)) = (images(x)?, images(weight)?);
    let [outputs, channels, kh, kw] = sizes;
    (channels == image[3] && [kh, kw] == window.kernel && channels * outputs > 0).then_some(())?;
    let geometry = Geometry {
        image,
        output: window.output([image[1], image[2]]),
        window,
    };
    let output = match kh * kw {
        1 => multiply(&geometry, x, weight, outputs),
        _ => multiply(&geometry, x, &by_patches(weight, sizes), outputs),
    };
    let [height, width] = geometry.output;
    Some(from_vec(output, [image[0], height, width, outputs]))
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
    let [top, _, left, _] = window.padding;
    let values = if window.stride == [1, 1] && top < kh && left < kw {
        // The convolution of the gradient with the kernel turned around.
        let turned = turned_around(weight, sizes);
        let geometry = Geometry {
            image: grad_size,
            output: [size[1], size[2]],
            window: Window {
                kernel: [kh, kw],
                stride: [1, 1],
                padding: [kh - 1 - top, 0, kw - 1 - left, 0],
            },
        };
        let product = Geometry {
            window: Window::square(1, 1, 0),
            ..geometry
        };
        let plain = kh * kw == 1 && window.padding == [0; 4];
        let geometry = if plain { product } else { geometry };
        multiply(&geometry, grad, &turned, channels)
    } else {
        scattered(size, &by_patches(weight, sizes), grad_size, grad, window)
    };
    Some(from_vec(values, size))
}

/// `weight [O, C, kh, kw]` -> `[C, kh, kw, O]` with the kernel's rows and columns in reverse.
fn turned_around(weight: &[f32], [outputs, channels, kh, kw]: [usize; 4]) -> Vec<f32> {
    let taps = kh * kw;
    let mut turned = vec![0f32; weight.len()];
    turned
        .par_chunks_mut(taps * outputs)
        .enumerate()
        .for_each(|(c, turned)| {
            for (tap, turned) in turned.chunks_exact_mut(outputs).enumerate() {
                for (o, value) in turned.iter_mut().enumerate() {
                    *value = weight[(o * channels + c) * taps + taps - 1 - tap];
                }
            }
        });
    turned
}

/// The gradient of each image from the gradients of its patches, image by image.
fn scattered(
    size: [usize; 4],
    weight: &[f32],
    grad_size: [usize; 4],
    grad: &[f32],
    window: Window,
) -> Vec<f32> {
    let [images, height, width, channels] = size;
    let outputs = grad_size[3];
    let geometry = Geometry {
        image: size,
        output: [grad_size[1], grad_size[2]],
        window,
    };
    let (patch, rows) = (geometry.patch(), grad_size[1] * grad_size[2]);
    let mut values = vec![0f32; images * height * width * channels];
    values
        .par_chunks_mut((height * width * channels).max(1))
        .enumerate()
        .for_each(|(n, image)| {
            let step = (STRIP / 8 / patch).clamp(16, rows.max(16));
            let mut strip = vec![0f32; step * patch];
            for first in (0..rows).step_by(step) {
                let count = step.min(rows - first);
                let grad = &grad[(n * rows + first) * outputs..][..count * outputs];
                let factors = (Place::of(grad, outputs), Place::of(weight, patch));
                // SAFETY: the slices have the sizes that are said, and the strip is this task's own.
                unsafe {
                    product(
                        Place::of_mut(&mut strip, patch),
                        factors,
                        [count, outputs, patch],
                        1.0,
                        false,
                        Parallelism::None,
                    );
                }
                for (i, patch) in strip.chunks_exact(patch).take(count).enumerate() {
                    geometry.scatter(patch, first + i, image);
                }
            }
        });
    values
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
    let outputs = sizes[0];
    (sizes[1] == image[3] && grad_size[3] == outputs && outputs > 0).then_some(())?;
    let geometry = Geometry {
        image,
        output: [grad_size[1], grad_size[2]],
        window,
    };
    let patch = geometry.patch();
    let mut turned = vec![0f32; outputs * patch];
    let to = Place::of_mut(&mut turned, patch);
    let one = |first: usize, strip: &[f32]| {
        let rows = strip.len() / patch.max(1);
        let grad = &grad[first * outputs..][..rows * outputs];
        let factors = (
            Place::of(grad, outputs).transposed(),
            Place::of(strip, patch),
        );
        // SAFETY: the slices have the sizes that are said; nothing else reads or writes the sums meanwhile.
        unsafe { product(to, factors, [outputs, rows, patch], 1.0, true, PARALLEL) };
    };
    match geometry.is_product() {
        true => one(0, x),
        false => geometry.strips(x, one),
    }
    let values = match sizes[2] * sizes[3] {
        1 => turned,
        _ => by_channels(&turned, sizes),
    };
    Some(from_vec(values, sizes))
}
