//! Losses of next tokens and of classes: logits by chunks of rows, each row's softmax in one cube.

use super::launch::{cubes, elements, empty, input, rows_and_columns, rows_of};
use super::products::Product;
use super::sums::{cube_max, cube_sum};
use crate::ops::{CrossEntropy, NextToken, Precision, TuneBackend};
use burn::tensor::DType;
use burn_cubecl::{CubeRuntime, kernel::into_contiguous, tensor::CubeTensor};
use cubecl::prelude::*;

/// Units of a row's cube.
const UNITS: u32 = 256;
/// Logits of a chunk: 256 MiB.
const LOGITS: usize = 1 << 26;

/// `c tanh(x / c)`, or x.
#[cube]
fn capped(x: f32, cap: f32, #[comptime] has_cap: bool) -> f32 {
    if has_cap { (x / cap).tanh() * cap } else { x }
}

/// The cap's derivative at a capped value.
#[cube]
fn slope(x: f32, cap: f32, #[comptime] has_cap: bool) -> f32 {
    let t = x / cap;
    if has_cap {
        1.0 - t * t
    } else {
        1.0f32.runtime()
    }
}

/// Losses and log-sums of rows `first..` of all; with `slopes`, the logits become the loss's gradients by them.
#[cube(launch_unchecked)]
#[allow(clippy::too_many_arguments)]
fn loss_kernel(
    logits: &mut Array<f32>,
    targets: &Array<i32>,
    losses: &mut Array<f32>,
    log_sums: &mut Array<f32>,
    first: usize,
    rows: usize,
    words: usize,
    cap: f32,
    #[comptime] has_cap: bool,
    #[comptime] slopes: bool,
) {
    let row = CUBE_POS;
    if row >= rows {
        terminate!();
    }
    let mut shared = SharedMemory::<f32>::new(comptime!(UNITS as usize));
    let start = row * words;
    let mut top = f32::cast_from(-3.0e38f32);
    let mut at = UNIT_POS as usize;
    while at < words {
        top = max(top, capped(logits[start + at], cap, has_cap));
        at += comptime!(UNITS as usize);
    }
    let top = cube_max(top, &mut shared, UNITS);
    let mut sum = 0.0f32;
    let mut at = UNIT_POS as usize;
    while at < words {
        sum += (capped(logits[start + at], cap, has_cap) - top).exp();
        at += comptime!(UNITS as usize);
    }
    let log_sum = top + cube_sum(sum, &mut shared, UNITS).ln();
    let target = targets[first + row] as usize;
    if UNIT_POS == 0 {
        losses[first + row] = log_sum - capped(logits[start + target], cap, has_cap);
        log_sums[first + row] = log_sum;
    }
    // The target's logit is read before it is written.
    sync_cube();
    if slopes {
        let mut at = UNIT_POS as usize;
        while at < words {
            let logit = capped(logits[start + at], cap, has_cap);
            let mut p = (logit - log_sum).exp();
            if at == target {
                p -= 1.0;
            }
            logits[start + at] = p * slope(logit, cap, has_cap);
            at += comptime!(UNITS as usize);
        }
    }
}

/// Logits to gradients of the losses by them, times each row's `grad`.
#[cube(launch_unchecked)]
#[allow(clippy::too_many_arguments)]
fn slope_kernel(
    logits: &mut Array<f32>,
    targets: &Array<i32>,
    log_sums: &Array<f32>,
    grad: &Array<f32>,
    first: usize,
    words: usize,
    cap: f32,
    #[comptime] has_cap: bool,
) {
    if ABSOLUTE_POS >= logits.len() {
        terminate!();
    }
    let row = first + ABSOLUTE_POS / words;
    let logit = capped(logits[ABSOLUTE_POS], cap, has_cap);
    let mut p = (logit - log_sums[row]).exp();
    if ABSOLUTE_POS % words == targets[row] as usize {
        p -= 1.0;
    }
    logits[ABSOLUTE_POS] = p * slope(logit, cap, has_cap) * grad[row];
}

/// Rows of a chunk for a vocabulary of this many words: a multiple of 64, so that a chunk's rows of any matrix start at a
/// multiple of 256 bytes, where WGPU can bind them.
fn chunk(words: usize) -> usize {
    (LOGITS / words.max(1) / 64).max(1) * 64
}

