//! Embeddings added up in one buffer. The gradient of a table: only the rows that were used are touched; the others stay the
//! zeros that the allocator gave.

use super::util::{from_vec, indices, is_whole, matrix, wide};
use burn::backend::flex::FlexTensor;
use rayon::prelude::*;

/// Adds to `sum`, in its own buffer where nobody else holds it; `sum` back where the operands do not fit.
pub(super) fn add(
    mut sum: FlexTensor,
    table: &FlexTensor,
    rows: &FlexTensor,
) -> Result<FlexTensor, FlexTensor> {
    let fit = || {
        let ([tokens, width], _) = matrix(&sum)?;
        let ([vocabulary, width_of_table], table) = matrix(table)?;
        let rows = indices(rows, vocabulary)?;
        let same = width == width_of_table && rows.len() == tokens && width > 0;
        (same && is_whole(&sum)).then_some((width, table, rows))
    };
    let Some((width, table, rows)) = fit() else {
        return Err(sum);
    };
    // `storage_mut` copies first where somebody else holds the buffer.
    sum.storage_mut::<f32>()
        .par_chunks_mut(width)
        .zip(rows)
        .with_min_len(32)
        .for_each(|(sum, row)| {
            wide(
                #[inline(always)]
                move || {
                    for (sum, &x) in sum.iter_mut().zip(&table[row * width..][..width]) {
                        *sum += x;
                    }
                },
            );
        });
    Ok(sum)
}

pub(super) fn backward(
    vocabulary: usize,
    rows: &FlexTensor,
    grad: &FlexTensor,
) -> Option<FlexTensor> {
    let ([tokens, width], grad) = matrix(grad)?;
    let rows = indices(rows, vocabulary).filter(|rows| rows.len() == tokens && width > 0)?;
    // Tokens by row, in their order within a row: sums do not depend on threads.
    let mut order: Vec<usize> = (0..tokens).collect();
    order.sort_by_key(|&token| rows[token]);

    let mut table = vec![0f32; vocabulary * width];
    let (mut rest, mut passed) = (table.as_mut_slice(), 0);
    let mut work = Vec::new();
    for tokens in order.chunk_by(|&a, &b| rows[a] == rows[b]) {
        let row = rows[tokens[0]];
        let (sum, after) = std::mem::take(&mut rest)[(row - passed) * width..].split_at_mut(width);
        work.push((sum, tokens));
        (rest, passed) = (after, row + 1);
    }
    work.into_par_iter()
        .with_min_len(8)
        .for_each(|(sum, tokens)| {
            wide(
                #[inline(always)]
                move || {
                    for &token in tokens {
                        for (sum, &x) in sum.iter_mut().zip(&grad[token * width..][..width]) {
                            *sum += x;
                        }
                    }
                },
            );
        });
    Some(from_vec(table, [vocabulary, width]))
}
