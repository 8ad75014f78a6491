//! Convolution of channels-last images without laying out patches: a row of the product is a list of runs of values in the
//! image (one a tap, or one a row of taps where channels are few), and tiles of sums read them where they stand (the
//! indirect convolution of Dukhan 2019). The gradient of the image is such a convolution again, one for each remainder of
//! the stride; that of the weight sums over the same runs.

use super::tile::{self, Sums, Tiled, tiled};
use super::util::{Place, from_vec, written};
use crate::ops::Window;
use burn::backend::flex::FlexTensor;
use burn::tensor::TensorMetadata;
use pulp::Simd;
use rayon::prelude::*;
use std::{borrow::Cow, ops::Range};

/// With fewer channels, a row of taps is one run of a padded copy of the image.
const FEW_CHANNELS: usize = 16;
/// Rows of a task at least and at most: enough to read the weights for, few enough to stay in the cache.
const TASK_ROWS: (usize, usize) = (96, 768);
/// Tasks aimed at, so that threads end together.
const TASKS: usize = 32;

/// The four dimensions and the values of a contiguous f32 tensor.
pub(super) fn images(x: &FlexTensor) -> Option<([usize; 4], &[f32])> {
    let shape = x.shape();
    (shape.num_dims() == 4).then_some(())?;
    Some(([shape[0], shape[1], shape[2], shape[3]], x.as_slice()?))
}

/// What the rows of a product read. Row (n, y, x) has a run of `len` values for each pair of an offset of `rows` and one of
/// `columns`: from pixel `(y * step + row, x * step + column)` of image n on, or zeros where that lies outside.
struct View<'a> {
    values: Cow<'a, [f32]>,
    /// N, H, W, C of the values.
    image: [usize; 4],
    /// Rows of the product by image: y and x.
    size: [usize; 2],
    step: [usize; 2],
    rows: Vec<isize>,
    columns: Vec<isize>,
    len: usize,
}

