//! What the kernels share: contiguous views, outputs that are written once, in-place reuse of buffers nobody else
//! holds, loops compiled for the widest vectors of the CPU at hand, matrix products, and sums in a fixed order.

use burn::backend::flex::{FlexTensor, Layout};
use burn::tensor::{Bytes, DType, Shape, TensorMetadata};
use rayon::prelude::*;
use std::mem::MaybeUninit;

/// Elements of a piece of element-wise work: large against the cost of a task, small against a cache.
pub(super) const PIECE: usize = 8 * 1024;
/// Partial sums of [`sum_by`]: wide enough for two AVX-512 registers.
const LANES: usize = 32;
/// Rows of one partial sum of [`column_sums`].
pub(super) const ROWS: usize = 64;

/// The two dimensions and the values of a contiguous f32 matrix.
pub(super) fn matrix(x: &FlexTensor) -> Option<([usize; 2], &[f32])> {
    let shape = x.shape();
    (shape.num_dims() == 2).then_some(())?;
    Some(([shape[0], shape[1]], x.as_slice()?))
}

/// The values of an integer vector as indices below `limit`; `None` if one lies outside.
pub(super) fn indices(x: &FlexTensor, limit: usize) -> Option<Vec<usize>> {
    fn checked<I: Copy + TryInto<usize>>(values: &[I], limit: usize) -> Option<Vec<usize>> {
        values
            .iter()
            .map(|&i| i.try_into().ok().filter(|&i| i < limit))
            .collect()
    }
    match x.dtype() {
        DType::I32 => checked(x.as_slice::<i32>()?, limit),
        DType::I64 => checked(x.as_slice::<i64>()?, limit),
        _ => None,
    }
}

pub(super) fn from_vec(values: Vec<f32>, shape: impl Into<Shape>) -> FlexTensor {
    FlexTensor::new(
        Bytes::from_elems(values),
        Layout::contiguous(shape.into()),
        DType::F32,
    )
}

/// A vector of `len` values written by `fill`: no pass over fresh memory only to clear it.
///
/// # Safety
/// `fill` must write every element.
pub(super) unsafe fn written<T: Copy>(
    len: usize,
    fill: impl FnOnce(&mut [MaybeUninit<T>]),
) -> Vec<T> {
    let mut values = Vec::with_capacity(len);
    fill(&mut values.spare_capacity_mut()[..len]);
    // SAFETY: the capacity is at least `len`, and the caller promises that every element has been written.
    unsafe { values.set_len(len) };
    values
}

/// Runs a loop compiled for AVX-512, AVX2 or the baseline, whichever this CPU has. `body` and what it calls must be
/// `#[inline(always)]`.
#[inline(always)]
pub(super) fn wide<R>(body: impl FnOnce() -> R) -> R {
    // `Arch` knows AVX2 only with a feature of pulp that nothing else in the tree turns on.
    #[cfg(target_arch = "x86_64")]
    if pulp::x86::V4::try_new().is_none()
        && let Some(avx2) = pulp::x86::V3::try_new()
    {
        return avx2.vectorize(body);
    }
    pulp::Arch::new().dispatch(body)
}

/// Whether the tensor is f32 and its whole buffer, in order: what `storage_mut` then gives is its values.
pub(super) fn is_whole(x: &FlexTensor) -> bool {
    x.dtype() == DType::F32
        && x.is_contiguous()
        && x.layout().start_offset() == 0
        && x.bytes().len() == 4 * x.shape().num_elements()
}

/// The whole buffer, if it is f32, contiguous, and nobody else holds it.
pub(super) fn own(x: &mut FlexTensor) -> Option<&mut [f32]> {
    (is_whole(x) && x.is_unique()).then_some(())?;
    x.try_storage_mut::<f32>()
}

/// `f` of every element, in the buffer of `x` where nobody else holds it; `x` back where it is not contiguous f32.
pub(super) fn map(
    mut x: FlexTensor,
    f: impl Fn(f32) -> f32 + Sync,
) -> Result<FlexTensor, FlexTensor> {
    if let Some(values) = own(&mut x) {
        values.par_chunks_mut(PIECE).for_each(|piece| {
            wide(
                #[inline(always)]
                || piece.iter_mut().for_each(|x| *x = f(*x)),
            );
        });
        return Ok(x);
    }
    let Some(values) = x.as_slice::<f32>() else {
        return Err(x);
    };
    // SAFETY: the pieces of both sides have the same lengths, so the loops write every element.
    let output = unsafe {
        written(values.len(), |output| {
            output
                .par_chunks_mut(PIECE)
                .zip(values.par_chunks(PIECE))
                .for_each(|(output, x)| {
                    wide(
                        #[inline(always)]
                        || {
                            for (output, &x) in output.iter_mut().zip(x) {
                                output.write(f(x));
                            }
                        },
                    );
                });
        })
    };
    Ok(from_vec(output, x.shape()))
}

