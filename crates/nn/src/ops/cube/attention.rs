//! Attention over packed sequences, one unit a query and head: its query and its sum of values stay in registers while the keys
//! of its sequence pass through shared memory, under a running softmax (Milakov and Gimelshein 2018; FlashAttention of Dao et al.
//! 2022 has the tiles). No `[B, H, L, L]` exists, nothing is padded, and a mask is computed where it is asked. The backward pass
//! has one kernel a query (its gradient, and the sums that the other needs) and one a key.

use super::launch::{elements, empty, rows_and_columns};
use super::random::{Word64, child, row_bits};
use crate::ops::{AttentionConfig, AttentionGrads, Sequences, TuneBackend};
use burn::tensor::DType;
use burn_cubecl::{CubeRuntime, kernel::into_contiguous, tensor::CubeTensor};
use cubecl::prelude::*;
use rekindle_base::rng::drop_threshold;
use std::{
    any::Any,
    sync::{Mutex, PoisonError},
};

/// Queries, or keys, of a cube: a unit each.
const UNITS: usize = 32;
/// The widest head. Up to 64 everything fits into registers.
pub(super) const WIDEST: usize = 256;
/// From this width on the gradients of keys and of values are computed apart: together they have no room in registers.
const APART: usize = 41;
/// Below every score.
const LOWEST: f32 = -3.0e38;

/// What is in place at compile time.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct Form {
    /// K
    width: usize,
    mask: Mask,
    dropout: bool,
    /// Gradients to compute: of keys, of values.
    keys: bool,
    values: bool,
}

/// What hides keys that stand behind a query. What hides those before it is a window, which may be as long as any sequence.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Mask {
    /// Nothing.
    Nothing,
    /// That they stand behind it.
    Causal,
    /// A window on both sides.
    Window,
}

impl Form {
    /// Keys, or queries, that stand in shared memory at a time.
    const fn stage(self) -> usize {
        match self.width {
            0..=64 => 32,
            65..=128 => 16,
            _ => 8,
        }
    }
}

/// Sizes and settings of a call.
#[derive(CubeType, CubeLaunch, Clone, Copy)]
struct Call {
    heads: usize,
    kv_heads: usize,
    factor: f32,
    window: usize,
    key_low: u32,
    key_high: u32,
    threshold: u32,
    keep: f32,
}

/// Where the work of a cube lies: some of the queries of a sequence, or some of its keys.
#[derive(CubeType, Clone, Copy)]
struct Place {
    /// Its first query (or key) as a token, their number, and the first one's position in the sequence.
    first: usize,
    count: usize,
    position: usize,
    /// The sequence's queries and keys: the first as a token, and their number.
    queries_first: usize,
    queries: usize,
    keys_first: usize,
    keys: usize,
}

/// Numbers of a place.
const PLACE: usize = 7;

#[cube]
fn place(table: &Array<i32>) -> Place {
    let at = CUBE_POS_X as usize * PLACE;
    Place {
        first: table[at] as usize,
        count: table[at + 1] as usize,
        position: table[at + 2] as usize,
        queries_first: table[at + 3] as usize,
        queries: table[at + 4] as usize,
        keys_first: table[at + 5] as usize,
        keys: table[at + 6] as usize,
    }
}

/// `a - b`, or 0 where that is less.
#[cube]
fn less(a: usize, b: usize) -> usize {
    a - min(a, b)
}

/// The end of the keys that a query sees: `AttentionConfig::visible`.
#[cube]
fn visible_end(query: usize, place: Place, window: usize, #[comptime] mask: Mask) -> usize {
    let mut end = place.keys;
    if comptime!(mask == Mask::Causal) {
        end = less(query + 1 + place.keys, place.queries);
    }
    if comptime!(mask == Mask::Window) {
        end = min(less(query + place.keys + window, place.queries), place.keys);
    }
    end
}

/// And their start.
#[cube]
fn visible_start(query: usize, place: Place, window: usize) -> usize {
    less(query + 1 + place.keys, place.queries + window)
}

