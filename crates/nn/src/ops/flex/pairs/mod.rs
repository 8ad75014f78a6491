//! Matrix products out of pairs of bf16 summed in f32, for CPUs whose instructions multiply such pairs faster than f32.
//!
//! A factor becomes one bf16 a value, rounded to nearest even ([`Precision::Bf16`]), or three whose sum has all 24 bits of the
//! f32 ([`Precision::F32`]). Of the nine products of three parts the six largest are taken; what is left out lies below 2⁻²³
//! of the product, as f32's own rounding does (Henry, Tang and Heinecke 2019, "Leveraging the bfloat16 artificial
//! intelligence datatype for higher-precision computations").
//!
//! Both factors are laid out in blocks of [`PAIRS`] pairs along the inner dimension, zeros behind their ends, for a micro-kernel
//! of the CPU's own: [`amx`] or [`dot`]. The order of every sum is fixed.

mod amx;
mod dot;

use super::super::Precision;
use super::util::{Factor, Place, written};
use rayon::prelude::*;
use std::arch::x86_64::{
    __m512, __m512i, _mm512_add_ps, _mm512_castps_si512, _mm512_castsi512_ps,
    _mm512_castsi512_si256, _mm512_cvtepu16_epi32, _mm512_cvtne2ps_pbh, _mm512_extracti64x4_epi64,
    _mm512_loadu_ps, _mm512_mask_storeu_ps, _mm512_maskz_loadu_ps, _mm512_permutexvar_epi16,
    _mm512_setzero_si512, _mm512_shuffle_f32x4, _mm512_slli_epi32, _mm512_storeu_si512,
    _mm512_sub_ps, _mm512_unpackhi_epi32, _mm512_unpackhi_epi64, _mm512_unpacklo_epi32,
    _mm512_unpacklo_epi64,
};
use std::{mem::transmute, ops::Range};

/// Values of a vector: outer places that are laid out at a time.
const LANES: usize = 16;
/// Pairs of a block.
const PAIRS: usize = 16;
/// Columns of a tile of sums: two vectors.
const WIDTH: usize = 32;
/// Pairs that are multiplied at a time, in all parts: their factors stay in the cache, and little memory is needed for them.
const DEPTH: usize = 768;
/// Rows of a task at most; tasks aimed at, so that threads end together.
const TASK_ROWS: usize = 192;
const TASKS: usize = 16;

/// A vector of each part of a factor.
type Parts<const P: usize> = [__m512i; P];

/// Sums of a tile; kernels with fewer rows use the first ones.
#[repr(align(64))]
struct Tile([[f32; WIDTH]; 32]);

/// Multiplies one tile out of blocks, for factors in `PARTS` parts.
trait Kernel<const PARTS: usize> {
    /// Rows of a tile.
    const ROWS: usize;

    /// Before and after the tiles of a task, on its thread.
    ///
    /// # Safety
    /// The CPU must have the kernel's instructions.
    unsafe fn begin() {}
    /// # Safety
    /// As of [`Kernel::begin`].
    unsafe fn end() {}

    /// The sums over `blocks` blocks: of `a [blocks, PARTS, ROWS, PAIRS]` and `b [blocks, PARTS, PAIRS, WIDTH]`.
    ///
    /// # Safety
    /// The CPU must have the kernel's instructions; `a` and `b` must be readable for that; [`Kernel::begin`] has been called.
    unsafe fn sums(a: *const u32, b: *const u32, blocks: usize, tile: &mut Tile);
}

/// Whether products of this precision are faster by some kernel here than in f32 without one.
pub(super) fn is_fast(precision: Precision) -> bool {
    precision == Precision::F32 || amx::available() || dot::is_fast()
}

/// The product `[m, n]` over the inner dimension k, plus `bias [n]`; `None` where this CPU has no kernel that is faster than
/// a product in f32.
///
/// # Panics
/// If a slice has not the length that the sizes say.
pub(super) fn product(
    factors: (Factor<'_>, Factor<'_>),
    sizes: [usize; 3],
    bias: Option<&[f32]>,
    precision: Precision,
) -> Option<Vec<f32>> {
    // SAFETY: the CPU has the kernel's instructions.
    unsafe {
        match precision {
            Precision::Bf16 if amx::available() => {
                Some(run::<amx::Amx, 1>(factors, sizes, bias))
            }
            Precision::Bf16 if dot::is_fast() => Some(run::<dot::Dot, 1>(factors, sizes, bias)),
            Precision::F32 if pays(sizes) && amx::available() => {
                Some(run::<amx::Amx, 3>(factors, sizes, bias))
            }
            _ => None,
        }
    }
}

