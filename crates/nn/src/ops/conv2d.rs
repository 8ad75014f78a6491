//! Two-dimensional convolution on channels-last images, and max pooling. The default bodies go through Burn's own
//! channels-first operations.

use super::{TuneBackend, primitive, tensor};
use burn::tensor::{
    Tensor,
    ops::{ConvOptions, FloatTensor},
};

/// How a convolution (or a pooling window) walks over an image. Padding may differ from side to side, as TensorFlow's
/// "SAME" has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// Rows and columns of the kernel.
    pub kernel: [usize; 2],
    /// Rows and columns from one output to the next.
    pub stride: [usize; 2],
    /// Zeros (pooling: nothing) around the image: top, bottom, left, right.
    pub padding: [usize; 4],
}

impl Window {
    /// A square window with the same padding on all sides.
    #[must_use]
    pub const fn square(kernel: usize, stride: usize, padding: usize) -> Self {
        Self {
            kernel: [kernel; 2],
            stride: [stride; 2],
            padding: [padding; 4],
        }
    }

    /// TensorFlow's "SAME" for an image of this size: outputs are `ceil(size / stride)`, odd padding falls on the end.
    #[must_use]
    pub fn same(kernel: usize, stride: usize, [height, width]: [usize; 2]) -> Self {
        let pad = |size: usize| {
            let total = ((size.div_ceil(stride).max(1) - 1) * stride + kernel).saturating_sub(size);
            [total / 2, total - total / 2]
        };
        let ([top, bottom], [left, right]) = (pad(height), pad(width));
        Self {
            kernel: [kernel; 2],
            stride: [stride; 2],
            padding: [top, bottom, left, right],
        }
    }

    /// Rows and columns of the output for an image `[height, width]`; 0 where the window does not fit.
    #[must_use]
    pub fn output(&self, [height, width]: [usize; 2]) -> [usize; 2] {
        let [top, bottom, left, right] = self.padding;
        let along = |size: usize, kernel: usize, stride: usize| {
            size.checked_sub(kernel)
                .map_or(0, |room| room / stride.max(1) + 1)
        };
        [
            along(height + top + bottom, self.kernel[0], self.stride[0]),
            along(width + left + right, self.kernel[1], self.stride[1]),
        ]
    }
}

/// `[N, H, W, C]` -> `[N, C, H, W]`.
fn channels_first<B: TuneBackend>(x: Tensor<B, 4>) -> Tensor<B, 4> {
    x.permute([0, 3, 1, 2])
}

/// `[N, C, H, W]` -> `[N, H, W, C]`, contiguous.
fn channels_last<B: TuneBackend>(x: Tensor<B, 4>) -> Tensor<B, 4> {
    let [n, c, h, w] = x.dims();
    // A reshape makes a permuted view contiguous on every backend.
    x.permute([0, 2, 3, 1])
        .reshape([n * h * w, c])
        .reshape([n, h, w, c])
}

/// A channels-first image with `value` around it.
fn padded<B: TuneBackend>(x: Tensor<B, 4>, padding: [usize; 4], value: f64) -> Tensor<B, 4> {
    let [top, bottom, left, right] = padding;
    if padding == [0; 4] {
        return x;
    }
    let [n, c, h, w] = x.dims();
    let frame = Tensor::full(
        [n, c, h + top + bottom, w + left + right],
        value,
        &x.device(),
    );
    frame.slice_assign([0..n, 0..c, top..top + h, left..left + w], x)
}

fn options(window: Window, groups: usize) -> ConvOptions<2> {
    ConvOptions::new(window.stride, [0, 0], [1, 1], groups)
}

/// The default body of [`TuneBackend::tune_conv2d`].
pub fn forward<B: TuneBackend>(
    x: FloatTensor<B>,
    weight: FloatTensor<B>,
    window: Window,
    groups: usize,
) -> FloatTensor<B> {
    let x = padded::<B>(channels_first(tensor(x)), window.padding, 0.0);
    let output = B::conv2d(primitive(x), weight, None, options(window, groups));
    primitive(channels_last::<B>(tensor(output)))
}

/// The default body of [`TuneBackend::tune_conv2d_backward_x`].
pub fn backward_x<B: TuneBackend>(
    size: [usize; 4],
    weight: FloatTensor<B>,
    grad: FloatTensor<B>,
    window: Window,
    groups: usize,
) -> FloatTensor<B> {
    let [n, h, w, c] = size;
    let [top, bottom, left, right] = window.padding;
    let grad = channels_first::<B>(tensor(grad));
    // Only the shape of x counts here.
    let x = Tensor::<B, 4>::zeros([n, c, h + top + bottom, w + left + right], &grad.device());
    let x = B::conv2d_x_backward(
        primitive(x),
        weight,
        primitive(grad),
        options(window, groups),
    );
    let x = tensor::<B, 4>(x).slice([0..n, 0..c, top..top + h, left..left + w]);
    primitive(channels_last(x))
}

/// The default body of [`TuneBackend::tune_conv2d_backward_weight`].
pub fn backward_weight<B: TuneBackend>(
    x: FloatTensor<B>,
    weight: FloatTensor<B>,
    grad: FloatTensor<B>,
    window: Window,
    groups: usize,
) -> FloatTensor<B> {
    let x = padded::<B>(channels_first(tensor(x)), window.padding, 0.0);
    let grad = channels_first::<B>(tensor(grad));
    B::conv2d_weight_backward(
        primitive(x),
        weight,
        primitive(grad),
        options(window, groups),
    )
}

/// Less than any value of a picture's features that a float holds.
const LOWEST: f64 = f32::MIN as f64;

/// The default body of [`TuneBackend::tune_max_pool`].
pub fn max_pool<B: TuneBackend>(x: FloatTensor<B>, window: Window) -> FloatTensor<B> {
    let x = padded::<B>(channels_first(tensor(x)), window.padding, LOWEST);
    let output = B::max_pool2d(
        primitive(x),
        window.kernel,
        window.stride,
        [0, 0],
        [1, 1],
        false,
    );
    primitive(channels_last::<B>(tensor(output)))
}

/// The default body of [`TuneBackend::tune_max_pool_backward`].
pub fn max_pool_backward<B: TuneBackend>(
    x: FloatTensor<B>,
    grad: FloatTensor<B>,
    window: Window,
) -> FloatTensor<B> {
    let x: Tensor<B, 4> = tensor(x);
    let [n, h, w, c] = x.dims();
    let [top, _, left, _] = window.padding;
    let x = primitive(padded::<B>(channels_first(x), window.padding, LOWEST));
    let (kernel, stride) = (window.kernel, window.stride);
    let found =
        B::max_pool2d_with_indices(x.clone(), kernel, stride, [0, 0], [1, 1], false).indices;
    let grad = primitive(channels_first::<B>(tensor(grad)));
    let grad =
        B::max_pool2d_with_indices_backward(x, kernel, stride, [0, 0], [1, 1], false, grad, found);
    let grad = tensor::<B, 4>(grad.x_grad).slice([0..n, 0..c, top..top + h, left..left + w]);
    primitive(channels_last(grad))
}
