//! Layer norm, with the residual before it, and RMS norm: a cube a row forward and backward. The gradients of gamma and beta
//! are sums over rows: chunks first, then the chunks.

use super::launch::{cubes, elements, empty, input, rows_and_columns, units_for};
use super::sums::{self, CHUNK, cube_sum};
use crate::ops::{LayerNormGrads, RmsNormGrads, TuneBackend};
use burn_cubecl::{CubeRuntime, tensor::CubeTensor};
use cubecl::prelude::*;

/// Mean and 1/σ of a row of x plus the residual; of an RMS norm, 0 and 1/RMS.
#[derive(CubeType, Clone, Copy)]
struct Moments {
    mean: f32,
    inverse: f32,
}

#[cube]
fn value_at(
    x: &Array<f32>,
    residual: &Array<f32>,
    at: usize,
    #[comptime] has_residual: bool,
) -> f32 {
    if has_residual {
        x[at] + residual[at]
    } else {
        x[at]
    }
}

#[cube]
#[allow(clippy::too_many_arguments)]
fn moments(
    x: &Array<f32>,
    residual: &Array<f32>,
    start: usize,
    columns: usize,
    epsilon: f32,
    shared: &mut SharedMemory<f32>,
    #[comptime] units: u32,
    #[comptime] has_residual: bool,
    #[comptime] centred: bool,
) -> Moments {
    let count = columns as f32;
    let mut mean = 0.0f32;
    if centred {
        let mut sum = 0.0f32;
        let mut at = UNIT_POS as usize;
        while at < columns {
            sum += value_at(x, residual, start + at, has_residual);
            at += comptime!(units as usize);
        }
        mean = cube_sum(sum, shared, units) / count;
    }
    let mut squares = 0.0f32;
    let mut at = UNIT_POS as usize;
    while at < columns {
        let difference = value_at(x, residual, start + at, has_residual) - mean;
        squares += difference * difference;
        at += comptime!(units as usize);
    }
    let variance = cube_sum(squares, shared, units) / count;
    Moments {
        mean,
        inverse: 1.0 / (variance + epsilon).sqrt(),
    }
}

#[cube(launch_unchecked)]
#[allow(clippy::too_many_arguments)]
fn norm_kernel(
    x: &Array<f32>,
    residual: &Array<f32>,
    gamma: &Array<f32>,
    beta: &Array<f32>,
    out: &mut Array<f32>,
    rows: usize,
    columns: usize,
    epsilon: f32,
    #[comptime] units: u32,
    #[comptime] has_residual: bool,
    #[comptime] centred: bool,
) {
    let row = CUBE_POS;
    if row >= rows {
        terminate!();
    }
    let mut shared = SharedMemory::<f32>::new(comptime!(units as usize));
    let start = row * columns;
    let m = moments(
        x,
        residual,
        start,
        columns,
        epsilon,
        &mut shared,
        units,
        has_residual,
        centred,
    );
    let mut at = UNIT_POS as usize;
    while at < columns {
        let normal = (value_at(x, residual, start + at, has_residual) - m.mean) * m.inverse;
        let mut y = normal * gamma[at];
        if centred {
            y += beta[at];
        }
        out[start + at] = y;
        at += comptime!(units as usize);
    }
}

