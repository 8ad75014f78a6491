//! `y = x Wᵀ + b` with PyTorch's weight layout `[out, in]`.

use super::{TuneBackend, primitive, tensor};
use burn::tensor::{Tensor, ops::FloatTensor};

/// The default body of [`TuneBackend::tune_linear`].
pub fn forward<B: TuneBackend>(
    x: FloatTensor<B>,
    weight: FloatTensor<B>,
    bias: Option<FloatTensor<B>>,
) -> FloatTensor<B> {
    let y = B::float_matmul(x, B::float_transpose(weight));
    match bias {
        Some(bias) => {
            let bias: Tensor<B, 1> = tensor(bias);
            primitive(tensor::<B, 2>(y) + bias.unsqueeze::<2>())
        }
        None => y,
    }
}

/// The default body of [`TuneBackend::tune_linear_backward_bias`].
pub fn backward_bias<B: TuneBackend>(grad: FloatTensor<B>) -> FloatTensor<B> {
    primitive(tensor::<B, 2>(grad).sum_dim(0).squeeze_dim::<1>(0))
}

/// The default body of [`TuneBackend::tune_linear_add`].
pub fn add<B: TuneBackend>(
    sum: FloatTensor<B>,
    x: FloatTensor<B>,
    weight: FloatTensor<B>,
    scale: f64,
) -> FloatTensor<B> {
    let product = B::tune_linear(x, weight, None);
    B::float_add(sum, B::float_mul_scalar(product, scale.into()))
}
