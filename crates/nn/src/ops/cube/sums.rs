//! Sums: of a cube's values, of the columns or the rows of a matrix. Each sums in one fixed order.

use super::launch::{cubes, elements, empty, input, rows_and_columns};
use burn_cubecl::{CubeRuntime, tensor::CubeTensor};
use cubecl::prelude::*;

/// Sum over the units of a cube, in every unit. `units` is a power of two.
#[cube]
pub(super) fn cube_sum(value: f32, shared: &mut SharedMemory<f32>, #[comptime] units: u32) -> f32 {
    shared[UNIT_POS as usize] = value;
    sync_cube();
    #[unroll]
    for level in 0..comptime!(units.ilog2()) {
        let half = units >> (level + 1);
        if UNIT_POS < half {
            shared[UNIT_POS as usize] += shared[(UNIT_POS + half) as usize];
        }
        sync_cube();
    }
    let sum = shared[0];
    sync_cube();
    sum
}

/// The largest value of the units of a cube, in every unit.
#[cube]
pub(super) fn cube_max(value: f32, shared: &mut SharedMemory<f32>, #[comptime] units: u32) -> f32 {
    shared[UNIT_POS as usize] = value;
    sync_cube();
    #[unroll]
    for level in 0..comptime!(units.ilog2()) {
        let half = units >> (level + 1);
        if UNIT_POS < half {
            let here = shared[UNIT_POS as usize];
            let there = shared[(UNIT_POS + half) as usize];
            shared[UNIT_POS as usize] = max(here, there);
        }
        sync_cube();
    }
    let largest = shared[0];
    sync_cube();
    largest
}

/// Sums of chunks of rows: `x [R, C]` -> `out [chunks, C]`, one unit a sum.
#[cube(launch_unchecked)]
fn column_kernel(x: &Array<f32>, out: &mut Array<f32>, rows: usize, columns: usize, chunk: usize) {
    if ABSOLUTE_POS >= out.len() {
        terminate!();
    }
    let first = (ABSOLUTE_POS / columns) * chunk;
    let column = ABSOLUTE_POS % columns;
    let end = min(first + chunk, rows);
    let mut sum = 0.0f32;
    for row in first..end {
        sum += x[row * columns + column];
    }
    out[ABSOLUTE_POS] = sum;
}

/// Sums of each row: `x [R, C]` -> `[R]`, one cube a row.
#[cube(launch_unchecked)]
fn row_kernel(x: &Array<f32>, out: &mut Array<f32>, columns: usize, #[comptime] units: u32) {
    let row = CUBE_POS;
    if row >= out.len() {
        terminate!();
    }
    let mut shared = SharedMemory::<f32>::new(comptime!(units as usize));
    let mut sum = 0.0f32;
    let mut at = UNIT_POS as usize;
    while at < columns {
        sum += x[row * columns + at];
        at += comptime!(units as usize);
    }
    let total = cube_sum(sum, &mut shared, units);
    if UNIT_POS == 0 {
        out[row] = total;
    }
}

#[cube(launch_unchecked)]
fn scale_kernel(x: &mut Array<f32>, factor: f32) {
    if ABSOLUTE_POS >= x.len() {
        terminate!();
    }
    x[ABSOLUTE_POS] = x[ABSOLUTE_POS] * factor;
}

/// Rows of a chunk whose columns one unit sums.
pub(super) const CHUNK: usize = 64;

/// The sums of the columns of `x [R, C]`, `[C]`.
pub(super) fn columns<R: CubeRuntime>(x: CubeTensor<R>) -> CubeTensor<R> {
    let [rows, columns] = rows_and_columns(&x);
    let chunk = rows.div_ceil(2 * CHUNK).max(CHUNK);
    let chunks = rows.div_ceil(chunk);
    let out = empty(&x, [columns]);
    if chunks <= 1 {
        return column_pass(x, out, [rows, columns], rows);
    }
    let partial = empty(&x, [chunks, columns]);
    let partial = column_pass(x, partial, [rows, columns], chunk);
    column_pass(partial, out, [chunks, columns], chunks)
}

