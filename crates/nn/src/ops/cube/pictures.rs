//! What stands between convolutions: batch norm with the residual and the rectification after it, and max pooling. A batch's
//! moments and the sums over it are taken by chunks of rows, then over the chunks.

use super::conv::{Geometry, Sizes, Taps, dims, reached};
use super::launch::{elements, empty, input, rows_and_columns};
use super::sums;
use crate::ops::{BatchNormConfig, BatchNormGrads, Rectify, TuneBackend, Window};
use burn_cubecl::{CubeRuntime, kernel::into_contiguous, tensor::CubeTensor};
use cubecl::prelude::*;

/// The fewest rows of a chunk, and about how many units work on all.
const CHUNK: usize = 64;
const UNITS: usize = 1 << 15;

/// Rows of a chunk, and chunks.
fn chunks([rows, columns]: [usize; 2]) -> (usize, usize) {
    let most = (UNITS / columns.max(1)).clamp(16, 512);
    let chunk = rows.div_ceil(most).max(CHUNK);
    (chunk, rows.div_ceil(chunk))
}

/// Mean and sum of squared differences of a chunk's rows: `out [chunks, 2, C]`.
#[cube(launch_unchecked)]
fn chunk_moments_kernel(
    x: &Array<f32>,
    out: &mut Array<f32>,
    rows: usize,
    columns: usize,
    chunk: usize,
    chunks: usize,
) {
    if ABSOLUTE_POS >= chunks * columns {
        terminate!();
    }
    let (part, column) = (ABSOLUTE_POS / columns, ABSOLUTE_POS % columns);
    let first = part * chunk;
    let end = min(first + chunk, rows);
    let mut sum = 0.0f32;
    for row in first..end {
        sum += x[row * columns + column];
    }
    let mean = sum / (end - first) as f32;
    let mut squares = 0.0f32;
    for row in first..end {
        let difference = x[row * columns + column] - mean;
        squares += difference * difference;
    }
    out[2 * part * columns + column] = mean;
    out[(2 * part + 1) * columns + column] = squares;
}

/// Mean and variance of all from those of the chunks (Chan et al. 1979): `out [2, C]`.
#[cube(launch_unchecked)]
fn moments_kernel(
    parts: &Array<f32>,
    out: &mut Array<f32>,
    rows: usize,
    columns: usize,
    chunk: usize,
    chunks: usize,
) {
    if ABSOLUTE_POS >= columns {
        terminate!();
    }
    let mut mean = 0.0f32;
    let mut squares = 0.0f32;
    for part in 0..chunks {
        let first = part * chunk;
        let count = (min(first + chunk, rows) - first) as f32;
        let before = first as f32;
        let difference = parts[2 * part * columns + ABSOLUTE_POS] - mean;
        let share = count / (before + count);
        mean += difference * share;
        squares += parts[(2 * part + 1) * columns + ABSOLUTE_POS]
            + difference * difference * before * share;
    }
    out[ABSOLUTE_POS] = mean;
    out[columns + ABSOLUTE_POS] = squares / rows as f32;
}

/// `rectify`: 0 nothing, 1 ReLU, 2 ReLU6.
#[cube(launch_unchecked)]
#[allow(clippy::too_many_arguments)]
fn norm_kernel(
    x: &Array<f32>,
    residual: &Array<f32>,
    gamma: &Array<f32>,
    beta: &Array<f32>,
    moments: &Array<f32>,
    out: &mut Array<f32>,
    columns: usize,
    epsilon: f32,
    #[comptime] has_residual: bool,
    #[comptime] rectify: u32,
) {
    if ABSOLUTE_POS >= out.len() {
        terminate!();
    }
    let column = ABSOLUTE_POS % columns;
    let scale = 1.0 / (moments[columns + column] + epsilon).sqrt() * gamma[column];
    let mut y = (x[ABSOLUTE_POS] - moments[column]) * scale + beta[column];
    if has_residual {
        y += residual[ABSOLUTE_POS];
    }
    // A NaN stays one.
    if rectify > 0 && y < 0.0 {
        y = 0.0;
    }
    if rectify == 2 && y > 6.0 {
        y = 6.0;
    }
    out[ABSOLUTE_POS] = y;
}

/// The gradient that passes the rectification, open at its ends.
#[cube]
fn through(grad: f32, y: f32, #[comptime] rectify: u32) -> f32 {
    let mut g = grad;
    if rectify > 0 && y <= 0.0 {
        g = 0.0;
    }
    if rectify == 2 && y >= 6.0 {
        g = 0.0;
    }
    g
}

