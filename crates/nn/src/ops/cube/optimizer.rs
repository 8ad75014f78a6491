//! The end of a step: the sums of squares that clipping needs, and AdamW, each over many parameters a launch: as many as the device
//! binds at a time. A cube finds its parameter by the numbers of cubes of those before.

use super::launch::{cubes, empty, input, owned};
use super::sums::{self, cube_sum};
use crate::ops::{AdamWOperand, AdamWResult, TuneBackend};
use burn_cubecl::{CubeRuntime, tensor::CubeTensor};
use cubecl::prelude::*;

/// Units of a cube.
const UNITS: u32 = 256;
/// Values that a unit of AdamW reads at once, where a parameter has a multiple of them.
const AT_ONCE: usize = 4;
/// Reads of a cube of AdamW.
const SHARE: usize = 1024;
/// Cubes of a tensor whose squares are summed.
const PARTS: usize = 64;
/// The bits of an f32 that are all set where it is not finite, and a NaN.
const EXPONENT: u32 = 0x7F80_0000;
const NAN: u32 = 0x7FC0_0000;
/// The most tensors of a launch, where the device could bind more.
const MOST: usize = 16;

/// The settings of a step for one parameter, and its first cube.
#[derive(CubeType, CubeLaunch, Clone, Copy)]
struct Settings {
    first: usize,
    beta1: f32,
    rest1: f32,
    beta2: f32,
    rest2: f32,
    inverse2: f32,
    epsilon: f32,
    rate: f32,
    decay: f32,
}

/// A cube's share of one parameter.
#[cube]
fn update<N: Size>(
    parameter: &mut Array<Vector<f32, N>>,
    m: &mut Array<Vector<f32, N>>,
    v: &mut Array<Vector<f32, N>>,
    grad: &Array<Vector<f32, N>>,
    factor: f32,
    s: Settings,
) {
    let first = (CUBE_POS - s.first) * SHARE + UNIT_POS as usize;
    #[unroll]
    for i in 0..comptime!(SHARE / UNITS as usize) {
        let at = first + comptime!(i * UNITS as usize);
        if at < parameter.len() {
            let g = grad[at] * Vector::new(factor);
            let first = m[at] * Vector::new(s.beta1) + g * Vector::new(s.rest1);
            let second = v[at] * Vector::new(s.beta2) + g * g * Vector::new(s.rest2);
            let denominator = (second * Vector::new(s.inverse2)).sqrt() + Vector::new(s.epsilon);
            m[at] = first;
            v[at] = second;
            parameter[at] =
                parameter[at] * Vector::new(s.decay) - first / denominator * Vector::new(s.rate);
        }
    }
}

#[cube(launch_unchecked)]
fn adamw_kernel<N: Size>(
    parameters: &mut Sequence<Array<Vector<f32, N>>>,
    ms: &mut Sequence<Array<Vector<f32, N>>>,
    vs: &mut Sequence<Array<Vector<f32, N>>>,
    grads: &Sequence<Array<Vector<f32, N>>>,
    each: &Sequence<Settings>,
    factor: &Array<f32>,
    #[comptime] count: usize,
) {
    // Neither NaN nor infinite: else the step changes nothing.
    let bits = u32::reinterpret(factor[0]);
    if bits & EXPONENT == EXPONENT {
        terminate!();
    }
    #[unroll]
    for i in 0..count {
        let own = *each.index(i);
        let cubes = parameters.index(i).len().div_ceil(SHARE);
        if CUBE_POS >= own.first && CUBE_POS < own.first + cubes {
            update::<N>(
                parameters.index_mut(i),
                ms.index_mut(i),
                vs.index_mut(i),
                grads.index(i),
                factor[0],
                own,
            );
        }
    }
}

/// Each cube's sum of squares: `PARTS` cubes a tensor, from place `first` on.
#[cube(launch_unchecked)]
fn square_kernel(
    tensors: &Sequence<Array<f32>>,
    out: &mut Array<f32>,
    first: usize,
    #[comptime] count: usize,
) {
    let mut shared = SharedMemory::<f32>::new(comptime!(UNITS as usize));
    let mut sum = 0.0f32;
    let part = CUBE_POS % PARTS;
    #[unroll]
    for i in 0..count {
        if CUBE_POS / PARTS == i {
            let x = tensors.index(i);
            let mut at = part * comptime!(UNITS as usize) + UNIT_POS as usize;
            while at < x.len() {
                let value = x[at];
                sum += value * value;
                at += comptime!(PARTS * UNITS as usize);
            }
        }
    }
    let total = cube_sum(sum, &mut shared, UNITS);
    if UNIT_POS == 0 {
        out[first + CUBE_POS] = total;
    }
}

/// The factor of clipping in `out [1]`: NaN where a loss or the norm is not finite.
#[cube(launch_unchecked)]
fn clip_kernel(losses: &Array<f32>, squares: &Array<f32>, out: &mut Array<f32>, limit: f32) {
    let mut shared = SharedMemory::<f32>::new(comptime!(UNITS as usize));
    let mut sum = 0.0f32;
    let mut at = UNIT_POS as usize;
    while at < squares.len() {
        sum += squares[at];
        at += comptime!(UNITS as usize);
    }
    let total = cube_sum(sum, &mut shared, UNITS);
    if UNIT_POS == 0 {
        let mut whole = u32::reinterpret(total) & EXPONENT != EXPONENT;
        for i in 0..losses.len() {
            whole = whole && u32::reinterpret(losses[i]) & EXPONENT != EXPONENT;
        }
        let mut factor = min(limit / (total.sqrt() + 1e-6), 1.0f32);
        if !whole {
            factor = f32::reinterpret(NAN);
        }
        out[0] = factor;
    }
}

