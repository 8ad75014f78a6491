//! Matrix products on an adapter in software, Mesa's llvmpipe, where a unit is a lane of a vector of the CPU. A load costs a hundred
//! times what a multiplication does there, since each lane's value is fetched by itself, from whatever memory. So nothing is staged
//! in shared memory; lanes lie along the columns of the result, values are loaded four at a time, and a value of the left factor is loaded by
//! one lane, which hands it to the others.

use super::products::to_bf16;
use burn_cubecl::CubeRuntime;
use cubecl::prelude::*;

/// Four values that lie side by side.
type Four = Vector<f32, Const<4>>;

/// Units of a cube: a plane.
pub(super) const LANES: usize = 8;
/// Columns of the result that a lane sums.
const COLUMNS: usize = 8;
/// Columns and rows of a cube.
pub(super) const SIDE: usize = LANES * COLUMNS;
pub(super) const ROWS: usize = 32;
/// Rows of the left factor that a lane loads.
const OWN: usize = ROWS / LANES;
/// Of the inner dimension at a time.
const DEPTH: usize = 4;

/// What is in place at compile time.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) struct VectorForm {
    /// Whether the inner dimension is the contiguous one of each factor.
    pub lhs_by_inner: bool,
    pub rhs_by_inner: bool,
    pub has_bias: bool,
    /// Whether the sums over the inner dimension of the left factor are wanted too.
    pub has_sums: bool,
    /// Whether the factors are rounded to bf16 on their way in.
    pub rounded: bool,
}

/// Whether the device is an adapter in software with these lanes, which hand each other values. The runtime tells that of GPUs
/// alone, so the adapter is asked.
pub(super) fn available<R: CubeRuntime>(client: &ComputeClient<R>) -> bool {
    let hardware = &client.properties().hardware;
    [hardware.plane_size_min, hardware.plane_size_max] == [LANES as u32; 2] && shuffles()
}

#[cfg(feature = "wgpu")]
fn shuffles() -> bool {
    use burn::backend::wgpu::graphics::{AutoGraphicsApi, GraphicsApi};
    static FOUND: std::sync::OnceLock<bool> = std::sync::OnceLock::new();
    *FOUND.get_or_init(|| {
        let backends: wgpu::Backends = AutoGraphicsApi::backend().into();
        let instance = wgpu::Instance::new(wgpu::InstanceDescriptor {
            backends,
            ..wgpu::InstanceDescriptor::new_without_display_handle()
        });
        let adapters = burn::tensor::try_read_sync(instance.enumerate_adapters(backends));
        let in_software =
            |adapter: &wgpu::Adapter| adapter.get_info().device_type == wgpu::DeviceType::Cpu;
        let adapters = adapters.unwrap_or_default();
        let mut found = adapters.iter().filter(|adapter| in_software(adapter));
        found.all(|adapter| adapter.features().contains(wgpu::Features::SUBGROUP))
    })
}

#[cfg(not(feature = "wgpu"))]
fn shuffles() -> bool {
    false
}

/// Where a lane's rows (or columns) of a factor begin, in fours: each, or four by four. What lies beyond the last is the last.
#[cube]
fn places(
    first: usize,
    count: usize,
    stride: usize,
    #[comptime] own: usize,
    #[comptime] by_inner: bool,
) -> Array<usize> {
    let mut at = Array::<usize>::new(own);
    #[unroll]
    for i in 0..own {
        if by_inner {
            at[i] = min(first + i, count - 1) * (stride / 4);
        } else if comptime!(i % 4 == 0) {
            at[i] = min(first + i, count - 4) / 4;
        }
    }
    at
}