/// `f(a, b)` of every element, in the buffer of `a` where nobody else holds it; both back where they do not fit.
pub(super) fn map_pair(
    mut a: FlexTensor,
    b: FlexTensor,
    f: impl Fn(f32, f32) -> f32 + Sync,
) -> Result<FlexTensor, (FlexTensor, FlexTensor)> {
    let Some(right) = b.as_slice::<f32>().filter(|_| a.shape() == b.shape()) else {
        return Err((a, b));
    };
    if let Some(left) = own(&mut a) {
        left.par_chunks_mut(PIECE)
            .zip(right.par_chunks(PIECE))
            .for_each(|(a, b)| {
                wide(
                    #[inline(always)]
                    || {
                        for (a, &b) in a.iter_mut().zip(b) {
                            *a = f(*a, b);
                        }
                    },
                );
            });
        return Ok(a);
    }
    let Some(left) = a.as_slice::<f32>() else {
        return Err((a, b));
    };
    // SAFETY: the pieces of all three sides have the same lengths, so the loops write every element.
    let output = unsafe {
        written(left.len(), |output| {
            let pairs = left.par_chunks(PIECE).zip(right.par_chunks(PIECE));
            output
                .par_chunks_mut(PIECE)
                .zip(pairs)
                .for_each(|(output, (a, b))| {
                    wide(
                        #[inline(always)]
                        || {
                            for ((output, &a), &b) in output.iter_mut().zip(a).zip(b) {
                                output.write(f(a, b));
                            }
                        },
                    );
                });
        })
    };
    Ok(from_vec(output, a.shape()))
}

/// The sum of `f` over rows of one length in [`LANES`] partial sums: the same bits at every vector width.
#[inline(always)]
pub(super) fn sum_by<const N: usize>(rows: [&[f32]; N], f: impl Fn([f32; N]) -> f32) -> f32 {
    let mut lanes = [0f32; LANES];
    let parts = rows.map(|row| row.as_chunks::<LANES>());
    for chunk in 0..parts[0].0.len() {
        let chunks = parts.map(|(chunks, _)| &chunks[chunk]);
        for (i, lane) in lanes.iter_mut().enumerate() {
            *lane += f(chunks.map(|chunk| chunk[i]));
        }
    }
    for (i, lane) in lanes.iter_mut().enumerate().take(parts[0].1.len()) {
        *lane += f(parts.map(|(_, rest)| rest[i]));
    }
    let mut width = LANES;
    while width > 1 {
        width /= 2;
        for i in 0..width {
            lanes[i] += lanes[i + width];
        }
    }
    lanes[0]
}

/// The largest element, NaN aside; negative infinity of none.
#[inline(always)]
pub(super) fn largest(x: &[f32]) -> f32 {
    let larger = |a: f32, b: f32| if b > a { b } else { a };
    let mut lanes = [f32::NEG_INFINITY; LANES];
    let chunks = x.chunks_exact(LANES);
    let rest = chunks.remainder();
    for chunk in chunks {
        for i in 0..LANES {
            lanes[i] = larger(lanes[i], chunk[i]);
        }
    }
    for (lane, &x) in lanes.iter_mut().zip(rest) {
        *lane = larger(*lane, x);
    }
    lanes.into_iter().fold(f32::NEG_INFINITY, larger)
}

/// Sums over rows: `add(sums, first_row, rows)` adds rows to `width` sums; pieces of [`ROWS`] rows, then in order.
pub(super) fn column_sums(
    rows: usize,
    width: usize,
    add: impl Fn(&mut [f32], std::ops::Range<usize>) + Sync,
) -> Vec<f32> {
    let mut partial = vec![0f32; rows.div_ceil(ROWS).max(1) * width];
    if width > 0 {
        partial
            .par_chunks_mut(width)
            .enumerate()
            .for_each(|(piece, sums)| {
                add(sums, piece * ROWS..rows.min((piece + 1) * ROWS));
            });
    }
    let (sums, others) = partial.split_at_mut(width);
    wide(
        #[inline(always)]
        || {
            for other in others.chunks_exact(width.max(1)) {
                for (sum, &x) in sums.iter_mut().zip(other) {
                    *sum += x;
                }
            }
        },
    );
    partial.truncate(width);
    partial
}

