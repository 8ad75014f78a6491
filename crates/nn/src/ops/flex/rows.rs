//! Products whose rows are runs of values that stand in an image, under a kernel's taps. Tiles of sums read them where they
//! are, and the weights from blocks that are laid out once.

use super::pairs;
use super::tile::{self, Sums, Tiled, tiled};
use super::util::Place;
use pulp::Simd;
use rayon::prelude::*;
use std::{borrow::Cow, ops::Range};

/// Rows of a task at least and at most: enough to read the weights for, few enough to stay in the cache.
const TASK_ROWS: (usize, usize) = (96, 768);
/// Tasks aimed at, so that threads end together.
const TASKS: usize = 32;

/// What the rows of a product read. Row (n, y, x) has a run of `len` values for each pair of an offset of `rows` and one of
/// `columns`: from pixel `(y * step + row, x * step + column)` of image n on, or zeros where that lies outside.
pub(super) struct View<'a> {
    pub values: Cow<'a, [f32]>,
    /// N, H, W, C of the values.
    pub image: [usize; 4],
    /// Rows of the product by image: y and x.
    pub size: [usize; 2],
    pub step: [usize; 2],
    pub rows: Vec<isize>,
    pub columns: Vec<isize>,
    pub len: usize,
}

impl<'a> View<'a> {
    pub(super) fn count(&self) -> usize {
        self.image[0] * self.size[0] * self.size[1]
    }

    pub(super) fn runs(&self) -> usize {
        self.rows.len() * self.columns.len()
    }

    /// Image, y and x of a row.
    #[cfg_attr(not(target_arch = "x86_64"), expect(dead_code, reason = "for `pairs`"))]
    pub(super) fn place(&self, row: usize) -> [usize; 3] {
        let [height, width] = self.size;
        [row / (height * width), row / width % height, row % width]
    }

    /// The rows one behind the other, where they lie so in the image: a kernel of 1 x 1.
    #[cfg_attr(not(target_arch = "x86_64"), expect(dead_code, reason = "for `pairs`"))]
    pub(super) fn matrix(&self) -> Option<&[f32]> {
        let [_, height, width, channels] = self.image;
        let whole = self.rows == [0] && self.columns == [0] && self.len == channels;
        (whole && self.step == [1, 1] && self.size == [height, width]).then_some(&*self.values)
    }

    /// Writes the values `inner` of all runs of these rows to `to [rows, inner]`.
    #[cfg_attr(not(target_arch = "x86_64"), expect(dead_code, reason = "for `pairs`"))]
    pub(super) fn read(&self, rows: Range<usize>, inner: Range<usize>, to: &mut [f32]) {
        for (place, to) in self
            .places(rows)
            .zip(to.chunks_exact_mut(inner.len().max(1)))
        {
            to.fill(0.0);
            self.each_run(place, |run, from| {
                let run = run * self.len..(run + 1) * self.len;
                let wanted = run.start.max(inner.start)..run.end.min(inner.end);
                if !wanted.is_empty() {
                    let from = from + wanted.start - run.start;
                    to[wanted.start - inner.start..][..wanted.len()]
                        .copy_from_slice(&self.values[from..][..wanted.len()]);
                }
            });
        }
    }

    /// Image, y and x of these rows.
    fn places(&self, rows: Range<usize>) -> impl Iterator<Item = [usize; 3]> {
        let [height, width] = self.size.map(|side| side.max(1));
        let lines = rows.start / width..rows.end.div_ceil(width);
        lines.flat_map(move |line| {
            let first = rows.start.saturating_sub(line * width);
            let last = width.min(rows.end - line * width);
            let (n, y) = (line / height, line % height);
            (first..last).map(move |x| [n, y, x])
        })
    }

    /// The place in the image under offset `offset` of row (or column) `at`, if there is one.
    #[inline(always)]
    fn under(at: usize, step: usize, offset: isize, size: usize) -> Option<usize> {
        Some((at * step).wrapping_add_signed(offset)).filter(|&at| at < size)
    }

