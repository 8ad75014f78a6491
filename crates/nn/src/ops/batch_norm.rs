//! Batch norm (Ioffe and Szegedy 2015) by channels, with the residual and the activation that follow it in one pass.

use super::{TuneBackend, primitive, tensor};
use burn::tensor::{Tensor, ops::FloatTensor};

/// What follows a norm.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Rectify {
    /// Nothing.
    #[default]
    None,
    /// max(x, 0)
    Relu,
    /// min(max(x, 0), 6)
    Relu6,
}

impl Rectify {
    /// The values that pass unchanged, open at both ends.
    #[must_use]
    pub fn range(self) -> (f32, f32) {
        match self {
            Self::None => (f32::NEG_INFINITY, f32::INFINITY),
            Self::Relu => (0.0, f32::INFINITY),
            Self::Relu6 => (0.0, 6.0),
        }
    }
}

/// Settings of [`TuneBackend::tune_batch_norm`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BatchNormConfig {
    /// Added to the variance.
    pub epsilon: f64,
    /// Whether the moments are those of x itself, so that the gradient flows through them too.
    pub of_batch: bool,
    /// What follows.
    pub rectify: Rectify,
}

/// Gradients of a batch norm; `None` where nobody asked.
#[derive(Debug)]
pub struct BatchNormGrads<B: TuneBackend> {
    /// `[R, C]`
    pub x: Option<FloatTensor<B>>,
    /// `[R, C]`
    pub residual: Option<FloatTensor<B>>,
    /// gamma and beta, `[C]` each
    pub affine: Option<(FloatTensor<B>, FloatTensor<B>)>,
}

/// The default body of [`TuneBackend::tune_moments`].
pub fn moments<B: TuneBackend>(x: FloatTensor<B>) -> FloatTensor<B> {
    let x: Tensor<B, 2> = tensor(x);
    let mean = x.clone().mean_dim(0);
    let centred = x - mean.clone();
    let variance = (centred.clone() * centred).mean_dim(0);
    primitive(Tensor::cat(vec![mean, variance], 0))
}

/// Mean and 1/σ, `[1, C]` each.
fn split<B: TuneBackend>(moments: FloatTensor<B>, epsilon: f64) -> (Tensor<B, 2>, Tensor<B, 2>) {
    let moments: Tensor<B, 2> = tensor(moments);
    let variance = moments.clone().narrow(0, 1, 1);
    (moments.narrow(0, 0, 1), (variance + epsilon).sqrt().recip())
}

/// The default body of [`TuneBackend::tune_batch_norm`].
pub fn forward<B: TuneBackend>(
    x: FloatTensor<B>,
    residual: Option<FloatTensor<B>>,
    gamma: FloatTensor<B>,
    beta: FloatTensor<B>,
    moments: FloatTensor<B>,
    config: BatchNormConfig,
) -> FloatTensor<B> {
    let (mean, inverse) = split::<B>(moments, config.epsilon);
    let (gamma, beta): (Tensor<B, 1>, Tensor<B, 1>) = (tensor(gamma), tensor(beta));
    let x: Tensor<B, 2> = tensor(x);
    let mut y = (x - mean) * (inverse * gamma.unsqueeze::<2>()) + beta.unsqueeze::<2>();
    if let Some(residual) = residual {
        y = y + tensor::<B, 2>(residual);
    }
    primitive(match config.rectify {
        Rectify::None => y,
        Rectify::Relu => y.clamp_min(0.0),
        Rectify::Relu6 => y.clamp(0.0, 6.0),
    })
}

#[allow(clippy::too_many_arguments)] // the operands of one formula
/// The default body of [`TuneBackend::tune_batch_norm_backward`].
pub fn backward<B: TuneBackend>(
    x: FloatTensor<B>,
    y: FloatTensor<B>,
    gamma: FloatTensor<B>,
    moments: FloatTensor<B>,
    grad: FloatTensor<B>,
    config: BatchNormConfig,
    (need_x, need_residual, need_affine): (bool, bool, bool),
) -> BatchNormGrads<B> {
    let (mean, inverse) = split::<B>(moments, config.epsilon);
    let (x, y, grad): (Tensor<B, 2>, Tensor<B, 2>, Tensor<B, 2>) =
        (tensor(x), tensor(y), tensor(grad));
    let grad = match config.rectify {
        Rectify::None => grad,
        Rectify::Relu => grad.mask_fill(y.lower_equal_elem(0.0), 0.0),
        Rectify::Relu6 => {
            let stopped = y
                .clone()
                .lower_equal_elem(0.0)
                .bool_or(y.greater_equal_elem(6.0));
            grad.mask_fill(stopped, 0.0)
        }
    };
    let normal = (x - mean) * inverse.clone();
    let for_gamma = (grad.clone() * normal.clone()).sum_dim(0);
    let for_beta = grad.clone().sum_dim(0);
    let rows = grad.dims()[0].max(1) as f64;
    let grad_x = need_x.then(|| {
        let gamma: Tensor<B, 1> = tensor(gamma);
        let scale = inverse * gamma.unsqueeze::<2>();
        let inner = match config.of_batch {
            true => grad.clone() - for_beta.clone() / rows - normal * (for_gamma.clone() / rows),
            false => grad.clone(),
        };
        primitive(inner * scale)
    });
    BatchNormGrads {
        x: grad_x,
        residual: need_residual.then(|| primitive(grad)),
        affine: need_affine.then(|| {
            (
                primitive(for_gamma.squeeze_dim::<1>(0)),
                primitive(for_beta.squeeze_dim::<1>(0)),
            )
        }),
    }
}
