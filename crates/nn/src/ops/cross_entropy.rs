//! Softmax cross-entropy with label smoothing, per example; the mean is the caller's, who knows over what.

use super::{TuneBackend, primitive, tensor};
use burn::tensor::{
    Int, Tensor,
    ops::{FloatTensor, IntTensor},
};

/// log softmax `[B, C]`.
fn log_probabilities<B: TuneBackend>(logits: Tensor<B, 2>) -> Tensor<B, 2> {
    let shifted = logits.clone() - logits.max_dim(1);
    shifted.clone() - shifted.exp().sum_dim(1).log()
}

/// The target distribution `[B, C]`: `1 - s` on the label plus `s / C` everywhere, as PyTorch's `label_smoothing`.
fn target_distribution<B: TuneBackend>(
    like: &Tensor<B, 2>,
    targets: IntTensor<B>,
    smoothing: f64,
) -> Tensor<B, 2> {
    let [examples, classes] = like.dims();
    let targets: Tensor<B, 1, Int> = Tensor::from_primitive(targets);
    let classes_row: Tensor<B, 1, Int> = Tensor::arange(0..classes as i64, &like.device());
    let one_hot = targets
        .reshape([examples, 1])
        .expand([examples, classes])
        .equal(
            classes_row
                .reshape([1, classes])
                .expand([examples, classes]),
        )
        .float();
    if smoothing > 0.0 {
        one_hot * (1.0 - smoothing) + smoothing / classes as f64
    } else {
        one_hot
    }
}

pub(super) fn forward<B: TuneBackend>(
    logits: FloatTensor<B>,
    targets: IntTensor<B>,
    smoothing: f64,
) -> FloatTensor<B> {
    let logits: Tensor<B, 2> = tensor(logits);
    let target = target_distribution(&logits, targets, smoothing);
    primitive(
        (log_probabilities(logits) * target)
            .sum_dim(1)
            .squeeze_dim::<1>(1)
            .neg(),
    )
}

pub(super) fn backward<B: TuneBackend>(
    logits: FloatTensor<B>,
    targets: IntTensor<B>,
    grad: FloatTensor<B>,
    smoothing: f64,
) -> FloatTensor<B> {
    let logits: Tensor<B, 2> = tensor(logits);
    let target = target_distribution(&logits, targets, smoothing);
    let grad: Tensor<B, 1> = tensor(grad);
    primitive((log_probabilities(logits).exp() - target) * grad.unsqueeze_dim::<2>(1))
}