/// A lane's values of one factor over `DEPTH` of the inner dimension.
#[cube]
fn load(
    x: &Array<Four>,
    values: &mut Array<f32>,
    at: &Array<usize>,
    step: usize,
    stride: usize,
    #[comptime] own: usize,
    #[comptime] by_inner: bool,
    #[comptime] rounded: bool,
) {
    #[unroll]
    for i in 0..own {
        // Four of the inner dimension of row i, or four rows at one place of the inner dimension.
        let (row, depth) = comptime!(match by_inner {
            true => (i, 0),
            false => (i % (own / 4) * 4, i / (own / 4)),
        });
        let mut four_at = at[row] + step;
        if comptime!(!by_inner) {
            four_at = (step * DEPTH + depth) * (stride / 4) + at[row];
        }
        let four = x[four_at];
        #[unroll]
        for part in 0..4usize {
            let place = comptime!(match by_inner {
                true => part * own + row,
                false => depth * own + row + part,
            });
            let mut value = four[part];
            if rounded {
                value = to_bf16(value);
            }
            values[place] = value;
        }
    }
}

/// `out [m, n]`; k, strides and what is contiguous but the inner dimension are multiples of 4.
#[cube(launch_unchecked)]
#[allow(clippy::too_many_arguments)]
pub(super) fn vector_kernel(
    lhs: &Array<Four>,
    rhs: &Array<Four>,
    bias: &Array<f32>,
    out: &mut Array<f32>,
    lhs_sums: &mut Array<f32>,
    m: usize,
    n: usize,
    k: usize,
    lhs_stride: usize,
    rhs_stride: usize,
    factor: f32,
    #[comptime] form: VectorForm,
) {
    let (lhs_by_inner, rhs_by_inner) = comptime!((form.lhs_by_inner, form.rhs_by_inner));
    let rounded = comptime!(form.rounded);
    let lane = UNIT_POS as usize;
    let first_row = CUBE_POS_Y as usize * ROWS;
    let own_row = first_row + lane * OWN;
    let own_column = CUBE_POS_X as usize * SIDE + lane * COLUMNS;
    let rows_at = places(own_row, m, lhs_stride, OWN, lhs_by_inner);
    let columns_at = places(own_column, n, rhs_stride, COLUMNS, rhs_by_inner);
    let mut left = Array::<f32>::new(comptime!(DEPTH * OWN));
    let mut right = Array::<f32>::new(comptime!(DEPTH * COLUMNS));
    let mut sums = Array::<f32>::new(comptime!(ROWS * COLUMNS));
    let mut own_sums = Array::<f32>::new(OWN);
    #[unroll]
    for i in 0..comptime!(ROWS * COLUMNS) {
        sums[i] = 0.0f32;
    }
    #[unroll]
    for i in 0..OWN {
        own_sums[i] = 0.0f32;
    }
    for step in 0..k / DEPTH {
        load(
            lhs,
            &mut left,
            &rows_at,
            step,
            lhs_stride,
            OWN,
            lhs_by_inner,
            rounded,
        );
        load(
            rhs,
            &mut right,
            &columns_at,
            step,
            rhs_stride,
            COLUMNS,
            rhs_by_inner,
            rounded,
        );
        #[unroll]
        for depth in 0..DEPTH {
            #[unroll]
            for row in 0..ROWS {
                let value =
                    plane_shuffle(left[depth * OWN + row % OWN], comptime!((row / OWN) as u32));
                #[unroll]
                for column in 0..COLUMNS {
                    sums[row * COLUMNS + column] += value * right[depth * COLUMNS + column];
                }
            }
            if comptime!(form.has_sums) {
                #[unroll]
                for i in 0..OWN {
                    own_sums[i] += left[depth * OWN + i];
                }
            }
        }
    }
    if comptime!(form.has_sums) {
        if CUBE_POS_X == 0 {
            #[unroll]
            for i in 0..OWN {
                if own_row + i < m {
                    lhs_sums[own_row + i] = own_sums[i];
                }
            }
        }
    }
    #[unroll]
    for row in 0..ROWS {
        #[unroll]
        for column in 0..COLUMNS {
            if first_row + row < m && own_column + column < n {
                let mut value = sums[row * COLUMNS + column] * factor;
                if comptime!(form.has_bias) {
                    value += bias[own_column + column];
                }
                out[(first_row + row) * n + own_column + column] = value;
            }
        }
    }
}
