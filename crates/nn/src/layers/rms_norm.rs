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
}

impl<B: Backend> RmsNorm<B> {
    /// gamma 1.
    pub fn new(width: usize, epsilon: f64, device: &B::Device) -> Self {
        Self {
            weight: init::lazy([width], device, |shape, device| Tensor::ones(shape, device)),
            epsilon,
        }
    }
}

impl<B: TuneBackend> RmsNorm<B> {
    /// `x [T, D]` -> `[T, D]`.
    pub fn forward(&self, x: Tensor<B, 2>) -> Tensor<B, 2> {
        ops::rms_norm(x, self.weight.val(), self.epsilon)
    }
}
