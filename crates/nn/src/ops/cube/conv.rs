//! Convolution of channels-last images. A convolution over all channels is a product of ours: a kernel lays the patches of the image
//! out (Chellapilla et al. 2006), `[N H' W', C kh kw]`, in chunks; a kernel of 1 x 1 takes the image as it lies. The gradient of the
//! image sums what each patch gives a pixel, in one order. With groups, depthwise above all, there is little to multiply: one
//! unit computes an element.

use super::launch::{elements, empty, input, rows_of, shaped};
use super::products::Product;
use super::sums;
use crate::ops::{Precision, Window};
use burn_cubecl::{CubeRuntime, kernel::into_contiguous, tensor::CubeTensor};
use cubecl::prelude::*;

/// Values of patches that exist at a time: 256 MiB.
const PATCHES: usize = 1 << 26;
/// The fewest outputs of a chunk, and about how many units work on all.
const CHUNK: usize = 64;
const WORKERS: usize = 1 << 16;

/// Rows and columns of a kernel.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) struct Taps {
    pub(super) rows: usize,
    pub(super) columns: usize,
}

impl Taps {
    pub(super) const fn count(self) -> usize {
        self.rows * self.columns
    }
}

/// Sizes of an image and of what a window makes of it.
#[derive(CubeType, CubeLaunch, Clone, Copy)]
pub(super) struct Geometry {
    pub(super) height: usize,
    pub(super) width: usize,
    /// C
    pub(super) channels: usize,
    /// H', W' and O.
    pub(super) rows: usize,
    pub(super) columns: usize,
    pub(super) outputs: usize,
    pub(super) stride_y: usize,
    pub(super) stride_x: usize,
    pub(super) top: usize,
    pub(super) left: usize,
}

/// The same on the host.
#[derive(Clone, Copy)]
pub(super) struct Sizes {
    pub(super) image: [usize; 4],
    pub(super) out: [usize; 3],
    window: Window,
}

impl Sizes {
    /// Of an image `[N, H, W, C]` that a window turns into one of O channels.
    pub(super) fn new(image: [usize; 4], outputs: usize, window: Window) -> Self {
        let [rows, columns] = window.output([image[1], image[2]]);
        Self {
            image,
            out: [rows, columns, outputs],
            window,
        }
    }

    pub(super) fn taps(&self) -> Taps {
        let [rows, columns] = self.window.kernel;
        Taps { rows, columns }
    }

    /// H' W'
    fn positions(&self) -> usize {
        self.out[0] * self.out[1]
    }

    /// Whether the patches are the image itself.
    fn is_pointwise(&self) -> bool {
        let window = self.window;
        window.kernel == [1, 1] && window.stride == [1, 1] && window.padding == [0; 4]
    }

    pub(super) fn launch<R: CubeRuntime>(&self) -> GeometryLaunch<R> {
        let ([_, height, width, channels], [rows, columns, outputs]) = (self.image, self.out);
        let [stride_y, stride_x] = self.window.stride;
        let [top, _, left, _] = self.window.padding;
        GeometryLaunch::new(
            height, width, channels, rows, columns, outputs, stride_y, stride_x, top, left,
        )
    }
}

/// `[N, H, W, C]`
pub(super) fn dims<R: CubeRuntime>(x: &CubeTensor<R>) -> [usize; 4] {
    let shape = x.meta.shape();
    [shape[0], shape[1], shape[2], shape[3]]
}

/// The value under a tap of an output's window, 0 outside of the image.
#[cube]
fn under(
    x: &Array<f32>,
    position: usize,
    channel: usize,
    tap_y: usize,
    tap_x: usize,
    g: Geometry,
) -> f32 {
    let image = position / (g.rows * g.columns);
    let y = position / g.columns % g.rows * g.stride_y + tap_y;
    let x_at = position % g.columns * g.stride_x + tap_x;
    let mut value = 0.0f32;
    if y >= g.top && y < g.top + g.height && x_at >= g.left && x_at < g.left + g.width {
        let pixel = (image * g.height + y - g.top) * g.width + x_at - g.left;
        value = x[pixel * g.channels + channel];
    }
    value
}

/// The output whose window has the pixel `at` (with its padding) under this tap along one side, plus 1; 0 where there is none.
#[cube]
pub(super) fn reached(at: usize, tap: usize, stride: usize, outputs: usize) -> usize {
    let mut found = 0usize.runtime();
    if at >= tap && (at - tap) % stride == 0 && (at - tap) / stride < outputs {
        found = (at - tap) / stride + 1;
    }
    found
}

