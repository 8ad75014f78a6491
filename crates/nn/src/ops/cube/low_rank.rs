//! A low-rank side path: two launches forward, four backward, whatever the numbers of tokens. The rank is so small that a product's
//! tiles would be mostly empty: here a unit has an element of the narrow factor, or a column of a gradient for all ranks.

use super::elementwise::add_low_rank;
use super::launch::{elements, empty, input, rows_and_columns};
use crate::ops::{LowRankGrads, TuneBackend};
use burn_cubecl::{CubeRuntime, kernel::into_contiguous, tensor::CubeTensor};
use cubecl::prelude::*;

/// The largest rank that the kernels take.
pub(super) const LARGEST: usize = 32;
/// Rows of a cube, a stage's depth, and units a row.
const ROWS: usize = 32;
const DEPTH: usize = 32;
const ACROSS: usize = 8;
const UNITS: usize = ROWS * ACROSS;
/// The fewest rows of a chunk, and about how many units work on all.
const CHUNK: usize = 16;
const WORKERS: usize = 1 << 15;

/// `out [T, r] = scale x [T, I] fewᵀ`, `few` being `[r, I]`, or `[I, r]` where the rank is the contiguous one.
#[cube(launch_unchecked)]
#[allow(clippy::too_many_arguments)]
fn narrow_kernel(
    x: &Array<f32>,
    few: &Array<f32>,
    out: &mut Array<f32>,
    rows: usize,
    inner: usize,
    scale: f32,
    #[comptime] rank: usize,
    #[comptime] by_rank: bool,
) {
    let each = comptime!(rank.div_ceil(ACROSS));
    let line = comptime!(rank.div_ceil(ACROSS) * ACROSS);
    let mut tile = SharedMemory::<f32>::new(comptime!(ROWS * (DEPTH + 1)));
    let mut weights = SharedMemory::<f32>::new(comptime!(DEPTH * line));
    let mut sums = Array::<f32>::new(each);
    #[unroll]
    for j in 0..each {
        sums[j] = 0.0f32;
    }
    let unit = UNIT_POS as usize;
    let first = CUBE_POS * ROWS;
    let (own_row, own_rank) = (unit / ACROSS, unit % ACROSS);
    let mut base = 0usize.runtime();
    while base < inner {
        sync_cube();
        #[unroll]
        for i in 0..comptime!(ROWS * DEPTH / UNITS) {
            let place = unit + comptime!(i * UNITS);
            let (row, depth) = (place / DEPTH, place % DEPTH);
            let mut value = 0.0f32;
            if first + row < rows && base + depth < inner {
                value = x[(first + row) * inner + base + depth];
            }
            tile[row * comptime!(DEPTH + 1) + depth] = value;
        }
        #[unroll]
        for i in 0..comptime!((DEPTH * line).div_ceil(UNITS)) {
            let place = unit + comptime!(i * UNITS);
            let mut depth = place % DEPTH;
            let mut r = place / DEPTH;
            if by_rank {
                depth = place / line;
                r = place % line;
            }
            if depth < DEPTH && r < line {
                let mut value = 0.0f32;
                if r < rank && base + depth < inner {
                    if by_rank {
                        value = few[(base + depth) * rank + r];
                    } else {
                        value = few[r * inner + base + depth];
                    }
                }
                weights[depth * line + r] = value;
            }
        }
        sync_cube();
        #[unroll]
        for depth in 0..comptime!(DEPTH) {
            let value = tile[own_row * comptime!(DEPTH + 1) + depth];
            #[unroll]
            for j in 0..each {
                sums[j] += value * weights[comptime!(depth * line + j * ACROSS) + own_rank];
            }
        }
        base += comptime!(DEPTH);
    }
    let row = first + own_row;
    if row < rows {
        #[unroll]
        for j in 0..each {
            let r = own_rank + comptime!(j * ACROSS);
            if r < rank {
                out[row * rank + r] = sums[j] * scale;
            }
        }
    }
}

/// `out [T, I] = low [T, r] few [r, I]`
#[cube(launch_unchecked)]
fn spread_kernel(
    low: &Array<f32>,
    few: &Array<f32>,
    out: &mut Array<f32>,
    columns: usize,
    #[comptime] rank: usize,
) {
    if ABSOLUTE_POS >= out.len() {
        terminate!();
    }
    let row = (ABSOLUTE_POS / columns) * rank;
    let column = ABSOLUTE_POS % columns;
    let mut sum = 0.0f32;
    #[unroll]
    for r in 0..rank {
        sum += low[row + r] * few[r * columns + column];
    }
    out[ABSOLUTE_POS] = sum;
}

/// Both gradients over a chunk of rows: of A from x and the narrow gradient, of B from the gradient and the narrow values. A unit has
/// a column for all ranks: `out [chunks, r, I + O]`.
#[cube(launch_unchecked)]
#[allow(clippy::too_many_arguments)]
fn factors_kernel(
    x: &Array<f32>,
    grad: &Array<f32>,
    low: &Array<f32>,
    low_grad: &Array<f32>,
    out: &mut Array<f32>,
    rows: usize,
    inner: usize,
    outer: usize,
    chunk: usize,
    chunks: usize,
    scale: f32,
    #[comptime] rank: usize,
) {
    let columns = inner + outer;
    if ABSOLUTE_POS >= chunks * columns {
        terminate!();
    }
    let (part, column) = (ABSOLUTE_POS / columns, ABSOLUTE_POS % columns);
    let mut sums = Array::<f32>::new(rank);
    #[unroll]
    for r in 0..rank {
        sums[r] = 0.0f32;
    }
    let first = part * chunk;
    let end = min(first + chunk, rows);
    if column < inner {
        for row in first..end {
            let value = x[row * inner + column];
            #[unroll]
            for r in 0..rank {
                sums[r] += value * low_grad[row * rank + r];
            }
        }
    } else {
        for row in first..end {
            let value = grad[row * outer + column - inner] * scale;
            #[unroll]
            for r in 0..rank {
                sums[r] += value * low[row * rank + r];
            }
        }
    }
    #[unroll]
    for r in 0..rank {
        out[(part * rank + r) * columns + column] = sums[r];
    }
}

