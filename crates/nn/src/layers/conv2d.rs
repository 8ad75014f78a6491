//! Two-dimensional convolution of channels-last images, weights in PyTorch's layout, with a slot for a low-rank adapter as PEFT has it:
//! `y = W * x + s B * (A * dropout(x))`, where A has W's window and B is of 1 x 1.

use crate::{
    init,
    layers::AdapterOf,
    ops::{self, Pass, Precision, TuneBackend, Window},
};
use burn::{
    module::{Module, Param},
    tensor::{Tensor, backend::Backend},
};
use rekindle_base::rng;

/// What surrounds an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Padding {
    /// So many zeros on every side.
    Explicit(usize),
    /// TensorFlow's "SAME": as many as the image's size asks for, the odd one at the end.
    Same,
}

/// A convolution. It has no bias where a batch norm follows it.
#[derive(Module, Debug)]
pub struct Conv2d<B: Backend> {
    /// `[O, C/groups, k, k]`
    pub weight: Param<Tensor<B, 4>>,
    /// `[O]`
    pub bias: Option<Param<Tensor<B, 1>>>,
    /// The adapter slot.
    pub adapter: Option<LowRankConv<B>>,
    stride: usize,
    groups: usize,
    #[module(skip)]
    padding: Padding,
}

/// A low-rank adapter of a convolution: `s B * (A * dropout(x))`.
#[derive(Module, Debug)]
pub struct LowRankConv<B: Backend> {
    /// A `[r, C, k, k]`
    pub lora_a: Param<Tensor<B, 4>>,
    /// B `[O, r, 1, 1]`
    pub lora_b: Param<Tensor<B, 4>>,
    /// s: `alpha / r`, or `alpha / sqrt r` with rsLoRA.
    pub scale: f64,
    /// Dropout on the adapter's input, in [0, 1).
    pub dropout: f64,
    /// Which site's dropout mask this is; distinct for each adapter of a model.
    pub site: u64,
}

impl<B: Backend> Conv2d<B> {
    /// A square kernel, initialised as torchvision does it: normal with variance `2 / (O k k / groups)`.
    #[allow(clippy::too_many_arguments)] // each is one number of the published architecture
    pub fn init(
        key: u64,
        (inputs, outputs): (usize, usize),
        kernel: usize,
        stride: usize,
        padding: Padding,
        groups: usize,
        device: &B::Device,
    ) -> Self {
        let fan_out = outputs * kernel * kernel / groups;
        let std = (2.0 / fan_out.max(1) as f64).sqrt();
        let shape = [outputs, inputs / groups, kernel, kernel];
        Self {
            weight: init::lazy(shape, device, move |shape, device| {
                init::normal(key, shape, std, device)
            }),
            bias: None,
            adapter: None,
            stride,
            groups,
            padding,
        }
    }

    /// The same with a bias of zeros.
    #[must_use]
    pub fn with_bias(mut self, device: &B::Device) -> Self {
        let [outputs, ..] = self.weight.lazy_shape().dims::<4>();
        self.bias = Some(init::lazy([outputs], device, |shape, device| {
            Tensor::zeros(shape, device)
        }));
        self
    }

    /// (in, out): channels.
    pub fn dims(&self) -> (usize, usize) {
        let [outputs, inputs, ..] = self.weight.lazy_shape().dims::<4>();
        (inputs * self.groups, outputs)
    }

    /// Whether it can have an adapter that PEFT has too.
    pub(super) fn has_slot(&self) -> bool {
        let [_, _, kernel, _] = self.weight.lazy_shape().dims::<4>();
        self.groups == 1 && (kernel == 1 || self.padding != Padding::Same)
    }

    /// Puts a fresh adapter in.
    pub(super) fn adapt(&mut self, of: AdapterOf, device: &B::Device) {
        let [outputs, inputs, kernel, _] = self.weight.lazy_shape().dims::<4>();
        self.adapter = Some(LowRankConv {
            lora_a: init::lazy(
                [of.rank, inputs, kernel, kernel],
                device,
                move |shape, device| {
                    init::kaiming_uniform(rng::named(of.key, "lora_A"), shape, device)
                },
            ),
            lora_b: init::lazy([outputs, of.rank, 1, 1], device, |shape, device| {
                Tensor::zeros(shape, device)
            }),
            scale: of.scale,
            dropout: of.dropout,
            site: of.key,
        });
    }
}

impl<B: TuneBackend> LowRankConv<B> {
    /// `s B A`, `[O, C, k, k]`: what a merge adds to the weight.
    pub fn delta(&self) -> Tensor<B, 4> {
        let [rank, inputs, height, width] = self.lora_a.dims();
        let [outputs, ..] = self.lora_b.dims();
        let a = self.lora_a.val().reshape([rank, inputs * height * width]);
        let b = self.lora_b.val().reshape([outputs, rank]);
        (b.matmul(a) * self.scale).reshape([outputs, inputs, height, width])
    }

    /// `y [N, H', W', O]` plus the side path of `x [N, H, W, C]`.
    fn add_to(&self, y: Tensor<B, 4>, x: Tensor<B, 4>, window: Window, pass: Pass) -> Tensor<B, 4> {
        let of_input @ [n, height, width, inputs] = x.dims();
        let x = x.reshape([n * height * width, inputs]);
        let x = ops::dropout(x, self.dropout, pass.child(self.site));
        let shape @ [n, height, width, outputs] = y.dims();
        let rows = n * height * width;
        let y = y.reshape([rows, outputs]);
        let [rank, _, kernel, _] = self.lora_a.dims();
        let b = self.lora_b.val().reshape([outputs, rank]);
        let by_pixel = kernel == 1 && of_input[..3] == shape[..3];
        let y = if by_pixel {
            let a = self.lora_a.val().reshape([rank, inputs]);
            ops::low_rank(y, x, a, b, self.scale)
        } else {
            let low = ops::conv2d(x.reshape(of_input), self.lora_a.val(), window, 1);
            let low = low.reshape([rows, rank]);
            y + ops::linear(low, b, None, Precision::F32) * self.scale
        };
        y.reshape(shape)
    }
}