/// Whether a product is worth laying out its factors in three parts.
fn pays([m, k, n]: [usize; 3]) -> bool {
    m >= 64 && n >= 64 && k >= 32
}

/// # Safety
/// The CPU must have the instructions of the kernel, and avx512_bf16.
unsafe fn run<K: Kernel<P>, const P: usize>(
    (a, b): (Factor<'_>, Factor<'_>),
    [m, k, n]: [usize; 3],
    bias: Option<&[f32]>,
) -> Vec<f32> {
    for (Factor::Rows(values) | Factor::Columns(values), outer) in [(a, m), (b, n)] {
        assert_eq!(values.len(), outer * k, "a factor's size");
    }
    assert!(bias.is_none_or(|bias| bias.len() == n), "a bias's size");
    let (blocks, panels) = (k.div_ceil(2 * PAIRS), n.div_ceil(WIDTH));
    let depth = DEPTH / PAIRS / P;
    let height = (m / TASKS).clamp(K::ROWS, TASK_ROWS).next_multiple_of(K::ROWS);
    // Few rows: their columns are divided too.
    let parts = m.div_ceil(height);
    let groups = (TASKS / parts.max(1)).clamp(1, panels.max(1));
    let group = panels.div_ceil(groups);
    // Room for `[panels, chunk, P, PAIRS, WIDTH]`.
    let mut packed = Vec::<u32>::with_capacity(panels * blocks.min(depth) * P * PAIRS * WIDTH);
    // SAFETY: the CPU has the instructions; `pack` writes all of its panel; the tasks' rows and panels make up the whole,
    // and each is written by one task at a time.
    unsafe {
        written(m * n, |output| {
            let output = Place::of_new(output, n);
            // Once at least: a product over nothing is the bias.
            for from in (0..blocks.max(1)).step_by(depth) {
                let chunk = from..blocks.min(from + depth);
                let panel = chunk.len() * P * PAIRS * WIDTH;
                packed.spare_capacity_mut()[..panels * panel]
                    .par_chunks_mut(panel.max(1))
                    .enumerate()
                    .for_each(|(panel, to)| {
                        let to = to.as_mut_ptr().cast();
                        pack::<P>(b, [k, n], panel * WIDTH, WIDTH, chunk.clone(), Way::Pair, to);
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
                    task.run::<K, P>(output);
                });
            }
        })
    }
}

/// Some rows, panels and blocks of a product.
struct Task<'a> {
    a: Factor<'a>,
    /// `[panels, chunk, P, PAIRS, WIDTH]`
    packed: &'a [u32],
    bias: Option<&'a [f32]>,
    sizes: [usize; 3],
    /// Blocks.
    chunk: Range<usize>,
    rows: Range<usize>,
    panels: Range<usize>,
}

impl Task<'_> {
    /// # Safety
    /// The CPU must have the instructions, and nobody else read or write these rows and columns of `output`, which hold the
    /// sums of earlier chunks.
    #[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
    unsafe fn run<K: Kernel<P>, const P: usize>(&self, output: Place) {
        let [m, k, n] = self.sizes;
        let blocks = self.chunk.len();
        let (tiles, area) = (self.rows.len().div_ceil(K::ROWS), blocks * P * K::ROWS * PAIRS);
        let mut rows = Vec::<u32>::with_capacity(tiles * area);
        for tile in 0..tiles {
            let first = self.rows.start + tile * K::ROWS;
            // SAFETY: there is room for the blocks of all tiles.
            unsafe {
                let to = rows.as_mut_ptr().add(tile * area);
                pack::<P>(self.a, [k, m], first, K::ROWS, self.chunk.clone(), Way::Outer, to);
            }
        }
        let mut sums = Tile([[0.0; WIDTH]; 32]);
        // SAFETY: the caller's promise.
        unsafe { K::begin() };
        for panel in self.panels.clone() {
            let b = self.packed[panel * blocks * P * PAIRS * WIDTH..].as_ptr();
            let column = panel * WIDTH;
            let masks = [0, LANES].map(|lane| mask(n, column + lane));
            for tile in 0..tiles {
                let row = self.rows.start + tile * K::ROWS;
                // SAFETY: tiles and panels have these blocks, which have been written; masks and rows keep to the output.
                unsafe {
                    K::sums(rows.as_ptr().add(tile * area), b, blocks, &mut sums);
                    for (r, sums) in sums.0.iter().enumerate().take(self.rows.end.min(row + K::ROWS) - row) {
                        let to = output.at(row + r, column).pointer;
                        let more = match (self.chunk.start > 0, self.bias) {
                            (true, _) => Some(to.cast_const()),
                            (false, bias) => bias.map(|bias| bias[column..].as_ptr()),
                        };
                        for (v, &mask) in masks.iter().enumerate() {
                            let mut sum = _mm512_loadu_ps(sums[v * LANES..].as_ptr());
                            if let Some(more) = more {
                                let more = more.wrapping_add(v * LANES);
                                sum = _mm512_add_ps(sum, _mm512_maskz_loadu_ps(mask, more));
                            }
                            _mm512_mask_storeu_ps(to.wrapping_add(v * LANES), mask, sum);
                        }
                    }
                }
            }
        }
        // SAFETY: as above.
        unsafe { K::end() };
    }
}

