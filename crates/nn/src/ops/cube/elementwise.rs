//! Kernels of one unit an element: activations, bias, rotary positions and dropout.

use super::launch::{elements, empty, input, owned, rows_and_columns};
use super::random::{Word64, child, row_bits};
use crate::ops::{Dropout, Gate, GeluKind};
use burn_cubecl::{CubeRuntime, tensor::CubeTensor};
use cubecl::prelude::*;
use rekindle_base::rng::drop_threshold;

/// √(2/π), of the tanh approximation.
const ROOT: f32 = 0.797_884_6;
const CUBIC: f32 = 0.044_715;
/// 1/√2 and 1/√(2π).
const HALF_ROOT: f32 = core::f32::consts::FRAC_1_SQRT_2;
const DENSITY: f32 = 0.398_942_3;

#[cube]
fn gelu_of(x: f32, #[comptime] tanh: bool) -> f32 {
    if tanh {
        let inner = (x + x * x * x * CUBIC) * ROOT;
        x * 0.5 * (1.0 + inner.tanh())
    } else {
        x * 0.5 * (1.0 + Erf::erf(x * HALF_ROOT))
    }
}

#[cube]
fn gelu_slope(x: f32, #[comptime] tanh: bool) -> f32 {
    if tanh {
        let t = ((x + x * x * x * CUBIC) * ROOT).tanh();
        let inner = (x * x * (3.0 * CUBIC) + 1.0) * ROOT;
        (t + 1.0) * 0.5 + x * 0.5 * (1.0 - t * t) * inner
    } else {
        let cdf = (Erf::erf(x * HALF_ROOT) + 1.0) * 0.5;
        cdf + x * (x * x * -0.5).exp() * DENSITY
    }
}

#[cube]
fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + (-x).exp())
}

#[cube(launch_unchecked)]
fn gelu_kernel(x: &Array<f32>, out: &mut Array<f32>, #[comptime] tanh: bool) {
    if ABSOLUTE_POS >= out.len() {
        terminate!();
    }
    out[ABSOLUTE_POS] = gelu_of(x[ABSOLUTE_POS], tanh);
}

#[cube(launch_unchecked)]
fn gelu_backward_kernel(
    x: &Array<f32>,
    grad: &Array<f32>,
    out: &mut Array<f32>,
    #[comptime] tanh: bool,
) {
    if ABSOLUTE_POS >= out.len() {
        terminate!();
    }
    out[ABSOLUTE_POS] = grad[ABSOLUTE_POS] * gelu_slope(x[ABSOLUTE_POS], tanh);
}

/// `kind`: 0 SiLU, 1 exact GELU, 2 its tanh approximation.
#[cube(launch_unchecked)]
fn gated_kernel(gate: &Array<f32>, up: &Array<f32>, out: &mut Array<f32>, #[comptime] kind: u32) {
    if ABSOLUTE_POS >= out.len() {
        terminate!();
    }
    let x = gate[ABSOLUTE_POS];
    let active = if kind == 0 {
        x * sigmoid(x)
    } else {
        gelu_of(x, kind == 2)
    };
    out[ABSOLUTE_POS] = active * up[ABSOLUTE_POS];
}

#[cube(launch_unchecked)]
fn gated_backward_kernel(
    gate: &Array<f32>,
    up: &Array<f32>,
    grad: &Array<f32>,
    for_gate: &mut Array<f32>,
    for_up: &mut Array<f32>,
    #[comptime] kind: u32,
) {
    if ABSOLUTE_POS >= for_up.len() {
        terminate!();
    }
    let x = gate[ABSOLUTE_POS];
    let g = grad[ABSOLUTE_POS];
    let through = g * up[ABSOLUTE_POS];
    if kind == 0 {
        let s = sigmoid(x);
        for_up[ABSOLUTE_POS] = g * x * s;
        for_gate[ABSOLUTE_POS] = through * s * (x * (1.0 - s) + 1.0);
    } else {
        for_up[ABSOLUTE_POS] = g * gelu_of(x, kind == 2);
        for_gate[ABSOLUTE_POS] = through * gelu_slope(x, kind == 2);
    }
}

