//! RMS norm (Zhang and Sennrich 2019): rows divided by the root of their mean square, times gamma. No mean is subtracted and
//! there is no bias. Gemma's `1 + gamma` is the layer's: see [`RmsNorm`](crate::layers::RmsNorm).

use super::{TuneBackend, primitive, tensor};
use burn::tensor::{Tensor, ops::FloatTensor};

/// Gradients of an RMS norm; `None` where nobody asked.
#[derive(Debug)]
pub struct RmsNormGrads<B: TuneBackend> {
    /// of x, `[T, D]`
    pub x: Option<FloatTensor<B>>,
    /// of gamma, `[D]`
    pub gamma: Option<FloatTensor<B>>,
}

/// The normalised rows and 1/RMS `[T, 1]`.
fn normalise<B: TuneBackend>(x: Tensor<B, 2>, epsilon: f64) -> (Tensor<B, 2>, Tensor<B, 2>) {
    let square = (x.clone() * x.clone()).mean_dim(1);
    let inverse = (square + epsilon).sqrt().recip();
    (x * inverse.clone(), inverse)
}

/// The default body of [`TuneBackend::tune_rms_norm`].
pub fn forward<B: TuneBackend>(
    x: FloatTensor<B>,
    gamma: FloatTensor<B>,
    epsilon: f64,
) -> FloatTensor<B> {
    let (normal, _) = normalise::<B>(tensor(x), epsilon);
    let gamma: Tensor<B, 1> = tensor(gamma);
    primitive(normal * gamma.unsqueeze::<2>())
}

/// The default body of [`TuneBackend::tune_rms_norm_backward`].
pub fn backward<B: TuneBackend>(
    x: FloatTensor<B>,
    gamma: FloatTensor<B>,
    grad: FloatTensor<B>,
    epsilon: f64,
    needs: (bool, bool),
) -> RmsNormGrads<B> {
    let (normal, inverse) = normalise::<B>(tensor(x), epsilon);
    let grad: Tensor<B, 2> = tensor(grad);
    let for_gamma = needs.1.then(|| {
        let products = grad.clone() * normal.clone();
        primitive(products.sum_dim(0).squeeze_dim::<1>(0))
    });
    let for_x = needs.0.then(|| {
        let gamma: Tensor<B, 1> = tensor(gamma);
        let g = grad * gamma.unsqueeze::<2>();
        let along = (g.clone() * normal.clone()).mean_dim(1);
        primitive((g - normal * along) * inverse)
    });
    RmsNormGrads {
        x: for_x,
        gamma: for_gamma,
    }
}