    /// Calls `found(run, first value)` for every run of a row that lies inside.
    #[inline(always)]
    fn each_run(&self, [n, y, x]: [usize; 3], mut found: impl FnMut(usize, usize)) {
        let [_, height, width, channels] = self.image;
        for (k, &offset) in self.rows.iter().enumerate() {
            let Some(line) = Self::under(y, self.step[0], offset, height) else {
                continue;
            };
            for (l, &offset) in self.columns.iter().enumerate() {
                if let Some(at) = Self::under(x, self.step[1], offset, width) {
                    let pixel = (n * height + line) * width + at;
                    found(k * self.columns.len() + l, pixel * channels);
                }
            }
        }
    }

    /// Calls `found(row, first value)` for the rows of a line (one y of one image) whose run `run` lies inside.
    #[inline(always)]
    fn each_row(&self, line: usize, run: usize, mut found: impl FnMut(usize, usize)) {
        let ([_, height, width, channels], across) = (self.image, self.columns.len());
        let (n, y) = (line / self.size[0], line % self.size[0]);
        let Some(from) = Self::under(y, self.step[0], self.rows[run / across], height) else {
            return;
        };
        for x in 0..self.size[1] {
            if let Some(at) = Self::under(x, self.step[1], self.columns[run % across], width) {
                let pixel = (n * height + from) * width + at;
                found(line * self.size[1] + x, pixel * channels);
            }
        }
    }
}

/// Where the rows of a product are written: row (n, y, x) to pixel `(y * step + first)`.
pub(super) struct Target {
    pub pixels: Place,
    pub size: [usize; 2],
    pub step: [usize; 2],
    pub first: [usize; 2],
}

impl Target {
    pub(super) fn at(&self, [n, y, x]: [usize; 3]) -> *mut f32 {
        let (y, x) = (
            y * self.step[0] + self.first[0],
            x * self.step[1] + self.first[1],
        );
        let pixel = (n * self.size[0] + y) * self.size[1] + x;
        self.pixels.at(pixel, 0).pointer
    }
}

/// A product's weights `[blocks, runs, len, width]`: blocks of two vectors of outputs, the last of one where that is enough.
pub(super) struct Packed {
    values: Vec<f32>,
    pub outputs: usize,
    /// Weights of one output.
    pub depth: usize,
    lanes: usize,
}

impl Packed {
    /// `fill(first, width, block)` writes the block of outputs `first..`, `block [depth, width]`; it holds zeros.
    pub(super) fn new(
        outputs: usize,
        depth: usize,
        fill: impl Fn(usize, usize, &mut [f32]) + Sync,
    ) -> Self {
        let (lanes, _) = tile::shape();
        let mut values = vec![0f32; outputs.next_multiple_of(lanes) * depth];
        values
            .par_chunks_mut((2 * lanes * depth).max(1))
            .enumerate()
            .for_each(|(block, values)| fill(block * 2 * lanes, values.len() / depth, values));
        Self {
            values,
            outputs,
            depth,
            lanes,
        }
    }

    /// Outputs of a block.
    #[cfg_attr(not(target_arch = "x86_64"), expect(dead_code, reason = "for `pairs`"))]
    pub(super) fn block_width(&self) -> usize {
        2 * self.lanes
    }

    fn block_count(&self) -> usize {
        self.outputs.div_ceil(2 * self.lanes)
    }

    /// First output, its weights and its number of vectors, for each of these blocks.
    pub(super) fn blocks(
        &self,
        which: Range<usize>,
    ) -> impl Iterator<Item = (usize, &[f32], usize)> {
        let size = 2 * self.lanes * self.depth;
        let blocks = self.values.chunks(size.max(1)).enumerate();
        blocks
            .skip(which.start)
            .take(which.len())
            .map(|(block, weights)| {
                let vectors = weights.len() / (self.lanes * self.depth);
                (block * 2 * self.lanes, weights, vectors)
            })
    }
}

/// Some rows of a product.
struct Multiply<'a> {
    view: &'a View<'a>,
    weights: &'a Packed,
    target: &'a Target,
    /// What a run outside of the image reads.
    zeros: &'a [f32],
    rows: Range<usize>,
    blocks: Range<usize>,
}