/// The lanes of a vector from `place` on that lie before `end`.
fn mask(end: usize, place: usize) -> u16 {
    match end.saturating_sub(place) {
        LANES.. => u16::MAX,
        left => (1 << left) - 1,
    }
}

/// What the vectors of a block hold: the pairs of one outer place, or one pair of [`LANES`] outer places.
#[derive(Clone, Copy, PartialEq)]
enum Way {
    Outer,
    Pair,
}

/// Lays out the blocks `chunk` of the outer places `first..first + count` of a factor: `[chunk, P, count, PAIRS]` by outer
/// place, `[chunk, P, PAIRS, count]` by pair.
///
/// # Safety
/// The CPU must have the instructions, and `to` be writable for that; by pair, `count` is a multiple of [`LANES`].
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
unsafe fn pack<const P: usize>(
    factor: Factor<'_>,
    sizes: [usize; 2],
    first: usize,
    count: usize,
    chunk: Range<usize>,
    way: Way,
    to: *mut u32,
) {
    for (i, block) in chunk.enumerate() {
        for lane in (0..count).step_by(LANES) {
            // SAFETY: the caller's promise.
            unsafe {
                let (vectors, found) = match factor {
                    Factor::Rows(x) => (along::<P>(x, sizes, first + lane, block), Way::Outer),
                    Factor::Columns(x) => (across::<P>(x, sizes, first + lane, block), Way::Pair),
                };
                for (part, mut vectors) in vectors.into_iter().enumerate() {
                    if found != way {
                        vectors = transposed(vectors);
                    }
                    let to = to.add((i * P + part) * count * PAIRS);
                    let (used, step, from) = match way {
                        Way::Outer => (LANES.min(count - lane), PAIRS, lane * PAIRS),
                        Way::Pair => (PAIRS, count, lane),
                    };
                    for (v, vector) in vectors.into_iter().enumerate().take(used) {
                        _mm512_storeu_si512(to.add(from + v * step).cast(), vector);
                    }
                }
            }
        }
    }
}

/// A block of a factor that lies `[outer, inner]`, from outer place `first` on: a vector an outer place.
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
#[inline]
fn along<const P: usize>(
    values: &[f32],
    [inner, outer]: [usize; 2],
    first: usize,
    block: usize,
) -> [[__m512i; LANES]; P] {
    let mut vectors = [[_mm512_setzero_si512(); LANES]; P];
    let place = 2 * PAIRS * block;
    let masks = [0, LANES].map(|half| mask(inner, place + half));
    for i in 0..LANES.min(outer.saturating_sub(first)) {
        let from = values[(first + i) * inner..].as_ptr().wrapping_add(place);
        // SAFETY: the masks keep to the row.
        let [low, high] = [0, 1].map(|half| unsafe {
            _mm512_maskz_loadu_ps(masks[half], from.wrapping_add(half * LANES))
        });
        let parts = split::<P>(low, high);
        for (vectors, part) in vectors.iter_mut().zip(parts) {
            vectors[i] = part;
        }
    }
    vectors
}

