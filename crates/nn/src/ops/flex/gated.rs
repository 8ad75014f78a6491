//! Gated linear units, forward and backward, element by element.

use super::gelu::{approximate, approximate_slope, exact, exact_slope};
use super::math::exp;
use super::util::{PIECE, from_vec, is_whole, map_pair, wide, written};
use crate::ops::{Gate, GeluKind};
use burn::backend::flex::FlexTensor;
use burn::tensor::TensorMetadata;
use rayon::prelude::*;

#[inline(always)]
fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

/// (gate, up) back where they do not fit.
pub(super) fn forward(
    gate: FlexTensor,
    up: FlexTensor,
    kind: Gate,
) -> Result<FlexTensor, (FlexTensor, FlexTensor)> {
    match kind {
        Gate::Silu => map_pair(
            gate,
            up,
            #[inline(always)]
            |x, up| x * sigmoid(x) * up,
        ),
        Gate::Gelu(GeluKind::Exact) => map_pair(
            gate,
            up,
            #[inline(always)]
            |x, up| exact(x) * up,
        ),
        Gate::Gelu(GeluKind::Tanh) => map_pair(
            gate,
            up,
            #[inline(always)]
            |x, up| approximate(x) * up,
        ),
    }
}

/// The gradients of gate and up, the latter in the buffer of `grad` where nobody else holds it; `grad` back where the operands
/// do not fit.
pub(super) fn backward(
    gate: &FlexTensor,
    up: &FlexTensor,
    grad: FlexTensor,
    kind: Gate,
) -> Result<(FlexTensor, FlexTensor), FlexTensor> {
    match kind {
        Gate::Silu => both(
            gate,
            up,
            grad,
            #[inline(always)]
            |x| {
                let s = sigmoid(x);
                (x * s, s * (x * (1.0 - s) + 1.0))
            },
        ),
        Gate::Gelu(GeluKind::Exact) => both(
            gate,
            up,
            grad,
            #[inline(always)]
            |x| (exact(x), exact_slope(x)),
        ),
        Gate::Gelu(GeluKind::Tanh) => both(
            gate,
            up,
            grad,
            #[inline(always)]
            |x| (approximate(x), approximate_slope(x)),
        ),
    }
}

/// By the value and the slope of the activation.
fn both(
    gate: &FlexTensor,
    up: &FlexTensor,
    mut grad: FlexTensor,
    activation: impl Fn(f32) -> (f32, f32) + Sync,
) -> Result<(FlexTensor, FlexTensor), FlexTensor> {
    let shape = grad.shape();
    let fit = || {
        let same = gate.shape() == shape && up.shape() == shape && is_whole(&grad);
        same.then_some((gate.as_slice::<f32>()?, up.as_slice::<f32>()?))
    };
    let Some((x, up)) = fit() else {
        return Err(grad);
    };
    // `storage_mut` copies first where somebody else holds the buffer.
    let grads = grad.storage_mut::<f32>();
    // SAFETY: the pieces of all sides have the same lengths, so the loops write every element.
    let output = unsafe {
        written(x.len(), |output| {
            let inputs = x.par_chunks(PIECE).zip(up.par_chunks(PIECE));
            output
                .par_chunks_mut(PIECE)
                .zip(grads.par_chunks_mut(PIECE).zip(inputs))
                .for_each(|(output, (grad, (x, up)))| {
                    wide(
                        #[inline(always)]
                        || {
                            let inputs = x.iter().zip(up);
                            let outputs = output.iter_mut().zip(grad);
                            for ((output, grad), (&x, &up)) in outputs.zip(inputs) {
                                let (value, slope) = activation(x);
                                output.write(*grad * up * slope);
                                *grad *= value;
                            }
                        },
                    );
                });
        })
    };
    Ok((from_vec(output, shape), grad))
}