impl Tiled for Multiply<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd, const R: usize>(self, simd: S) {
        let (view, runs) = (self.view, self.view.runs());
        let values = view.values.as_ptr();
        // Tile by tile, run by run: where the runs of its rows begin.
        let tiles = self.rows.len().div_ceil(R);
        let mut starts = vec![self.zeros.as_ptr(); tiles * runs * R];
        let mut targets = Vec::with_capacity(self.rows.len());
        for (i, place) in view.places(self.rows.clone()).enumerate() {
            let tile = &mut starts[i / R * runs * R..][..runs * R];
            view.each_run(place, |run, from| {
                tile[run * R + i % R] = values.wrapping_add(from);
            });
            targets.push(self.target.at(place));
        }
        for (first, weights, vectors) in self.weights.blocks(self.blocks.clone()) {
            let count = (self.weights.outputs - first).min(vectors * S::F32_LANES);
            for (tile, targets) in starts.chunks_exact(runs * R).zip(targets.chunks(R)) {
                let weights = weights.as_ptr();
                // SAFETY: runs lie in the image or in the zeros, weights have `runs * len` rows of these vectors, and the
                // pixels of these rows are this task's own.
                unsafe {
                    if vectors == 2 {
                        let sums = tile::zeros::<S, R, 2>(simd);
                        let sums = tile::add_runs(simd, sums, tile, view.len, weights);
                        store::<S, R, 2>(sums, targets, first, count);
                    } else {
                        let sums = tile::zeros::<S, R, 1>(simd);
                        let sums = tile::add_runs(simd, sums, tile, view.len, weights);
                        store::<S, R, 1>(sums, targets, first, count);
                    }
                }
            }
        }
    }
}

/// Writes `count` sums a row to its target, `first` values behind its beginning.
///
/// # Safety
/// So many values can be written there.
#[inline(always)]
unsafe fn store<S: Simd, const R: usize, const V: usize>(
    sums: Sums<S, R, V>,
    targets: &[*mut f32],
    first: usize,
    count: usize,
) {
    for (sums, target) in sums.into_iter().zip(targets) {
        // SAFETY: the caller's promise.
        unsafe { tile::write::<S, V>(sums, target.add(first), count) };
    }
}

/// Writes the product of all rows.
///
/// # Safety
/// The target's pixels are `weights.outputs` wide and nobody else reads or writes those of these rows.
pub(super) unsafe fn multiply(view: &View<'_>, weights: &Packed, target: &Target) {
    // SAFETY: the caller's promise.
    if unsafe { pairs::multiply(view, weights, target) } {
        return;
    }
    let (_, tile_rows) = tile::shape();
    let count = view.count();
    let height = (count / TASKS)
        .clamp(TASK_ROWS.0, TASK_ROWS.1)
        .next_multiple_of(tile_rows);
    let zeros = vec![0f32; view.len];
    // Few rows: their outputs are divided too.
    let (parts, blocks) = (count.div_ceil(height), weights.block_count());
    let groups = (TASKS / parts.max(1)).clamp(1, blocks.max(1));
    let group = blocks.div_ceil(groups);
    (0..parts * groups).into_par_iter().for_each(|task| {
        let (part, first) = (task / groups, task % groups * group);
        tiled(Multiply {
            view,
            weights,
            target,
            zeros: &zeros,
            rows: part * height..count.min((part + 1) * height),
            blocks: first.min(blocks)..blocks.min(first + group),
        });
    });
}

/// Writes zeros to the pixels of these rows.
///
/// # Safety
/// As for [`multiply`].
pub(super) unsafe fn clear(view: &View<'_>, target: &Target, channels: usize) {
    for place in view.places(0..view.count()) {
        // SAFETY: the caller's promise.
        unsafe { target.at(place).write_bytes(0, channels) };
    }
}

/// The sums of one run over some of its values: `sums [values, across]` gains `x[value] grad` over all rows.
struct SumRows<'a> {
    view: &'a View<'a>,
    run: usize,
    /// First of the values, of which there are `sums.len() / across`.
    first: usize,
    /// `[rows, across]`, the outputs padded to whole vectors.
    grad: &'a [f32],
    across: usize,
    sums: &'a mut [f32],
}

/// Rows whose products are summed before the next tile is taken up, at least.
const SUMMED_ROWS: usize = 256;

