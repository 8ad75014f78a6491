//! The gradient of an embedding table.

use super::TuneBackend;
use burn::tensor::{
    TensorMetadata,
    ops::{FloatTensor, IntTensor},
};

/// The default body of [`TuneBackend::tune_embedding_rows_backward`].
pub fn backward<B: TuneBackend>(
    vocabulary: usize,
    indices: IntTensor<B>,
    grad: FloatTensor<B>,
) -> FloatTensor<B> {
    let width = grad.shape()[1];
    let zeros = B::float_zeros(
        [vocabulary, width].into(),
        &B::float_device(&grad),
        grad.dtype().into(),
    );
    B::float_select_add(zeros, 0, indices, grad)
}