/// The key of a row's dropout, where there is dropout.
#[cube]
fn row_key(row: usize, call: Call, #[comptime] dropout: bool) -> Word64 {
    let key = Word64 {
        low: call.key_low,
        high: call.key_high,
    };
    if dropout { child(key, row as u32) } else { key }
}

/// The factor of dropout on a probability.
#[cube]
fn kept(row: Word64, column: usize, call: Call) -> f32 {
    select(
        row_bits(row, column as u32) < call.threshold,
        0.0,
        call.keep,
    )
}

/// Four values of a head, side by side.
type Four = Vector<f32, Const<4>>;

/// The values `4 quad..` of a head that begins at `at`, zeros beyond its width.
#[cube]
fn load(x: &Array<f32>, at: usize, quad: usize, #[comptime] width: usize) -> Four {
    let mut values = Four::empty();
    #[unroll]
    for i in 0..4usize {
        let d = quad * 4 + i;
        if comptime!(width % 4 == 0) {
            values[i] = x[at + d];
        } else {
            let mut value = 0.0f32;
            if d < width {
                value = x[at + d];
            }
            values[i] = value;
        }
    }
    values
}

/// Writes what [`load`] reads.
#[cube]
fn write(x: &mut Array<f32>, at: usize, quad: usize, values: Four, #[comptime] width: usize) {
    #[unroll]
    for i in 0..4usize {
        let d = quad * 4 + i;
        if comptime!(width % 4 == 0) {
            x[at + d] = values[i];
        } else if d < width {
            x[at + d] = values[i];
        }
    }
}

/// Rows `first..first + count` of one head into shared memory.
#[cube]
fn stage(
    x: &Array<f32>,
    shared: &mut SharedMemory<Four>,
    first: usize,
    count: usize,
    stride: usize,
    column: usize,
    #[comptime] width: usize,
) {
    let quads = comptime!(width.div_ceil(4));
    let mut at = UNIT_POS as usize;
    while at < count * quads {
        let row = (first + at / quads) * stride + column;
        shared[at] = load(x, row, at % quads, width);
        at += comptime!(UNITS);
    }
}

/// The product of a vector in registers and row `row` in shared memory.
#[cube]
fn dot(a: &Array<Four>, shared: &SharedMemory<Four>, row: usize, #[comptime] quads: usize) -> f32 {
    let mut sums = Four::new(0.0f32);
    #[unroll]
    for d in 0..quads {
        sums += a[d] * shared[row * quads + d];
    }
    (sums[0] + sums[1]) + (sums[2] + sums[3])
}

/// Adds a row in shared memory, times a factor.
#[cube]
fn add_row(
    sum: &mut Array<Four>,
    shared: &SharedMemory<Four>,
    row: usize,
    factor: f32,
    #[comptime] quads: usize,
) {
    let factor = Four::new(factor);
    #[unroll]
    for d in 0..quads {
        sum[d] += factor * shared[row * quads + d];
    }
}