/// The gradient of x where it is asked for, and each row's mean and 1/σ.
#[cube(launch_unchecked)]
#[allow(clippy::too_many_arguments)]
fn norm_backward_kernel(
    x: &Array<f32>,
    residual: &Array<f32>,
    gamma: &Array<f32>,
    grad: &Array<f32>,
    for_x: &mut Array<f32>,
    statistics: &mut Array<f32>,
    rows: usize,
    columns: usize,
    epsilon: f32,
    #[comptime] units: u32,
    #[comptime] has_residual: bool,
    #[comptime] centred: bool,
    #[comptime] needs_x: bool,
) {
    let row = CUBE_POS;
    if row >= rows {
        terminate!();
    }
    let mut shared = SharedMemory::<f32>::new(comptime!(units as usize));
    let start = row * columns;
    let m = moments(
        x,
        residual,
        start,
        columns,
        epsilon,
        &mut shared,
        units,
        has_residual,
        centred,
    );
    if UNIT_POS == 0 {
        statistics[2 * row] = m.mean;
        statistics[2 * row + 1] = m.inverse;
    }
    if needs_x {
        let mut sum = 0.0f32;
        let mut along = 0.0f32;
        let mut at = UNIT_POS as usize;
        while at < columns {
            let g = grad[start + at] * gamma[at];
            let normal = (value_at(x, residual, start + at, has_residual) - m.mean) * m.inverse;
            sum += g;
            along += g * normal;
            at += comptime!(units as usize);
        }
        let count = columns as f32;
        let along = cube_sum(along, &mut shared, units) / count;
        let mut mean = 0.0f32;
        if centred {
            mean = cube_sum(sum, &mut shared, units) / count;
        }
        let mut at = UNIT_POS as usize;
        while at < columns {
            let g = grad[start + at] * gamma[at];
            let normal = (value_at(x, residual, start + at, has_residual) - m.mean) * m.inverse;
            for_x[start + at] = (g - mean - normal * along) * m.inverse;
            at += comptime!(units as usize);
        }
    }
}

/// Sums over chunks of rows of `grad * normalised` and of the gradient: `out [chunks, 2, C]`; of an RMS norm the first alone, `[chunks,
/// C]`.
#[cube(launch_unchecked)]
#[allow(clippy::too_many_arguments)]
fn affine_kernel(
    x: &Array<f32>,
    residual: &Array<f32>,
    grad: &Array<f32>,
    statistics: &Array<f32>,
    out: &mut Array<f32>,
    rows: usize,
    columns: usize,
    chunk: usize,
    chunks: usize,
    #[comptime] has_residual: bool,
    #[comptime] centred: bool,
) {
    if ABSOLUTE_POS >= chunks * columns {
        terminate!();
    }
    let part = ABSOLUTE_POS / columns;
    let first = part * chunk;
    let column = ABSOLUTE_POS % columns;
    let end = min(first + chunk, rows);
    let mut gamma = 0.0f32;
    let mut beta = 0.0f32;
    for row in first..end {
        let at = row * columns + column;
        let g = grad[at];
        let value = value_at(x, residual, at, has_residual);
        gamma += g * (value - statistics[2 * row]) * statistics[2 * row + 1];
        beta += g;
    }
    if centred {
        out[2 * part * columns + column] = gamma;
        out[(2 * part + 1) * columns + column] = beta;
    } else {
        out[ABSOLUTE_POS] = gamma;
    }
}

/// Layer norm where there is a beta, RMS norm otherwise.
pub(super) fn forward<R: CubeRuntime>(
    x: CubeTensor<R>,
    residual: Option<CubeTensor<R>>,
    gamma: CubeTensor<R>,
    beta: Option<CubeTensor<R>>,
    epsilon: f64,
) -> CubeTensor<R> {
    let out = empty(&x, x.meta.shape().clone());
    let [rows, columns] = rows_and_columns(&x);
    if rows * columns > 0 {
        let units = units_for(columns);
        let (count, dim) = cubes(rows, units);
        let client = x.client.clone();
        let (has_residual, centred) = (residual.is_some(), beta.is_some());
        // What is not there is not read: gamma stands in its place.
        let [residual, beta] = [residual, beta].map(|t| input(t.unwrap_or_else(|| gamma.clone())));
        // SAFETY: a cube touches its row, and an element of gamma and beta for each column.
        unsafe {
            norm_kernel::launch_unchecked::<R>(
                &client,
                count,
                dim,
                input(x),
                residual,
                input(gamma),
                beta,
                out.clone().into_array_arg(),
                rows,
                columns,
                epsilon as f32,
                units,
                has_residual,
                centred,
            );
        }
    }
    out
}

/// Gradients of x, and of gamma and beta; beta's only of a layer norm.
struct Grads<R: CubeRuntime> {
    x: Option<CubeTensor<R>>,
    gamma: Option<CubeTensor<R>>,
    beta: Option<CubeTensor<R>>,
}

