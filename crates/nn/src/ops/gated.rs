//! Gated linear units (Shazeer 2020, "GLU variants improve transformer"): SwiGLU and GEGLU between their linear layers.

use super::{GeluKind, TuneBackend, gelu, primitive, tensor};
use burn::tensor::{Tensor, activation, ops::FloatTensor};

/// The activation of a gate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gate {
    /// `x σ(x)`: Llama's.
    Silu,
    /// Gemma's is the tanh approximation.
    Gelu(GeluKind),
}

fn activate<B: TuneBackend>(x: FloatTensor<B>, gate: Gate) -> FloatTensor<B> {
    match gate {
        Gate::Silu => {
            let x: Tensor<B, 2> = tensor(x);
            primitive(x.clone() * activation::sigmoid(x))
        }
        Gate::Gelu(kind) => gelu::forward::<B>(x, kind),
    }
}

/// The default body of [`TuneBackend::tune_gated`].
pub fn forward<B: TuneBackend>(
    gate: FloatTensor<B>,
    up: FloatTensor<B>,
    kind: Gate,
) -> FloatTensor<B> {
    B::float_mul(activate::<B>(gate, kind), up)
}

/// The default body of [`TuneBackend::tune_gated_backward`].
pub fn backward<B: TuneBackend>(
    gate: FloatTensor<B>,
    up: FloatTensor<B>,
    grad: FloatTensor<B>,
    kind: Gate,
) -> (FloatTensor<B>, FloatTensor<B>) {
    let for_up = B::float_mul(grad.clone(), activate::<B>(gate.clone(), kind));
    let grad = B::float_mul(grad, up);
    let for_gate = match kind {
        Gate::Silu => {
            let (x, grad): (Tensor<B, 2>, Tensor<B, 2>) = (tensor(gate), tensor(grad));
            let s = activation::sigmoid(x.clone());
            let slope = s.clone() * (x * (s.neg() + 1.0) + 1.0);
            primitive(grad * slope)
        }
        Gate::Gelu(kind) => gelu::backward::<B>(gate, grad, kind),
    };
    (for_gate, for_up)
}