#[cube(launch_unchecked)]
#[allow(clippy::too_many_arguments)]
fn forward_kernel(
    q: &Array<f32>,
    k: &Array<f32>,
    v: &Array<f32>,
    table: &Array<i32>,
    out: &mut Array<f32>,
    call: Call,
    #[comptime] form: Form,
) {
    let width = comptime!(form.width);
    let quads = comptime!(form.width.div_ceil(4));
    let rows_at_a_time = comptime!(form.stage());
    let place = place(table);
    let head = CUBE_POS_Y as usize;
    let kv_column = head / (call.heads / call.kv_heads) * width;
    let (q_stride, kv_stride) = (call.heads * width, call.kv_heads * width);
    let mut keys = SharedMemory::<Four>::new(comptime!(rows_at_a_time * quads));
    let mut values = SharedMemory::<Four>::new(comptime!(rows_at_a_time * quads));
    let mut query = Array::<Four>::new(quads);
    let mut sum = Array::<Four>::new(quads);

    let unit = UNIT_POS as usize;
    let active = unit < place.count;
    // A unit without a query repeats the last one and writes nothing.
    let own = min(unit, place.count - 1);
    let token = place.first + own;
    let own_at = token * q_stride + head * width;
    #[unroll]
    for d in 0..quads {
        query[d] = load(q, own_at, d, width) * Four::new(call.factor);
        sum[d] = Four::new(0.0f32);
    }
    let mask = comptime!(form.mask);
    let end = visible_end(place.position + own, place, call.window, mask);
    let start = visible_start(place.position + own, place, call.window);
    // What some query of the cube sees.
    let first_start = visible_start(place.position, place, call.window);
    let last = place.position + place.count - 1;
    let last_end = visible_end(last, place, call.window, mask);
    let row = row_key(token * call.heads + head, call, comptime!(form.dropout));

    let mut top = f32::cast_from(LOWEST);
    let mut total = 0.0f32;
    let mut base = first_start;
    while base < last_end {
        let count = min(rows_at_a_time, last_end - base);
        sync_cube();
        stage(
            k,
            &mut keys,
            place.keys_first + base,
            count,
            kv_stride,
            kv_column,
            width,
        );
        stage(
            v,
            &mut values,
            place.keys_first + base,
            count,
            kv_stride,
            kv_column,
            width,
        );
        sync_cube();
        for j in 0..count {
            let key = base + j;
            if key >= start && key < end {
                let score = dot(&query, &keys, j, quads);
                if score > top {
                    let factor = (top - score).exp();
                    total *= factor;
                    let scale = Four::new(factor);
                    #[unroll]
                    for d in 0..quads {
                        sum[d] = sum[d] * scale;
                    }
                    top = score;
                }
                let mut p = (score - top).exp();
                total += p;
                if comptime!(form.dropout) {
                    p *= kept(row, key, call);
                }
                add_row(&mut sum, &values, j, p, quads);
            }
        }
        base += rows_at_a_time;
    }
    if active {
        let mut inverse = 0.0f32;
        if total > 0.0 {
            inverse = 1.0 / total;
        }
        let inverse = Four::new(inverse);
        #[unroll]
        for d in 0..quads {
            write(out, own_at, d, sum[d] * inverse, width);
        }
    }
}

