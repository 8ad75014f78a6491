//! What every kernel's launch needs: contiguous inputs, room for the output, and the number of cubes.

use burn::tensor::{DType, Shape};
use burn_cubecl::{
    CubeRuntime, kernel::into_contiguous, ops::numeric::empty_device_contiguous_dtype,
    tensor::CubeTensor,
};
use cubecl::{CubeCount, CubeDim, calculate_cube_count_elemwise, prelude::ArrayArg};
use std::sync::atomic::{AtomicBool, Ordering};

/// Units of a cube that works on single elements.
const UNITS: u32 = 256;

/// Whether the kernels are in use.
static IN_USE: AtomicBool = AtomicBool::new(true);

/// Puts the default bodies in the place of every kernel for CUDA and WGPU, or the kernels back: for tests and benches that hold
/// and time one against the other. It holds for the whole process.
pub fn use_gpu_kernels(in_use: bool) {
    IN_USE.store(in_use, Ordering::SeqCst);
}

/// Whether the kernels can take this: they are written for f32.
pub(super) fn is_f32<R: CubeRuntime>(tensors: &[&CubeTensor<R>]) -> bool {
    IN_USE.load(Ordering::Relaxed)
        && tensors
            .iter()
            .all(|x| x.dtype == DType::F32 && x.qparams.is_none())
}

/// Whether these are indices as the kernels read them.
pub(super) fn is_i32<R: CubeRuntime>(x: &CubeTensor<R>) -> bool {
    x.dtype == DType::I32
}

/// The dimensions of a matrix, or of a vector as one of rows of a single element.
pub(super) fn rows_and_columns<R: CubeRuntime>(x: &CubeTensor<R>) -> [usize; 2] {
    let shape = x.meta.shape();
    match shape.num_dims() {
        0 => [1, 1],
        1 => [shape[0], 1],
        rank => {
            let columns = shape[rank - 1];
            [shape.num_elements() / columns.max(1), columns]
        }
    }
}

/// A contiguous tensor as a kernel's argument; what lies otherwise is copied first.
pub(super) fn input<R: CubeRuntime>(x: CubeTensor<R>) -> ArrayArg<R> {
    into_contiguous(x).into_array_arg()
}

/// The tensor itself where nobody else holds it, to be written in place; a contiguous copy otherwise.
pub(super) fn owned<R: CubeRuntime>(x: CubeTensor<R>) -> CubeTensor<R> {
    let x = into_contiguous(x);
    if x.can_mut() {
        return x;
    }
    // A copy of a matrix could be pitched.
    let (shape, count) = (x.meta.shape().clone(), x.meta.num_elements());
    shaped(shaped(x, [count]).copy(), shape)
}

/// Room for an f32 result beside `like`.
pub(super) fn empty<R: CubeRuntime>(
    like: &CubeTensor<R>,
    shape: impl Into<Shape>,
) -> CubeTensor<R> {
    empty_device_contiguous_dtype(
        like.client.clone(),
        like.device.clone(),
        shape.into(),
        DType::F32,
    )
}

/// The same contiguous elements, or those that a handle names, in another shape.
pub(super) fn shaped<R: CubeRuntime>(x: CubeTensor<R>, shape: impl Into<Shape>) -> CubeTensor<R> {
    CubeTensor::new_contiguous(x.client, x.device, shape.into(), x.handle, x.dtype)
}

/// Rows `first..first + count` of a contiguous matrix, where they lie. WGPU binds only what starts at a multiple of 256 bytes, as
/// a multiple of 64 rows of any matrix does.
pub(super) fn rows_of<R: CubeRuntime>(
    x: &CubeTensor<R>,
    first: usize,
    count: usize,
) -> CubeTensor<R> {
    let [rows, columns] = rows_and_columns(x);
    let bytes = |rows: usize| (rows * columns * size_of::<f32>()) as u64;
    let mut part = x.clone();
    part.handle = part
        .handle
        .offset_start(bytes(first))
        .offset_end(bytes(rows - first - count));
    shaped(part, [count, columns])
}

/// Cubes for one unit an element.
pub(super) fn elements<R: CubeRuntime>(like: &CubeTensor<R>, count: usize) -> (CubeCount, CubeDim) {
    let dim = CubeDim::new_1d(UNITS);
    (calculate_cube_count_elemwise(&like.client, count, dim), dim)
}

/// One cube a row, of as many units as the row is worth. Rows beyond what one dimension of a grid can have go into the second.
pub(super) fn cubes(rows: usize, units: u32) -> (CubeCount, CubeDim) {
    const LIMIT: usize = 32_768;
    let across = rows.min(LIMIT);
    let count = CubeCount::Static(across as u32, rows.div_ceil(across.max(1)) as u32, 1);
    (count, CubeDim::new_1d(units))
}

/// Units for a row of this width: a power of two.
pub(super) fn units_for(width: usize) -> u32 {
    if width > 512 { 256 } else { 128 }
}