/// `tune_clip` of losses `[k]` and sums of squares `[n]`.
pub(super) fn clip<R: CubeRuntime>(
    losses: CubeTensor<R>,
    squares: CubeTensor<R>,
    max_norm: f64,
) -> CubeTensor<R> {
    let out = empty(&losses, [1]);
    let limit = if max_norm > 0.0 {
        max_norm as f32
    } else {
        f32::MAX
    };
    // SAFETY: one cube reads both arrays to their ends.
    unsafe {
        clip_kernel::launch_unchecked::<R>(
            &out.client,
            CubeCount::Static(1, 1, 1),
            CubeDim::new_1d(UNITS),
            input(losses),
            input(squares),
            out.clone().into_array_arg(),
            limit,
        );
    }
    out
}

/// Tensors of a launch that binds so many arrays for each, and a few more.
fn at_once<R: CubeRuntime>(like: &CubeTensor<R>, each: usize) -> usize {
    let bindings = like.client.properties().hardware.max_bindings as usize;
    (bindings.saturating_sub(2) / each).clamp(1, MOST)
}

/// The sum of squares of each of at least one tensor, `[n]`.
pub(super) fn squares<R: CubeRuntime>(tensors: Vec<CubeTensor<R>>) -> CubeTensor<R> {
    let parts = empty(&tensors[0], [tensors.len(), PARTS]);
    let at_once = at_once(&parts, 1);
    let mut first = 0;
    let mut left = tensors.into_iter();
    loop {
        let group: Vec<_> = left.by_ref().take(at_once).collect();
        let count = group.len();
        if count == 0 {
            break;
        }
        // SAFETY: the cubes of a tensor write its `PARTS` values and read below its length.
        unsafe {
            square_kernel::launch_unchecked::<R>(
                &parts.client,
                CubeCount::Static((count * PARTS) as u32, 1, 1),
                CubeDim::new_1d(UNITS),
                group.into_iter().map(input).collect(),
                parts.clone().into_array_arg(),
                first * PARTS,
                count,
            );
        }
        first += count;
    }
    sums::rows(parts, PARTS as u32)
}

/// AdamW in place, of gradients times `factor [1]`; nothing where that is not finite.
pub(super) fn adamw<R: CubeRuntime, B>(
    operands: Vec<AdamWOperand<B>>,
    factor: CubeTensor<R>,
) -> Vec<AdamWResult<B>>
where
    B: TuneBackend<FloatTensorPrimitive = CubeTensor<R>>,
{
    let Some(first) = operands.first() else {
        return Vec::new();
    };
    let at_once = at_once(&first.grad, 4);
    let mut done: Vec<_> = operands.iter().map(|_| None).collect();
    let whole = |operand: &AdamWOperand<B>| {
        let count = operand.parameter.meta.num_elements();
        count.is_multiple_of(AT_ONCE)
    };
    let (fours, rest): (Vec<_>, Vec<_>) =
        (operands.into_iter().enumerate()).partition(|(_, operand)| whole(operand));
    for (width, operands) in [(AT_ONCE, fours), (1, rest)] {
        let mut left = operands.into_iter();
        loop {
            let group: Vec<_> = left.by_ref().take(at_once).collect();
            if group.is_empty() {
                break;
            }
            let (places, group): (Vec<_>, Vec<_>) = group.into_iter().unzip();
            for (place, result) in places.into_iter().zip(adamw_group(group, &factor, width)) {
                done[place] = Some(result);
            }
        }
    }
    done.into_iter().flatten().collect()
}

/// The same of as many as a launch binds, `width` values at a time.
fn adamw_group<R: CubeRuntime, B>(
    group: Vec<AdamWOperand<B>>,
    factor: &CubeTensor<R>,
    width: usize,
) -> Vec<AdamWResult<B>>
where
    B: TuneBackend<FloatTensorPrimitive = CubeTensor<R>>,
{
    let count = group.len();
    let (mut results, mut grads, mut settings) = (Vec::new(), Vec::new(), Vec::new());
    let mut cubes_before = 0;
    for operand in group {
        let s = operand.settings;
        let (c1, c2) = s.corrections();
        let len = operand.parameter.meta.num_elements();
        let [parameter, m, v] =
            [operand.parameter, operand.moments.0, operand.moments.1].map(owned);
        results.push((parameter, m, v));
        grads.push(operand.grad);
        settings.push(SettingsLaunch::new(
            cubes_before,
            s.beta1 as f32,
            (1.0 - s.beta1) as f32,
            s.beta2 as f32,
            (1.0 - s.beta2) as f32,
            (1.0 / c2) as f32,
            s.epsilon as f32,
            (s.learning_rate / c1) as f32,
            (1.0 - s.learning_rate * s.weight_decay) as f32,
        ));
        cubes_before += (len / width).div_ceil(SHARE);
    }
    let arrays = |of: fn(&(CubeTensor<R>, CubeTensor<R>, CubeTensor<R>)) -> &CubeTensor<R>| {
        results
            .iter()
            .map(|result| of(result).clone().into_array_arg())
            .collect()
    };
    let (cube_count, dim) = cubes(cubes_before, UNITS);
    if cubes_before > 0 {
        // SAFETY: a unit touches its values of one parameter and of what belongs to it, which nobody else holds.
        unsafe {
            adamw_kernel::launch_unchecked::<R>(
                &factor.client,
                cube_count,
                dim,
                width,
                arrays(|result| &result.0),
                arrays(|result| &result.1),
                arrays(|result| &result.2),
                grads.into_iter().map(input).collect(),
                settings.into_iter().collect(),
                input(factor.clone()),
                count,
            );
        }
    }
    results
}