/// The gradient of the queries; and for each query and head the log of the sum of exponentials of its scores, and the product
/// of its output and the output's gradient.
#[cube(launch_unchecked)]
#[allow(clippy::too_many_arguments)]
fn query_kernel(
    q: &Array<f32>,
    k: &Array<f32>,
    v: &Array<f32>,
    grad: &Array<f32>,
    table: &Array<i32>,
    out: &mut Array<f32>,
    statistics: &mut Array<f32>,
    call: Call,
    #[comptime] form: Form,
) {
    let width = comptime!(form.width);
    let quads = comptime!(form.width.div_ceil(4));
    let rows_at_a_time = comptime!(form.stage());
    let place = place(table);
    let head = CUBE_POS_Y as usize;
    let kv_column = head / (call.heads / call.kv_heads) * width;
    let (q_stride, kv_stride) = (call.heads * width, call.kv_heads * width);
    let mut keys = SharedMemory::<Four>::new(comptime!(rows_at_a_time * quads));
    let mut values = SharedMemory::<Four>::new(comptime!(rows_at_a_time * quads));
    let mut query = Array::<Four>::new(quads);
    let mut slope = Array::<Four>::new(quads);
    let mut sum = Array::<Four>::new(quads);

    let unit = UNIT_POS as usize;
    let active = unit < place.count;
    let own = min(unit, place.count - 1);
    let token = place.first + own;
    let own_at = token * q_stride + head * width;
    #[unroll]
    for d in 0..quads {
        query[d] = load(q, own_at, d, width) * Four::new(call.factor);
        slope[d] = load(grad, own_at, d, width);
        sum[d] = Four::new(0.0f32);
    }
    let mask = comptime!(form.mask);
    let end = visible_end(place.position + own, place, call.window, mask);
    let start = visible_start(place.position + own, place, call.window);
    let first_start = visible_start(place.position, place, call.window);
    let last = place.position + place.count - 1;
    let last_end = visible_end(last, place, call.window, mask);
    let row = row_key(token * call.heads + head, call, comptime!(form.dropout));

    let mut top = f32::cast_from(LOWEST);
    let mut total = 0.0f32;
    let mut along = 0.0f32;
    let mut base = first_start;
    while base < last_end {
        let count = min(rows_at_a_time, last_end - base);
        sync_cube();
        stage(
            k,
            &mut keys,
            place.keys_first + base,
            count,
            kv_stride,
            kv_column,
            width,
        );
        stage(
            v,
            &mut values,
            place.keys_first + base,
            count,
            kv_stride,
            kv_column,
            width,
        );
        sync_cube();
        for j in 0..count {
            let key = base + j;
            if key >= start && key < end {
                let score = dot(&query, &keys, j, quads);
                if score > top {
                    let factor = (top - score).exp();
                    total *= factor;
                    along *= factor;
                    top = score;
                }
                let p = (score - top).exp();
                total += p;
                let mut dp = dot(&slope, &values, j, quads);
                if comptime!(form.dropout) {
                    dp *= kept(row, key, call);
                }
                along += p * dp;
            }
        }
        base += rows_at_a_time;
    }
    let mut log_sum = f32::cast_from(-LOWEST);
    let mut delta = 0.0f32;
    if total > 0.0 {
        log_sum = top + total.ln();
        delta = along / total;
    }
    let mut base = first_start;
    while base < last_end {
        let count = min(rows_at_a_time, last_end - base);
        sync_cube();
        stage(
            k,
            &mut keys,
            place.keys_first + base,
            count,
            kv_stride,
            kv_column,
            width,
        );
        stage(
            v,
            &mut values,
            place.keys_first + base,
            count,
            kv_stride,
            kv_column,
            width,
        );
        sync_cube();
        for j in 0..count {
            let key = base + j;
            if key >= start && key < end {
                let score = dot(&query, &keys, j, quads);
                let mut dp = dot(&slope, &values, j, quads);
                if comptime!(form.dropout) {
                    dp *= kept(row, key, call);
                }
                let ds = (score - log_sum).exp() * (dp - delta) * call.factor;
                add_row(&mut sum, &keys, j, ds, quads);
            }
        }
        base += rows_at_a_time;
    }
    if active {
        let at = 2 * (token * call.heads + head);
        statistics[at] = log_sum;
        statistics[at + 1] = delta;
        #[unroll]
        for d in 0..quads {
            write(out, own_at, d, sum[d], width);
        }
    }
}

