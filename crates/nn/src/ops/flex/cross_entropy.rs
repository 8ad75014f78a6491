//! Softmax cross-entropy by rows: nothing of the size of the logits is stored but their gradient.

use super::math::exp;
use super::util::{from_vec, largest, matrix, sum_by, wide, written};
use crate::ops::CrossEntropy;
use burn::backend::flex::FlexTensor;
use burn::tensor::DType;
use rayon::prelude::*;

/// Elements below which rows share a task.
const PIECE: usize = 8 * 1024;

/// The largest logit of a row, and the sum of exponentials relative to it.
#[inline(always)]
fn exponentials(row: &[f32]) -> (f32, f32) {
    let shift = largest(row);
    (
        shift,
        sum_by(
            [row],
            #[inline(always)]
            |[x]| exp(x - shift),
        ),
    )
}

/// The settings as the loops want them.
struct Plan {
    /// The class of each example; none where it is ignored.
    targets: Vec<Option<usize>>,
    /// Weight by class, all 1 where there are none.
    weights: Vec<f32>,
    /// Their sum.
    total: f32,
    smoothing: f32,
}

impl Plan {
    /// `None` where the shapes do not fit, or a label is neither a class nor ignored.
    fn new(
        [examples, classes]: [usize; 2],
        targets: &FlexTensor,
        settings: &CrossEntropy,
    ) -> Option<Self> {
        let class = |label: i64| match usize::try_from(label) {
            _ if settings.ignored == Some(label) => Some(None),
            Ok(class) if class < classes => Some(Some(class)),
            _ => None,
        };
        let targets: Option<Vec<Option<usize>>> = match targets.dtype() {
            DType::I32 => targets
                .as_slice::<i32>()?
                .iter()
                .map(|&label| class(i64::from(label)))
                .collect(),
            DType::I64 => targets
                .as_slice::<i64>()?
                .iter()
                .map(|&l| class(l))
                .collect(),
            _ => None,
        };
        let weights = match &settings.weights {
            None => vec![1.0; classes],
            Some(weights) => weights.to_vec(),
        };
        let targets = targets.filter(|targets| targets.len() == examples)?;
        (weights.len() == classes).then_some(())?;
        Some(Self {
            targets,
            total: weights.iter().sum(),
            weights,
            smoothing: settings.label_smoothing as f32,
        })
    }
}

pub(super) fn forward(
    logits: &FlexTensor,
    targets: &FlexTensor,
    settings: &CrossEntropy,
) -> Option<FlexTensor> {
    let (shape, logits) = matrix(logits)?;
    let [examples, classes] = shape;
    let plan = Plan::new(shape, targets, settings)?;
    let (weights, smoothing) = (&plan.weights[..], plan.smoothing);
    let mut losses = vec![0f32; examples];
    let inputs = logits.par_chunks_exact(classes.max(1)).zip(&plan.targets);
    losses
        .par_iter_mut()
        .zip(inputs)
        .with_min_len(PIECE.div_ceil(classes.max(1)))
        .for_each(|(loss, (row, &target))| {
            let Some(target) = target else { return };
            *loss = wide(
                #[inline(always)]
                move || {
                    let (shift, sum) = exponentials(row);
                    let log_sum = sum.ln();
                    let own = weights[target] * (log_sum - (row[target] - shift));
                    if smoothing == 0.0 {
                        return own;
                    }
                    let all = sum_by(
                        [row, weights],
                        #[inline(always)]
                        |[x, weight]| weight * (log_sum - (x - shift)),
                    );
                    (1.0 - smoothing) * own + smoothing / classes as f32 * all
                },
            );
        });
    Some(from_vec(losses, [examples]))
}

pub(super) fn backward(
    logits: &FlexTensor,
    targets: &FlexTensor,
    grad: &FlexTensor,
    settings: &CrossEntropy,
) -> Option<FlexTensor> {
    let (shape, logits) = matrix(logits)?;
    let [examples, classes] = shape;
    let plan = Plan::new(shape, targets, settings)?;
    let grad = grad
        .as_slice::<f32>()
        .filter(|grad| grad.len() == examples && classes > 0)?;
    let (weights, total, smoothing) = (&plan.weights[..], plan.total, plan.smoothing);
    let everywhere = smoothing / classes as f32;
    // SAFETY: rows of both sides have the same lengths, so the loops write every element.
    let output = unsafe {
        written(examples * classes, |output| {
            let inputs = logits
                .par_chunks_exact(classes)
                .zip(plan.targets.par_iter().zip(grad));
            let rows = output
                .par_chunks_exact_mut(classes)
                .zip(inputs)
                .with_min_len(PIECE.div_ceil(classes));
            rows.for_each(|(output, (row, (&target, &grad)))| {
                wide(
                    #[inline(always)]
                    move || {
                        let Some(target) = target else {
                            for output in output {
                                output.write(0.0);
                            }
                            return;
                        };
                        let (shift, sum) = exponentials(row);
                        let own = (1.0 - smoothing) * weights[target];
                        // What the targets of the row sum to.
                        let scale = own + everywhere * total;
                        let factor = scale / sum;
                        for ((output, &x), &weight) in output.iter_mut().zip(row).zip(weights) {
                            output.write((exp(x - shift) * factor - everywhere * weight) * grad);
                        }
                        let label = own + everywhere * weights[target];
                        output[target].write((exp(row[target] - shift) * factor - label) * grad);
                    },
                );
            });
        })
    };
    Some(from_vec(output, [examples, classes]))
}
