//! A table of vectors looked up by index.

use crate::{
    init,
    layers::Weight,
    ops::{self, TuneBackend},
};
use burn::{
    module::Module,
    tensor::{Int, Tensor, backend::Backend},
};

/// An embedding table.
#[derive(Module, Debug)]
pub struct Embedding<B: Backend> {
    /// `[V, D]`
    pub weight: Weight<B>,
}

impl<B: Backend> Embedding<B> {
    /// Normal weight with standard deviation `std`.
    pub fn normal(key: u64, rows: usize, width: usize, std: f64, device: &B::Device) -> Self {
        Self {
            weight: Weight::Plain(init::lazy([rows, width], device, move |shape, device| {
                init::normal(key, shape, std, device)
            })),
        }
    }
}

impl<B: TuneBackend> Embedding<B> {
    /// `indices [T]` -> `[T, D]`. Every index must be below V; who encodes text checks that.
    pub fn forward(&self, indices: Tensor<B, 1, Int>) -> Tensor<B, 2> {
        self.weight.rows(indices)
    }

    /// `sum [T, D]` plus the rows of `indices [T]`, in one pass.
    pub fn add_to(&self, sum: Tensor<B, 2>, indices: Tensor<B, 1, Int>) -> Tensor<B, 2> {
        match &self.weight {
            Weight::Plain(weight) => ops::embedding_add(sum, weight.val(), indices),
            Weight::Grouped(_) => sum + self.weight.rows(indices),
        }
    }
}
