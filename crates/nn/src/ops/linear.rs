//! `y = x Wᵀ + b` with PyTorch's weight layout `[out, in]`.

use super::{TuneBackend, primitive, tensor};
use burn::tensor::{FloatDType, Tensor, ops::FloatTensor};

/// What a matrix product multiplies; it sums in f32, and parameters, activations and gradients are f32 either way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Precision {
    /// The factors as they are.
    #[default]
    F32,
    /// The factors as NVIDIA's matrix units for TF32 read them (10 bits of mantissa). What has no such units multiplies them as they
    /// are.
    Tf32,
    /// The factors rounded to bf16 (8 bits of mantissa), to nearest even.
    Bf16,
}

/// A factor as a product of this precision takes it.
fn factor<B: TuneBackend>(x: FloatTensor<B>, precision: Precision) -> FloatTensor<B> {
    match precision {
        Precision::F32 | Precision::Tf32 => x,
        Precision::Bf16 => B::float_cast(B::float_cast(x, FloatDType::BF16), FloatDType::F32),
    }
}

/// The default body of [`TuneBackend::tune_linear`].
pub fn forward<B: TuneBackend>(
    x: FloatTensor<B>,
    weight: FloatTensor<B>,
    bias: Option<FloatTensor<B>>,
    precision: Precision,
) -> FloatTensor<B> {
    let (x, weight) = (factor::<B>(x, precision), factor::<B>(weight, precision));
    let y = B::float_matmul(x, B::float_transpose(weight));
    match bias {
        Some(bias) => {
            let bias: Tensor<B, 1> = tensor(bias);
            primitive(tensor::<B, 2>(y) + bias.unsqueeze::<2>())
        }
        None => y,
    }
}

/// The default body of [`TuneBackend::tune_linear_backward_x`].
pub fn backward_x<B: TuneBackend>(
    grad: FloatTensor<B>,
    weight: FloatTensor<B>,
    precision: Precision,
) -> FloatTensor<B> {
    B::float_matmul(factor::<B>(grad, precision), factor::<B>(weight, precision))
}

/// The default body of [`TuneBackend::tune_linear_backward_weight`].
pub fn backward_weight<B: TuneBackend>(
    grad: FloatTensor<B>,
    x: FloatTensor<B>,
    precision: Precision,
) -> FloatTensor<B> {
    let grad = B::float_transpose(factor::<B>(grad, precision));
    B::float_matmul(grad, factor::<B>(x, precision))
}

/// The default body of [`TuneBackend::tune_linear_backward_both`].
pub fn backward_both<B: TuneBackend>(
    grad: FloatTensor<B>,
    x: FloatTensor<B>,
    precision: Precision,
) -> (FloatTensor<B>, FloatTensor<B>) {
    let bias = B::tune_linear_backward_bias(grad.clone());
    (B::tune_linear_backward_weight(grad, x, precision), bias)
}

/// The default body of [`TuneBackend::tune_linear_backward_bias`].
pub fn backward_bias<B: TuneBackend>(grad: FloatTensor<B>) -> FloatTensor<B> {
    primitive(tensor::<B, 2>(grad).sum_dim(0).squeeze_dim::<1>(0))
}

/// Gradients of a low-rank side path; `None` where nobody asked.
#[derive(Debug)]
pub struct LowRankGrads<B: TuneBackend> {
    /// `[T, I]`
    pub x: Option<FloatTensor<B>>,
    /// Of A `[r, I]` and of B `[O, r]`.
    pub factors: Option<(FloatTensor<B>, FloatTensor<B>)>,
}

/// The default body of [`TuneBackend::tune_low_rank`].
pub fn low_rank<B: TuneBackend>(
    sum: FloatTensor<B>,
    x: FloatTensor<B>,
    a: FloatTensor<B>,
    b: FloatTensor<B>,
    scale: f64,
) -> (FloatTensor<B>, FloatTensor<B>) {
    let low = B::tune_linear(x, a, None, Precision::F32);
    (B::tune_linear_add(sum, low.clone(), b, scale), low)
}

/// The default body of [`TuneBackend::tune_low_rank_backward`].
pub fn low_rank_backward<B: TuneBackend>(
    grad: FloatTensor<B>,
    x: FloatTensor<B>,
    low: FloatTensor<B>,
    a: FloatTensor<B>,
    b: FloatTensor<B>,
    scale: f64,
    (needs_x, needs_factors): (bool, bool),
) -> LowRankGrads<B> {
    let scaled = |x: FloatTensor<B>| B::float_mul_scalar(x, scale.into());
    let low_grad = scaled(B::tune_linear_backward_x(grad.clone(), b, Precision::F32));
    let for_x = needs_x.then(|| B::tune_linear_backward_x(low_grad.clone(), a, Precision::F32));
    let factors = needs_factors.then(|| {
        let for_b = scaled(B::tune_linear_backward_weight(grad, low, Precision::F32));
        let for_a = B::tune_linear_backward_weight(low_grad, x, Precision::F32);
        (for_a, for_b)
    });
    LowRankGrads { x: for_x, factors }
}

/// The default body of [`TuneBackend::tune_linear_add`].
pub fn add<B: TuneBackend>(
    sum: FloatTensor<B>,
    x: FloatTensor<B>,
    weight: FloatTensor<B>,
    scale: f64,
) -> FloatTensor<B> {
    let product = B::tune_linear(x, weight, None, Precision::F32);
    B::float_add(sum, B::float_mul_scalar(product, scale.into()))
}