/// Sums over a chunk of the gradient times the normalised value, and of the gradient: `out [chunks, 2, C]`.
#[cube(launch_unchecked)]
#[allow(clippy::too_many_arguments)]
fn chunk_grads_kernel(
    x: &Array<f32>,
    y: &Array<f32>,
    moments: &Array<f32>,
    grad: &Array<f32>,
    out: &mut Array<f32>,
    rows: usize,
    columns: usize,
    chunk: usize,
    chunks: usize,
    epsilon: f32,
    #[comptime] rectify: u32,
) {
    if ABSOLUTE_POS >= chunks * columns {
        terminate!();
    }
    let (part, column) = (ABSOLUTE_POS / columns, ABSOLUTE_POS % columns);
    let first = part * chunk;
    let end = min(first + chunk, rows);
    let mean = moments[column];
    let inverse = 1.0 / (moments[columns + column] + epsilon).sqrt();
    let mut gamma = 0.0f32;
    let mut beta = 0.0f32;
    for row in first..end {
        let at = row * columns + column;
        let g = through(grad[at], y[at], rectify);
        gamma += g * (x[at] - mean) * inverse;
        beta += g;
    }
    out[2 * part * columns + column] = gamma;
    out[(2 * part + 1) * columns + column] = beta;
}

/// Gradients of x and of the residual.
#[cube(launch_unchecked)]
#[allow(clippy::too_many_arguments)]
fn norm_backward_kernel(
    x: &Array<f32>,
    y: &Array<f32>,
    gamma: &Array<f32>,
    moments: &Array<f32>,
    grad: &Array<f32>,
    sum_gamma: &Array<f32>,
    sum_beta: &Array<f32>,
    for_x: &mut Array<f32>,
    for_residual: &mut Array<f32>,
    rows: usize,
    columns: usize,
    epsilon: f32,
    #[comptime] of_batch: bool,
    #[comptime] rectify: u32,
    #[comptime] needs_x: bool,
    #[comptime] needs_residual: bool,
) {
    if ABSOLUTE_POS >= rows * columns {
        terminate!();
    }
    let column = ABSOLUTE_POS % columns;
    let g = through(grad[ABSOLUTE_POS], y[ABSOLUTE_POS], rectify);
    if needs_residual {
        for_residual[ABSOLUTE_POS] = g;
    }
    if needs_x {
        let inverse = 1.0 / (moments[columns + column] + epsilon).sqrt();
        let mut inner = g;
        if of_batch {
            let count = rows as f32;
            let normal = (x[ABSOLUTE_POS] - moments[column]) * inverse;
            inner = g - sum_beta[column] / count - normal * (sum_gamma[column] / count);
        }
        for_x[ABSOLUTE_POS] = inner * (inverse * gamma[column]);
    }
}

fn number(rectify: Rectify) -> u32 {
    match rectify {
        Rectify::None => 0,
        Rectify::Relu => 1,
        Rectify::Relu6 => 2,
    }
}

/// Mean and biased variance of the columns of `x [R, C]`, R at least 1: `[2, C]`.
pub(super) fn moments<R: CubeRuntime>(x: CubeTensor<R>) -> CubeTensor<R> {
    let [rows, columns] = rows_and_columns(&x);
    let (chunk, count) = chunks([rows, columns]);
    let (parts, out) = (empty(&x, [count, 2, columns]), empty(&x, [2, columns]));
    let client = x.client.clone();
    let (cubes, dim) = elements(&x, count * columns);
    let (few, _) = elements(&x, columns);
    // SAFETY: a unit reads its column of the rows of its chunk that exist, then its column of the parts.
    unsafe {
        chunk_moments_kernel::launch_unchecked::<R>(
            &client,
            cubes,
            dim,
            input(x),
            parts.clone().into_array_arg(),
            rows,
            columns,
            chunk,
            count,
        );
        moments_kernel::launch_unchecked::<R>(
            &client,
            few,
            dim,
            parts.into_array_arg(),
            out.clone().into_array_arg(),
            rows,
            columns,
            chunk,
            count,
        );
    }
    out
}

