//! Two-dimensional convolution of channels-last images, weights in PyTorch's layout.

use crate::{
    init,
    ops::{self, Precision, TuneBackend, Window},
};
use burn::{
    module::{Module, Param},
    tensor::{Tensor, backend::Backend},
};

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
    stride: usize,
    groups: usize,
    #[module(skip)]
    padding: Padding,
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
}

impl<B: TuneBackend> Conv2d<B> {
    /// `x [N, H, W, C]` -> `[N, H', W', O]`.
    pub fn forward(&self, x: Tensor<B, 4>) -> Tensor<B, 4> {
        let [_, height, width, _] = x.dims();
        let kernel = self.weight.dims()[2];
        let apart = kernel == self.stride && self.groups == 1;
        if apart && self.padding == Padding::Explicit(0) && (kernel > 1 || self.bias.is_some()) {
            return self.of_patches(x, kernel);
        }
        let window = match self.padding {
            Padding::Explicit(padding) => Window::square(kernel, self.stride, padding),
            Padding::Same => Window::same(kernel, self.stride, [height, width]),
        };
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
            let found = conv.forward(x.clone());
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
