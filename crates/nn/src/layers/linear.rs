//! The linear layer, with PyTorch's weight layout `[out, in]` and a slot for a low-rank adapter on a side path
//! (LoRA, Hu et al. 2021): `y = x Wᵀ + b + s (dropout(x) Aᵀ) Bᵀ`. A frozen W costs no weight gradient, and `B A` is never formed.

use crate::{
    init,
    layers::{AdapterOf, Weight},
    ops::{self, GeluKind, Pass, TuneBackend},
};
use burn::{
    module::{Module, Param},
    tensor::{Tensor, backend::Backend},
};
use rekindle_base::rng;

/// A linear layer.
#[derive(Module, Debug)]
pub struct Linear<B: Backend> {
    /// `[out, in]`
    pub weight: Weight<B>,
    /// `[out]`
    pub bias: Option<Param<Tensor<B, 1>>>,
    /// The adapter slot.
    pub adapter: Option<LowRank<B>>,
}

/// A low-rank adapter: `s (dropout(x) Aᵀ) Bᵀ`.
#[derive(Module, Debug)]
pub struct LowRank<B: Backend> {
    /// A `[r, in]`
    pub lora_a: Param<Tensor<B, 2>>,
    /// B `[out, r]`
    pub lora_b: Param<Tensor<B, 2>>,
    /// s: `alpha / r`, or `alpha / sqrt r` with rsLoRA.
    pub scale: f64,
    /// Dropout on the adapter's input, in [0, 1).
    pub dropout: f64,
    /// Which site's dropout mask this is; distinct for each adapter of a model.
    pub site: u64,
}

impl<B: Backend> Linear<B> {
    /// From a weight `[out, in]` and a bias `[out]`.
    pub fn new(weight: Tensor<B, 2>, bias: Option<Tensor<B, 1>>) -> Self {
        Self {
            weight: Weight::plain(weight),
            bias: bias.map(Param::from_tensor),
            adapter: None,
        }
    }

    /// Normal weight with standard deviation `std`, zero bias; `key` is the stream to draw from.
    pub fn normal(key: u64, inputs: usize, outputs: usize, std: f64, device: &B::Device) -> Self {
        Self {
            weight: Weight::Plain(init::lazy(
                [outputs, inputs],
                device,
                move |shape, device| init::normal(key, shape, std, device),
            )),
            bias: Some(init::lazy([outputs], device, |shape, device| {
                Tensor::zeros(shape, device)
            })),
            adapter: None,
        }
    }

    /// (in, out).
    pub fn dims(&self) -> (usize, usize) {
        let [outputs, inputs] = self.weight.dims();
        (inputs, outputs)
    }
}

impl<B: Backend> LowRank<B> {
    /// A fresh adapter: A Kaiming-uniform, B zero, so that the layer starts as its base.
    pub fn init(of: AdapterOf, (inputs, outputs): (usize, usize), device: &B::Device) -> Self {
        Self {
            lora_a: init::lazy([of.rank, inputs], device, move |shape, device| {
                init::kaiming_uniform(rng::named(of.key, "lora_A"), shape, device)
            }),
            lora_b: init::lazy([outputs, of.rank], device, |shape, device| {
                Tensor::zeros(shape, device)
            }),
            scale: of.scale,
            dropout: of.dropout,
            site: of.key,
        }
    }

    /// `s B A`, `[out, in]`: what a merge adds to the weight.
    pub fn delta(&self) -> Tensor<B, 2> {
        self.lora_b.val().matmul(self.lora_a.val()) * self.scale
    }
}

impl<B: TuneBackend> LowRank<B> {
    /// `sum [T, out]` plus the side path of `x [T, in]`.
    fn add_to(&self, sum: Tensor<B, 2>, x: Tensor<B, 2>, pass: Pass) -> Tensor<B, 2> {
        let x = self.dropped(x, pass);
        ops::low_rank(sum, x, self.lora_a.val(), self.lora_b.val(), self.scale)
    }

    /// What the side path reads.
    fn dropped(&self, x: Tensor<B, 2>, pass: Pass) -> Tensor<B, 2> {
        ops::dropout(x, self.dropout, pass.child(self.site))
    }
}

impl<B: TuneBackend> Linear<B> {
    /// Adds the adapter to the weight, where there is one, and empties the slot.
    pub fn merge(&mut self) {
        if let Some(adapter) = self.adapter.take() {
            self.weight = match self.weight.clone() {
                Weight::Plain(weight) => {
                    let (id, weight, mapper) = weight.consume();
                    let merged = weight + adapter.delta();
                    Weight::Plain(Param::from_mapped_value(id, merged, mapper))
                }
                packed => Weight::plain(packed.val() + adapter.delta()),
            };
        }
    }