/// Patches of the outputs `first..`, a row each: `out [count, C kh kw]`.
#[cube(launch_unchecked)]
fn patches_kernel(
    x: &Array<f32>,
    out: &mut Array<f32>,
    first: usize,
    g: Geometry,
    #[comptime] taps: Taps,
) {
    if ABSOLUTE_POS >= out.len() {
        terminate!();
    }
    let (tap_columns, count) = comptime!((taps.columns, taps.rows * taps.columns));
    let line = g.channels * count;
    let (row, column) = (ABSOLUTE_POS / line, ABSOLUTE_POS % line);
    let tap = column % count;
    out[ABSOLUTE_POS] = under(
        x,
        first + row,
        column / count,
        tap / tap_columns,
        tap % tap_columns,
        g,
    );
}

/// The gradient of the images `first_image..`, `values` values of them, from the gradients of their patches.
#[cube(launch_unchecked)]
fn images_kernel(
    patches: &Array<f32>,
    out: &mut Array<f32>,
    first_image: usize,
    values: usize,
    g: Geometry,
    #[comptime] taps: Taps,
) {
    if ABSOLUTE_POS >= values {
        terminate!();
    }
    let count = comptime!(taps.rows * taps.columns);
    let channel = ABSOLUTE_POS % g.channels;
    let pixel = ABSOLUTE_POS / g.channels;
    let image = pixel / (g.height * g.width);
    let y = pixel / g.width % g.height + g.top;
    let x = pixel % g.width + g.left;
    let mut sum = 0.0f32;
    for tap_y in 0..comptime!(taps.rows) {
        let row = reached(y, tap_y, g.stride_y, g.rows);
        for tap_x in 0..comptime!(taps.columns) {
            let column = reached(x, tap_x, g.stride_x, g.columns);
            if row > 0 && column > 0 {
                let position = (image * g.rows + row - 1) * g.columns + column - 1;
                let tap = tap_y * comptime!(taps.columns) + tap_x;
                sum += patches[(position * g.channels + channel) * count + tap];
            }
        }
    }
    out[first_image * g.height * g.width * g.channels + ABSOLUTE_POS] = sum;
}

/// One unit an element of `out [N, H', W', O]`; `depth` channels a group.
#[cube(launch_unchecked)]
fn grouped_kernel(
    x: &Array<f32>,
    weight: &Array<f32>,
    out: &mut Array<f32>,
    depth: usize,
    g: Geometry,
    #[comptime] taps: Taps,
) {
    if ABSOLUTE_POS >= out.len() {
        terminate!();
    }
    let count = comptime!(taps.rows * taps.columns);
    let (position, output) = (ABSOLUTE_POS / g.outputs, ABSOLUTE_POS % g.outputs);
    let group = output / (g.outputs * depth / g.channels);
    let mut sum = 0.0f32;
    for c in 0..depth {
        for tap_y in 0..comptime!(taps.rows) {
            for tap_x in 0..comptime!(taps.columns) {
                let tap = tap_y * comptime!(taps.columns) + tap_x;
                sum += under(x, position, group * depth + c, tap_y, tap_x, g)
                    * weight[(output * depth + c) * count + tap];
            }
        }
    }
    out[ABSOLUTE_POS] = sum;
}

/// One unit an element of the image's gradient.
#[cube(launch_unchecked)]
fn grouped_x_kernel(
    weight: &Array<f32>,
    grad: &Array<f32>,
    out: &mut Array<f32>,
    depth: usize,
    g: Geometry,
    #[comptime] taps: Taps,
) {
    if ABSOLUTE_POS >= out.len() {
        terminate!();
    }
    let count = comptime!(taps.rows * taps.columns);
    let channel = ABSOLUTE_POS % g.channels;
    let pixel = ABSOLUTE_POS / g.channels;
    let image = pixel / (g.height * g.width);
    let y = pixel / g.width % g.height + g.top;
    let x = pixel % g.width + g.left;
    let each = g.outputs * depth / g.channels;
    let first = channel / depth * each;
    let mut sum = 0.0f32;
    for tap_y in 0..comptime!(taps.rows) {
        let row = reached(y, tap_y, g.stride_y, g.rows);
        for tap_x in 0..comptime!(taps.columns) {
            let column = reached(x, tap_x, g.stride_x, g.columns);
            if row > 0 && column > 0 {
                let position = (image * g.rows + row - 1) * g.columns + column - 1;
                let tap = tap_y * comptime!(taps.columns) + tap_x;
                for output in first..first + each {
                    sum += grad[position * g.outputs + output]
                        * weight[(output * depth + channel % depth) * count + tap];
                }
            }
        }
    }
    out[ABSOLUTE_POS] = sum;
}