impl<'a> View<'a> {
    /// The patches of a convolution.
    fn of_patches(x: &'a [f32], image: [usize; 4], window: Window) -> Self {
        let [n, height, width, channels] = image;
        let ([kh, kw], [top, bottom, left, right]) = (window.kernel, window.padding);
        let view = Self {
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
        Self {
            values: values.into(),
            image: padded,
            rows: (0..kh as isize).collect(),
            columns: vec![0],
            len: kw * channels,
            ..view
        }
    }

    fn count(&self) -> usize {
        self.image[0] * self.size[0] * self.size[1]
    }

    fn runs(&self) -> usize {
        self.rows.len() * self.columns.len()
    }

    /// Image, y and x of these rows.
    fn places(&self, rows: Range<usize>) -> impl Iterator<Item = [usize; 3]> {
        let [height, width] = self.size.map(|side| side.max(1));
        let lines = rows.start / width..rows.end.div_ceil(width);
        lines.flat_map(move |line| {
            let first = rows.start.saturating_sub(line * width);
            let last = width.min(rows.end - line * width);
            let (n, y) = (line / height, line % height);
            (first..last).map(move |x| [n, y, x])
        })
    }

    /// The place in the image under offset `offset` of row (or column) `at`, if there is one.
    #[inline(always)]
    fn under(at: usize, step: usize, offset: isize, size: usize) -> Option<usize> {
        Some((at * step).wrapping_add_signed(offset)).filter(|&at| at < size)
    }

    /// Calls `found(run, first value)` for every run of a row that lies inside.
    #[inline(always)]
    fn each_run(&self, [n, y, x]: [usize; 3], mut found: impl FnMut(usize, usize)) {
        let [_, height, width, channels] = self.image;
        for (k, &offset) in self.rows.iter().enumerate() {
            let Some(line) = Self::under(y, self.step[0], offset, height) else {
                continue;
            };
            for (l, &offset) in self.columns.iter().enumerate() {
                if let Some(at) = Self::under(x, self.step[1], offset, width) {
                    let pixel = (n * height + line) * width + at;
                    found(k * self.columns.len() + l, pixel * channels);
                }
            }
        }
    }

    /// Calls `found(row, first value)` for the rows of a line (one y of one image) whose run `run` lies inside.
    #[inline(always)]
    fn each_row(&self, line: usize, run: usize, mut found: impl FnMut(usize, usize)) {
        let ([_, height, width, channels], across) = (self.image, self.columns.len());
        let (n, y) = (line / self.size[0], line % self.size[0]);
        let Some(from) = Self::under(y, self.step[0], self.rows[run / across], height) else {
            return;
        };
        for x in 0..self.size[1] {
            if let Some(at) = Self::under(x, self.step[1], self.columns[run % across], width) {
                let pixel = (n * height + from) * width + at;
                found(line * self.size[1] + x, pixel * channels);
            }
        }
    }
}

/// Where the rows of a product are written: row (n, y, x) to pixel `(y * step + first)`.
struct Target {
    pixels: Place,
    size: [usize; 2],
    step: [usize; 2],
    first: [usize; 2],
}

impl Target {
    fn at(&self, [n, y, x]: [usize; 3]) -> *mut f32 {
        let (y, x) = (
            y * self.step[0] + self.first[0],
            x * self.step[1] + self.first[1],
        );
        let pixel = (n * self.size[0] + y) * self.size[1] + x;
        self.pixels.at(pixel, 0).pointer
    }
}

/// A product's weights `[blocks, runs, len, width]`: blocks of two vectors of outputs, the last of one where that is enough.
struct Packed {
    values: Vec<f32>,
    outputs: usize,
    /// Weights of one output.
    depth: usize,
    lanes: usize,
}

impl Packed {
    /// `fill(first, width, block)` writes the block of outputs `first..`, `block [depth, width]`; it holds zeros.
    fn new(outputs: usize, depth: usize, fill: impl Fn(usize, usize, &mut [f32]) + Sync) -> Self {
        let (lanes, _) = tile::shape();
        let mut values = vec![0f32; outputs.next_multiple_of(lanes) * depth];
        values
            .par_chunks_mut((2 * lanes * depth).max(1))
            .enumerate()
            .for_each(|(block, values)| fill(block * 2 * lanes, values.len() / depth, values));
        Self {
            values,
            outputs,
            depth,
            lanes,
        }
    }

    /// First output, its weights and its number of vectors, block by block.
    fn blocks(&self) -> impl Iterator<Item = (usize, &[f32], usize)> {
        let size = 2 * self.lanes * self.depth;
        self.values
            .chunks(size.max(1))
            .enumerate()
            .map(|(block, weights)| {
                let vectors = weights.len() / (self.lanes * self.depth);
                (block * 2 * self.lanes, weights, vectors)
            })
    }
}

/// Some rows of a product.
struct Multiply<'a> {
    view: &'a View<'a>,
    weights: &'a Packed,
    target: &'a Target,
    /// What a run outside of the image reads.
    zeros: &'a [f32],
    rows: Range<usize>,
}

impl Tiled for Multiply<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd, const R: usize>(self, simd: S) {
        let (view, runs) = (self.view, self.view.runs());
        let values = view.values.as_ptr();
        // Tile by tile, run by run: where the runs of its rows begin.
        let tiles = self.rows.len().div_ceil(R);
        let mut starts = vec![self.zeros.as_ptr(); tiles * runs * R];
        let mut targets = Vec::with_capacity(self.rows.len());
        for (i, place) in view.places(self.rows.clone()).enumerate() {
            let tile = &mut starts[i / R * runs * R..][..runs * R];
            view.each_run(place, |run, from| {
                tile[run * R + i % R] = values.wrapping_add(from);
            });
            targets.push(self.target.at(place));
        }
        for (first, weights, vectors) in self.weights.blocks() {
            let count = (self.weights.outputs - first).min(vectors * S::F32_LANES);
            for (tile, targets) in starts.chunks_exact(runs * R).zip(targets.chunks(R)) {
                let weights = weights.as_ptr();
                // SAFETY: runs lie in the image or in the zeros, weights have `runs * len` rows of these vectors, and the
                // pixels of these rows are this task's own.
                unsafe {
                    if vectors == 2 {
                        let sums = tile::zeros::<S, R, 2>(simd);
                        let sums = tile::add_runs(simd, sums, tile, view.len, weights);
                        store::<S, R, 2>(sums, targets, first, count);
                    } else {
                        let sums = tile::zeros::<S, R, 1>(simd);
                        let sums = tile::add_runs(simd, sums, tile, view.len, weights);
                        store::<S, R, 1>(sums, targets, first, count);
                    }
                }
            }
        }
    }
}

