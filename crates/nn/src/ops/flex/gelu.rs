//! GELU, forward and backward, element by element.

use super::math::{erf, exp, tanh};
use super::util::{map, map_pair};
use crate::ops::{GeluKind, gelu::CUBIC};
use burn::backend::flex::FlexTensor;
use std::f32::consts::{FRAC_1_SQRT_2, FRAC_2_SQRT_PI};

/// √(2/π)
const SQRT_2_OVER_PI: f32 = FRAC_2_SQRT_PI * FRAC_1_SQRT_2;

#[inline(always)]
pub(super) fn exact(x: f32) -> f32 {
    0.5 * x * (1.0 + erf(x * FRAC_1_SQRT_2))
}

#[inline(always)]
pub(super) fn exact_slope(x: f32) -> f32 {
    let cdf = 0.5 * (1.0 + erf(x * FRAC_1_SQRT_2));
    let pdf = exp(-0.5 * x * x) * (0.5 * SQRT_2_OVER_PI);
    x.mul_add(pdf, cdf)
}

/// tanh(√(2/π) (x + 0.044715 x³))
#[inline(always)]
fn gate(x: f32) -> f32 {
    tanh(SQRT_2_OVER_PI * x * (CUBIC as f32 * x).mul_add(x, 1.0))
}

#[inline(always)]
pub(super) fn approximate(x: f32) -> f32 {
    0.5 * x * (1.0 + gate(x))
}

#[inline(always)]
pub(super) fn approximate_slope(x: f32) -> f32 {
    let t = gate(x);
    let inner = SQRT_2_OVER_PI * (3.0 * CUBIC as f32 * x).mul_add(x, 1.0);
    0.5 * (1.0 + t) + 0.5 * x * (1.0 - t * t) * inner
}

pub(super) fn forward(x: FlexTensor, kind: GeluKind) -> Result<FlexTensor, FlexTensor> {
    match kind {
        GeluKind::Exact => map(x, exact),
        GeluKind::Tanh => map(x, approximate),
    }
}

/// The gradient, in the buffer of `grad` where it can; (grad, x) back where they do not fit.
pub(super) fn backward(
    x: FlexTensor,
    grad: FlexTensor,
    kind: GeluKind,
) -> Result<FlexTensor, (FlexTensor, FlexTensor)> {
    match kind {
        GeluKind::Exact => map_pair(
            grad,
            x,
            #[inline(always)]
            |g, x| g * exact_slope(x),
        ),
        GeluKind::Tanh => map_pair(
            grad,
            x,
            #[inline(always)]
            |g, x| g * approximate_slope(x),
        ),
    }
}
