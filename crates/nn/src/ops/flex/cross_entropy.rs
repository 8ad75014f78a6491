//! Softmax cross-entropy by rows: nothing of the size of the logits is stored but their gradient.

use super::math::exp;
use super::util::{from_vec, indices, largest, matrix, sum_by, wide, written};
use burn::backend::flex::FlexTensor;
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

pub(super) fn forward(
    logits: &FlexTensor,
    targets: &FlexTensor,
    smoothing: f64,
) -> Option<FlexTensor> {
    let ([examples, classes], logits) = matrix(logits)?;
    let targets = indices(targets, classes).filter(|targets| targets.len() == examples)?;
    let smoothing = smoothing as f32;
    let mut losses = vec![0f32; examples];
    let inputs = logits.par_chunks_exact(classes.max(1)).zip(&targets);
    losses
        .par_iter_mut()
        .zip(inputs)
        .with_min_len(PIECE.div_ceil(classes.max(1)))
        .for_each(|(loss, (row, &target))| {
            *loss = wide(
                #[inline(always)]
                move || {
                    let (shift, sum) = exponentials(row);
                    let log_sum = sum.ln();
                    let own = log_sum - (row[target] - shift);
                    if smoothing == 0.0 {
                        return own;
                    }
                    let all = sum_by(
                        [row],
                        #[inline(always)]
                        |[x]| log_sum - (x - shift),
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
    smoothing: f64,
) -> Option<FlexTensor> {
    let ([examples, classes], logits) = matrix(logits)?;
    let targets = indices(targets, classes).filter(|targets| targets.len() == examples)?;
    let grad = grad
        .as_slice::<f32>()
        .filter(|grad| grad.len() == examples && classes > 0)?;
    let everywhere = smoothing as f32 / classes as f32;
    // SAFETY: rows of both sides have the same lengths, so the loops write every element.
    let output = unsafe {
        written(examples * classes, |output| {
            let inputs = logits
                .par_chunks_exact(classes)
                .zip(targets.par_iter().zip(grad));
            let rows = output
                .par_chunks_exact_mut(classes)
                .zip(inputs)
                .with_min_len(PIECE.div_ceil(classes));
            rows.for_each(|(output, (row, (&target, &grad)))| {
                wide(
                    #[inline(always)]
                    move || {
                        let (shift, sum) = exponentials(row);
                        let inverse = 1.0 / sum;
                        for (output, &x) in output.iter_mut().zip(row) {
                            output.write((exp(x - shift) * inverse - everywhere) * grad);
                        }
                        let label = 1.0 - smoothing as f32 + everywhere;
                        output[target].write((exp(row[target] - shift) * inverse - label) * grad);
                    },
                );
            });
        })
    };
    Some(from_vec(output, [examples, classes]))
}
