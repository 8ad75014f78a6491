//! Sums of embeddings, and the gradient of a table.

use super::TuneBackend;
use burn::tensor::{
    TensorMetadata,
    ops::{FloatTensor, IntTensor},
};

/// The default body of [`TuneBackend::tune_embedding_add`].
pub fn add<B: TuneBackend>(
    sum: FloatTensor<B>,
    table: FloatTensor<B>,
    indices: IntTensor<B>,
) -> FloatTensor<B> {
    B::float_add(sum, B::float_select(table, 0, indices))
}

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
