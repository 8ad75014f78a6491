//! Weights in groups: their values, and products of few rows from the codes as they lie. A product sums a group's codes times x
//! first and scales the sum, so that a code costs one conversion and one multiplication.

use super::super::{Grouped, Groups, Precision};
use super::linear;
use super::util::{Place, from_vec, matrix, product, wide, written};
use burn::backend::{Flex, flex::FlexTensor};
use burn::tensor::DType;
use rayon::prelude::*;
use std::mem::MaybeUninit;

/// Rows of x up to which the codes are multiplied as they lie: with more, their values are made first.
const FEW: usize = 8;
/// Rows of x up to which values are made for some rows of the weight at a time, which stay in a cache, and so many rows.
const BLOCKED: usize = 64;
const BLOCK: usize = 64;
/// Codes of a task, at least.
const PIECE: usize = 64 * 1024;
/// Partial sums of a product.
const LANES: usize = 16;

/// A weight on the host.
struct Weight<'a> {
    codes: &'a [u8],
    scales: &'a [f32],
    offsets: &'a [f32],
    groups: Groups,
}

impl<'a> Weight<'a> {
    /// `None` where the tensors are not contiguous, of another type or of other sizes.
    fn of(weight: &'a Grouped<Flex>) -> Option<Self> {
        let groups = weight.groups;
        let words =
            (weight.codes.dtype() == DType::I32).then(|| weight.codes.as_slice::<i32>())??;
        let found = Self {
            codes: bytemuck::cast_slice(words),
            scales: matrix(&weight.scales)?.1,
            offsets: matrix(&weight.offsets)?.1,
            groups,
        };
        let count = groups.rows * groups.count();
        let fits = words.len() == groups.rows * groups.words()
            && found.scales.len() == count
            && found.offsets.len() == count
            && matches!((groups.bits, groups.size), (4, 32) | (8, 16 | 32));
        (fits && cfg!(target_endian = "little") && groups.columns > 0).then_some(found)
    }

    /// One row: its codes, scales and offsets.
    #[inline(always)]
    fn row(&self, row: usize) -> (&'a [u8], &'a [f32], &'a [f32]) {
        let (bytes, count) = (4 * self.groups.words(), self.groups.count());
        (
            &self.codes[row * bytes..][..bytes],
            &self.scales[row * count..][..count],
            &self.offsets[row * count..][..count],
        )
    }
}

/// The codes of 16 bytes: low nibbles and high ones.
#[inline(always)]
fn nibbles(bytes: &[u8; 16]) -> [[f32; LANES]; 2] {
    [
        bytes.map(|b| f32::from(b & 15)),
        bytes.map(|b| f32::from(b >> 4)),
    ]
}

/// The codes of a group, 16 by 16.
#[inline(always)]
fn each_16<const BITS: u32>(bytes: &[u8], mut take: impl FnMut(usize, [f32; LANES])) {
    for (i, bytes) in bytes.as_chunks::<16>().0.iter().enumerate() {
        match BITS {
            4 => {
                let [low, high] = nibbles(bytes);
                take(2 * i, low);
                take(2 * i + 1, high);
            }
            _ => take(i, bytes.map(f32::from)),
        }
    }
}

/// The values `[O, I]`: multiplied, then added, as whoever reads the file would.
pub(super) fn values(weight: &Grouped<Flex>) -> Option<FlexTensor> {
    let weight = Weight::of(weight)?;
    let groups = weight.groups;
    // SAFETY: every row is filled, and in each row every group.
    let values = unsafe {
        written(groups.rows * groups.columns, |values| {
            values
                .par_chunks_mut(groups.columns)
                .with_min_len((PIECE / groups.columns).max(1))
                .enumerate()
                .for_each(|(row, values)| fill(&weight, row, values));
        })
    };
    Some(from_vec(values, [groups.rows, groups.columns]))
}

/// Writes all values of a row.
fn fill(weight: &Weight<'_>, row: usize, values: &mut [MaybeUninit<f32>]) {
    let (codes, scales, offsets) = weight.row(row);
    let groups = weight.groups;
    wide(
        #[inline(always)]
        || match groups.bits {
            4 => fill_row::<4>(values, codes, scales, offsets, groups.size),
            _ => fill_row::<8>(values, codes, scales, offsets, groups.size),
        },
    );
}

/// The product of some rows of x: values of [`BLOCK`] rows of the weight are made, multiplied and forgotten.
fn blocked(weight: &Weight<'_>, x: &[f32], tokens: usize) -> Vec<f32> {
    let Groups {
        rows: outer,
        columns: inner,
        ..
    } = weight.groups;
    // SAFETY: each block writes its columns of every row of the output, and nobody else writes these; the slices have the
    // lengths that the sizes say.
    unsafe {
        written(tokens * outer, |output| {
            let output = Place::of_new(output, outer);
            (0..outer.div_ceil(BLOCK))
                .into_par_iter()
                .for_each(|block| {
                    let rows = block * BLOCK..outer.min((block + 1) * BLOCK);
                    let values = written(rows.len() * inner, |values| {
                        for (row, values) in rows.clone().zip(values.chunks_exact_mut(inner)) {
                            fill(weight, row, values);
                        }
                    });
                    let factors = (Place::of(x, inner), Place::of(&values, inner).transposed());
                    let sizes = [tokens, inner, rows.len()];
                    let alone = gemm::Parallelism::None;
                    product(output.at(0, rows.start), factors, sizes, 1.0, false, alone);
                });
        })
    }
}

