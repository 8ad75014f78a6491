//! Matrix products of factors rounded to bf16, summed in f32, for CPUs with `avx512_bf16`, whose multiply-add takes two pairs
//! of bf16 in the time of one of f32. Factors are rounded once, to nearest even, into pairs that lie along the inner
//! dimension. Each sum is one chain in a fixed order.

use super::util::{Place, written};
use rayon::prelude::*;
use std::arch::x86_64::{
    __m512, __m512bh, __m512i, _mm512_cvtne2ps_pbh, _mm512_dpbf16_ps, _mm512_loadu_si512,
    _mm512_mask_storeu_ps, _mm512_maskz_loadu_ps, _mm512_permutexvar_epi16, _mm512_set1_epi32,
    _mm512_setzero_ps, _mm512_storeu_si512,
};
use std::{mem::transmute, ops::Range};

/// Rows of a tile of sums: with [`WIDTH`] columns, 24 of the 32 registers.
const ROWS: usize = 12;
/// Columns of a tile: two vectors.
const WIDTH: usize = 32;
/// f32 values of a vector.
const LANES: usize = 16;
/// Pairs that are multiplied at a time: their factors stay in the cache, and little memory is needed for them.
const DEPTH: usize = 768;
/// Rows of a task at most; tasks aimed at, so that threads end together.
const TASK_ROWS: usize = 192;
const TASKS: usize = 16;

/// A factor as it lies in memory, row-major.
#[derive(Debug, Clone, Copy)]
pub(super) enum Factor<'a> {
    /// Its rows run along the inner dimension: `[outer, inner]`.
    Rows(&'a [f32]),
    /// Its columns do: `[inner, outer]`.
    Columns(&'a [f32]),
}

/// Whether this CPU has the instructions.
pub(super) fn available() -> bool {
    is_x86_feature_detected!("avx512bf16")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512f")
}

/// The product `[m, n]` over the inner dimension k, plus `bias [n]`; `None` where this CPU has not the instructions.
///
/// # Panics
/// If a slice has not the length that the sizes say.
pub(super) fn product(
    (a, b): (Factor<'_>, Factor<'_>),
    [m, k, n]: [usize; 3],
    bias: Option<&[f32]>,
) -> Option<Vec<f32>> {
    available().then_some(())?;
    for (Factor::Rows(values) | Factor::Columns(values), outer) in [(a, m), (b, n)] {
        assert_eq!(values.len(), outer * k, "a factor's size");
    }
    assert!(bias.is_none_or(|bias| bias.len() == n), "a bias's size");
    let (pairs, panels) = (k.div_ceil(2), n.div_ceil(WIDTH));
    let height = (m / TASKS).clamp(ROWS, TASK_ROWS).next_multiple_of(ROWS);
    // Few rows: their columns are divided too.
    let parts = m.div_ceil(height);
    let groups = (TASKS / parts.max(1)).clamp(1, panels.max(1));
    let group = panels.div_ceil(groups);
    // Room for `[panels, chunk, WIDTH]`.
    let mut packed = Vec::<u32>::with_capacity(panels * pairs.min(DEPTH) * WIDTH);
    // SAFETY: the CPU has the instructions; `pack` writes all pairs of its panel; the tasks' rows and panels make up the whole,
    // and each is written by one task at a time.
    let output = unsafe {
        written(m * n, |output| {
            let output = Place::of_new(output, n);
            // Once at least: a product over nothing is the bias.
            for from in (0..pairs.max(1)).step_by(DEPTH) {
                let chunk = from..pairs.min(from + DEPTH);
                let panel = chunk.len() * WIDTH;
                packed.spare_capacity_mut()[..panels * panel]
                    .par_chunks_mut(panel.max(1))
                    .enumerate()
                    .for_each(|(panel, to)| {
                        let to = to.as_mut_ptr().cast();
                        pack::<WIDTH>(b, [k, n], panel * WIDTH, chunk.clone(), to);
                    });
                let packed = std::slice::from_raw_parts(packed.as_ptr(), panels * panel);
                (0..parts * groups).into_par_iter().for_each(|task| {
                    let (part, first) = (task / groups, task % groups * group);
                    let task = Task {
                        a,
                        packed,
                        bias,
                        sizes: [m, k, n],
                        chunk: chunk.clone(),
                        rows: part * height..m.min((part + 1) * height),
                        panels: first.min(panels)..panels.min(first + group),
                    };
                    task.run(output);
                });
            }
        })
    };
    Some(output)
}

/// Some rows, panels and pairs of a product.
struct Task<'a> {
    a: Factor<'a>,
    /// `[panels, chunk, WIDTH]`
    packed: &'a [u32],
    bias: Option<&'a [f32]>,
    sizes: [usize; 3],
    chunk: Range<usize>,
    rows: Range<usize>,
    panels: Range<usize>,
}