/// Writes `count` sums a row to its target, `first` values behind its beginning.
///
/// # Safety
/// So many values can be written there.
#[inline(always)]
unsafe fn store<S: Simd, const R: usize, const V: usize>(
    sums: Sums<S, R, V>,
    targets: &[*mut f32],
    first: usize,
    count: usize,
) {
    for (sums, target) in sums.into_iter().zip(targets) {
        // SAFETY: the caller's promise.
        unsafe { tile::write::<S, V>(sums, target.add(first), count) };
    }
}

/// Writes the product of all rows.
///
/// # Safety
/// The target's pixels are `weights.outputs` wide and nobody else reads or writes those of these rows.
unsafe fn multiply(view: &View<'_>, weights: &Packed, target: &Target) {
    let (_, tile_rows) = tile::shape();
    let count = view.count();
    let height = (count / TASKS)
        .clamp(TASK_ROWS.0, TASK_ROWS.1)
        .next_multiple_of(tile_rows);
    let zeros = vec![0f32; view.len];
    (0..count.div_ceil(height))
        .into_par_iter()
        .for_each(|task| {
            tiled(Multiply {
                view,
                weights,
                target,
                zeros: &zeros,
                rows: task * height..count.min((task + 1) * height),
            });
        });
}

pub(super) fn forward(x: &FlexTensor, weight: &FlexTensor, window: Window) -> Option<FlexTensor> {
    let ((image, x), (sizes, weight)) = (images(x)?, images(weight)?);
    let [outputs, channels, kh, kw] = sizes;
    (channels == image[3] && [kh, kw] == window.kernel && channels * outputs > 0).then_some(())?;
    let (view, taps) = (View::of_patches(x, image, window), kh * kw);
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

/// Writes zeros to the pixels of these rows.
///
/// # Safety
/// As for [`multiply`].
unsafe fn clear(view: &View<'_>, target: &Target, channels: usize) {
    for place in view.places(0..view.count()) {
        // SAFETY: the caller's promise.
        unsafe { target.at(place).write_bytes(0, channels) };
    }
}

/// The sums of one run over some of its values: `sums [values, across]` gains `x[value] grad` over all rows.
struct SumRows<'a> {
    view: &'a View<'a>,
    run: usize,
    /// First of the values, of which there are `sums.len() / across`.
    first: usize,
    /// `[rows, across]`, the outputs padded to whole vectors.
    grad: &'a [f32],
    across: usize,
    sums: &'a mut [f32],
}

/// Rows whose products are summed before the next tile is taken up, at least.
const SUMMED_ROWS: usize = 256;