fn backward<R: CubeRuntime>(
    x: CubeTensor<R>,
    residual: Option<CubeTensor<R>>,
    gamma: CubeTensor<R>,
    grad: CubeTensor<R>,
    epsilon: f64,
    needs: (bool, bool),
    centred: bool,
) -> Grads<R> {
    let [rows, columns] = rows_and_columns(&x);
    let units = units_for(columns);
    let has_residual = residual.is_some();
    let client = x.client.clone();
    let statistics = empty(&x, [rows, 2]);
    let for_x = needs.0.then(|| empty(&x, x.meta.shape().clone()));
    let [x, grad, gamma] = [x, grad, gamma].map(burn_cubecl::kernel::into_contiguous);
    let residual = residual.map_or_else(|| gamma.clone(), burn_cubecl::kernel::into_contiguous);
    let (count, dim) = cubes(rows, units);
    // SAFETY: as in `forward`; `statistics` has two values a row.
    unsafe {
        norm_backward_kernel::launch_unchecked::<R>(
            &client,
            count,
            dim,
            x.clone().into_array_arg(),
            residual.clone().into_array_arg(),
            gamma.clone().into_array_arg(),
            grad.clone().into_array_arg(),
            for_x
                .clone()
                .unwrap_or_else(|| empty(&gamma, [1]))
                .into_array_arg(),
            statistics.clone().into_array_arg(),
            rows,
            columns,
            epsilon as f32,
            units,
            has_residual,
            centred,
            needs.0,
        );
    }
    if !needs.1 {
        return Grads {
            x: for_x,
            gamma: None,
            beta: None,
        };
    }
    let chunk = rows.div_ceil(2 * CHUNK).max(CHUNK);
    let chunks = rows.div_ceil(chunk);
    let parts = match centred {
        true => empty(&x, [chunks, 2, columns]),
        false => empty(&x, [chunks, columns]),
    };
    let (count, dim) = elements(&x, chunks * columns);
    // SAFETY: a unit reads its column of the rows of its chunk that exist.
    unsafe {
        affine_kernel::launch_unchecked::<R>(
            &client,
            count,
            dim,
            x.into_array_arg(),
            residual.into_array_arg(),
            grad.into_array_arg(),
            statistics.into_array_arg(),
            parts.clone().into_array_arg(),
            rows,
            columns,
            chunk,
            chunks,
            has_residual,
            centred,
        );
    }
    let (gamma, beta) = match centred {
        true => {
            let (gamma, beta) = sums::pairs(parts);
            (gamma, Some(beta))
        }
        false => {
            let gamma = empty(&parts, [columns]);
            (sums::parts(parts, gamma), None)
        }
    };
    Grads {
        x: for_x,
        gamma: Some(gamma),
        beta,
    }
}

pub(super) fn layer_norm_backward<R: CubeRuntime, B>(
    x: CubeTensor<R>,
    residual: Option<CubeTensor<R>>,
    gamma: CubeTensor<R>,
    grad: CubeTensor<R>,
    epsilon: f64,
    needs: (bool, bool),
) -> LayerNormGrads<B>
where
    B: TuneBackend<FloatTensorPrimitive = CubeTensor<R>>,
{
    let grads = backward(x, residual, gamma, grad, epsilon, needs, true);
    LayerNormGrads {
        x: grads.x,
        affine: grads.gamma.zip(grads.beta),
    }
}

pub(super) fn rms_norm_backward<R: CubeRuntime, B>(
    x: CubeTensor<R>,
    gamma: CubeTensor<R>,
    grad: CubeTensor<R>,
    epsilon: f64,
    needs: (bool, bool),
) -> RmsNormGrads<B>
where
    B: TuneBackend<FloatTensorPrimitive = CubeTensor<R>>,
{
    let grads = backward(x, None, gamma, grad, epsilon, needs, false);
    RmsNormGrads {
        x: grads.x,
        gamma: grads.gamma,
    }
}