impl Task<'_> {
    /// # Safety
    /// The CPU must have the instructions, and nobody else read or write these rows and columns of `output`, which hold the
    /// sums of earlier chunks.
    #[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
    unsafe fn run(&self, output: Place) {
        let [m, k, n] = self.sizes;
        let pairs = self.chunk.len();
        let tiles = self.rows.len().div_ceil(ROWS);
        let mut rounded: Vec<u32> = vec![0; tiles * ROWS * pairs];
        for (tile, to) in rounded.chunks_mut((ROWS * pairs).max(1)).enumerate() {
            let row = self.rows.start + tile * ROWS;
            match self.a {
                Factor::Rows(values) => {
                    // Behind the last row are zeros.
                    let rows = values[row * k..m.min(row + ROWS) * k].chunks_exact(k);
                    for (from, to) in rows.zip(to.chunks_exact_mut(pairs)) {
                        // SAFETY: the CPU has the instructions.
                        unsafe { round(from, self.chunk.clone(), to) };
                    }
                }
                Factor::Columns(_) => {
                    // SAFETY: a tile has room for the pairs of its rows.
                    unsafe {
                        pack::<ROWS>(self.a, [k, m], row, self.chunk.clone(), to.as_mut_ptr());
                    }
                }
            }
        }
        for panel in self.panels.clone() {
            let b = self.packed[panel * pairs * WIDTH..].as_ptr();
            let column = panel * WIDTH;
            let masks = [0, LANES].map(|lane| mask(n, column + lane));
            let first = match (self.chunk.start > 0, self.bias) {
                (true, _) => First::Output,
                (false, Some(bias)) => First::Row(bias[column..].as_ptr()),
                (false, None) => First::Zero,
            };
            for tile in 0..tiles {
                let row = self.rows.start + tile * ROWS;
                let a = rounded[tile * ROWS * pairs..].as_ptr();
                let count = self.rows.end.min(row + ROWS) - row;
                let to = output.at(row, column);
                // SAFETY: tiles and panels have these pairs; masks and `count` keep to the output.
                unsafe {
                    match self.a {
                        Factor::Rows(_) => {
                            let a = |r: usize, p: usize| a.add(r * pairs + p);
                            multiply(a, b, pairs, first, to, count, masks);
                        }
                        Factor::Columns(_) => {
                            let a = |r: usize, p: usize| a.add(p * ROWS + r);
                            multiply(a, b, pairs, first, to, count, masks);
                        }
                    }
                }
            }
        }
    }
}

/// What a tile's sums begin with.
#[derive(Clone, Copy)]
enum First {
    Zero,
    /// Each row with this one.
    Row(*const f32),
    /// With what stands in the output.
    Output,
}

/// The lanes of a vector from `column` on that lie before `columns`.
fn mask(columns: usize, column: usize) -> u16 {
    match columns.saturating_sub(column) {
        LANES.. => u16::MAX,
        left => (1 << left) - 1,
    }
}

/// One tile: `first` plus the products of `pairs` pairs, of row r at `a(r, pair)` and of the panel `b [pairs, WIDTH]`;
/// writes `count` rows.
///
/// # Safety
/// The CPU must have the instructions; `a` must be readable for [`ROWS`] rows and `b` for the pairs, `first` and `output` for
/// the rows and lanes.
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
#[inline]
unsafe fn multiply(
    a: impl Fn(usize, usize) -> *const u32,
    b: *const u32,
    pairs: usize,
    first: First,
    output: Place,
    count: usize,
    masks: [u16; 2],
) {
    let mut sums = [[_mm512_setzero_ps(); 2]; ROWS];
    // SAFETY: the caller's promise.
    unsafe {
        for (r, sums) in sums.iter_mut().enumerate().take(count) {
            let from = match first {
                First::Zero => continue,
                First::Row(row) => row,
                First::Output => output.at(r, 0).pointer.cast_const(),
            };
            for (v, sum) in sums.iter_mut().enumerate() {
                *sum = _mm512_maskz_loadu_ps(masks[v], from.wrapping_add(v * LANES));
            }
        }
        let mut sums = sums_of_pairs(sums, a, b, pairs);
        for (r, sums) in sums.iter_mut().enumerate().take(count) {
            for (v, sum) in sums.iter_mut().enumerate() {
                let to = output.at(r, 0).pointer.wrapping_add(v * LANES);
                _mm512_mask_storeu_ps(to, masks[v], *sum);
            }
        }
    }
}