impl Tiled for SumRows<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd, const R: usize>(self, simd: S) {
        let (view, across) = (self.view, self.across);
        let values = self.sums.len() / across;
        let mut pairs = Vec::with_capacity(SUMMED_ROWS + view.size[1]);
        let lines = view.image[0] * view.size[0];
        for line in 0..lines {
            view.each_row(line, self.run, |row, from| {
                let grad = self.grad[row * across..].as_ptr();
                pairs.push((view.values[from + self.first..].as_ptr(), grad));
            });
            if pairs.len() < SUMMED_ROWS && line + 1 < lines {
                continue;
            }
            for column in (0..across).step_by(2 * S::F32_LANES) {
                let mut value = 0;
                while value < values {
                    let to = self.sums[value * across + column..].as_mut_ptr();
                    let (at, left) = ((value, column), values - value);
                    let two = across - column >= 2 * S::F32_LANES;
                    // SAFETY: a run has `values` more values from its first on, a row of `grad` and of `sums` has these
                    // vectors, and the sums are this task's own.
                    value += unsafe {
                        match (left, two) {
                            (_, true) if left >= R => add::<S, R, 2>(simd, &pairs, at, to, across),
                            (_, false) if left >= R => add::<S, R, 1>(simd, &pairs, at, to, across),
                            (4.., true) => add::<S, 4, 2>(simd, &pairs, at, to, across),
                            (4.., false) => add::<S, 4, 1>(simd, &pairs, at, to, across),
                            (_, true) => add::<S, 1, 2>(simd, &pairs, at, to, across),
                            (_, false) => add::<S, 1, 1>(simd, &pairs, at, to, across),
                        }
                    };
                }
            }
            pairs.clear();
        }
    }
}

/// Adds to one tile of sums; returns its rows.
///
/// # Safety
/// As for [`tile::add_pairs`]; the tile can be read and written.
#[inline(always)]
unsafe fn add<S: Simd, const R: usize, const V: usize>(
    simd: S,
    pairs: &[(*const f32, *const f32)],
    at: (usize, usize),
    to: *mut f32,
    apart: usize,
) -> usize {
    // SAFETY: the caller's promise.
    unsafe {
        let sums = tile::read::<S, R, V>(to, apart);
        let sums = tile::add_pairs(simd, sums, pairs, at);
        for (r, row) in sums.into_iter().enumerate() {
            tile::write::<S, V>(row, to.add(r * apart), V * S::F32_LANES);
        }
    }
    R
}

/// For each run of the view, each of its values and each output of `grad [rows, across]`: the sum of their products over all
/// rows. Also how far apart values (those of a run behind those of the run before) and outputs lie.
pub(super) fn sum_rows(view: &View<'_>, grad: &[f32], across: usize) -> (Vec<f32>, [usize; 2]) {
    if let Some(sums) = pairs::sum_rows(view, grad, across) {
        return (sums, [1, view.runs() * view.len]);
    }
    let (lanes, tile_rows) = tile::shape();
    let wide = across.next_multiple_of(lanes);
    let grad: Cow<'_, [f32]> = match wide == across {
        true => grad.into(),
        false => widened(grad, across, wide).into(),
    };
    // A task sums some values of one run over all rows: nothing is added up across threads.
    let parts = TASKS
        .div_ceil(view.runs())
        .min(view.len.div_ceil(tile_rows));
    let part = view.len.div_ceil(parts).next_multiple_of(tile_rows);
    let mut sums = vec![0f32; view.runs() * view.len * wide];
    let tasks: Vec<(usize, usize, &mut [f32])> = sums
        .chunks_mut(view.len * wide)
        .enumerate()
        .flat_map(|(run, sums)| {
            let parts = sums.chunks_mut(part * wide).enumerate();
            parts.map(move |(i, sums)| (run, i * part, sums))
        })
        .collect();
    tasks.into_par_iter().for_each(|(run, first, sums)| {
        tiled(SumRows {
            view,
            run,
            first,
            grad: &grad,
            across: wide,
            sums,
        });
    });
    (sums, [wide, 1])
}

/// Rows with zeros behind them.
fn widened(rows: &[f32], width: usize, across: usize) -> Vec<f32> {
    let mut wide = vec![0f32; rows.len() / width * across];
    wide.par_chunks_mut(across)
        .with_min_len(64)
        .zip(rows.par_chunks(width))
        .for_each(|(wide, row)| wide[..width].copy_from_slice(row));
    wide
}
