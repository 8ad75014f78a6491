//! The gradient of an embedding table, without atomics and in one order: the first token of a chunk that has an index sums the
//! chunk's rows of that index, then the first of all sums those sums into the table.

use super::launch::{cubes, empty, input, rows_and_columns, shaped, units_for};
use super::sums::cube_max;
use burn::tensor::{DType, Shape};
use burn_cubecl::{CubeRuntime, ops::numeric::zeros_client, tensor::CubeTensor};
use cubecl::prelude::*;

/// Tokens of a chunk.
const CHUNK: usize = 64;

/// Sums of rows of one index within a chunk, at the place of the first such row; `firsts` has its index there and -1 elsewhere.
#[cube(launch_unchecked)]
fn within_kernel(
    indices: &Array<i32>,
    grad: &Array<f32>,
    sums: &mut Array<f32>,
    firsts: &mut Array<i32>,
    columns: usize,
    #[comptime] units: u32,
) {
    let token = CUBE_POS;
    let tokens = firsts.len();
    if token >= tokens {
        terminate!();
    }
    let index = indices[token];
    let start = token / CHUNK * CHUNK;
    let end = min(start + CHUNK, tokens);
    let mut earlier = 0u32.runtime();
    for other in start..token {
        if indices[other] == index {
            earlier += 1;
        }
    }
    if UNIT_POS == 0 {
        firsts[token] = select(earlier == 0, index, -1i32);
    }
    if earlier == 0 {
        let mut column = UNIT_POS as usize;
        while column < columns {
            let mut sum = 0.0f32;
            for other in token..end {
                if indices[other] == index {
                    sum += grad[other * columns + column];
                }
            }
            sums[token * columns + column] = sum;
            column += comptime!(units as usize);
        }
    }
}

/// The sum of the chunks' sums of one index, in the table's row.
#[cube(launch_unchecked)]
fn across_kernel(
    firsts: &Array<i32>,
    sums: &Array<f32>,
    table: &mut Array<f32>,
    columns: usize,
    #[comptime] units: u32,
) {
    let token = CUBE_POS;
    let tokens = firsts.len();
    if token >= tokens {
        terminate!();
    }
    let index = firsts[token];
    let mut shared = SharedMemory::<f32>::new(comptime!(units as usize));
    let mut found = 0.0f32;
    if index >= 0 {
        let mut other = UNIT_POS as usize;
        while other < token {
            if firsts[other] == index {
                found = 1.0f32;
            }
            other += comptime!(units as usize);
        }
    }
    let earlier = cube_max(found, &mut shared, units);
    if index >= 0 && earlier == 0.0 {
        let width = comptime!(units as usize);
        let mut staged = SharedMemory::<i32>::new(width);
        let row = index as usize * columns;
        let mut column = UNIT_POS as usize;
        let mut done = 0usize.runtime();
        while done < columns {
            let mut sum = 0.0f32;
            let mut base = token / width * width;
            while base < tokens {
                sync_cube();
                let own = base + UNIT_POS as usize;
                staged[UNIT_POS as usize] =
                    select(own < tokens, firsts[min(own, tokens - 1)], -1i32);
                sync_cube();
                if column < columns {
                    for i in 0..width {
                        // The first of all comes first; before it, there is none of its index.
                        if staged[i] == index {
                            sum += sums[(base + i) * columns + column];
                        }
                    }
                }
                base += width;
            }
            if column < columns {
                table[row + column] = sum;
            }
            column += width;
            done += width;
        }
    }
}

/// Gradient `[V, D]` of a table for `grad [T, D]` of its rows `indices [T]`.
pub(super) fn backward<R: CubeRuntime>(
    vocabulary: usize,
    indices: CubeTensor<R>,
    grad: CubeTensor<R>,
) -> CubeTensor<R> {
    let [tokens, columns] = rows_and_columns(&grad);
    let client = grad.client.clone();
    let shape = Shape::from([vocabulary * columns]);
    // Zeros of a matrix could be pitched.
    let table = zeros_client(client.clone(), grad.device.clone(), shape, DType::F32);
    let table = shaped(table, [vocabulary, columns]);
    if tokens * columns == 0 {
        return table;
    }
    let sums = empty(&grad, [tokens, columns]);
    let mut firsts = empty(&grad, [tokens]);
    firsts.dtype = DType::I32;
    let units = units_for(columns);
    // SAFETY: a cube reads the indices of its chunk and the rows that have its own, and writes its own row.
    unsafe {
        let (count, dim) = cubes(tokens, units);
        within_kernel::launch_unchecked::<R>(
            &client,
            count,
            dim,
            input(indices),
            input(grad),
            sums.clone().into_array_arg(),
            firsts.clone().into_array_arg(),
            columns,
            units,
        );
    }
    // SAFETY: an index is below the vocabulary, as for the rows that were taken; one cube alone writes each row.
    unsafe {
        let (count, dim) = cubes(tokens, units);
        across_kernel::launch_unchecked::<R>(
            &client,
            count,
            dim,
            firsts.into_array_arg(),
            sums.into_array_arg(),
            table.clone().into_array_arg(),
            columns,
            units,
        );
    }
    table
}