/// The chunks' sums: A `[r, I]` and B `[O, r]`.
#[cube(launch_unchecked)]
fn factor_sums_kernel(
    parts: &Array<f32>,
    a: &mut Array<f32>,
    b: &mut Array<f32>,
    inner: usize,
    outer: usize,
    chunks: usize,
    #[comptime] rank: usize,
) {
    let columns = inner + outer;
    if ABSOLUTE_POS >= rank * columns {
        terminate!();
    }
    let mut sum = 0.0f32;
    for part in 0..chunks {
        sum += parts[part * rank * columns + ABSOLUTE_POS];
    }
    let (r, column) = (ABSOLUTE_POS / columns, ABSOLUTE_POS % columns);
    if column < inner {
        a[r * inner + column] = sum;
    } else {
        b[(column - inner) * rank + r] = sum;
    }
}

/// `scale x [T, I] fewᵀ`, `[T, r]`; `few` as in the kernel.
fn narrow<R: CubeRuntime>(
    x: &CubeTensor<R>,
    few: CubeTensor<R>,
    scale: f64,
    rank: usize,
    by_rank: bool,
) -> CubeTensor<R> {
    let [rows, inner] = rows_and_columns(x);
    let out = empty(x, [rows, rank]);
    let count = CubeCount::Static(rows.div_ceil(ROWS) as u32, 1, 1);
    // SAFETY: what lies outside of a factor or of the result is neither read nor written.
    unsafe {
        narrow_kernel::launch_unchecked::<R>(
            &x.client,
            count,
            CubeDim::new_1d(UNITS as u32),
            x.clone().into_array_arg(),
            input(few),
            out.clone().into_array_arg(),
            rows,
            inner,
            scale as f32,
            rank,
            by_rank,
        );
    }
    out
}

/// `sum [T, O] + scale (x [T, I] Aᵀ) Bᵀ` and the narrow `x Aᵀ [T, r]`, for at least one token and a rank of at most [`LARGEST`].
pub(super) fn forward<R: CubeRuntime>(
    sum: CubeTensor<R>,
    x: CubeTensor<R>,
    a: CubeTensor<R>,
    b: CubeTensor<R>,
    scale: f64,
) -> (CubeTensor<R>, CubeTensor<R>) {
    let rank = a.meta.shape()[0];
    let low = narrow(&into_contiguous(x), a, 1.0, rank, false);
    (add_low_rank(sum, low.clone(), b, scale), low)
}

pub(super) fn backward<R: CubeRuntime, B>(
    grad: CubeTensor<R>,
    x: CubeTensor<R>,
    low: CubeTensor<R>,
    a: CubeTensor<R>,
    b: CubeTensor<R>,
    scale: f64,
    (needs_x, needs_factors): (bool, bool),
) -> LowRankGrads<B>
where
    B: TuneBackend<FloatTensorPrimitive = CubeTensor<R>>,
{
    let [grad, x, low, a] = [grad, x, low, a].map(into_contiguous);
    let rank = a.meta.shape()[0];
    let ([rows, inner], [_, outer]) = (rows_and_columns(&x), rows_and_columns(&grad));
    let client = x.client.clone();
    let low_grad = narrow(&grad, b, scale, rank, true);
    let for_x = needs_x.then(|| {
        let out = empty(&x, [rows, inner]);
        let (cubes, dim) = elements(&x, rows * inner);
        // SAFETY: a unit reads its row of the narrow gradient and its column of A.
        unsafe {
            spread_kernel::launch_unchecked::<R>(
                &client,
                cubes,
                dim,
                low_grad.clone().into_array_arg(),
                a.into_array_arg(),
                out.clone().into_array_arg(),
                inner,
                rank,
            );
        }
        out
    });
    let factors = needs_factors.then(|| {
        let columns = inner + outer;
        let most = (WORKERS / columns).clamp(16, 512);
        let chunk = rows.div_ceil(most).max(CHUNK);
        let chunks = rows.div_ceil(chunk);
        let parts = empty(&x, [chunks, rank, columns]);
        let (for_a, for_b) = (empty(&x, [rank, inner]), empty(&x, [outer, rank]));
        let (cubes, dim) = elements(&x, chunks * columns);
        let (few, _) = elements(&x, rank * columns);
        // SAFETY: a unit reads its column of the rows of its chunk that exist, then its place of the parts.
        unsafe {
            factors_kernel::launch_unchecked::<R>(
                &client,
                cubes,
                dim,
                x.into_array_arg(),
                grad.into_array_arg(),
                low.into_array_arg(),
                low_grad.into_array_arg(),
                parts.clone().into_array_arg(),
                rows,
                inner,
                outer,
                chunk,
                chunks,
                scale as f32,
                rank,
            );
            factor_sums_kernel::launch_unchecked::<R>(
                &client,
                few,
                dim,
                parts.into_array_arg(),
                for_a.clone().into_array_arg(),
                for_b.clone().into_array_arg(),
                inner,
                outer,
                chunks,
                rank,
            );
        }
        (for_a, for_b)
    });
    LowRankGrads { x: for_x, factors }
}