/// One unit an element of the weight's gradient over the outputs of a chunk: `out [chunks, O C/groups kh kw]`.
#[cube(launch_unchecked)]
fn grouped_weight_kernel(
    x: &Array<f32>,
    grad: &Array<f32>,
    out: &mut Array<f32>,
    positions: usize,
    chunk: usize,
    depth: usize,
    g: Geometry,
    #[comptime] taps: Taps,
) {
    if ABSOLUTE_POS >= out.len() {
        terminate!();
    }
    let (tap_columns, count) = comptime!((taps.columns, taps.rows * taps.columns));
    let line = g.outputs * depth * count;
    let first = ABSOLUTE_POS / line * chunk;
    let place = ABSOLUTE_POS % line;
    let tap = place % count;
    let output = place / (count * depth);
    let group = output / (g.outputs * depth / g.channels);
    let channel = group * depth + place / count % depth;
    let end = min(first + chunk, positions);
    let mut sum = 0.0f32;
    for position in first..end {
        sum += grad[position * g.outputs + output]
            * under(
                x,
                position,
                channel,
                tap / tap_columns,
                tap % tap_columns,
                g,
            );
    }
    out[ABSOLUTE_POS] = sum;
}

/// Patches of the outputs `first..first + count`.
fn patches<R: CubeRuntime>(
    x: &CubeTensor<R>,
    sizes: &Sizes,
    first: usize,
    count: usize,
) -> CubeTensor<R> {
    let line = sizes.image[3] * sizes.taps().count();
    let out = empty(x, [count, line]);
    let (cubes, dim) = elements(x, count * line);
    // SAFETY: what a tap finds outside of the image is not read.
    unsafe {
        patches_kernel::launch_unchecked::<R>(
            &x.client,
            cubes,
            dim,
            x.clone().into_array_arg(),
            out.clone().into_array_arg(),
            first,
            sizes.launch(),
            sizes.taps(),
        );
    }
    out
}

/// Outputs whose patches exist at a time: a multiple of 64, where rows can be bound.
fn at_once(line: usize) -> usize {
    (PATCHES / line.max(1) / 64).max(1) * 64
}

/// A matrix of the same elements.
fn matrix<R: CubeRuntime>(x: CubeTensor<R>, columns: usize) -> CubeTensor<R> {
    let rows = x.meta.num_elements() / columns.max(1);
    shaped(into_contiguous(x), [rows, columns])
}

pub(super) fn forward<R: CubeRuntime>(
    x: CubeTensor<R>,
    weight: CubeTensor<R>,
    window: Window,
    groups: usize,
) -> CubeTensor<R> {
    let image = dims(&x);
    let sizes = Sizes::new(image, weight.meta.shape()[0], window);
    let ([rows, columns, outputs], positions) = (sizes.out, image[0] * sizes.positions());
    let shape = [image[0], rows, columns, outputs];
    let depth = image[3] / groups;
    let line = depth * sizes.taps().count();
    if groups == 1 && sizes.is_pointwise() {
        let product = Product::by_transposed(matrix(x, line), matrix(weight, line));
        return shaped(product.compute(Precision::F32), shape);
    }
    let out = empty(&x, [positions, outputs]);
    let x = into_contiguous(x);
    if groups == 1 {
        let weight = matrix(weight, line);
        for first in (0..positions).step_by(at_once(line)) {
            let count = at_once(line).min(positions - first);
            let patches = patches(&x, &sizes, first, count);
            let product = Product::by_transposed(patches, weight.clone());
            product.compute_into(rows_of(&out, first, count));
        }
    } else {
        let (cubes, dim) = elements(&x, positions * outputs);
        // SAFETY: as in `patches`; the weight has `depth` channels for each output.
        unsafe {
            grouped_kernel::launch_unchecked::<R>(
                &x.client.clone(),
                cubes,
                dim,
                x.into_array_arg(),
                input(weight),
                out.clone().into_array_arg(),
                depth,
                sizes.launch(),
                sizes.taps(),
            );
        }
    }
    shaped(out, shape)
}

