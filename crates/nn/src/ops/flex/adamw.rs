//! AdamW in one pass over parameter, gradient and moments, in their own buffers where nobody else holds them; and the sum of
//! squares that clipping needs.

use super::util::{from_vec, is_whole, sum_by, wide};
use crate::ops::AdamW;
use burn::backend::flex::FlexTensor;
use burn::tensor::TensorMetadata;
use rayon::prelude::*;

/// Elements of a task.
const PIECE: usize = 16 * 1024;

/// `[parameter, m, v]` after the step; the three back as they came where one is not whole, contiguous f32.
pub(super) fn step(
    state: [FlexTensor; 3],
    grad: &FlexTensor,
    settings: AdamW,
) -> Result<(FlexTensor, FlexTensor, FlexTensor), [FlexTensor; 3]> {
    let len = grad.shape().num_elements();
    let fits = |x: &FlexTensor| is_whole(x) && x.shape().num_elements() == len;
    let Some(grad) = grad.as_slice::<f32>().filter(|_| state.iter().all(fits)) else {
        return Err(state);
    };
    let [mut parameter, mut m, mut v] = state;
    let (beta1, beta2) = (settings.beta1 as f32, settings.beta2 as f32);
    let (rest1, rest2) = ((1.0 - settings.beta1) as f32, (1.0 - settings.beta2) as f32);
    let (correction1, correction2) = settings.corrections();
    let (rate, variance_scale) = (
        (settings.learning_rate / correction1) as f32,
        (1.0 / correction2) as f32,
    );
    let decay = (1.0 - settings.learning_rate * settings.weight_decay) as f32;
    let (epsilon, grad_scale) = (settings.epsilon as f32, settings.grad_scale as f32);
    // `storage_mut` copies first where somebody else holds the buffer.
    let moments = m
        .storage_mut::<f32>()
        .par_chunks_mut(PIECE)
        .zip(v.storage_mut::<f32>().par_chunks_mut(PIECE));
    let inputs = moments.zip(grad.par_chunks(PIECE));
    parameter
        .storage_mut::<f32>()
        .par_chunks_mut(PIECE)
        .zip(inputs)
        .for_each(|(p, ((m, v), grad))| {
            wide(
                #[inline(always)]
                move || {
                    for (((p, m), v), &grad) in p.iter_mut().zip(m).zip(v).zip(grad) {
                        let g = grad * grad_scale;
                        *m = *m * beta1 + g * rest1;
                        *v = *v * beta2 + g * g * rest2;
                        *p = *p * decay - *m * rate / ((*v * variance_scale).sqrt() + epsilon);
                    }
                },
            );
        });
    Ok((parameter, m, v))
}

/// The sum of all squares, `[1]`.
pub(super) fn square_sum(x: &FlexTensor) -> Option<FlexTensor> {
    let x = x.as_slice::<f32>()?;
    let partial: Vec<f64> = x
        .par_chunks(PIECE)
        .map(|x| {
            let sum = wide(
                #[inline(always)]
                move || {
                    sum_by(
                        [x],
                        #[inline(always)]
                        |[x]| x * x,
                    )
                },
            );
            f64::from(sum)
        })
        .collect();
    Some(from_vec(vec![partial.iter().sum::<f64>() as f32], [1]))
}
