//! Matrix products out of pairs of bf16 summed in f32, for CPUs whose instructions multiply such pairs faster than f32.
//!
//! A factor becomes one bf16 a value, rounded to nearest even ([`Precision::Bf16`]), or three whose sum has all 24 bits of the
//! f32 ([`Precision::F32`]). Of the nine products of three parts the six largest are taken; what is left out lies below 2⁻²⁵
//! of the product, and f32's own rounding at 2⁻²⁴ (Henry, Tang and Heinecke 2019, "Leveraging the bfloat16 artificial
//! intelligence datatype for higher-precision computations").
//!
//! Both factors are laid out in blocks of [`PAIRS`] pairs along the inner dimension, zeros behind their ends, for a micro-kernel
//! of the CPU's own: [`amx`] or [`dot`]. The order of every sum is fixed.

mod amx;
mod dot;
mod pack;

use super::super::Precision;
use super::rows::{Packed, Target, View};
use super::util::{Factor, Place, written};
use pack::{Part, Source, To, Way, mask, pack};
use rayon::prelude::*;
use std::arch::x86_64::{
    _mm512_add_ps, _mm512_loadu_ps, _mm512_mask_storeu_ps, _mm512_maskz_loadu_ps,
};
use std::ops::Range;

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
    match precision {
        Precision::F32 => true,
        Precision::Tf32 => false,
        Precision::Bf16 => amx::available() || dot::is_fast(),
    }
}

/// What is used of this CPU for pairs of bf16.
pub(super) fn used() -> Vec<&'static str> {
    let known = [
        (amx::available(), "AMX in bf16"),
        (dot::is_fast(), "AVX-512 in bf16"),
    ];
    let used = known.into_iter().filter(|(is_used, _)| *is_used);
    used.map(|(_, name)| name).collect()
}

/// The product `[m, n]` over the inner dimension k, plus `bias [n]`; `None` where this CPU has no kernel that is faster than
/// a product in f32.
///
/// # Panics
/// If a slice has not the length that the sizes say.
pub(super) fn product(
    (a, b): (Factor<'_>, Factor<'_>),
    sizes: [usize; 3],
    bias: Option<&[f32]>,
    precision: Precision,
) -> Option<Vec<f32>> {
    let [m, k, n] = sizes;
    for (Factor::Rows(values) | Factor::Columns(values), outer) in [(a, m), (b, n)] {
        assert_eq!(values.len(), outer * k, "a factor's size");
    }
    assert!(bias.is_none_or(|bias| bias.len() == n), "a bias's size");
    let run = match precision {
        Precision::Bf16 if amx::available() => whole::<amx::Amx, 1>,
        Precision::Bf16 if dot::is_fast() => whole::<dot::Dot, 1>,
        Precision::F32 if amx::available() && is_matrix(sizes) && gains((a, b), sizes) => {
            whole::<amx::Amx, 3>
        }
        _ => return None,
    };
    // SAFETY: the CPU has the kernel's instructions, and the factors their sizes.
    Some(unsafe { run((Source::Whole(a), Source::Whole(b)), sizes, bias) })
}

/// The product of patches and weights, to the target's pixels; whether there is a kernel that is faster than one in f32.
///
/// # Safety
/// The target's pixels are `weights.outputs` wide and nobody else reads or writes those of these rows.
pub(super) unsafe fn multiply(view: &View<'_>, weights: &Packed, target: &Target) -> bool {
    let sizes = [view.count(), weights.depth, weights.outputs];
    // With fewer outputs, laying out the patches costs what the product gains.
    let wide = weights.outputs > 64 && weights.block_width() == WIDTH;
    if !(amx::available() && is_matrix(sizes) && wide) {
        return false;
    }
    let patches = match view.matrix() {
        Some(values) => Source::Whole(Factor::Rows(values)),
        None => Source::Patches(view),
    };
    let row = |row: usize| target.at(view.place(row));
    // SAFETY: the CPU has the kernel's instructions; the caller's promise.
    unsafe { run::<amx::Amx, 3>((patches, Source::Weights(weights)), sizes, None, &row) };
    true
}