/// Gradients of keys and values of one query head: a unit a key, over all queries that see it.
#[cube(launch_unchecked)]
#[allow(clippy::too_many_arguments)]
fn key_kernel(
    q: &Array<f32>,
    k: &Array<f32>,
    v: &Array<f32>,
    grad: &Array<f32>,
    statistics: &Array<f32>,
    table: &Array<i32>,
    for_k: &mut Array<f32>,
    for_v: &mut Array<f32>,
    call: Call,
    #[comptime] form: Form,
) {
    let width = comptime!(form.width);
    let quads = comptime!(form.width.div_ceil(4));
    let rows_at_a_time = comptime!(form.stage());
    let place = place(table);
    let head = CUBE_POS_Y as usize;
    let kv_head = head / (call.heads / call.kv_heads);
    let (q_stride, kv_stride) = (call.heads * width, call.kv_heads * width);
    let mut queries = SharedMemory::<Four>::new(comptime!(rows_at_a_time * quads));
    let mut slopes = SharedMemory::<Four>::new(comptime!(rows_at_a_time * quads));
    let mut sums = SharedMemory::<f32>::new(comptime!(2 * rows_at_a_time));
    let mut rows = SharedMemory::<u32>::new(comptime!(2 * rows_at_a_time));
    let mut key = Array::<Four>::new(quads);
    let mut value = Array::<Four>::new(quads);
    let mut key_sum = Array::<Four>::new(quads);
    let mut value_sum = Array::<Four>::new(quads);

    let unit = UNIT_POS as usize;
    let active = unit < place.count;
    let own = min(unit, place.count - 1);
    let token = place.first + own;
    let position = place.position + own;
    let at = token * kv_stride + kv_head * width;
    #[unroll]
    for d in 0..quads {
        key[d] = load(k, at, d, width) * Four::new(call.factor);
        if comptime!(form.keys) {
            value[d] = load(v, at, d, width);
            key_sum[d] = Four::new(0.0f32);
        }
        if comptime!(form.values) {
            value_sum[d] = Four::new(0.0f32);
        }
    }
    // Of the queries that see a key of the cube, the first sees the first one, and the last the last one.
    let mask = comptime!(form.mask);
    let reach = place.position + place.queries;
    let mut first_query = 0usize.runtime();
    if comptime!(mask == Mask::Causal) {
        first_query = less(reach, place.keys);
    }
    if comptime!(mask == Mask::Window) {
        first_query = less(reach + 1, place.keys + call.window);
    }
    let end_query = min(
        less(reach + place.count - 1 + call.window, place.keys),
        place.queries,
    );
    let mut base = first_query;
    while base < end_query {
        let count = min(rows_at_a_time, end_query - base);
        sync_cube();
        let first = place.queries_first + base;
        stage(q, &mut queries, first, count, q_stride, head * width, width);
        stage(
            grad,
            &mut slopes,
            first,
            count,
            q_stride,
            head * width,
            width,
        );
        if unit < count {
            let row = (first + unit) * call.heads + head;
            sums[2 * unit] = statistics[2 * row];
            sums[2 * unit + 1] = statistics[2 * row + 1];
            let word = row_key(row, call, comptime!(form.dropout));
            rows[2 * unit] = word.low;
            rows[2 * unit + 1] = word.high;
        }
        sync_cube();
        for i in 0..count {
            let end = visible_end(base + i, place, call.window, mask);
            if position < end && position >= visible_start(base + i, place, call.window) {
                let score = dot(&key, &queries, i, quads);
                let p = (score - sums[2 * i]).exp();
                let mut keep = 1.0f32;
                if comptime!(form.dropout) {
                    let row = Word64 {
                        low: rows[2 * i],
                        high: rows[2 * i + 1],
                    };
                    keep = kept(row, position, call);
                }
                if comptime!(form.values) {
                    let weight = p * keep;
                    add_row(&mut value_sum, &slopes, i, weight, quads);
                }
                if comptime!(form.keys) {
                    let dp = dot(&value, &slopes, i, quads) * keep;
                    let ds = p * (dp - sums[2 * i + 1]) * call.factor;
                    add_row(&mut key_sum, &queries, i, ds, quads);
                }
            }
        }
        base += rows_at_a_time;
    }
    if active {
        let to = token * q_stride + head * width;
        #[unroll]
        for d in 0..quads {
            if comptime!(form.keys) {
                write(for_k, to, d, key_sum[d], width);
            }
            if comptime!(form.values) {
                write(for_v, to, d, value_sum[d], width);
            }
        }
    }
}

/// Sums over the query heads that share keys: `parts [T, H * K]` -> `out [T, kv_heads * K]`.
#[cube(launch_unchecked)]
fn group_kernel(
    parts: &Array<f32>,
    out: &mut Array<f32>,
    columns: usize,
    group: usize,
    width: usize,
) {
    if ABSOLUTE_POS >= out.len() {
        terminate!();
    }
    let (token, column) = (ABSOLUTE_POS / columns, ABSOLUTE_POS % columns);
    let (kv_head, within) = (column / width, column % width);
    let first = (token * columns + kv_head * width) * group + within;
    let mut sum = 0.0f32;
    for member in 0..group {
        sum += parts[first + member * width];
    }
    out[ABSOLUTE_POS] = sum;
}