#[cube(launch_unchecked)]
#[allow(clippy::too_many_arguments)]
fn rotary_kernel(
    x: &Array<f32>,
    cos: &Array<f32>,
    sin: &Array<f32>,
    out: &mut Array<f32>,
    width: usize,
    head_width: usize,
    half: usize,
    sign: f32,
) {
    if ABSOLUTE_POS >= out.len() {
        terminate!();
    }
    let token = ABSOLUTE_POS / width;
    let column = (ABSOLUTE_POS % width) % head_width;
    let mut value = x[ABSOLUTE_POS];
    if column < half {
        let at = token * half + column;
        value = value * cos[at] - x[ABSOLUTE_POS + half] * sin[at] * sign;
    } else if column < 2 * half {
        let at = token * half + column - half;
        value = value * cos[at] + x[ABSOLUTE_POS - half] * sin[at] * sign;
    }
    out[ABSOLUTE_POS] = value;
}

#[cube(launch_unchecked)]
fn dropout_kernel(
    x: &Array<f32>,
    out: &mut Array<f32>,
    columns: usize,
    low: u32,
    high: u32,
    threshold: u32,
    scale: f32,
) {
    if ABSOLUTE_POS >= out.len() {
        terminate!();
    }
    let key = child(Word64 { low, high }, (ABSOLUTE_POS / columns) as u32);
    let bits = row_bits(key, (ABSOLUTE_POS % columns) as u32);
    let factor = select(bits < threshold, 0.0, scale);
    out[ABSOLUTE_POS] = x[ABSOLUTE_POS] * factor;
}

#[cube(launch_unchecked)]
fn bias_kernel(sum: &mut Array<f32>, bias: &Array<f32>, columns: usize) {
    if ABSOLUTE_POS >= sum.len() {
        terminate!();
    }
    sum[ABSOLUTE_POS] += bias[ABSOLUTE_POS % columns];
}

/// The inner dimension of a low-rank product is short: one unit sums an element of the result.
#[cube(launch_unchecked)]
fn low_rank_kernel(
    sum: &mut Array<f32>,
    x: &Array<f32>,
    weight: &Array<f32>,
    columns: usize,
    scale: f32,
    #[comptime] rank: usize,
) {
    if ABSOLUTE_POS >= sum.len() {
        terminate!();
    }
    let row = (ABSOLUTE_POS / columns) * rank;
    let column = (ABSOLUTE_POS % columns) * rank;
    let mut product = 0.0f32;
    for k in 0..rank {
        product += x[row + k] * weight[column + k];
    }
    sum[ABSOLUTE_POS] += scale * product;
}

pub(super) fn gelu<R: CubeRuntime>(x: CubeTensor<R>, kind: GeluKind) -> CubeTensor<R> {
    let out = empty(&x, x.meta.shape().clone());
    let count = out.meta.num_elements();
    if count > 0 {
        let (cubes, dim) = elements(&x, count);
        let client = x.client.clone();
        // SAFETY: both arrays have the elements that the kernel's bound lets it touch; so below.
        unsafe {
            gelu_kernel::launch_unchecked::<R>(
                &client,
                cubes,
                dim,
                input(x),
                out.clone().into_array_arg(),
                kind == GeluKind::Tanh,
            );
        }
    }
    out
}

pub(super) fn gelu_backward<R: CubeRuntime>(
    x: CubeTensor<R>,
    grad: CubeTensor<R>,
    kind: GeluKind,
) -> CubeTensor<R> {
    let out = empty(&x, x.meta.shape().clone());
    let count = out.meta.num_elements();
    if count > 0 {
        let (cubes, dim) = elements(&x, count);
        let client = x.client.clone();
        // SAFETY: see `gelu`.
        unsafe {
            gelu_backward_kernel::launch_unchecked::<R>(
                &client,
                cubes,
                dim,
                input(x),
                input(grad),
                out.clone().into_array_arg(),
                kind == GeluKind::Tanh,
            );
        }
    }
    out
}

fn number(gate: Gate) -> u32 {
    match gate {
        Gate::Silu => 0,
        Gate::Gelu(GeluKind::Exact) => 1,
        Gate::Gelu(GeluKind::Tanh) => 2,
    }
}

pub(super) fn gated<R: CubeRuntime>(
    gate: CubeTensor<R>,
    up: CubeTensor<R>,
    kind: Gate,
) -> CubeTensor<R> {
    let out = empty(&gate, gate.meta.shape().clone());
    let count = out.meta.num_elements();
    if count > 0 {
        let (cubes, dim) = elements(&gate, count);
        let client = gate.client.clone();
        // SAFETY: see `gelu`.
        unsafe {
            gated_kernel::launch_unchecked::<R>(
                &client,
                cubes,
                dim,
                input(gate),
                input(up),
                out.clone().into_array_arg(),
                number(kind),
            );
        }
    }
    out
}

