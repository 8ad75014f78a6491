//! Layer norm over the width of each token.

use crate::{
    init,
    ops::{self, TuneBackend},
};
use burn::{
    module::{Module, Param},
    tensor::{Tensor, backend::Backend},
};

/// A layer norm with an affine part, or with factors alone.
#[derive(Module, Debug)]
pub struct LayerNorm<B: Backend> {
    /// gamma `[D]`
    pub weight: Param<Tensor<B, 1>>,
    /// beta `[D]`
    pub bias: Option<Param<Tensor<B, 1>>>,
    /// ε under the root (BERT: 1e-12).
    pub epsilon: f64,
}

impl<B: Backend> LayerNorm<B> {
    /// gamma 1, beta 0.
    pub fn new(width: usize, epsilon: f64, device: &B::Device) -> Self {
        Self {
            weight: init::lazy([width], device, |shape, device| Tensor::ones(shape, device)),
            bias: Some(init::lazy([width], device, |shape, device| {
                Tensor::zeros(shape, device)
            })),
            epsilon,
        }
    }

    /// The same without beta.
    #[must_use]
    pub fn without_bias(mut self) -> Self {
        self.bias = None;
        self
    }
}

impl<B: TuneBackend> LayerNorm<B> {
    /// `x [T, D]` -> `[T, D]`.
    pub fn forward(&self, x: Tensor<B, 2>) -> Tensor<B, 2> {
        let (gamma, beta) = self.affine();
        ops::layer_norm(x, None, gamma, beta, self.epsilon)
    }

    /// Of `x + residual`, `[T, D]` each, in one pass.
    pub fn forward_sum(&self, x: Tensor<B, 2>, residual: Tensor<B, 2>) -> Tensor<B, 2> {
        let (gamma, beta) = self.affine();
        ops::layer_norm(x, Some(residual), gamma, beta, self.epsilon)
    }

    /// gamma and beta, which is 0 where there is none.
    fn affine(&self) -> (Tensor<B, 1>, Tensor<B, 1>) {
        let gamma = self.weight.val();
        let beta = match &self.bias {
            Some(bias) => bias.val(),
            None => gamma.zeros_like(),
        };
        (gamma, beta)
    }
}