#[inline(always)]
fn fill_row<const BITS: u32>(
    values: &mut [MaybeUninit<f32>],
    codes: &[u8],
    scales: &[f32],
    offsets: &[f32],
    size: usize,
) {
    let groups = values
        .chunks_exact_mut(size)
        .zip(codes.chunks_exact(size * BITS as usize / 8));
    for ((values, codes), (scale, offset)) in groups.zip(scales.iter().zip(offsets)) {
        let values = values.as_chunks_mut::<LANES>().0;
        each_16::<BITS>(
            codes,
            #[inline(always)]
            |i, codes| {
                for (value, code) in values[i].iter_mut().zip(codes) {
                    value.write(scale * code + offset);
                }
            },
        );
    }
}

/// `x [T, I]` times the weight; from the codes for few rows of x, else from the values.
pub(super) fn forward(
    x: &FlexTensor,
    weight: &Grouped<Flex>,
    bias: Option<&FlexTensor>,
    precision: Precision,
) -> Option<FlexTensor> {
    let ([tokens, inner], rows) = matrix(x)?;
    let groups = weight.groups;
    (inner == groups.columns).then_some(())?;
    if !(1..=BLOCKED).contains(&tokens) || precision != Precision::F32 {
        return linear::forward(x, &values(weight)?, bias, precision);
    }
    let bias = match bias {
        Some(bias) => Some(bias.as_slice::<f32>().filter(|b| b.len() == groups.rows)?),
        None => None,
    };
    let weight = Weight::of(weight)?;
    let outer = groups.rows;
    if tokens > FEW {
        let mut output = blocked(&weight, rows, tokens);
        if let Some(bias) = bias {
            for output in output.chunks_exact_mut(outer) {
                output.iter_mut().zip(bias).for_each(|(y, bias)| *y += bias);
            }
        }
        return Some(from_vec(output, [tokens, outer]));
    }
    // Of each row of x and each group the sum: what the offsets multiply.
    let sums: Vec<f32> = rows
        .chunks_exact(groups.size)
        .map(|x| x.iter().sum())
        .collect();
    // `[outer, tokens]`
    let mut output = vec![0f32; outer * tokens];
    let piece = (PIECE / inner)
        .max(outer.div_ceil(rayon::current_num_threads()))
        .max(1);
    let multiply = |(i, output): (usize, &mut [f32])| {
        wide(
            #[inline(always)]
            || {
                for (row, output) in (i * piece..).zip(output.chunks_exact_mut(tokens)) {
                    multiply_row(&weight, row, rows, &sums, output);
                }
            },
        );
    };
    match outer <= piece {
        true => multiply((0, &mut output)),
        false => output
            .par_chunks_mut(piece * tokens)
            .enumerate()
            .for_each(multiply),
    }
    if let Some(bias) = bias {
        for (output, bias) in output.chunks_exact_mut(tokens).zip(bias) {
            output.iter_mut().for_each(|y| *y += bias);
        }
    }
    if tokens > 1 {
        output = (0..tokens * outer)
            .map(|i| output[i % outer * tokens + i / outer])
            .collect();
    }
    Some(from_vec(output, [tokens, outer]))
}

/// A row of the weight times every row of x.
#[inline(always)]
fn multiply_row(weight: &Weight<'_>, row: usize, x: &[f32], sums: &[f32], output: &mut [f32]) {
    let groups = weight.groups;
    let (codes, scales, offsets) = weight.row(row);
    let rows = x
        .chunks_exact(groups.columns)
        .zip(sums.chunks_exact(groups.count()));
    for (y, (x, sums)) in output.iter_mut().zip(rows) {
        let mut lanes = match (groups.bits, groups.size) {
            (4, _) => scaled::<4, 16>(codes, scales, x),
            (_, 16) => scaled::<8, 16>(codes, scales, x),
            _ => scaled::<8, 32>(codes, scales, x),
        };
        for (sums, offsets) in sums.chunks(LANES).zip(offsets.chunks(LANES)) {
            for ((lane, sum), offset) in lanes.iter_mut().zip(sums).zip(offsets) {
                *lane += sum * offset;
            }
        }
        *y = added(lanes);
    }
}

/// The sum, in pairs.
#[inline(always)]
fn added(mut lanes: [f32; LANES]) -> f32 {
    let mut width = LANES;
    while width > 1 {
        width /= 2;
        for i in 0..width {
            lanes[i] += lanes[i + width];
        }
    }
    lanes[0]
}

/// Partial sums of codes times x, each group's scaled. `BYTES` are a group's.
#[inline(always)]
fn scaled<const BITS: u32, const BYTES: usize>(
    codes: &[u8],
    scales: &[f32],
    x: &[f32],
) -> [f32; LANES] {
    let mut lanes = [0f32; LANES];
    let groups = codes
        .as_chunks::<BYTES>()
        .0
        .iter()
        .zip(x.chunks_exact(BYTES * 8 / BITS as usize));
    for ((codes, x), scale) in groups.zip(scales) {
        let x = x.as_chunks::<LANES>().0;
        let mut sum = [0f32; LANES];
        each_16::<BITS>(
            codes,
            #[inline(always)]
            |i, codes| {
                for ((sum, code), x) in sum.iter_mut().zip(codes).zip(x[i]) {
                    *sum += code * x;
                }
            },
        );
        for (lane, sum) in lanes.iter_mut().zip(sum) {
            *lane += scale * sum;
        }
    }
    lanes
}
