//! Rotary positions in the buffer of x, where nobody else holds it.

use super::util::{ROWS, is_whole, matrix, wide};
use burn::backend::flex::FlexTensor;
use rayon::prelude::*;

/// x back where the operands do not fit.
pub(super) fn apply(
    mut x: FlexTensor,
    cos: &FlexTensor,
    sin: &FlexTensor,
    heads: usize,
) -> Result<FlexTensor, FlexTensor> {
    let fit = || {
        let ([tokens, width], _) = matrix(&x)?;
        let ((shape, cos), (shape_of_sin, sin)) = (matrix(cos)?, matrix(sin)?);
        let head_width = width.checked_div(heads).filter(|&k| k * heads == width)?;
        let half = shape[1];
        let same = shape == shape_of_sin && shape[0] == tokens && 2 * half <= head_width;
        (same && half > 0 && is_whole(&x)).then_some((width, head_width, half, cos, sin))
    };
    let Some((width, head_width, half, cos, sin)) = fit() else {
        return Err(x);
    };
    // `storage_mut` copies first where somebody else holds the buffer.
    x.storage_mut::<f32>()
        .par_chunks_mut(ROWS * width)
        .zip(cos.par_chunks(ROWS * half).zip(sin.par_chunks(ROWS * half)))
        .for_each(|(x, (cos, sin))| {
            wide(
                #[inline(always)]
                move || {
                    let tables = cos.chunks_exact(half).zip(sin.chunks_exact(half));
                    for (x, (cos, sin)) in x.chunks_exact_mut(width).zip(tables) {
                        for head in x.chunks_exact_mut(head_width) {
                            let (first, second) = head.split_at_mut(half);
                            let pairs = first.iter_mut().zip(second.iter_mut());
                            for (((a, b), &cos), &sin) in pairs.zip(cos).zip(sin) {
                                (*a, *b) = (*a * cos - *b * sin, *b * cos + *a * sin);
                            }
                        }
                    }
                },
            );
        });
    Ok(x)
}
