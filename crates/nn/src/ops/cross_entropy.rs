//! Softmax cross-entropy per example, as PyTorch's `CrossEntropyLoss` with `reduction="none"`: label smoothing, class weights,
//! an ignored label. The mean is the caller's, who knows over what.

use super::{TuneBackend, primitive, tensor};
use burn::tensor::{
    Int, Tensor, TensorData,
    ops::{FloatTensor, IntTensor},
};
use std::sync::Arc;

/// Settings of a cross-entropy; the default is the plain one.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct CrossEntropy {
    /// Share of the target spread evenly over all classes, in [0, 1).
    pub label_smoothing: f64,
    /// A factor for each class `[C]`.
    pub weights: Option<Arc<[f32]>>,
    /// The label of examples that have none: their loss and gradient are 0. It need not be a class.
    pub ignored: Option<i64>,
}

impl CrossEntropy {
    /// With label smoothing alone.
    #[must_use]
    pub fn smoothed(label_smoothing: f64) -> Self {
        Self {
            label_smoothing,
            ..Self::default()
        }
    }
}

/// log softmax `[B, C]`.
fn log_probabilities<B: TuneBackend>(logits: Tensor<B, 2>) -> Tensor<B, 2> {
    let shifted = logits.clone() - logits.max_dim(1);
    shifted.clone() - shifted.exp().sum_dim(1).log()
}

/// The target distribution `[B, C]`: `1 - s` on the label plus `s / C` everywhere, times the weights, 0 where ignored.
fn target_distribution<B: TuneBackend>(
    like: &Tensor<B, 2>,
    targets: IntTensor<B>,
    settings: &CrossEntropy,
) -> Tensor<B, 2> {
    let ([examples, classes], device) = (like.dims(), like.device());
    let targets: Tensor<B, 1, Int> = Tensor::from_primitive(targets);
    let targets = targets.reshape([examples, 1]);
    let classes_row: Tensor<B, 1, Int> = Tensor::arange(0..classes as i64, &device);
    let mut target = targets
        .clone()
        .expand([examples, classes])
        .equal(
            classes_row
                .reshape([1, classes])
                .expand([examples, classes]),
        )
        .float();
    let smoothing = settings.label_smoothing;
    if smoothing > 0.0 {
        target = target * (1.0 - smoothing) + smoothing / classes as f64;
    }
    if let Some(weights) = &settings.weights {
        let weights = TensorData::new(weights.to_vec(), [1, classes]);
        target = target * Tensor::from_data(weights, &device);
    }
    if let Some(ignored) = settings.ignored {
        target = target * targets.not_equal_elem(ignored).float();
    }
    target
}

/// The default body of [`TuneBackend::tune_cross_entropy`].
pub fn forward<B: TuneBackend>(
    logits: FloatTensor<B>,
    targets: IntTensor<B>,
    settings: &CrossEntropy,
) -> FloatTensor<B> {
    let logits: Tensor<B, 2> = tensor(logits);
    let target = target_distribution(&logits, targets, settings);
    primitive(
        (log_probabilities(logits) * target)
            .sum_dim(1)
            .squeeze_dim::<1>(1)
            .neg(),
    )
}

/// The default body of [`TuneBackend::tune_cross_entropy_backward`].
pub fn backward<B: TuneBackend>(
    logits: FloatTensor<B>,
    targets: IntTensor<B>,
    grad: FloatTensor<B>,
    settings: &CrossEntropy,
) -> FloatTensor<B> {
    let logits: Tensor<B, 2> = tensor(logits);
    let target = target_distribution(&logits, targets, settings);
    let grad: Tensor<B, 1> = tensor(grad);
    let total = target.clone().sum_dim(1);
    let probabilities = log_probabilities(logits).exp();
    primitive((probabilities * total - target) * grad.unsqueeze_dim::<2>(1))
}
