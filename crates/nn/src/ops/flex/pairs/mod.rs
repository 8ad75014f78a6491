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
    __m512, __m512i, _mm512_add_ps, _mm512_castsi512_ps, _mm512_castsi512_si256,
    _mm512_cvtepu16_epi32, _mm512_cvtne2ps_pbh, _mm512_extracti64x4_epi64, _mm512_loadu_ps,
    _mm512_mask_storeu_ps, _mm512_maskz_loadu_ps, _mm512_permutexvar_epi16, _mm512_setzero_si512,
    _mm512_shuffle_i32x4, _mm512_slli_epi32, _mm512_storeu_si512, _mm512_sub_ps,
    _mm512_unpackhi_epi32, _mm512_unpackhi_epi64, _mm512_unpacklo_epi32, _mm512_unpacklo_epi64,
};
use std::{
    mem::{MaybeUninit, transmute},
    ops::Range,
};

/// Values of a vector: outer places that are laid out at a time.
const LANES: usize = 16;
/// Pairs of a block.
const PAIRS: usize = 16;
/// Columns of a tile of sums: two vectors.
const WIDTH: usize = 32;
/// Pairs that are multiplied at a time, in all parts: their factors stay in the cache, and little memory is needed for them.
const DEPTH: usize = 768;
/// Rows of a task at most, and panels at least: enough to lay out the rows for.
const TASK_ROWS: usize = 192;
const PANELS: usize = 8;
/// Tasks aimed at a thread, so that threads end together.
const TASKS: usize = 4;

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

    /// The sums over `blocks` blocks: of `a [blocks, PARTS, ROWS, PAIRS]` and `b [blocks, PARTS, WIDTH / LANES, PAIRS, LANES]`.
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
            Precision::Bf16 if amx::available() => Some(run::<amx::Amx, 1>(factors, sizes, bias)),
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
    // Tasks are of whole rows where there are enough of them: then each row is laid out once.
    let tasks = TASKS * rayon::current_num_threads();
    let groups = (tasks / m.div_ceil(TASK_ROWS).max(1)).clamp(1, (panels / PANELS).max(1));
    let group = panels.div_ceil(groups);
    let height = (m * groups / tasks)
        .clamp(K::ROWS, TASK_ROWS)
        .next_multiple_of(K::ROWS);
    let parts = m.div_ceil(height);
    // Room for `[panels, chunk, P, WIDTH / LANES, PAIRS, LANES]`.
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
                let to = To(packed.as_mut_ptr());
                let pack = |panels, blocks| {
                    pack::<P>(
                        b,
                        [k, n],
                        WIDTH,
                        (panels, blocks),
                        chunk.clone(),
                        Way::Pair,
                        to,
                    );
                };
                // In the order in which the factor lies.
                match b {
                    Factor::Rows(_) => (0..panels)
                        .into_par_iter()
                        .for_each(|panel| pack(panel..panel + 1, chunk.clone())),
                    Factor::Columns(_) => chunk
                        .clone()
                        .into_par_iter()
                        .for_each(|block| pack(0..panels, block..block + 1)),
                }
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
    /// `[panels, chunk, P, WIDTH / LANES, PAIRS, LANES]`
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
        let (tiles, area) = (
            self.rows.len().div_ceil(K::ROWS),
            blocks * P * K::ROWS * PAIRS,
        );
        let mut rows = Vec::<u32>::with_capacity(tiles * area);
        let first = self.rows.start / K::ROWS;
        let part = (first..first + tiles, self.chunk.clone());
        let to = To(rows.as_mut_ptr().wrapping_sub(first * area));
        // SAFETY: there is room for the blocks of these tiles.
        unsafe {
            pack::<P>(
                self.a,
                [k, m],
                K::ROWS,
                part,
                self.chunk.clone(),
                Way::Outer,
                to,
            )
        };
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
                    for (r, sums) in sums
                        .0
                        .iter()
                        .enumerate()
                        .take(self.rows.end.min(row + K::ROWS) - row)
                    {
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

/// Where groups are laid out, each with all blocks of the chunk.
#[derive(Clone, Copy)]
struct To(*mut u32);

// SAFETY: a plain address; whoever writes through it answers for the access.
unsafe impl Send for To {}
// SAFETY: as above.
unsafe impl Sync for To {}

/// Lays out a part, groups of `count` outer places by blocks, of `to [groups, chunk]`: each block `[P, count, PAIRS]` by outer
/// place, `[P, count / LANES, PAIRS, LANES]` by pair.
///
/// # Safety
/// The CPU must have the instructions, and `to` be writable for that part by this call alone; by pair, `count` is a multiple
/// of [`LANES`].
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
unsafe fn pack<const P: usize>(
    factor: Factor<'_>,
    sizes: [usize; 2],
    count: usize,
    (groups, blocks): (Range<usize>, Range<usize>),
    chunk: Range<usize>,
    way: Way,
    to: To,
) {
    let found = match factor {
        Factor::Rows(_) => Way::Outer,
        Factor::Columns(_) => Way::Pair,
    };
    let one = |group: usize, block: usize| {
        let place = (group * chunk.len() + block - chunk.start) * P * count * PAIRS;
        for lane in (0..count).step_by(LANES) {
            let vector = |v: usize| match factor {
                Factor::Rows(x) => along::<P>(x, sizes, group * count + lane + v, block),
                Factor::Columns(x) => {
                    across::<P>(x, sizes, group * count + lane, block * PAIRS + v)
                }
            };
            let put = |v: usize, part: usize, vector: __m512i| {
                let to = to.0.wrapping_add(place + (part * count + lane + v) * PAIRS);
                // SAFETY: the caller's promise.
                unsafe { _mm512_storeu_si512(to.cast(), vector) };
            };
            // By outer place there may be fewer than a vector's.
            let used = LANES.min(count - lane);
            if found == way {
                for v in 0..used {
                    for (part, vector) in vector(v).into_iter().enumerate() {
                        put(v, part, vector);
                    }
                }
                continue;
            }
            let mut vectors = [[MaybeUninit::uninit(); LANES]; P];
            for v in 0..LANES {
                for (vectors, vector) in vectors.iter_mut().zip(vector(v)) {
                    vectors[v].write(vector);
                }
            }
            for (part, vectors) in vectors.iter().enumerate() {
                // SAFETY: all of them have just been written.
                let vectors =
                    transposed(unsafe { vectors.as_ptr().cast::<[__m512i; LANES]>().read() });
                for (v, vector) in vectors.into_iter().enumerate().take(used) {
                    put(v, part, vector);
                }
            }
        }
    };
    // In the order in which the factor lies.
    match factor {
        Factor::Rows(_) => {
            groups.for_each(|group| blocks.clone().for_each(|block| one(group, block)))
        }
        Factor::Columns(_) => {
            blocks.for_each(|block| groups.clone().for_each(|group| one(group, block)))
        }
    }
}

/// The pairs of a block at one outer place of a factor that lies `[outer, inner]`.
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
#[inline]
fn along<const P: usize>(
    values: &[f32],
    [inner, outer]: [usize; 2],
    at: usize,
    block: usize,
) -> Parts<P> {
    if at >= outer {
        return [_mm512_setzero_si512(); P];
    }
    let load = |place: usize| {
        let from = values.as_ptr().wrapping_add(at * inner + place);
        // SAFETY: the mask keeps to the row.
        unsafe { _mm512_maskz_loadu_ps(mask(inner, place), from) }
    };
    let place = 2 * PAIRS * block;
    split(load(place), load(place + LANES))
}

/// A pair at the outer places from `first` on of a factor that lies `[inner, outer]`.
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
#[inline]
fn across<const P: usize>(
    values: &[f32],
    [inner, outer]: [usize; 2],
    first: usize,
    pair: usize,
) -> Parts<P> {
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
    let load = |row: usize| {
        let mask = if row < inner { mask(outer, first) } else { 0 };
        // SAFETY: the mask keeps to the row.
        unsafe { _mm512_maskz_loadu_ps(mask, values.as_ptr().wrapping_add(row * outer + first)) }
    };
    // SAFETY: an array of the vector's size.
    let order: __m512i = unsafe { transmute(ORDER) };
    let mut parts = split::<P>(load(2 * pair), load(2 * pair + 1));
    for part in &mut parts {
        *part = _mm512_permutexvar_epi16(order, *part);
    }
    parts
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
        let [a, b, d, e] = [rows[c], rows[c + 4], rows[c + 8], rows[c + 12]];
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
    _mm512_shuffle_i32x4::<WHICH>(a, b)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng;

    /// What a sum of products that f32 rounds once each may be off, in parts of the sum of their magnitudes.
    const F32: f64 = 1.0 / (1 << 22) as f64;

    type Run = unsafe fn((Factor<'_>, Factor<'_>), [usize; 3], Option<&[f32]>) -> Vec<f32>;

    /// The kernels that this CPU can run, with the bits of their factors.
    fn kernels() -> Vec<(&'static str, Run, Precision)> {
        let mut kernels: Vec<(_, Run, _)> = Vec::new();
        if dot::available() {
            kernels.push(("dot", run::<dot::Dot, 1>, Precision::Bf16));
        }
        if amx::available() {
            kernels.push(("amx in bf16", run::<amx::Amx, 1>, Precision::Bf16));
            kernels.push(("amx in f32", run::<amx::Amx, 3>, Precision::F32));
        }
        if kernels.len() < 3 {
            println!("skipped: kernels whose instructions this CPU has not");
        }
        kernels
    }

    fn values(key: u64, len: usize, scale: f32) -> Vec<f32> {
        (0..len as u64)
            .map(|i| scale * (2.0 * rng::uniform(key, i) - 1.0) as f32)
            .collect()
    }

    fn rounded(x: f32, precision: Precision) -> f64 {
        match precision {
            Precision::F32 => x.into(),
            Precision::Bf16 => half::bf16::from_f32(x).into(),
        }
    }

    #[test]
    fn every_kernel_sums_as_float64_does() {
        let sizes = [
            [1, 0, 1],
            [0, 3, 5],
            [1, 1, 1],
            [3, 17, 129],
            [12, 32, 32],
            [33, 31, 17],
            [129, 384, 65],
            [70, 1700, 300],
            [400, 65, 33],
        ];
        let turned = |x: &[f32], [inner, outer]: [usize; 2]| -> Vec<f32> {
            (0..x.len())
                .map(|i| x[i % outer * inner + i / outer])
                .collect()
        };
        for (name, run, precision) in kernels() {
            for (sizes @ [m, k, n], scale) in sizes.iter().flat_map(|&s| [(s, 1.0), (s, 1e-12)]) {
                let (a, b) = (values(1, m * k, scale), values(2, n * k, 1.0));
                let bias = values(3, n, scale);
                let (a_turned, b_turned) = (turned(&a, [k, m]), turned(&b, [k, n]));
                // The sum, and what its error is held against.
                let expected: Vec<(f64, f64)> = (0..m * n)
                    .map(|i| {
                        let (a, b) = (&a[i / n * k..][..k], &b[i % n * k..][..k]);
                        let products = a
                            .iter()
                            .zip(b)
                            .map(|(&a, &b)| rounded(a, precision) * rounded(b, precision));
                        products.fold((0.0, f64::from(scale)), |(sum, size), product| {
                            (sum + product, size + product.abs())
                        })
                    })
                    .collect();
                for factors in [
                    (Factor::Rows(&a), Factor::Rows(&b)),
                    (Factor::Rows(&a), Factor::Columns(&b_turned)),
                    (Factor::Columns(&a_turned), Factor::Columns(&b_turned)),
                    (Factor::Columns(&a_turned), Factor::Rows(&b)),
                ] {
                    for bias in [None, Some(&bias[..])] {
                        // SAFETY: the CPU has the kernel's instructions.
                        let found = unsafe { run(factors, sizes, bias) };
                        assert_eq!(found.len(), m * n);
                        for (i, (&found, (sum, size))) in found.iter().zip(&expected).enumerate() {
                            let sum = sum + bias.map_or(0.0, |bias| bias[i % n].into());
                            assert!(
                                (f64::from(found) - sum).abs() <= F32 * size,
                                "{name}, {sizes:?}, element {i}: {found}, not {sum}"
                            );
                        }
                    }
                }
            }
        }
    }

    /// Three parts hold all bits of an f32: where one product is all there is, it is f32's to the last bit or the one beside.
    #[test]
    fn three_parts_are_f32() {
        for (name, run, _) in kernels()
            .into_iter()
            .filter(|(_, _, p)| *p == Precision::F32)
        {
            let (a, b) = (values(4, 64, 3.0), values(5, 64, 7.0));
            // SAFETY: the CPU has the kernel's instructions.
            let found = unsafe { run((Factor::Rows(&a), Factor::Rows(&b)), [64, 1, 64], None) };
            for (i, &found) in found.iter().enumerate() {
                let product = a[i / 64] * b[i % 64];
                let apart = found.to_bits().abs_diff(product.to_bits());
                assert!(apart <= 1, "{name}: {found:e}, not {product:e}");
            }
        }
    }

    #[test]
    fn what_is_no_number_stays_none() {
        for (name, run, _) in kernels() {
            for bad in [f32::NAN, f32::INFINITY] {
                let (mut a, b) = (values(6, 40, 1.0), values(7, 40, 1.0));
                a[3] = bad;
                // SAFETY: the CPU has the kernel's instructions.
                let found = unsafe { run((Factor::Rows(&a), Factor::Rows(&b)), [1, 40, 1], None) };
                assert!(!found[0].is_finite(), "{name}: {bad} became {}", found[0]);
            }
        }
    }
}