pub(super) fn next_token<R: CubeRuntime, B>(
    hidden: CubeTensor<R>,
    weight: CubeTensor<R>,
    targets: CubeTensor<R>,
    softcap: Option<f64>,
    slopes: bool,
) -> NextToken<B>
where
    B: TuneBackend<FloatTensorPrimitive = CubeTensor<R>>,
{
    let ([rows, width], [words, _]) = (rows_and_columns(&hidden), rows_and_columns(&weight));
    let (losses, log_sums) = (empty(&hidden, [rows]), empty(&hidden, [rows]));
    let (hidden, targets) = (into_contiguous(hidden), into_contiguous(targets));
    let found = slopes.then(|| empty(&hidden, [rows, width]));
    for first in (0..rows).step_by(chunk(words)) {
        let count = chunk(words).min(rows - first);
        let part = rows_of(&hidden, first, count);
        let logits = Product::by_transposed(part, weight.clone()).compute(Precision::F32);
        let (cubes, dim) = cubes(count, UNITS);
        // SAFETY: a cube touches its row of the logits and its row of the rest; a target is below the vocabulary.
        unsafe {
            loss_kernel::launch_unchecked::<R>(
                &losses.client,
                cubes,
                dim,
                logits.clone().into_array_arg(),
                targets.clone().into_array_arg(),
                losses.clone().into_array_arg(),
                log_sums.clone().into_array_arg(),
                first,
                count,
                words,
                softcap.unwrap_or(1.0) as f32,
                softcap.is_some(),
                slopes,
            );
        }
        if let Some(found) = &found {
            Product::plain(logits, weight.clone()).compute_into(rows_of(found, first, count));
        }
    }
    NextToken {
        losses,
        log_sums,
        slopes: found,
    }
}

pub(super) fn next_token_backward_weight<R: CubeRuntime>(
    hidden: CubeTensor<R>,
    weight: CubeTensor<R>,
    targets: CubeTensor<R>,
    log_sums: CubeTensor<R>,
    grad: CubeTensor<R>,
    softcap: Option<f64>,
) -> Option<CubeTensor<R>> {
    let ([rows, _], [words, _]) = (rows_and_columns(&hidden), rows_and_columns(&weight));
    let [hidden, targets, log_sums, grad] = [hidden, targets, log_sums, grad].map(into_contiguous);
    let mut sum: Option<CubeTensor<R>> = None;
    for first in (0..rows).step_by(chunk(words)) {
        let count = chunk(words).min(rows - first);
        let part = rows_of(&hidden, first, count);
        let logits = Product::by_transposed(part.clone(), weight.clone()).compute(Precision::F32);
        let (cubes, dim) = elements(&logits, count * words);
        // SAFETY: a unit touches its logit and its row of the rest.
        unsafe {
            slope_kernel::launch_unchecked::<R>(
                &hidden.client,
                cubes,
                dim,
                logits.clone().into_array_arg(),
                targets.clone().into_array_arg(),
                log_sums.clone().into_array_arg(),
                grad.clone().into_array_arg(),
                first,
                words,
                softcap.unwrap_or(1.0) as f32,
                softcap.is_some(),
            );
        }
        let found = Product::of_transposed(logits, part).compute(Precision::F32);
        sum = Some(match sum {
            None => found,
            Some(sum) => burn_cubecl::ops::numeric::add(sum, found),
        });
    }
    sum
}

/// The most classes that a unit goes through alone.
pub(super) const CLASSES: usize = 1024;

/// One unit an example. `backward`: the gradient of the logits, times `grad`; else the loss.
#[cube(launch_unchecked)]
#[allow(clippy::too_many_arguments)]
fn classes_kernel(
    logits: &Array<f32>,
    targets: &Array<i32>,
    grad: &Array<f32>,
    out: &mut Array<f32>,
    examples: usize,
    classes: usize,
    smoothing: f32,
    ignored: i32,
    #[comptime] has_ignored: bool,
    #[comptime] backward: bool,
) {
    let example = ABSOLUTE_POS;
    if example >= examples {
        terminate!();
    }
    let start = example * classes;
    let target = targets[example];
    let mut counts = 1.0f32;
    if has_ignored {
        counts = select(target == ignored, 0.0f32, 1.0f32);
    }
    let mut top = logits[start];
    for c in 1..classes {
        top = max(top, logits[start + c]);
    }
    let mut sum = 0.0f32;
    for c in 0..classes {
        sum += (logits[start + c] - top).exp();
    }
    let log_sum = top + sum.ln();
    let spread = smoothing / classes as f32;
    let mut loss = 0.0f32;
    for c in 0..classes {
        let share = spread + select(c as i32 == target, 1.0 - smoothing, 0.0f32);
        let log_p = logits[start + c] - log_sum;
        if backward {
            out[start + c] = (log_p.exp() - share) * counts * grad[example];
        } else {
            loss -= share * log_p;
        }
    }
    if comptime!(!backward) {
        out[example] = loss * counts;
    }
}