fn by_group<R: CubeRuntime>(
    parts: CubeTensor<R>,
    config: AttentionConfig,
    width: usize,
) -> CubeTensor<R> {
    let group = config.heads / config.kv_heads;
    if group == 1 {
        return parts;
    }
    let ([tokens, _], columns) = (rows_and_columns(&parts), config.kv_heads * width);
    let out = empty(&parts, [tokens, columns]);
    let (cubes, dim) = elements(&parts, tokens * columns);
    // SAFETY: a unit reads its own column of each head of its group.
    unsafe {
        group_kernel::launch_unchecked::<R>(
            &out.client,
            cubes,
            dim,
            parts.into_array_arg(),
            out.clone().into_array_arg(),
            columns,
            group,
            width,
        );
    }
    out
}

/// The places of all cubes that work on queries, or on keys.
fn places((queries, keys): (&Sequences, &Sequences), by_key: bool) -> Vec<i32> {
    let mut table = Vec::new();
    for (queries, keys) in queries.ranges().zip(keys.ranges()) {
        let own = if by_key { &keys } else { &queries };
        for position in (0..own.len()).step_by(UNITS) {
            let numbers = [
                own.start + position,
                UNITS.min(own.len() - position),
                position,
                queries.start,
                queries.len(),
                keys.start,
                keys.len(),
            ];
            table.extend(numbers.map(|n| n as i32));
        }
    }
    table
}

/// A table of places on the device.
#[derive(Clone)]
struct Places<R: CubeRuntime> {
    table: CubeTensor<R>,
    count: u32,
}

/// Tables that were asked for last, of every runtime. All layers of a step, forward and backward, ask for the same two.
static HELD: Mutex<Vec<Box<dyn Any + Send>>> = Mutex::new(Vec::new());
/// How many are held.
const HELD_AT_MOST: usize = 16;

/// A held table, and for what it was made.
struct Held<R: CubeRuntime> {
    queries: Sequences,
    keys: Sequences,
    by_key: bool,
    places: Places<R>,
}

impl<R: CubeRuntime> Places<R> {
    /// The table that is held for these sequences on this device, or a new one.
    fn of(like: &CubeTensor<R>, (queries, keys): (&Sequences, &Sequences), by_key: bool) -> Self {
        let mut held = HELD.lock().unwrap_or_else(PoisonError::into_inner);
        let found = held.iter().rposition(|held| {
            held.downcast_ref::<Held<R>>().is_some_and(|held| {
                held.by_key == by_key
                    && held.places.table.device == like.device
                    && held.queries == *queries
                    && held.keys == *keys
            })
        });
        let entry = match found {
            Some(at) => held.remove(at),
            None => Box::new(Held {
                queries: queries.clone(),
                keys: keys.clone(),
                by_key,
                places: Self::new(like, (queries, keys), by_key),
            }),
        };
        let places = entry
            .downcast_ref::<Held<R>>()
            .map(|held| held.places.clone());
        held.push(entry);
        if held.len() > HELD_AT_MOST {
            held.remove(0);
        }
        places.unwrap_or_else(|| Self::new(like, (queries, keys), by_key))
    }

    fn new(like: &CubeTensor<R>, sequences: (&Sequences, &Sequences), by_key: bool) -> Self {
        let numbers = places(sequences, by_key);
        let handle = like.client.create_from_slice(i32::as_bytes(&numbers));
        let table = CubeTensor::new_contiguous(
            like.client.clone(),
            like.device.clone(),
            [numbers.len()].into(),
            handle,
            DType::I32,
        );
        Self {
            table,
            count: (numbers.len() / PLACE) as u32,
        }
    }
}

fn call<R: CubeRuntime>(config: AttentionConfig, width: usize) -> CallLaunch<R> {
    let (key, rate) = config
        .dropout
        .map_or((0, 0.0), |dropout| (dropout.key, dropout.rate));
    CallLaunch::new(
        config.heads,
        config.kv_heads,
        config.factor(width) as f32,
        config.window.unwrap_or(i32::MAX as usize),
        key as u32,
        (key >> 32) as u32,
        drop_threshold(rate),
        (1.0 / (1.0 - rate)) as f32,
    )
}