pub(super) fn gated_backward<R: CubeRuntime>(
    gate: CubeTensor<R>,
    up: CubeTensor<R>,
    grad: CubeTensor<R>,
    kind: Gate,
) -> (CubeTensor<R>, CubeTensor<R>) {
    let shape = gate.meta.shape().clone();
    let (for_gate, for_up) = (empty(&gate, shape.clone()), empty(&gate, shape));
    let count = for_up.meta.num_elements();
    if count > 0 {
        let (cubes, dim) = elements(&gate, count);
        let client = gate.client.clone();
        // SAFETY: see `gelu`.
        unsafe {
            gated_backward_kernel::launch_unchecked::<R>(
                &client,
                cubes,
                dim,
                input(gate),
                input(up),
                input(grad),
                for_gate.clone().into_array_arg(),
                for_up.clone().into_array_arg(),
                number(kind),
            );
        }
    }
    (for_gate, for_up)
}

/// Turns by the angles, or with the sign -1 back.
pub(super) fn rotary<R: CubeRuntime>(
    x: CubeTensor<R>,
    cos: CubeTensor<R>,
    sin: CubeTensor<R>,
    heads: usize,
    sign: f32,
) -> CubeTensor<R> {
    let out = empty(&x, x.meta.shape().clone());
    let count = out.meta.num_elements();
    if count > 0 {
        let ([_, width], [_, half]) = (rows_and_columns(&x), rows_and_columns(&cos));
        let (cubes, dim) = elements(&x, count);
        let client = x.client.clone();
        // SAFETY: a row of the tables stands for each token, and the first `2 * half` columns of each head are turned, each
        // with a partner within the head.
        unsafe {
            rotary_kernel::launch_unchecked::<R>(
                &client,
                cubes,
                dim,
                input(x),
                input(cos),
                input(sin),
                out.clone().into_array_arg(),
                width,
                width / heads,
                half,
                sign,
            );
        }
    }
    out
}

pub(super) fn dropout<R: CubeRuntime>(x: CubeTensor<R>, dropout: Dropout) -> CubeTensor<R> {
    let out = empty(&x, x.meta.shape().clone());
    let count = out.meta.num_elements();
    if count > 0 {
        let [_, columns] = rows_and_columns(&x);
        let (cubes, dim) = elements(&x, count);
        let client = x.client.clone();
        // SAFETY: see `gelu`.
        unsafe {
            dropout_kernel::launch_unchecked::<R>(
                &client,
                cubes,
                dim,
                input(x),
                out.clone().into_array_arg(),
                columns,
                dropout.key as u32,
                (dropout.key >> 32) as u32,
                drop_threshold(dropout.rate),
                (1.0 / (1.0 - dropout.rate)) as f32,
            );
        }
    }
    out
}

/// Adds a bias `[O]` to a contiguous `sum [T, O]` that nobody else reads, in place.
pub(super) fn add_bias<R: CubeRuntime>(sum: &CubeTensor<R>, bias: CubeTensor<R>) {
    let count = sum.meta.num_elements();
    if count > 0 {
        let [_, columns] = rows_and_columns(sum);
        let (cubes, dim) = elements(sum, count);
        // SAFETY: the bias has an element a column.
        unsafe {
            bias_kernel::launch_unchecked::<R>(
                &sum.client,
                cubes,
                dim,
                sum.clone().into_array_arg(),
                input(bias),
                columns,
            );
        }
    }
}

/// The longest inner dimension that [`add_low_rank`] takes.
pub(super) const LOW_RANK: usize = 32;

/// `sum [T, O] + scale * x [T, k] weight [O, k]ᵀ` with a short k.
pub(super) fn add_low_rank<R: CubeRuntime>(
    sum: CubeTensor<R>,
    x: CubeTensor<R>,
    weight: CubeTensor<R>,
    scale: f64,
) -> CubeTensor<R> {
    let sum = owned(sum);
    let count = sum.meta.num_elements();
    if count > 0 {
        let ([_, columns], [_, rank]) = (rows_and_columns(&sum), rows_and_columns(&x));
        let (cubes, dim) = elements(&sum, count);
        // SAFETY: x has a row for each row of the sum, the weight one for each column.
        unsafe {
            low_rank_kernel::launch_unchecked::<R>(
                &sum.client,
                cubes,
                dim,
                sum.clone().into_array_arg(),
                input(x),
                input(weight),
                columns,
                scale as f32,
                rank,
            );
        }
    }
    sum
}