impl<B: TuneBackend> Conv2d<B> {
    /// Adds the adapter to the weight, where there is one, and empties the slot.
    pub(super) fn merge(&mut self) {
        if let Some(adapter) = self.adapter.take() {
            let (id, weight, mapper) = self.weight.clone().consume();
            let merged = weight + adapter.delta();
            self.weight = Param::from_mapped_value(id, merged, mapper);
        }
    }

    /// `x [N, H, W, C]` -> `[N, H', W', O]`.
    pub fn forward(&self, x: Tensor<B, 4>, pass: Pass) -> Tensor<B, 4> {
        match &self.adapter {
            None => self.base(x),
            Some(adapter) => {
                let y = self.base(x.clone());
                let window = self.window(&x);
                adapter.add_to(y, x, window, pass)
            }
        }
    }

    fn window(&self, x: &Tensor<B, 4>) -> Window {
        let [_, height, width, _] = x.dims();
        let kernel = self.weight.dims()[2];
        match self.padding {
            Padding::Explicit(padding) => Window::square(kernel, self.stride, padding),
            Padding::Same => Window::same(kernel, self.stride, [height, width]),
        }
    }

    /// The same without the adapter.
    fn base(&self, x: Tensor<B, 4>) -> Tensor<B, 4> {
        let kernel = self.weight.dims()[2];
        let apart = kernel == self.stride && self.groups == 1;
        if apart && self.padding == Padding::Explicit(0) && (kernel > 1 || self.bias.is_some()) {
            return self.of_patches(x, kernel);
        }
        let window = self.window(&x);
        let y = ops::conv2d(x, self.weight.val(), window, self.groups);
        match &self.bias {
            None => y,
            Some(bias) => {
                let shape @ [n, height, width, outputs] = y.dims();
                let rows = y.reshape([n * height * width, outputs]);
                (rows + bias.val().unsqueeze::<2>()).reshape(shape)
            }
        }
    }

    /// Where windows lie side by side, each is read once: a linear map of patches. What does not fill a window is left out.
    fn of_patches(&self, x: Tensor<B, 4>, side: usize) -> Tensor<B, 4> {
        let [n, height, width, channels] = x.dims();
        let (rows, columns) = (height / side, width / side);
        let size = side * side * channels;
        let x = match (rows * side, columns * side) == (height, width) {
            true => x,
            false => x.slice([0..n, 0..rows * side, 0..columns * side, 0..channels]),
        };
        let (x, weight) = (
            x.reshape([n, rows, side, columns, side * channels]),
            self.weight.val(),
        );
        let x = match side {
            1 => x.reshape([n * rows * columns, size]),
            _ => x
                .permute([0, 1, 3, 2, 4])
                .reshape([n * rows * columns, size]),
        };
        let [outputs, ..] = weight.dims();
        let weight = weight.permute([0, 2, 3, 1]).reshape([outputs, size]);
        let bias = self.bias.as_ref().map(Param::val);
        let y = ops::linear(x, weight, bias, Precision::F32);
        y.reshape([n, rows, columns, outputs])
    }
}

#[cfg(all(test, feature = "cpu"))]
mod tests {
    use super::*;
    use burn::backend::{Autodiff, Flex};
    use burn::tensor::TensorData;

    type B = Autodiff<Flex>;

    fn values(tensor: Tensor<Flex, 4>) -> Vec<f32> {
        tensor.into_data().iter::<f32>().collect()
    }

    fn apart(a: &[f32], b: &[f32]) -> f32 {
        assert_eq!(a.len(), b.len());
        let pairs = a.iter().zip(b);
        pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
    }

    /// Patches side by side are the convolution that they are called, also where the last ones are not whole.
    #[test]
    fn patches_are_a_convolution() {
        let device = Default::default();
        for side in [1, 2, 4] {
            let padding = Padding::Explicit(0);
            let conv = Conv2d::<B>::init(1, (3, 5), side, side, padding, 1, &device);
            let conv = conv.with_bias(&device);
            let shape = [2, 9, 8, 3];
            let x = TensorData::new(
                (0..432).map(|i| (i as f32).sin()).collect::<Vec<f32>>(),
                shape,
            );
            let x = Tensor::<B, 4>::from_data(x, &device).require_grad();
            let window = Window::square(side, side, 0);
            let found = conv.forward(x.clone(), Pass::evaluation());
            let expected = ops::conv2d(x.clone(), conv.weight.val(), window, 1);
            let (found_values, expected_values) = (
                values(found.clone().inner()),
                values(expected.clone().inner()),
            );
            assert!(apart(&found_values, &expected_values) < 1e-5, "{side}");
            let gradients = [found, expected].map(|y| {
                let weights = y.clone().detach().cos();
                let grads = (y * weights).sum().backward();
                let of = |tensor: &Tensor<B, 4>| {
                    values(
                        tensor
                            .grad(&grads)
                            .unwrap_or_else(|| panic!("a tracked tensor has a gradient")),
                    )
                };
                (of(&x), of(&conv.weight.val()))
            });
            let [(x_found, w_found), (x_expected, w_expected)] = gradients;
            assert!(apart(&x_found, &x_expected) < 1e-4, "{side}");
            assert!(apart(&w_found, &w_expected) < 1e-4, "{side}");
        }
    }
}