impl Tiled for SumRows<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd, const R: usize>(self, simd: S) {
        let (view, across) = (self.view, self.across);
        let values = self.sums.len() / across;
        let mut pairs = Vec::with_capacity(SUMMED_ROWS + view.size[1]);
        let lines = view.image[0] * view.size[0];
        for line in 0..lines {
            view.each_row(line, self.run, |row, from| {
                let grad = self.grad[row * across..].as_ptr();
                pairs.push((view.values[from + self.first..].as_ptr(), grad));
            });
            if pairs.len() < SUMMED_ROWS && line + 1 < lines {
                continue;
            }
            for column in (0..across).step_by(2 * S::F32_LANES) {
                let mut value = 0;
                while value < values {
                    let to = self.sums[value * across + column..].as_mut_ptr();
                    let (at, left) = ((value, column), values - value);
                    let two = across - column >= 2 * S::F32_LANES;
                    // SAFETY: a run has `values` more values from its first on, a row of `grad` and of `sums` has these
                    // vectors, and the sums are this task's own.
                    value += unsafe {
                        match (left, two) {
                            (_, true) if left >= R => add::<S, R, 2>(simd, &pairs, at, to, across),
                            (_, false) if left >= R => add::<S, R, 1>(simd, &pairs, at, to, across),
                            (4.., true) => add::<S, 4, 2>(simd, &pairs, at, to, across),
                            (4.., false) => add::<S, 4, 1>(simd, &pairs, at, to, across),
                            (_, true) => add::<S, 1, 2>(simd, &pairs, at, to, across),
                            (_, false) => add::<S, 1, 1>(simd, &pairs, at, to, across),
                        }
                    };
                }
            }
            pairs.clear();
        }
    }
}

/// Adds to one tile of sums; returns its rows.
///
/// # Safety
/// As for [`tile::add_pairs`]; the tile can be read and written.
#[inline(always)]
unsafe fn add<S: Simd, const R: usize, const V: usize>(
    simd: S,
    pairs: &[(*const f32, *const f32)],
    at: (usize, usize),
    to: *mut f32,
    apart: usize,
) -> usize {
    // SAFETY: the caller's promise.
    unsafe {
        let sums = tile::read::<S, R, V>(to, apart);
        let sums = tile::add_pairs(simd, sums, pairs, at);
        for (r, row) in sums.into_iter().enumerate() {
            tile::write::<S, V>(row, to.add(r * apart), V * S::F32_LANES);
        }
    }
    R
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
    let view = View::of_patches(x, image, window);
    (view.size == [grad_size[1], grad_size[2]]).then_some(())?;
    let (lanes, tile_rows) = tile::shape();
    let across = outputs.next_multiple_of(lanes);
    let grad: Cow<'_, [f32]> = match across == outputs {
        true => grad.into(),
        false => widened(grad, outputs, across).into(),
    };
    // A task sums some values of one run over all rows: nothing is added up across threads.
    let parts = TASKS
        .div_ceil(view.runs())
        .min(view.len.div_ceil(tile_rows));
    let part = view.len.div_ceil(parts).next_multiple_of(tile_rows);
    let mut sums = vec![0f32; view.runs() * view.len * across];
    let tasks: Vec<(usize, usize, &mut [f32])> = sums
        .chunks_mut(view.len * across)
        .enumerate()
        .flat_map(|(run, sums)| {
            let parts = sums.chunks_mut(part * across).enumerate();
            parts.map(move |(i, sums)| (run, i * part, sums))
        })
        .collect();
    tasks.into_par_iter().for_each(|(run, first, sums)| {
        tiled(SumRows {
            view: &view,
            run,
            first,
            grad: &grad,
            across,
            sums,
        });
    });
    // `[taps, C, across]` -> `[O, C, taps]`.
    let taps = kh * kw;
    let mut values = vec![0f32; outputs * channels * taps];
    values
        .par_chunks_mut(channels * taps)
        .enumerate()
        .for_each(|(o, weight)| {
            for (i, value) in weight.iter_mut().enumerate() {
                let (c, tap) = (i / taps, i % taps);
                *value = sums[(tap * channels + c) * across + o];
            }
        });
    Some(from_vec(values, sizes))
}

/// Rows with zeros behind them.
fn widened(rows: &[f32], width: usize, across: usize) -> Vec<f32> {
    let mut wide = vec![0f32; rows.len() / width * across];
    wide.par_chunks_mut(across)
        .with_min_len(64)
        .zip(rows.par_chunks(width))
        .for_each(|(wide, row)| wide[..width].copy_from_slice(row));
    wide
}