pub(super) fn batch_norm<R: CubeRuntime>(
    x: CubeTensor<R>,
    residual: Option<CubeTensor<R>>,
    gamma: CubeTensor<R>,
    beta: CubeTensor<R>,
    moments: CubeTensor<R>,
    config: BatchNormConfig,
) -> CubeTensor<R> {
    let out = empty(&x, x.meta.shape().clone());
    let [rows, columns] = rows_and_columns(&x);
    if rows * columns > 0 {
        let (cubes, dim) = elements(&x, rows * columns);
        let client = x.client.clone();
        let has_residual = residual.is_some();
        // What is not there is not read: gamma stands in its place.
        let residual = input(residual.unwrap_or_else(|| gamma.clone()));
        // SAFETY: a unit touches its element, and those of its column.
        unsafe {
            norm_kernel::launch_unchecked::<R>(
                &client,
                cubes,
                dim,
                input(x),
                residual,
                input(gamma),
                input(beta),
                input(moments),
                out.clone().into_array_arg(),
                columns,
                config.epsilon as f32,
                has_residual,
                number(config.rectify),
            );
        }
    }
    out
}

/// For at least one row.
pub(super) fn batch_norm_backward<R: CubeRuntime, B>(
    x: CubeTensor<R>,
    y: CubeTensor<R>,
    gamma: CubeTensor<R>,
    moments: CubeTensor<R>,
    grad: CubeTensor<R>,
    config: BatchNormConfig,
    (needs_x, needs_residual, needs_affine): (bool, bool, bool),
) -> BatchNormGrads<B>
where
    B: TuneBackend<FloatTensorPrimitive = CubeTensor<R>>,
{
    let [rows, columns] = rows_and_columns(&x);
    let shape = x.meta.shape().clone();
    let [x, y, gamma, moments, grad] = [x, y, gamma, moments, grad].map(into_contiguous);
    let client = x.client.clone();
    let (epsilon, rectify) = (config.epsilon as f32, number(config.rectify));
    let needs_sums = needs_affine || (needs_x && config.of_batch);
    let both = needs_sums.then(|| {
        let (chunk, count) = chunks([rows, columns]);
        let parts = empty(&x, [count, 2, columns]);
        let (cubes, dim) = elements(&x, count * columns);
        // SAFETY: a unit reads its column of the rows of its chunk that exist.
        unsafe {
            chunk_grads_kernel::launch_unchecked::<R>(
                &client,
                cubes,
                dim,
                x.clone().into_array_arg(),
                y.clone().into_array_arg(),
                moments.clone().into_array_arg(),
                grad.clone().into_array_arg(),
                parts.clone().into_array_arg(),
                rows,
                columns,
                chunk,
                count,
                epsilon,
                rectify,
            );
        }
        sums::pairs(parts)
    });
    let place = |needed: bool| needed.then(|| empty(&x, shape.clone()));
    let (for_x, for_residual) = (place(needs_x), place(needs_residual));
    if needs_x || needs_residual {
        let (cubes, dim) = elements(&x, rows * columns);
        // What is not there is neither read nor written: other tensors of at least one element stand in its place.
        let (sum_gamma, sum_beta) = both
            .clone()
            .unwrap_or_else(|| (gamma.clone(), gamma.clone()));
        let [to_x, to_residual] =
            [&for_x, &for_residual].map(|to| to.clone().unwrap_or_else(|| empty(&gamma, [1])));
        // SAFETY: a unit touches its element, and those of its column.
        unsafe {
            norm_backward_kernel::launch_unchecked::<R>(
                &client,
                cubes,
                dim,
                x.into_array_arg(),
                y.into_array_arg(),
                gamma.into_array_arg(),
                moments.into_array_arg(),
                grad.into_array_arg(),
                sum_gamma.into_array_arg(),
                sum_beta.into_array_arg(),
                to_x.into_array_arg(),
                to_residual.into_array_arg(),
                rows,
                columns,
                epsilon,
                config.of_batch,
                rectify,
                needs_x,
                needs_residual,
            );
        }
    }
    BatchNormGrads {
        x: for_x,
        residual: for_residual,
        affine: both.filter(|_| needs_affine),
    }
}

