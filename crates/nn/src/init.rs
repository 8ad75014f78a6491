//! Initial values of new parameters, drawn on the host from the counter-based generator: the same seed gives the same
//! values on every backend and in any order of construction.
//!
//! A layer's parameters are [`lazy`]: drawn at their first use, so that one that is loaded before is never drawn.

use burn::{
    module::{Param, ParamId},
    tensor::{Shape, Tensor, TensorData, backend::Backend},
};
use rekindle_base::rng;

/// A parameter that `draw` makes when it is first used, and that trains.
pub fn lazy<B: Backend, const D: usize>(
    shape: [usize; D],
    device: &B::Device,
    draw: impl Fn([usize; D], &B::Device) -> Tensor<B, D> + Send + Sync + 'static,
) -> Param<Tensor<B, D>> {
    Param::uninitialized(
        ParamId::new(),
        move |device, trains| draw(shape, device).set_require_grad(trains),
        device.clone(),
        true,
        Shape::from(shape.to_vec()),
    )
}

/// Normal with mean 0 and standard deviation `std` (BERT's new heads: 0.02).
pub fn normal<B: Backend, const D: usize>(
    key: u64,
    shape: [usize; D],
    std: f64,
    device: &B::Device,
) -> Tensor<B, D> {
    let count = shape.iter().product::<usize>() as u64;
    let values: Vec<f32> = (0..count)
        .map(|i| (std * rng::normal(key, i)) as f32)
        .collect();
    Tensor::from_data(TensorData::new(values, shape), device)
}

/// PyTorch's `kaiming_uniform_(a = sqrt 5)` of a `[out, in]` or `[out, in, k, k]` weight: uniform in ±1/sqrt(in k k). PEFT starts
/// LoRA's A so.
pub fn kaiming_uniform<B: Backend, const D: usize>(
    key: u64,
    shape: [usize; D],
    device: &B::Device,
) -> Tensor<B, D> {
    let fan_in: usize = shape[1..].iter().product();
    let bound = 1.0 / (fan_in.max(1) as f64).sqrt();
    let count = shape.iter().product::<usize>() as u64;
    let values: Vec<f32> = (0..count)
        .map(|i| (bound * (2.0 * rng::uniform(key, i) - 1.0)) as f32)
        .collect();
    Tensor::from_data(TensorData::new(values, shape), device)
}