/// Losses `[B]`, or with `grad [B]` the gradient of `logits [B, C]`, without weights of classes.
pub(super) fn cross_entropy<R: CubeRuntime>(
    logits: CubeTensor<R>,
    targets: CubeTensor<R>,
    grad: Option<CubeTensor<R>>,
    settings: &CrossEntropy,
) -> CubeTensor<R> {
    let [examples, classes] = rows_and_columns(&logits);
    let backward = grad.is_some();
    let out = match backward {
        true => empty(&logits, [examples, classes]),
        false => empty(&logits, [examples]),
    };
    if examples * classes > 0 {
        let client = logits.client.clone();
        let (cubes, dim) = elements(&logits, examples);
        let grad = grad.unwrap_or_else(|| logits.clone());
        // SAFETY: a unit touches its example.
        unsafe {
            classes_kernel::launch_unchecked::<R>(
                &client,
                cubes,
                dim,
                input(logits),
                input(targets),
                input(grad),
                out.clone().into_array_arg(),
                examples,
                classes,
                settings.label_smoothing as f32,
                settings.ignored.unwrap_or(0) as i32,
                settings.ignored.is_some(),
                backward,
            );
        }
    }
    out
}

/// Losses of rows `first..`, and the word with the largest logit, the first of equals.
#[cube(launch_unchecked)]
#[allow(clippy::too_many_arguments)]
fn best_kernel(
    logits: &Array<f32>,
    best: &mut Array<i32>,
    first: usize,
    rows: usize,
    words: usize,
) {
    let row = CUBE_POS;
    if row >= rows {
        terminate!();
    }
    let mut values = SharedMemory::<f32>::new(comptime!(UNITS as usize));
    let mut places = SharedMemory::<u32>::new(comptime!(UNITS as usize));
    let start = row * words;
    let unit = UNIT_POS as usize;
    let mut top = f32::cast_from(-3.4e38f32);
    let mut place = unit;
    let mut at = unit;
    while at < words {
        let value = logits[start + at];
        if value > top {
            top = value;
            place = at;
        }
        at += comptime!(UNITS as usize);
    }
    values[unit] = top;
    places[unit] = place as u32;
    sync_cube();
    #[unroll]
    for level in 0..comptime!(UNITS.ilog2()) {
        let half = comptime!((UNITS >> (level + 1)) as usize);
        if unit < half {
            let there = values[unit + half];
            let other = places[unit + half];
            if there > values[unit] || (there == values[unit] && other < places[unit]) {
                values[unit] = there;
                places[unit] = other;
            }
        }
        sync_cube();
    }
    if unit == 0 {
        best[first + row] = places[0] as i32;
    }
}

/// As `next_token`, with the likeliest words `[R]`. A cap does not change which logit is the largest.
pub(super) fn next_token_best<R: CubeRuntime>(
    hidden: CubeTensor<R>,
    weight: CubeTensor<R>,
    targets: CubeTensor<R>,
    softcap: Option<f64>,
) -> (CubeTensor<R>, CubeTensor<R>) {
    let ([rows, _], [words, _]) = (rows_and_columns(&hidden), rows_and_columns(&weight));
    let (losses, log_sums) = (empty(&hidden, [rows]), empty(&hidden, [rows]));
    let mut best = empty(&hidden, [rows]);
    best.dtype = DType::I32;
    let (hidden, targets) = (into_contiguous(hidden), into_contiguous(targets));
    for first in (0..rows).step_by(chunk(words)) {
        let count = chunk(words).min(rows - first);
        let part = rows_of(&hidden, first, count);
        let logits = Product::by_transposed(part, weight.clone()).compute(Precision::F32);
        // SAFETY: a cube touches its row of the logits and its row of the rest; a target is below the vocabulary.
        unsafe {
            let (count_of_cubes, dim) = cubes(count, UNITS);
            best_kernel::launch_unchecked::<R>(
                &losses.client,
                count_of_cubes,
                dim,
                logits.clone().into_array_arg(),
                best.clone().into_array_arg(),
                first,
                count,
                words,
            );
            let (count_of_cubes, dim) = cubes(count, UNITS);
            loss_kernel::launch_unchecked::<R>(
                &losses.client,
                count_of_cubes,
                dim,
                logits.into_array_arg(),
                targets.clone().into_array_arg(),
                losses.clone().into_array_arg(),
                log_sums.clone().into_array_arg(),
                first,
                count,
                words,
                softcap.unwrap_or(1.0) as f32,
                softcap.is_some(),
                false,
            );
        }
    }
    (losses, best)
}