/// The place of the first of a window's largest values, as a tap, plus 1; 0 where the window lies outside of the image.
#[cube]
fn largest(
    x: &Array<f32>,
    image: usize,
    row: usize,
    column: usize,
    channel: usize,
    g: Geometry,
    #[comptime] taps: Taps,
) -> usize {
    let mut found = 0usize.runtime();
    let mut top = 0.0f32;
    for tap_y in 0..comptime!(taps.rows) {
        for tap_x in 0..comptime!(taps.columns) {
            let (y, x_at) = (row * g.stride_y + tap_y, column * g.stride_x + tap_x);
            if y >= g.top && y < g.top + g.height && x_at >= g.left && x_at < g.left + g.width {
                let pixel = (image * g.height + y - g.top) * g.width + x_at - g.left;
                let value = x[pixel * g.channels + channel];
                if found == 0 || value > top {
                    top = value;
                    found = tap_y * comptime!(taps.columns) + tap_x + 1;
                }
            }
        }
    }
    found
}

#[cube(launch_unchecked)]
fn pool_kernel(x: &Array<f32>, out: &mut Array<f32>, g: Geometry, #[comptime] taps: Taps) {
    if ABSOLUTE_POS >= out.len() {
        terminate!();
    }
    let (position, channel) = (ABSOLUTE_POS / g.channels, ABSOLUTE_POS % g.channels);
    let image = position / (g.rows * g.columns);
    let (row, column) = (position / g.columns % g.rows, position % g.columns);
    let tap = largest(x, image, row, column, channel, g, taps);
    let mut value = f32::cast_from(-3.402_823_5e38f32);
    if tap > 0 {
        let y = row * g.stride_y + (tap - 1) / comptime!(taps.columns) - g.top;
        let x_at = column * g.stride_x + (tap - 1) % comptime!(taps.columns) - g.left;
        value = x[((image * g.height + y) * g.width + x_at) * g.channels + channel];
    }
    out[ABSOLUTE_POS] = value;
}

/// One unit a value of the image: the windows that have it, of which it may be the first of the largest.
#[cube(launch_unchecked)]
fn pool_backward_kernel(
    x: &Array<f32>,
    grad: &Array<f32>,
    out: &mut Array<f32>,
    g: Geometry,
    #[comptime] taps: Taps,
) {
    if ABSOLUTE_POS >= out.len() {
        terminate!();
    }
    let channel = ABSOLUTE_POS % g.channels;
    let pixel = ABSOLUTE_POS / g.channels;
    let image = pixel / (g.height * g.width);
    let y = pixel / g.width % g.height + g.top;
    let x_at = pixel % g.width + g.left;
    let mut sum = 0.0f32;
    for tap_y in 0..comptime!(taps.rows) {
        let row = reached(y, tap_y, g.stride_y, g.rows);
        for tap_x in 0..comptime!(taps.columns) {
            let column = reached(x_at, tap_x, g.stride_x, g.columns);
            if row > 0 && column > 0 {
                let tap = tap_y * comptime!(taps.columns) + tap_x + 1;
                if largest(x, image, row - 1, column - 1, channel, g, taps) == tap {
                    let position = (image * g.rows + row - 1) * g.columns + column - 1;
                    sum += grad[position * g.channels + channel];
                }
            }
        }
    }
    out[ABSOLUTE_POS] = sum;
}

pub(super) fn max_pool<R: CubeRuntime>(x: CubeTensor<R>, window: Window) -> CubeTensor<R> {
    let image = dims(&x);
    let sizes = Sizes::new(image, image[3], window);
    let [rows, columns, channels] = sizes.out;
    let out = empty(&x, [image[0], rows, columns, channels]);
    let count = out.meta.num_elements();
    if count > 0 {
        let (cubes, dim) = elements(&x, count);
        // SAFETY: what a tap finds outside of the image is not read.
        unsafe {
            pool_kernel::launch_unchecked::<R>(
                &x.client.clone(),
                cubes,
                dim,
                input(x),
                out.clone().into_array_arg(),
                sizes.launch(),
                sizes.taps(),
            );
        }
    }
    out
}

pub(super) fn max_pool_backward<R: CubeRuntime>(
    x: CubeTensor<R>,
    grad: CubeTensor<R>,
    window: Window,
) -> CubeTensor<R> {
    let image = dims(&x);
    let sizes = Sizes::new(image, image[3], window);
    let out = empty(&x, image);
    let count = out.meta.num_elements();
    if count > 0 {
        let (cubes, dim) = elements(&x, count);
        // SAFETY: as above; a tap reaches outputs that exist only.
        unsafe {
            pool_backward_kernel::launch_unchecked::<R>(
                &x.client.clone(),
                cubes,
                dim,
                input(x),
                input(grad),
                out.clone().into_array_arg(),
                sizes.launch(),
                sizes.taps(),
            );
        }
    }
    out
}