/// For each run of the view and each output, `[outputs, runs, len]` sums of value i of the run times `grad [rows, outputs]`, over
/// all rows; `None` where there is no kernel that is faster than one in f32.
pub(super) fn sum_rows(view: &View<'_>, grad: &[f32], outputs: usize) -> Option<Vec<f32>> {
    let sizes = [outputs, view.count(), view.runs() * view.len];
    // As in `multiply`.
    (amx::available() && is_matrix(sizes) && outputs > 128).then_some(())?;
    let patches = match view.matrix() {
        Some(values) => Source::Whole(Factor::Columns(values)),
        None => Source::PatchesAcross(view),
    };
    let factors = (Source::Whole(Factor::Columns(grad)), patches);
    // SAFETY: the CPU has the kernel's instructions, and the factors their sizes.
    Some(unsafe { whole::<amx::Amx, 3>(factors, sizes, None) })
}

/// Whether a product is that of a matrix by a matrix, and not nearly one of vectors.
fn is_matrix([m, k, n]: [usize; 3]) -> bool {
    m >= 64 && n >= 64 && k >= 32
}

/// Whether there are enough products a value to lay out the factors in three parts for. `gemm` has to lay out too what lies
/// along the inner dimension twice. (Measured with MiniLM's sizes: below, a gradient of x takes up to three times as long.)
fn gains(factors: (Factor<'_>, Factor<'_>), [m, _, n]: [usize; 3]) -> bool {
    let along = matches!(factors, (Factor::Rows(_), Factor::Rows(_)));
    along || m * n >= 150 * (m + n)
}

/// A product `[m, n]`.
///
/// # Safety
/// As of [`run`].
unsafe fn whole<K: Kernel<P>, const P: usize>(
    factors: (Source<'_>, Source<'_>),
    [m, k, n]: [usize; 3],
    bias: Option<&[f32]>,
) -> Vec<f32> {
    // SAFETY: the caller's promise; all rows are written.
    unsafe {
        written(m * n, |output| {
            let output = Place::of_new(output, n);
            run::<K, P>(factors, [m, k, n], bias, &|row| output.at(row, 0).pointer);
        })
    }
}

/// Writes a product, row m to `row(m)`.
///
/// # Safety
/// The CPU must have the instructions of the kernel, and avx512_bf16; the factors must have their sizes; nobody else may read
/// or write the n values at each row's place.
unsafe fn run<K: Kernel<P>, const P: usize>(
    (a, b): (Source<'_>, Source<'_>),
    [m, k, n]: [usize; 3],
    bias: Option<&[f32]>,
    row: &(dyn Fn(usize) -> *mut f32 + Sync),
) {
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
    // Once at least: a product over nothing is the bias.
    for from in (0..blocks.max(1)).step_by(depth) {
        let chunk = from..blocks.min(from + depth);
        let panel = chunk.len() * P * PAIRS * WIDTH;
        let to = To(packed.as_mut_ptr());
        let lay = |groups: Range<usize>, blocks: Range<usize>| {
            let part = Part {
                count: WIDTH,
                groups,
                blocks,
                chunk: chunk.clone(),
            };
            // SAFETY: the CPU has the instructions; there is room, and each part is laid out once.
            unsafe { pack::<P>(b, [k, n], &part, Way::Pair, to) };
        };
        match b.by_block() {
            true => chunk
                .clone()
                .into_par_iter()
                .for_each(|block| lay(0..panels, block..block + 1)),
            false => (0..panels)
                .into_par_iter()
                .for_each(|panel| lay(panel..panel + 1, chunk.clone())),
        }
        // SAFETY: all panels have just been written.
        let packed = unsafe { std::slice::from_raw_parts(packed.as_ptr(), panels * panel) };
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
                row,
            };
            // SAFETY: the CPU has the instructions; the tasks' rows and panels make up the whole, and each is written by one
            // task at a time.
            unsafe { task.run::<K, P>() };
        });
    }
}

/// Some rows, panels and blocks of a product.
struct Task<'a> {
    a: Source<'a>,
    /// `[panels, chunk, P, WIDTH / LANES, PAIRS, LANES]`
    packed: &'a [u32],
    bias: Option<&'a [f32]>,
    sizes: [usize; 3],
    /// Blocks.
    chunk: Range<usize>,
    rows: Range<usize>,
    panels: Range<usize>,
    /// Where a row is written.
    row: &'a (dyn Fn(usize) -> *mut f32 + Sync),
}