/// A block of a factor that lies `[inner, outer]`, from outer place `first` on: a vector a pair.
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
#[inline]
fn across<const P: usize>(
    values: &[f32],
    [inner, outer]: [usize; 2],
    first: usize,
    block: usize,
) -> [[__m512i; LANES]; P] {
    // Values 0 and 16, 1 and 17 and so on of two rows behind each other.
    const ORDER: [u16; 2 * LANES] = {
        let mut order = [0; 2 * LANES];
        let mut i = 0;
        while i < order.len() {
            order[i] = (i / 2 + i % 2 * LANES) as u16;
            i += 1;
        }
        order
    };
    // SAFETY: an array of the vector's size.
    let order: __m512i = unsafe { transmute(ORDER) };
    let mut vectors = [[_mm512_setzero_si512(); LANES]; P];
    let mask = mask(outer, first);
    for pair in 0..PAIRS {
        let row = 2 * (block * PAIRS + pair);
        let load = |row: usize| {
            let mask = if row < inner { mask } else { 0 };
            // SAFETY: the masks keep to the rows.
            unsafe { _mm512_maskz_loadu_ps(mask, values.as_ptr().wrapping_add(row * outer + first)) }
        };
        let parts = split::<P>(load(row), load(row + 1));
        for (vectors, part) in vectors.iter_mut().zip(parts) {
            vectors[pair] = _mm512_permutexvar_epi16(order, part);
        }
    }
    vectors
}

/// 32 values as bf16 in order: rounded, then what rounding left, and so on.
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
#[inline]
fn split<const P: usize>(mut low: __m512, mut high: __m512) -> Parts<P> {
    let mut parts = [_mm512_setzero_si512(); P];
    for part in &mut parts {
        // SAFETY: vectors of bf16 are vectors of bits.
        *part = unsafe { transmute(_mm512_cvtne2ps_pbh(high, low)) };
        low = _mm512_sub_ps(low, widened::<0>(*part));
        high = _mm512_sub_ps(high, widened::<1>(*part));
    }
    parts
}

/// Half of a vector of bf16 as f32.
#[target_feature(enable = "avx512f")]
#[inline]
fn widened<const HALF: i32>(values: __m512i) -> __m512 {
    let half = match HALF {
        0 => _mm512_castsi512_si256(values),
        _ => _mm512_extracti64x4_epi64::<1>(values),
    };
    _mm512_castsi512_ps(_mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(half)))
}

/// Rows and columns of 16 x 16 values of 32 bits exchanged.
#[target_feature(enable = "avx512f")]
#[inline]
fn transposed(mut rows: [__m512i; LANES]) -> [__m512i; LANES] {
    let mut next = rows;
    // Within quarters: pairs, then fours.
    for i in (0..LANES).step_by(2) {
        next[i] = _mm512_unpacklo_epi32(rows[i], rows[i + 1]);
        next[i + 1] = _mm512_unpackhi_epi32(rows[i], rows[i + 1]);
    }
    for i in (0..LANES).step_by(4) {
        for half in 0..2 {
            let (a, b) = (next[i + half], next[i + half + 2]);
            rows[i + 2 * half] = _mm512_unpacklo_epi64(a, b);
            rows[i + 2 * half + 1] = _mm512_unpackhi_epi64(a, b);
        }
    }
    // `rows[4 r + c]`, quarter q, is column 4 q + c of rows 4 r and on. Quarters, twice.
    for c in 0..4 {
        let [a, b, d, e] = [0, 4, 8, 12].map(|r| rows[r + c]);
        let (even, odd) = (quarters::<0x88>(a, b), quarters::<0xdd>(a, b));
        let (even_below, odd_below) = (quarters::<0x88>(d, e), quarters::<0xdd>(d, e));
        next[c] = quarters::<0x88>(even, even_below);
        next[c + 4] = quarters::<0x88>(odd, odd_below);
        next[c + 8] = quarters::<0xdd>(even, even_below);
        next[c + 12] = quarters::<0xdd>(odd, odd_below);
    }
    next
}

#[target_feature(enable = "avx512f")]
#[inline]
fn quarters<const WHICH: i32>(a: __m512i, b: __m512i) -> __m512i {
    let [a, b] = [a, b].map(|x| _mm512_castsi512_ps(x));
    _mm512_castps_si512(_mm512_shuffle_f32x4::<WHICH>(a, b))
}
