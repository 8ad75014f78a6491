//! Factors as the kernels take them: in blocks of [`PAIRS`] pairs along the inner dimension, in one part or three.

use super::super::rows::{Packed, View};
use super::super::util::Factor;
use super::{LANES, PAIRS};
use std::arch::x86_64::{
    __m512, __m512bh, __m512i, _mm512_castsi512_ps, _mm512_castsi512_si256, _mm512_cvtepu16_epi32,
    _mm512_cvtne2ps_pbh, _mm512_extracti64x4_epi64, _mm512_maskz_loadu_ps,
    _mm512_permutexvar_epi16, _mm512_setzero_si512, _mm512_shuffle_i32x4, _mm512_slli_epi32,
    _mm512_storeu_si512, _mm512_sub_ps, _mm512_unpackhi_epi32, _mm512_unpackhi_epi64,
    _mm512_unpacklo_epi32, _mm512_unpacklo_epi64,
};
use std::{
    mem::{MaybeUninit, transmute},
    ops::Range,
};

/// A factor, by where its values stand.
#[derive(Clone, Copy)]
pub(super) enum Source<'a> {
    Whole(Factor<'a>),
    /// Its rows are patches of an image.
    Patches(&'a View<'a>),
    /// Its columns are.
    PatchesAcross(&'a View<'a>),
    /// Weights that lie in blocks of as many columns as a panel has.
    Weights(&'a Packed),
}

impl Source<'_> {
    /// Whether it is read in order block by block (of all outer places), and not outer place by outer place.
    pub(super) fn by_block(self) -> bool {
        matches!(
            self,
            Self::Whole(Factor::Columns(_)) | Self::PatchesAcross(_)
        )
    }
}

/// The part of a factor that is laid out: groups of outer places, of one size, by blocks.
#[derive(Clone)]
pub(super) struct Part {
    /// Outer places of a group.
    pub count: usize,
    pub groups: Range<usize>,
    pub blocks: Range<usize>,
    /// The blocks for which there is room in a group.
    pub chunk: Range<usize>,
}

impl Part {
    /// Where a block is laid out, in pairs, for factors in P parts.
    fn place<const P: usize>(&self, group: usize, block: usize) -> usize {
        (group * self.chunk.len() + block - self.chunk.start) * P * self.count * PAIRS
    }
}

/// A vector of each part of a factor.
type Parts<const P: usize> = [__m512i; P];

/// The lanes of a vector from `place` on that lie before `end`.
pub(super) fn mask(end: usize, place: usize) -> u16 {
    match end.saturating_sub(place) {
        LANES.. => u16::MAX,
        left => (1 << left) - 1,
    }
}

/// What the vectors of a block hold: the pairs of one outer place, or one pair of [`LANES`] outer places.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Way {
    Outer,
    Pair,
}

/// Where groups are laid out, each with all blocks of the chunk.
#[derive(Clone, Copy)]
pub(super) struct To(pub *mut u32);

// SAFETY: a plain address; whoever writes through it answers for the access.
unsafe impl Send for To {}
// SAFETY: as above.
unsafe impl Sync for To {}

/// Lays out a part of a source of these sizes, inner and outer, to `[groups, chunk]`: each block `[P, count, PAIRS]` by outer
/// place, `[P, count / LANES, PAIRS, LANES]` by pair.
///
/// # Safety
/// The CPU must have the instructions, and `to` be writable for that part by this call alone; by pair, `count` is a multiple
/// of [`LANES`], and [`Source::Weights`] have groups of their own blocks' size.
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
pub(super) unsafe fn pack<const P: usize>(
    source: Source<'_>,
    [inner, outer]: [usize; 2],
    part: &Part,
    way: Way,
    to: To,
) {
    let (count, block_size) = (part.count, 2 * PAIRS);
    let (groups, blocks) = (part.groups.clone(), part.blocks.clone());
    // Where a part begins, and one that does.
    let at = |group: usize, block: usize| To(to.0.wrapping_add(part.place::<P>(group, block)));
    let lone = |groups: Range<usize>, blocks: Range<usize>| Part {
        count,
        groups,
        blocks,
        chunk: 0..part.chunk.len(),
    };
    // SAFETY: the caller's promise, for parts of the part.
    unsafe {
        match source {
            Source::Whole(factor) => whole::<P>(factor, [inner, outer], part, way, to),
            Source::Weights(weights) => {
                for (group, (first, weights, _)) in groups.clone().zip(weights.blocks(groups)) {
                    let factor = Factor::Columns(weights);
                    let part = Part {
                        groups: 0..1,
                        ..part.clone()
                    };
                    let width = weights.len() / inner.max(1);
                    debug_assert_eq!(first, group * count);
                    whole::<P>(
                        factor,
                        [inner, width],
                        &part,
                        way,
                        at(group, part.chunk.start),
                    );
                }
            }
            Source::Patches(view) => {
                let mut values = Vec::new();
                for group in groups {
                    let rows = group * count..outer.min((group + 1) * count);
                    let run = blocks.start * block_size..inner.min(blocks.end * block_size);
                    let sizes = [run.len(), rows.len()];
                    values.resize(sizes[0] * sizes[1], 0.0);
                    view.read(rows, run, &mut values);
                    let part = lone(0..1, 0..blocks.len());
                    let to = at(group, blocks.start);
                    whole::<P>(Factor::Rows(&values), sizes, &part, way, to);
                }
            }
            Source::PatchesAcross(view) => {
                let mut values = Vec::new();
                for block in blocks {
                    let rows = block * block_size..inner.min((block + 1) * block_size);
                    let sizes = [rows.len(), outer];
                    values.resize(sizes[0] * sizes[1], 0.0);
                    view.read(rows, 0..outer, &mut values);
                    let part = lone(groups.clone(), 0..1);
                    let to = at(0, block);
                    whole::<P>(Factor::Columns(&values), sizes, &part, way, to);
                }
            }
        }
    }
}

/// [`pack`] of a factor that lies in one piece.
///
/// # Safety
/// As there.
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
unsafe fn whole<const P: usize>(
    factor: Factor<'_>,
    sizes: [usize; 2],
    part: &Part,
    way: Way,
    to: To,
) {
    let count = part.count;
    let (groups, blocks) = (part.groups.clone(), part.blocks.clone());
    let found = match factor {
        Factor::Rows(_) => Way::Outer,
        Factor::Columns(_) => Way::Pair,
    };
    let one = |group: usize, block: usize| {
        let place = part.place::<P>(group, block);
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
        *part = unsafe { transmute::<__m512bh, __m512i>(_mm512_cvtne2ps_pbh(high, low)) };
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
