//! Root mean square norm over the width of each token (Zhang and Sennrich 2019).

use crate::{
    init,
    ops::{self, TuneBackend},
};
use burn::{
    module::{Module, Param},
    tensor::{Tensor, backend::Backend},
};

/// A root mean square norm with a factor for each column.
#[derive(Module, Debug)]
pub struct RmsNorm<B: Backend> {
    /// gamma `[D]`
    pub weight: Param<Tensor<B, 1>>,
    /// ε under the root.
    pub epsilon: f64,
    /// Whether the factor is `1 + gamma` (Gemma). 1 is added in the forward pass: gamma stays what the checkpoint holds, bit by bit.
    pub plus_one: bool,
}

impl<B: Backend> RmsNorm<B> {
    /// gamma 1.
    pub fn new(width: usize, epsilon: f64, device: &B::Device) -> Self {
        Self {
            weight: init::lazy([width], device, |shape, device| Tensor::ones(shape, device)),
            epsilon,
            plus_one: false,
        }
    }

    /// The factor is `1 + gamma`; gamma 0.
    pub fn plus_one(width: usize, epsilon: f64, device: &B::Device) -> Self {
        Self {
            weight: init::lazy([width], device, |shape, device| {
                Tensor::zeros(shape, device)
            }),
            epsilon,
            plus_one: true,
        }
    }
}

impl<B: TuneBackend> RmsNorm<B> {
    /// `x [T, D]` -> `[T, D]`.
    pub fn forward(&self, x: Tensor<B, 2>) -> Tensor<B, 2> {
        let gamma = self.weight.val();
        let factor = match self.plus_one {
            true => gamma + 1.0,
            false => gamma,
        };
        ops::rms_norm(x, factor, self.epsilon)
    }
}
