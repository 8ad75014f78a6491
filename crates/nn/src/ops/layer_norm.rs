//! Layer norm (Ba, Kiros and Hinton 2016) over rows, biased variance as PyTorch's, with the residual that is added before it.

use super::{TuneBackend, primitive, tensor};
use burn::tensor::{Tensor, ops::FloatTensor};

/// Gradients of a layer norm; `None` where nobody asked.
#[derive(Debug)]
pub struct LayerNormGrads<B: TuneBackend> {
    /// of x, and of the residual: `[T, D]`
    pub x: Option<FloatTensor<B>>,
    /// gamma and beta, `[D]` each
    pub affine: Option<(FloatTensor<B>, FloatTensor<B>)>,
}

/// The normalised rows and 1/σ `[T, 1]`.
fn normalise<B: TuneBackend>(x: Tensor<B, 2>, epsilon: f64) -> (Tensor<B, 2>, Tensor<B, 2>) {
    let centred = x.clone() - x.mean_dim(1);
    let variance = (centred.clone() * centred.clone()).mean_dim(1);
    let inverse = (variance + epsilon).sqrt().recip();
    (centred * inverse.clone(), inverse)
}

/// x, plus the residual.
fn sum<B: TuneBackend>(x: FloatTensor<B>, residual: Option<FloatTensor<B>>) -> Tensor<B, 2> {
    match residual {
        Some(residual) => tensor::<B, 2>(x) + tensor(residual),
        None => tensor(x),
    }
}

/// The default body of [`TuneBackend::tune_layer_norm`].
pub fn forward<B: TuneBackend>(
    x: FloatTensor<B>,
    residual: Option<FloatTensor<B>>,
    gamma: FloatTensor<B>,
    beta: FloatTensor<B>,
    epsilon: f64,
) -> FloatTensor<B> {
    let (normal, _) = normalise::<B>(sum::<B>(x, residual), epsilon);
    let (gamma, beta): (Tensor<B, 1>, Tensor<B, 1>) = (tensor(gamma), tensor(beta));
    primitive(normal * gamma.unsqueeze::<2>() + beta.unsqueeze::<2>())
}

/// The default body of [`TuneBackend::tune_layer_norm_backward`].
pub fn backward<B: TuneBackend>(
    x: FloatTensor<B>,
    residual: Option<FloatTensor<B>>,
    gamma: FloatTensor<B>,
    grad: FloatTensor<B>,
    epsilon: f64,
    needs: (bool, bool),
) -> LayerNormGrads<B> {
    let (normal, inverse) = normalise::<B>(sum::<B>(x, residual), epsilon);
    let grad: Tensor<B, 2> = tensor(grad);
    let affine = needs.1.then(|| {
        let gamma = (grad.clone() * normal.clone())
            .sum_dim(0)
            .squeeze_dim::<1>(0);
        let beta = grad.clone().sum_dim(0).squeeze_dim::<1>(0);
        (primitive(gamma), primitive(beta))
    });
    let x = needs.0.then(|| {
        let gamma: Tensor<B, 1> = tensor(gamma);
        let g = grad * gamma.unsqueeze::<2>();
        let along = (g.clone() * normal.clone()).mean_dim(1);
        primitive((g.clone() - g.mean_dim(1) - normal * along) * inverse)
    });
    LayerNormGrads { x, affine }
}