pub(super) fn backward_x<R: CubeRuntime>(
    image: [usize; 4],
    weight: CubeTensor<R>,
    grad: CubeTensor<R>,
    window: Window,
    groups: usize,
) -> CubeTensor<R> {
    let sizes = Sizes::new(image, weight.meta.shape()[0], window);
    let (depth, outputs) = (image[3] / groups, sizes.out[2]);
    let line = depth * sizes.taps().count();
    if groups == 1 && sizes.is_pointwise() {
        let product = Product::plain(matrix(grad, outputs), matrix(weight, line));
        return shaped(product.compute(Precision::F32), image);
    }
    let out = empty(&grad, image);
    let values = out.meta.num_elements();
    if groups > 1 {
        let (cubes, dim) = elements(&grad, values);
        // SAFETY: a tap reaches outputs that exist only.
        unsafe {
            grouped_x_kernel::launch_unchecked::<R>(
                &grad.client.clone(),
                cubes,
                dim,
                input(weight),
                input(grad),
                out.clone().into_array_arg(),
                depth,
                sizes.launch(),
                sizes.taps(),
            );
        }
        return out;
    }
    let (grad, weight) = (matrix(grad, outputs), matrix(weight, line));
    // Whole images, and so many that their rows of the gradient can be bound.
    let positions = sizes.positions();
    let unit = 64 >> positions.trailing_zeros().min(6);
    let images = (PATCHES / (positions * line).max(1) / unit).max(1) * unit;
    for first in (0..image[0]).step_by(images) {
        let count = images.min(image[0] - first);
        let part = rows_of(&grad, first * positions, count * positions);
        let patches = Product::plain(part, weight.clone()).compute(Precision::F32);
        let values = values / image[0] * count;
        let (cubes, dim) = elements(&grad, values);
        // SAFETY: as above; the values of `count` images from `first` on are written.
        unsafe {
            images_kernel::launch_unchecked::<R>(
                &grad.client,
                cubes,
                dim,
                patches.into_array_arg(),
                out.clone().into_array_arg(),
                first,
                values,
                sizes.launch(),
                sizes.taps(),
            );
        }
    }
    out
}

pub(super) fn backward_weight<R: CubeRuntime>(
    x: CubeTensor<R>,
    weight: CubeTensor<R>,
    grad: CubeTensor<R>,
    window: Window,
    groups: usize,
) -> CubeTensor<R> {
    let (image, shape) = (dims(&x), weight.meta.shape().clone());
    let sizes = Sizes::new(image, shape[0], window);
    let (depth, outputs) = (image[3] / groups, sizes.out[2]);
    let line = depth * sizes.taps().count();
    let positions = image[0] * sizes.positions();
    let grad = matrix(grad, outputs);
    if groups == 1 && sizes.is_pointwise() {
        let product = Product::of_transposed(grad, matrix(x, line));
        return shaped(product.compute(Precision::F32), shape);
    }
    let x = into_contiguous(x);
    if groups == 1 {
        let mut sum: Option<CubeTensor<R>> = None;
        for first in (0..positions).step_by(at_once(line)) {
            let count = at_once(line).min(positions - first);
            let patches = patches(&x, &sizes, first, count);
            let part = Product::of_transposed(rows_of(&grad, first, count), patches);
            let part = part.compute(Precision::F32);
            sum = Some(match sum {
                None => part,
                Some(sum) => burn_cubecl::ops::numeric::add(sum, part),
            });
        }
        return shaped(sum.unwrap_or_else(|| empty(&x, shape.clone())), shape);
    }
    // A part for each chunk of outputs, then their sum.
    let each = outputs * line;
    let most = (WORKERS / each).clamp(16, 512);
    let chunk = positions.div_ceil(most).max(CHUNK);
    let chunks = positions.div_ceil(chunk);
    let parts = empty(&x, [chunks, each]);
    let (cubes, dim) = elements(&x, chunks * each);
    // SAFETY: as in `patches`; a chunk ends where the outputs do.
    unsafe {
        grouped_weight_kernel::launch_unchecked::<R>(
            &x.client.clone(),
            cubes,
            dim,
            x.into_array_arg(),
            grad.into_array_arg(),
            parts.clone().into_array_arg(),
            positions,
            chunk,
            depth,
            sizes.launch(),
            sizes.taps(),
        );
    }
    if chunks == 1 {
        return shaped(parts, shape);
    }
    let out = empty(&parts, [each]);
    shaped(sums::parts(parts, out), shape)
}