/// Sums of chunks of the rows of `x`, one after the other in `out`.
fn column_pass<R: CubeRuntime>(
    x: CubeTensor<R>,
    out: CubeTensor<R>,
    [rows, columns]: [usize; 2],
    chunk: usize,
) -> CubeTensor<R> {
    let sums = out.meta.num_elements();
    if sums > 0 {
        let (count, dim) = elements(&x, sums);
        let client = x.client.clone();
        // SAFETY: a unit reads its column of the rows of its chunk that exist.
        unsafe {
            column_kernel::launch_unchecked::<R>(
                &client,
                count,
                dim,
                input(x),
                out.clone().into_array_arg(),
                rows,
                columns,
                chunk,
            );
        }
    }
    out
}

/// Sums over the first dimension of `parts [S, n]`, in `result` of n elements.
pub(super) fn parts<R: CubeRuntime>(parts: CubeTensor<R>, result: CubeTensor<R>) -> CubeTensor<R> {
    let sizes = [parts.meta.shape()[0], parts.meta.shape()[1]];
    column_pass(parts, result, sizes, sizes[0])
}

/// `parts [chunks, 2, C]` to two sums over the chunks.
#[cube(launch_unchecked)]
fn pair_kernel(
    parts: &Array<f32>,
    first: &mut Array<f32>,
    second: &mut Array<f32>,
    columns: usize,
    chunks: usize,
) {
    if ABSOLUTE_POS >= columns {
        terminate!();
    }
    let mut one = 0.0f32;
    let mut two = 0.0f32;
    for part in 0..chunks {
        one += parts[2 * part * columns + ABSOLUTE_POS];
        two += parts[(2 * part + 1) * columns + ABSOLUTE_POS];
    }
    first[ABSOLUTE_POS] = one;
    second[ABSOLUTE_POS] = two;
}

/// Sums over the first dimension of contiguous `parts [chunks, 2, C]`, `[C]` each.
pub(super) fn pairs<R: CubeRuntime>(parts: CubeTensor<R>) -> (CubeTensor<R>, CubeTensor<R>) {
    let (chunks, columns) = (parts.meta.shape()[0], parts.meta.shape()[2]);
    let (first, second) = (empty(&parts, [columns]), empty(&parts, [columns]));
    let (count, dim) = elements(&parts, columns);
    // SAFETY: a unit reads its column of the parts.
    unsafe {
        pair_kernel::launch_unchecked::<R>(
            &first.client,
            count,
            dim,
            parts.into_array_arg(),
            first.clone().into_array_arg(),
            second.clone().into_array_arg(),
            columns,
            chunks,
        );
    }
    (first, second)
}

/// The sums of the rows of a contiguous `x [R, C]`, `[R]`.
pub(super) fn rows<R: CubeRuntime>(x: CubeTensor<R>, units: u32) -> CubeTensor<R> {
    let [rows, columns] = rows_and_columns(&x);
    let out = empty(&x, [rows]);
    let (count, dim) = cubes(rows, units);
    // SAFETY: a cube reads its row.
    unsafe {
        row_kernel::launch_unchecked::<R>(
            &out.client,
            count,
            dim,
            x.into_array_arg(),
            out.clone().into_array_arg(),
            columns,
            units,
        );
    }
    out
}

/// Multiplies a contiguous `x` that nobody else reads, in place.
pub(super) fn scale<R: CubeRuntime>(x: &CubeTensor<R>, factor: f64) {
    let (cubes, dim) = elements(x, x.meta.num_elements());
    // SAFETY: one unit an element.
    unsafe {
        scale_kernel::launch_unchecked::<R>(
            &x.client,
            cubes,
            dim,
            x.clone().into_array_arg(),
            factor as f32,
        );
    }
}