impl Task<'_> {
    /// # Safety
    /// The CPU must have the instructions, and nobody else read or write these columns of these rows, which hold the sums of
    /// earlier chunks.
    #[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
    unsafe fn run<K: Kernel<P>, const P: usize>(&self) {
        let [m, k, n] = self.sizes;
        let blocks = self.chunk.len();
        let (tiles, area) = (
            self.rows.len().div_ceil(K::ROWS),
            blocks * P * K::ROWS * PAIRS,
        );
        let mut rows = Vec::<u32>::with_capacity(tiles * area);
        let first = self.rows.start / K::ROWS;
        let part = Part {
            count: K::ROWS,
            groups: first..first + tiles,
            blocks: self.chunk.clone(),
            chunk: self.chunk.clone(),
        };
        let to = To(rows.as_mut_ptr().wrapping_sub(first * area));
        // SAFETY: there is room for the blocks of these tiles.
        unsafe { pack::<P>(self.a, [k, m], &part, Way::Outer, to) };
        let targets: Vec<*mut f32> = self.rows.clone().map(self.row).collect();
        let mut sums = Tile([[0.0; WIDTH]; 32]);
        // SAFETY: the caller's promise.
        unsafe { K::begin() };
        for panel in self.panels.clone() {
            let b = self.packed[panel * blocks * P * PAIRS * WIDTH..].as_ptr();
            let column = panel * WIDTH;
            let masks = [0, LANES].map(|lane| mask(n, column + lane));
            for tile in 0..tiles {
                let targets = &targets[tile * K::ROWS..];
                // SAFETY: tiles and panels have these blocks, which have been written; masks keep to the row's values.
                unsafe {
                    K::sums(rows.as_ptr().add(tile * area), b, blocks, &mut sums);
                    for (sums, to) in sums.0.iter().take(K::ROWS).zip(targets) {
                        let to = to.wrapping_add(column);
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

#[cfg(test)]
mod tests {
    use super::*;
    use rekindle_base::rng;

    /// What a sum of products that f32 rounds once each may be off, in parts of the sum of their magnitudes.
    const F32: f64 = 1.0 / (1 << 22) as f64;

    type Run = unsafe fn((Source<'_>, Source<'_>), [usize; 3], Option<&[f32]>) -> Vec<f32>;

    /// The kernels that this CPU can run, with the bits of their factors: all, or those of one precision. With none, the
    /// calling test counts as skipped.
    fn kernels(only: Option<Precision>) -> Vec<(&'static str, Run, Precision)> {
        let mut kernels: Vec<(_, Run, _)> = Vec::new();
        if dot::available() {
            kernels.push(("dot", whole::<dot::Dot, 1>, Precision::Bf16));
        }
        if amx::available() {
            kernels.push(("amx in bf16", whole::<amx::Amx, 1>, Precision::Bf16));
            kernels.push(("amx in f32", whole::<amx::Amx, 3>, Precision::F32));
        }
        kernels.retain(|(_, _, precision)| only.is_none_or(|only| only == *precision));
        let found = (!kernels.is_empty()).then_some(kernels);
        let found = found.ok_or("neither AVX-512 BF16 nor AMX, or not the one that is tested");
        rekindle_tests::need(rekindle_tests::Need::Cpu, found).unwrap_or_default()
    }

    fn rows(values: &[f32]) -> Source<'_> {
        Source::Whole(Factor::Rows(values))
    }

    fn values(key: u64, len: usize, scale: f32) -> Vec<f32> {
        (0..len as u64)
            .map(|i| scale * (2.0 * rng::uniform(key, i) - 1.0) as f32)
            .collect()
    }

    fn rounded(x: f32, precision: Precision) -> f64 {
        match precision {
            Precision::F32 | Precision::Tf32 => x.into(),
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
        for (name, run, precision) in kernels(None) {
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
                    let factors = (Source::Whole(factors.0), Source::Whole(factors.1));
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
        for (name, run, _) in kernels(Some(Precision::F32)) {
            let (a, b) = (values(4, 64, 3.0), values(5, 64, 7.0));
            // SAFETY: the CPU has the kernel's instructions.
            let found = unsafe { run((rows(&a), rows(&b)), [64, 1, 64], None) };
            for (i, &found) in found.iter().enumerate() {
                let product = a[i / 64] * b[i % 64];
                let apart = found.to_bits().abs_diff(product.to_bits());
                assert!(apart <= 1, "{name}: {found:e}, not {product:e}");
            }
        }
    }

    #[test]
    fn what_is_no_number_stays_none() {
        for (name, run, _) in kernels(None) {
            for bad in [f32::NAN, f32::INFINITY] {
                let (mut a, b) = (values(6, 40, 1.0), values(7, 40, 1.0));
                a[3] = bad;
                // SAFETY: the CPU has the kernel's instructions.
                let found = unsafe { run((rows(&a), rows(&b)), [1, 40, 1], None) };
                assert!(!found[0].is_finite(), "{name}: {bad} became {}", found[0]);
            }
        }
    }
}