fn form(config: AttentionConfig, width: usize) -> Form {
    Form {
        width,
        mask: match (config.causal, config.window) {
            (true, _) => Mask::Causal,
            (false, Some(_)) => Mask::Window,
            (false, None) => Mask::Nothing,
        },
        dropout: config.dropout.is_some(),
        keys: true,
        values: true,
    }
}

pub(super) fn forward<R: CubeRuntime>(
    q: CubeTensor<R>,
    k: CubeTensor<R>,
    v: CubeTensor<R>,
    sequences: (&Sequences, &Sequences),
    config: AttentionConfig,
) -> CubeTensor<R> {
    let [q, k, v] = [q, k, v].map(into_contiguous);
    let width = rows_and_columns(&q)[1] / config.heads;
    let out = empty(&q, q.meta.shape().clone());
    let places = Places::of(&q, sequences, false);
    // SAFETY: the places lie within the sequences, which cover the tokens; a unit writes its query's head.
    unsafe {
        forward_kernel::launch_unchecked::<R>(
            &out.client,
            CubeCount::Static(places.count, config.heads as u32, 1),
            CubeDim::new_1d(UNITS as u32),
            q.into_array_arg(),
            k.into_array_arg(),
            v.into_array_arg(),
            places.table.into_array_arg(),
            out.clone().into_array_arg(),
            call(config, width),
            form(config, width),
        );
    }
    out
}

pub(super) fn backward<R: CubeRuntime, B>(
    q: CubeTensor<R>,
    k: CubeTensor<R>,
    v: CubeTensor<R>,
    grad: CubeTensor<R>,
    sequences: (&Sequences, &Sequences),
    config: AttentionConfig,
) -> AttentionGrads<B>
where
    B: TuneBackend<FloatTensorPrimitive = CubeTensor<R>>,
{
    let [q, k, v, grad] = [q, k, v, grad].map(into_contiguous);
    let [tokens, columns] = rows_and_columns(&q);
    let width = columns / config.heads;
    let client = q.client.clone();
    let for_q = empty(&q, q.meta.shape().clone());
    let [for_k, for_v] = [&k, &v].map(|x| empty(x, [rows_and_columns(x)[0], columns]));
    let statistics = empty(&q, [tokens, config.heads, 2]);
    let by_query = Places::of(&q, sequences, false);
    // SAFETY: as in `forward`; `statistics` has two values a query and head.
    unsafe {
        query_kernel::launch_unchecked::<R>(
            &client,
            CubeCount::Static(by_query.count, config.heads as u32, 1),
            CubeDim::new_1d(UNITS as u32),
            q.clone().into_array_arg(),
            k.clone().into_array_arg(),
            v.clone().into_array_arg(),
            grad.clone().into_array_arg(),
            by_query.table.into_array_arg(),
            for_q.clone().into_array_arg(),
            statistics.clone().into_array_arg(),
            call(config, width),
            form(config, width),
        );
    }
    let by_key = Places::of(&q, sequences, true);
    let both = form(config, width);
    let passes = match width >= APART {
        false => vec![both],
        true => vec![
            Form {
                values: false,
                ..both
            },
            Form {
                keys: false,
                ..both
            },
        ],
    };
    for form in passes {
        // SAFETY: as above; a unit writes its key's head.
        unsafe {
            key_kernel::launch_unchecked::<R>(
                &client,
                CubeCount::Static(by_key.count, config.heads as u32, 1),
                CubeDim::new_1d(UNITS as u32),
                q.clone().into_array_arg(),
                k.clone().into_array_arg(),
                v.clone().into_array_arg(),
                grad.clone().into_array_arg(),
                statistics.clone().into_array_arg(),
                by_key.table.clone().into_array_arg(),
                for_k.clone().into_array_arg(),
                for_v.clone().into_array_arg(),
                call(config, width),
                form,
            );
        }
    }
    let [k, v] = [for_k, for_v].map(|parts| by_group(parts, config, width));
    AttentionGrads { q: for_q, k, v }
}
