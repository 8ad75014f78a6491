//! GELU (Hendrycks and Gimpel 2016), exact by the error function and by its tanh approximation, each with its own
//! derivative: Burn's GPU backends use the tanh derivative for both, which is about 1e-3 off.

use super::{TuneBackend, primitive, tensor};
use burn::tensor::{Tensor, ops::FloatTensor};
use std::f64::consts::{FRAC_1_SQRT_2, PI};

/// Which GELU.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GeluKind {
    /// `x Φ(x)`: BERT's `gelu`.
    Exact,
    /// `0.5 x (1 + tanh(√(2/π) (x + 0.044715 x³)))`: GPT-2's `gelu_new`.
    Tanh,
}

pub(super) const CUBIC: f64 = 0.044_715;

fn tanh_term<B: TuneBackend>(x: &Tensor<B, 1>) -> Tensor<B, 1> {
    let cubic = x.clone() * x.clone() * x.clone() * CUBIC;
    ((x.clone() + cubic) * (2.0 / PI).sqrt()).tanh()
}

/// Any rank, seen as a row.
fn flat<B: TuneBackend>(x: FloatTensor<B>) -> (Tensor<B, 1>, burn::tensor::Shape) {
    use burn::tensor::TensorMetadata;
    let shape = x.shape();
    let count = shape.num_elements();
    (tensor(B::float_reshape(x, [count].into())), shape)
}

/// The default body of [`TuneBackend::tune_gelu`].
pub fn forward<B: TuneBackend>(x: FloatTensor<B>, kind: GeluKind) -> FloatTensor<B> {
    let (x, shape) = flat::<B>(x);
    let gate = match kind {
        GeluKind::Exact => (x.clone() * FRAC_1_SQRT_2).erf(),
        GeluKind::Tanh => tanh_term(&x),
    };
    B::float_reshape(primitive(x * (gate + 1.0) * 0.5), shape)
}

/// The default body of [`TuneBackend::tune_gelu_backward`].
pub fn backward<B: TuneBackend>(
    x: FloatTensor<B>,
    grad: FloatTensor<B>,
    kind: GeluKind,
) -> FloatTensor<B> {
    let (x, shape) = flat::<B>(x);
    let (grad, _) = flat::<B>(grad);
    let derivative = match kind {
        GeluKind::Exact => {
            let cdf = ((x.clone() * FRAC_1_SQRT_2).erf() + 1.0) * 0.5;
            let pdf = (x.clone() * x.clone() * -0.5).exp() * (1.0 / (2.0 * PI).sqrt());
            cdf + x * pdf
        }
        GeluKind::Tanh => {
            let t = tanh_term(&x);
            let inner = (x.clone() * x.clone() * (3.0 * CUBIC) + 1.0) * (2.0 / PI).sqrt();
            let sech2 = (t.clone() * t.clone()).neg() + 1.0;
            (t + 1.0) * 0.5 + x * 0.5 * sech2 * inner
        }
    };
    B::float_reshape(primitive(grad * derivative), shape)
}