    /// `x [T, in]` -> `[T, out]`.
    pub fn forward(&self, x: Tensor<B, 2>, pass: Pass) -> Tensor<B, 2> {
        let bias = self.bias.as_ref().map(Param::val);
        let precision = pass.precision();
        match &self.adapter {
            None => self.weight.linear(x, bias, precision),
            Some(adapter) => {
                let sum = self.weight.linear(x.clone(), bias, precision);
                adapter.add_to(sum, x, pass)
            }
        }
    }

    /// `x [T, in]` -> the outputs in N equal parts, `[T, out / N]` each: queries, keys and values of one layer. Each part is a
    /// product by its rows of the weight, so that no part is copied, and no gradients of parts are put together.
    pub fn forward_parts<const N: usize>(&self, x: Tensor<B, 2>, pass: Pass) -> [Tensor<B, 2>; N] {
        let size = self.dims().1 / N;
        let (weight, bias) = (self.weight.val(), self.bias.as_ref().map(Param::val));
        let side_path = self.adapter.as_ref().map(|adapter| {
            let (a, b) = (adapter.lora_a.val(), adapter.lora_b.val());
            (adapter.dropped(x.clone(), pass), a, b, adapter.scale)
        });
        std::array::from_fn(|part| {
            let first = part * size;
            let bias = bias.clone().map(|bias| bias.narrow(0, first, size));
            let weight = weight.clone().narrow(0, first, size);
            let sum = ops::linear(x.clone(), weight, bias, pass.precision());
            match &side_path {
                None => sum,
                Some((x, a, b, scale)) => {
                    let b = b.clone().narrow(0, first, size);
                    ops::low_rank(sum, x.clone(), a.clone(), b, *scale)
                }
            }
        })
    }

    /// `x [T, in]` -> `[T, out]`: the layer of GELU of x, which is not kept for the backward pass unless an adapter needs it.
    pub fn forward_gelu(&self, x: Tensor<B, 2>, kind: GeluKind, pass: Pass) -> Tensor<B, 2> {
        match &self.weight {
            Weight::Plain(weight) if self.adapter.is_none() => {
                let bias = self.bias.as_ref().map(Param::val);
                ops::gelu_linear(x, weight.val(), bias, kind, pass.precision())
            }
            _ => self.forward(ops::gelu(x, kind), pass),
        }
    }
}

#[cfg(all(test, feature = "cpu"))]
mod tests {
    use super::*;
    use burn::backend::{Autodiff, Flex};
    use burn::tensor::TensorData;

    type B = Autodiff<Flex>;

    /// The parts of a layer with an adapter are its outputs, cut; and so are their gradients.
    #[test]
    fn parts_are_the_outputs_cut() {
        let device = Default::default();
        let mut layer = Linear::<B>::normal(1, 6, 12, 0.5, &device);
        let of = AdapterOf {
            key: 2,
            rank: 2,
            scale: 0.7,
            dropout: 0.25,
        };
        let mut adapter = LowRank::init(of, (6, 12), &device);
        adapter.lora_b = init::lazy([12, 2], &device, |shape, device| {
            init::normal(3, shape, 0.5, device)
        });
        layer.adapter = Some(adapter);
        let x: Vec<f32> = (0..30).map(|i| (i as f32 * 0.7).sin()).collect();
        let x = Tensor::<B, 2>::from_data(TensorData::new(x, [5, 6]), &device).require_grad();
        let pass = Pass::training(0, 0);
        let whole = layer.forward(x.clone(), pass);
        let parts: [Tensor<B, 2>; 3] = layer.forward_parts(x.clone(), pass);
        let parts = Tensor::cat(parts.to_vec(), 1);
        let apart = |a: Tensor<Flex, 2>, b: Tensor<Flex, 2>| -> f32 {
            let differences = (a - b).abs().into_data();
            differences.iter::<f32>().fold(0.0, f32::max)
        };
        assert!(apart(whole.clone().inner(), parts.clone().inner()) < 1e-5);
        let [from_whole, from_parts] = [whole, parts].map(|y| {
            let weights = y.clone().detach().cos();
            let grads = (y * weights).sum().backward();
            let a = layer.adapter.as_ref().map(|adapter| adapter.lora_a.val());
            let b = layer.adapter.as_ref().map(|adapter| adapter.lora_b.val());
            let weight = layer.weight.val();
            let tensors = [Some(x.clone()), Some(weight), a, b];
            tensors.map(|tensor| tensor.and_then(|tensor| tensor.grad(&grads)))
        });
        for (whole, parts) in from_whole.into_iter().zip(from_parts) {
            let (Some(whole), Some(parts)) = (whole, parts) else {
                panic!("a tracked tensor has a gradient");
            };
            assert!(apart(whole, parts) < 1e-5);
        }
    }
}