/// The loop of [`multiply`], its sums by value: they stay in registers.
///
/// # Safety
/// As there.
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
#[inline]
unsafe fn sums_of_pairs(
    mut sums: [[__m512; 2]; ROWS],
    a: impl Fn(usize, usize) -> *const u32,
    b: *const u32,
    pairs: usize,
) -> [[__m512; 2]; ROWS] {
    for p in 0..pairs {
        // SAFETY: the caller's promise; vectors of bits are vectors of pairs.
        unsafe {
            let b: [__m512bh; 2] = [0, LANES]
                .map(|lane| transmute(_mm512_loadu_si512(b.add(p * WIDTH + lane).cast())));
            for (r, sums) in sums.iter_mut().enumerate() {
                let a: __m512bh = transmute(_mm512_set1_epi32(*a(r, p) as i32));
                sums[0] = _mm512_dpbf16_ps(sums[0], a, b[0]);
                sums[1] = _mm512_dpbf16_ps(sums[1], a, b[1]);
            }
        }
    }
    sums
}

/// Rounds the pairs `chunk` of a row; behind its end are zeros.
///
/// # Safety
/// The CPU must have the instructions.
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
#[inline]
unsafe fn round(row: &[f32], chunk: Range<usize>, to: &mut [u32]) {
    let from = &row[2 * chunk.start..row.len().min(2 * chunk.end)];
    for (to, from) in to.chunks_mut(LANES).zip(from.chunks(2 * LANES)) {
        // SAFETY: the masks keep to the row; a short rest is written by way of a whole vector.
        unsafe {
            let [low, high] = [0, LANES].map(|lane| {
                _mm512_maskz_loadu_ps(mask(from.len(), lane), from.as_ptr().wrapping_add(lane))
            });
            let pairs: __m512i = transmute(_mm512_cvtne2ps_pbh(high, low));
            if to.len() == LANES {
                _mm512_storeu_si512(to.as_mut_ptr().cast(), pairs);
            } else {
                let pairs: [u32; LANES] = transmute(pairs);
                to.copy_from_slice(&pairs[..to.len()]);
            }
        }
    }
}

/// Rounds the pairs `chunk` of the outer places `first..first + W` of a factor to `to [pairs, W]`; behind its end are zeros.
///
/// # Safety
/// The CPU must have the instructions, and `to` be writable for that.
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
#[inline]
unsafe fn pack<const W: usize>(
    factor: Factor<'_>,
    [inner, outer]: [usize; 2],
    first: usize,
    chunk: Range<usize>,
    to: *mut u32,
) {
    let there = outer.min(first + W) - first.min(outer);
    match factor {
        Factor::Rows(values) => {
            let mut row = vec![0; chunk.len()];
            for lane in 0..W {
                // SAFETY: the caller's promise.
                unsafe {
                    match lane < there {
                        true => round(
                            &values[(first + lane) * inner..][..inner],
                            chunk.clone(),
                            &mut row,
                        ),
                        false => row.fill(0),
                    }
                    for (p, &pair) in row.iter().enumerate() {
                        to.add(p * W + lane).write(pair);
                    }
                }
            }
        }
        Factor::Columns(values) => {
            // Values 0 and 16, 1 and 17 and so on of two rows behind each other.
            let mut order = [0u16; 2 * LANES];
            for (i, place) in order.iter_mut().enumerate() {
                *place = (i / 2 + i % 2 * LANES) as u16;
            }
            // SAFETY: an array of the vector's size; below, the masks keep to the rows, and W may end within a vector.
            let order: __m512i = unsafe { transmute(order) };
            for (i, p) in chunk.enumerate() {
                for lane in (0..W).step_by(LANES) {
                    let load = |row: usize| {
                        let mask = if row < inner { mask(there, lane) } else { 0 };
                        let from = values.as_ptr().wrapping_add(row * outer + first + lane);
                        // SAFETY: as above.
                        unsafe { _mm512_maskz_loadu_ps(mask, from) }
                    };
                    let (even, odd) = (load(2 * p), load(2 * p + 1));
                    // SAFETY: as above.
                    unsafe {
                        let rows: __m512i = transmute(_mm512_cvtne2ps_pbh(odd, even));
                        let pairs = _mm512_permutexvar_epi16(order, rows);
                        let to = to.add(i * W + lane);
                        if lane + LANES <= W {
                            _mm512_storeu_si512(to.cast(), pairs);
                        } else {
                            let pairs: [u32; LANES] = transmute(pairs);
                            to.copy_from_nonoverlapping(pairs.as_ptr(), W - lane);
                        }
                    }
                }
            }
        }
    }
}
