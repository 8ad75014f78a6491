//! The gradient of an embedding table: only the rows that were used are touched; the others stay the zeros that the
//! allocator gave.

use super::util::{from_vec, indices, matrix, wide};
use burn::backend::flex::FlexTensor;
use rayon::prelude::*;

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
