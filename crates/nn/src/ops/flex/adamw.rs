//! AdamW in one pass over parameter, gradient and moments, in their own buffers where nobody else holds them.

use super::util::wide;
use crate::ops::AdamW;
use burn::backend::flex::FlexTensor;
use burn::tensor::{DType, TensorMetadata};
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
    let fits = |x: &FlexTensor| {
        x.dtype() == DType::F32
            && x.is_contiguous()
            && x.layout().start_offset() == 0
            && x.bytes().len() == 4 * len
    };
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
