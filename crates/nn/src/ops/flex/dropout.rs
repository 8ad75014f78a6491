//! Dropout whose mask is computed where it is used.

use super::util::{ROWS, from_vec, own, wide, written};
use crate::ops::Dropout;
use burn::backend::flex::FlexTensor;
use burn::tensor::TensorMetadata;
use rayon::prelude::*;
use rekindle_base::rng::{Row, drop_threshold};

/// In the buffer of `x` where nobody else holds it; `x` back where it is not contiguous f32.
pub(super) fn apply(mut x: FlexTensor, dropout: Dropout) -> Result<FlexTensor, FlexTensor> {
    let shape = x.shape();
    let columns = if shape.num_dims() > 1 {
        shape[shape.num_dims() - 1]
    } else {
        1
    }
    .max(1);
    let piece = columns * if columns == 1 { ROWS * ROWS } else { ROWS };
    let (threshold, scale) = (
        drop_threshold(dropout.rate),
        (1.0 / (1.0 - dropout.rate)) as f32,
    );
    let first_row = |n: usize| n * (piece / columns);
    let factor = move |generator: Row, column: usize| {
        if generator.bits(column as u32) < threshold {
            0.0
        } else {
            scale
        }
    };

    if let Some(values) = own(&mut x) {
        values
            .par_chunks_mut(piece)
            .enumerate()
            .for_each(|(n, values)| {
                wide(
                    #[inline(always)]
                    move || {
                        for (r, row) in values.chunks_exact_mut(columns).enumerate() {
                            let generator = Row::new(dropout.key, (first_row(n) + r) as u64);
                            for (column, x) in row.iter_mut().enumerate() {
                                *x *= factor(generator, column);
                            }
                        }
                    },
                );
            });
        return Ok(x);
    }
    let Some(values) = x.as_slice::<f32>() else {
        return Err(x);
    };
    // SAFETY: pieces and rows of both sides have the same lengths, so the loops write every element.
    let output = unsafe {
        written(values.len(), |output| {
            output
                .par_chunks_mut(piece)
                .zip(values.par_chunks(piece))
                .enumerate()
                .for_each(|(n, (output, values))| {
                    wide(
                        #[inline(always)]
                        move || {
                            let rows = output
                                .chunks_exact_mut(columns)
                                .zip(values.chunks_exact(columns));
                            for (r, (output, row)) in rows.enumerate() {
                                let generator = Row::new(dropout.key, (first_row(n) + r) as u64);
                                for (column, (output, &x)) in output.iter_mut().zip(row).enumerate()
                                {
                                    output.write(x * factor(generator, column));
                                }
                            }
                        },
                    );
                });
        })
    };
    Ok(from_vec(output, shape))
}