/// A factor of a product as it lies in memory, row-major.
#[derive(Debug, Clone, Copy)]
pub(super) enum Factor<'a> {
    /// Its rows run along the inner dimension: `[outer, inner]`.
    Rows(&'a [f32]),
    /// Its columns do: `[inner, outer]`.
    Columns(&'a [f32]),
}

impl Factor<'_> {
    /// As a matrix `[outer, inner]`.
    pub(super) fn place(self, outer: usize, inner: usize) -> Place {
        match self {
            Factor::Rows(values) => Place::of(values, inner),
            Factor::Columns(values) => Place::of(values, outer).transposed(),
        }
    }
}

/// Where a matrix lies: pointer, rows apart, columns apart.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    pub pointer: *mut f32,
    pub row: usize,
    pub column: usize,
}

// SAFETY: a plain address; whoever reads or writes through it answers for the access.
unsafe impl Send for Place {}
// SAFETY: as above.
unsafe impl Sync for Place {}

impl Place {
    /// A row-major matrix of `width` columns that is only read.
    pub(super) fn of(values: &[f32], width: usize) -> Self {
        Self {
            pointer: values.as_ptr().cast_mut(),
            row: width,
            column: 1,
        }
    }

    /// A row-major matrix of `width` columns.
    pub(super) fn of_mut(values: &mut [f32], width: usize) -> Self {
        Self {
            pointer: values.as_mut_ptr(),
            row: width,
            column: 1,
        }
    }

    /// A row-major matrix of `width` columns yet to be written.
    pub(super) fn of_new(values: &mut [MaybeUninit<f32>], width: usize) -> Self {
        Self {
            pointer: values.as_mut_ptr().cast(),
            row: width,
            column: 1,
        }
    }

    /// Rows and columns exchanged.
    pub(super) fn transposed(self) -> Self {
        Self {
            row: self.column,
            column: self.row,
            ..self
        }
    }

    /// The part that begins at this element.
    pub(super) fn at(self, row: usize, column: usize) -> Self {
        Self {
            pointer: self
                .pointer
                .wrapping_add(row * self.row + column * self.column),
            ..self
        }
    }

    /// The first `width` values of a row.
    ///
    /// # Safety
    /// They lie one behind the other, can be read, and nobody writes them as long as the slice is used.
    pub(super) unsafe fn row<'a>(self, row: usize, width: usize) -> &'a [f32] {
        // SAFETY: the caller's promise.
        unsafe { std::slice::from_raw_parts(self.at(row, 0).pointer, width) }
    }
}

/// `output [m, n] = factor * a [m, k] b [k, n]`, added to what stands there where `add`.
///
/// # Safety
/// The places must be valid for these sizes, `output` for writing (and initialised where `add`) by this call alone.
pub(super) unsafe fn product(
    output: Place,
    (a, b): (Place, Place),
    [m, k, n]: [usize; 3],
    factor: f32,
    add: bool,
    parallelism: gemm::Parallelism,
) {
    // SAFETY: the caller's promise; strides of a slice fit isize.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            output.pointer,
            output.column as isize,
            output.row as isize,
            add,
            a.pointer,
            a.column as isize,
            a.row as isize,
            b.pointer,
            b.column as isize,
            b.row as isize,
            1.0,
            factor,
            false,
            false,
            false,
            parallelism,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::super::math::{erf, exp, tanh};
    use super::*;

    #[inline(always)]
    fn everything(x: &[f32]) -> Vec<u32> {
        let mut results = vec![0f32; 3 * x.len()];
        for (result, &x) in results.chunks_exact_mut(3).zip(x) {
            result.copy_from_slice(&[exp(x), erf(x), tanh(x)]);
        }
        results.push(sum_by(
            [x, x],
            #[inline(always)]
            |[a, b]| a * exp(b),
        ));
        results.push(largest(x));
        results.into_iter().map(f32::to_bits).collect()
    }

    #[test]
    fn every_vector_width_gives_the_same_bits() {
        let x: Vec<f32> = (0..1003).map(|i| (i as f32 * 0.37).sin() * 9.0).collect();
        let baseline = everything(&x);
        assert_eq!(
            baseline,
            wide(
                #[inline(always)]
                || everything(&x)
            )
        );
        #[cfg(target_arch = "x86_64")]
        if let Some(avx2) = pulp::x86::V3::try_new() {
            assert_eq!(
                baseline,
                avx2.vectorize(
                    #[inline(always)]
                    || everything(&x)
                )
            );
        }
    }

    #[test]
    fn sums_and_maxima_of_short_rows() {
        assert_eq!(sum_by([&[]], |[x]| x), 0.0);
        assert_eq!(largest(&[]), f32::NEG_INFINITY);
        for len in [1, 31, 32, 33, 64, 70] {
            let x: Vec<f32> = (1..=len).map(|i| i as f32).collect();
            assert_eq!(sum_by([&x], |[x]| x), (len * (len + 1) / 2) as f32);
            assert_eq!(largest(&x), len as f32);
        }
    }
}
