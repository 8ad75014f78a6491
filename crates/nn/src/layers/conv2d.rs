//! Two-dimensional convolution of channels-last images, weights in PyTorch's layout.

use crate::{
    init,
    ops::{self, TuneBackend, Window},
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

/// A convolution without bias: a norm follows it.
#[derive(Module, Debug)]
pub struct Conv2d<B: Backend> {
    /// `[O, C/groups, k, k]`
    pub weight: Param<Tensor<B, 4>>,
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
            stride,
            groups,
            padding,
        }
    }
}

impl<B: TuneBackend> Conv2d<B> {
    /// `x [N, H, W, C]` -> `[N, H', W', O]`.
    pub fn forward(&self, x: Tensor<B, 4>) -> Tensor<B, 4> {
        let [_, height, width, _] = x.dims();
        let kernel = self.weight.dims()[2];
        let window = match self.padding {
            Padding::Explicit(padding) => Window::square(kernel, self.stride, padding),
            Padding::Same => Window::same(kernel, self.stride, [height, width]),
        };
        ops::conv2d(x, self.weight.val(), window, self.groups)
    }
}
