//! Matrix products. f32 has a kernel of its own, which multiplies in f32: what Burn takes without autotuning rounds the factors
//! to TF32 where the device has that, whether asked to or not, and one of what it tunes over reads past its operands. The kernel is the usual one of
//! square tiles: a cube stages tiles of both factors in shared memory, double-buffered, a unit sums 4 x 4 or 8 x 8 elements of the
//! result in registers (16 x 16 in software, where what `vectors.rs` has does not take the sizes). Where the result has few tiles and the inner dimension is long, as for a weight's gradient, cubes share
//! the inner dimension and a second kernel adds their parts. bf16 and TF32 go to `cubek`, by a kernel with one stage, where there are matrix
//! units for them; elsewhere this kernel rounds the factors to bf16 as it reads them, and leaves those for TF32 as they are.

use super::launch::empty;
use super::sums;
use super::vectors::{self, LANES, ROWS, SIDE, VectorForm, vector_kernel};
use crate::ops::Precision;
use burn::tensor::DType;
use burn_cubecl::{CubeRuntime, kernel::into_contiguous, tensor::CubeTensor};
use cubecl::prelude::*;
use cubek::matmul::{
    definition::{MatmulElems, MatmulGlobalElems},
    launch::{Strategy, launch_ref},
};
use cubek::std::InputBinding;

/// The tile of a cube.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct Tile {
    /// Rows and columns of the result.
    side: usize,
    /// Of the inner dimension, a stage.
    depth: usize,
    /// Units along each side.
    across: usize,
}

impl Tile {
    const fn units(self) -> usize {
        self.across * self.across
    }
}

/// 4 x 4 elements a unit.
const SMALL: Tile = Tile {
    side: 64,
    depth: 16,
    across: 16,
};
/// 8 x 8 elements a unit.
const LARGE: Tile = Tile {
    side: 128,
    depth: 8,
    across: 16,
};
/// 16 x 16 elements a unit, for an adapter in software: it has no registers to run out of, and what shared memory gives costs most.
const SOFTWARE: Tile = Tile {
    side: 128,
    depth: 8,
    across: 8,
};
/// The most units of a plane of such an adapter: a vector of the CPU. Mesa's has 8.
const VECTOR: u32 = 8;

/// The tile and the number of parts of the inner dimension that should take least, on a device of so many processors: the rate of
/// a processor grows with the cubes that it holds, the last wave may leave some idle, and parts must be added up.
fn plan([m, n, k]: [usize; 3], processors: usize) -> (Tile, usize) {
    let mut best = (f64::INFINITY, (SMALL, 1));
    // Cubes that a processor holds, and its relative rate when it holds them.
    for (tile, held, rate) in [(SMALL, 4, 0.55), (LARGE, 2, 1.0)] {
        let tiles = m.div_ceil(tile.side) * n.div_ceil(tile.side);
        for parts in [1, 2, 3, 4, 6, 8, 12, 16, 24, 32] {
            if parts > 1 && k / parts < 128 {
                break;
            }
            let cubes = tiles * parts;
            let beside = cubes.div_ceil(processors).min(held);
            let waves = cubes.div_ceil(processors * beside);
            let rate = rate * (beside as f64 / held as f64).sqrt();
            let work = (tile.side * tile.side * (k / parts + 32)) as f64;
            // In the time of one multiplication of a processor at full rate, about 7.4 ps.
            let adding = match parts {
                1 => 0.0,
                _ => 1.0e6 + (parts * m * n) as f64 * 0.5,
            };
            let cost = (waves * beside) as f64 * work / rate + adding;
            if cost < best.0 {
                best = (cost, (tile, parts));
            }
        }
    }
    best.1
}

/// What is in place at compile time.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct Form {
    tile: Tile,
    /// Whether the inner dimension is the contiguous one of each factor.
    lhs_by_inner: bool,
    rhs_by_inner: bool,
    has_bias: bool,
    /// Whether the sums over the inner dimension of the left factor are wanted too.
    has_sums: bool,
    /// Whether the factors are rounded to bf16 on their way in.
    rounded: bool,
}

/// Four values that lie side by side in shared memory.
type Four = Vector<f32, Const<4>>;

/// To the nearest value with 8 bits of mantissa, ties to even; what is not finite stays.
#[cube]
pub(super) fn to_bf16(x: f32) -> f32 {
    let bits = u32::reinterpret(x);
    let mut rounded = bits;
    if bits & 0x7F80_0000u32 != 0x7F80_0000u32 {
        rounded = (bits + 0x7FFFu32 + ((bits >> 16u32) & 1u32)) & 0xFFFF_0000u32;
    }
    f32::reinterpret(rounded)
}

/// One factor's share of a stage for this unit, four rows (or columns) of the result at a time: outside of the factor, zeros.
#[cube]
#[allow(clippy::too_many_arguments)]
fn fetch(
    x: &Array<f32>,
    kept: &mut Array<Four>,
    first: usize,
    count: usize,
    inner: usize,
    end: usize,
    stride: usize,
    #[comptime] tile: Tile,
    #[comptime] by_inner: bool,
    #[comptime] rounded: bool,
) {
    #[unroll]
    for i in 0..comptime!(tile.side * tile.depth / 4 / tile.units()) {
        let place = UNIT_POS as usize + i * comptime!(tile.units());
        let mut row = first;
        let mut k = inner;
        if by_inner {
            row += place / comptime!(tile.depth) * 4;
            k += place % comptime!(tile.depth);
        } else {
            row += place % comptime!(tile.side / 4) * 4;
            k += place / comptime!(tile.side / 4);
        }
        let mut values = Four::empty();
        #[unroll]
        for r in 0..4usize {
            let mut value = 0.0f32;
            if row + r < count && k < end {
                if by_inner {
                    value = x[(row + r) * stride + k];
                } else {
                    value = x[k * stride + row + r];
                }
            }
            if rounded {
                value = to_bf16(value);
            }
            values[r] = value;
        }
        kept[i] = values;
    }
}

/// Lays the share down: `[depth, side / 4 + 1]`, so that neighbours in depth lie in different banks.
#[cube]
fn store(
    kept: &Array<Four>,
    shared: &mut SharedMemory<Four>,
    buffer: usize,
    #[comptime] tile: Tile,
    #[comptime] by_inner: bool,
) {
    #[unroll]
    for i in 0..comptime!(tile.side * tile.depth / 4 / tile.units()) {
        let place = UNIT_POS as usize + i * comptime!(tile.units());
        let mut row = place / comptime!(tile.depth);
        let mut k = place % comptime!(tile.depth);
        if comptime!(!by_inner) {
            row = place % comptime!(tile.side / 4);
            k = place / comptime!(tile.side / 4);
        }
        shared[buffer * comptime!(tile.depth * (tile.side / 4 + 1))
            + k * comptime!(tile.side / 4 + 1)
            + row] = kept[i];
    }
}

/// `out [parts, m, n]`: part z sums over inner `z * share .. (z + 1) * share`.
#[cube(launch_unchecked)]
#[allow(clippy::too_many_arguments)]
fn product_kernel(
    lhs: &Array<f32>,
    rhs: &Array<f32>,
    bias: &Array<f32>,
    out: &mut Array<f32>,
    lhs_sums: &mut Array<f32>,
    m: usize,
    n: usize,
    k: usize,
    lhs_stride: usize,
    rhs_stride: usize,
    share: usize,
    factor: f32,
    #[comptime] form: Form,
) {
    let tile = comptime!(form.tile);
    let across = comptime!(tile.across);
    let each = comptime!(tile.side / tile.across);
    let groups = comptime!(each / 4);
    let kept_len = comptime!(tile.side * tile.depth / 4 / tile.units());
    let line = comptime!(tile.side / 4 + 1);
    let buffer_len = comptime!(tile.depth * line);
    let mut left = SharedMemory::<Four>::new(comptime!(2 * buffer_len));
    let mut right = SharedMemory::<Four>::new(comptime!(2 * buffer_len));
    let mut kept_left = Array::<Four>::new(kept_len);
    let mut kept_right = Array::<Four>::new(kept_len);
    let mut sums = Array::<f32>::new(comptime!(each * each));
    let mut a = Array::<Four>::new(groups);
    let mut b = Array::<Four>::new(groups);
    #[unroll]
    for i in 0..comptime!(each * each) {
        sums[i] = 0.0f32;
    }

    let mut lhs_sum = Four::new(0.0f32);
    let first_row = CUBE_POS_Y as usize * comptime!(tile.side);
    let first_column = CUBE_POS_X as usize * comptime!(tile.side);
    let start = CUBE_POS_Z as usize * share;
    let end = min(start + share, k);
    let own_row = UNIT_POS as usize / across;
    let own_column = UNIT_POS as usize % across;
    let steps = (end - start).div_ceil(comptime!(tile.depth));
    let (lhs_by_inner, rhs_by_inner) = comptime!((form.lhs_by_inner, form.rhs_by_inner));
    let rounded = comptime!(form.rounded);
    let unroll = comptime!(tile != SOFTWARE);

    fetch(
        lhs,
        &mut kept_left,
        first_row,
        m,
        start,
        end,
        lhs_stride,
        tile,
        lhs_by_inner,
        rounded,
    );
    fetch(
        rhs,
        &mut kept_right,
        first_column,
        n,
        start,
        end,
        rhs_stride,
        tile,
        rhs_by_inner,
        rounded,
    );
    store(&kept_left, &mut left, 0usize, tile, lhs_by_inner);
    store(&kept_right, &mut right, 0usize, tile, rhs_by_inner);
    sync_cube();
    for step in 0..steps {
        let next = start + (step + 1) * comptime!(tile.depth);
        if step + 1 < steps {
            fetch(
                lhs,
                &mut kept_left,
                first_row,
                m,
                next,
                end,
                lhs_stride,
                tile,
                lhs_by_inner,
                rounded,
            );
            fetch(
                rhs,
                &mut kept_right,
                first_column,
                n,
                next,
                end,
                rhs_stride,
                tile,
                rhs_by_inner,
                rounded,
            );
        }
        let from = (step % 2) * buffer_len;
        if comptime!(form.has_sums) {
            #[unroll]
            for depth in 0..comptime!(tile.depth) {
                if UNIT_POS < comptime!(tile.side as u32 / 4) {
                    lhs_sum += left[from + depth * line + UNIT_POS as usize];
                }
            }
        }
        // In software the compiler has enough to do with one.
        #[unroll(unroll)]
        for depth in 0..comptime!(tile.depth) {
            let row_base = from + depth * line + own_row;
            let column_base = from + depth * line + own_column;
            #[unroll]
            for g in 0..groups {
                a[g] = left[row_base + g * across];
                b[g] = right[column_base + g * across];
            }
            #[unroll]
            for i in 0..each {
                let left_value = a[comptime!(i / 4)][comptime!(i % 4)];
                #[unroll]
                for j in 0..each {
                    sums[i * each + j] += left_value * b[comptime!(j / 4)][comptime!(j % 4)];
                }
            }
        }
        if step + 1 < steps {
            let to = (step + 1) % 2;
            store(&kept_left, &mut left, to, tile, lhs_by_inner);
            store(&kept_right, &mut right, to, tile, rhs_by_inner);
        }
        sync_cube();
    }

    if comptime!(form.has_sums) {
        if CUBE_POS_X == 0 && UNIT_POS < comptime!(tile.side as u32 / 4) {
            #[unroll]
            for i in 0..4usize {
                let row = first_row + UNIT_POS as usize * 4 + i;
                if row < m {
                    lhs_sums[CUBE_POS_Z as usize * m + row] = lhs_sum[i];
                }
            }
        }
    }
    let plane = CUBE_POS_Z as usize * m * n;
    #[unroll]
    for i in 0..each {
        let row = first_row + own_row * 4 + comptime!(i / 4 * 4 * tile.across + i % 4);
        #[unroll]
        for j in 0..each {
            let column = first_column + own_column * 4 + comptime!(j / 4 * 4 * tile.across + j % 4);
            if row < m && column < n {
                let mut value = sums[i * each + j] * factor;
                if comptime!(form.has_bias) {
                    value += bias[column];
                }
                out[plane + row * n + column] = value;
            }
        }
    }
}

/// Whether the device multiplies this precision in matrix units.
pub(super) fn in_matrix_units<R: CubeRuntime>(
    precision: Precision,
    client: &ComputeClient<R>,
) -> bool {
    let factor: StorageType = match precision {
        Precision::F32 => return false,
        Precision::Tf32 => tf32::as_type_native_unchecked().storage_type(),
        Precision::Bf16 => DType::BF16.into(),
    };
    let properties = client.properties();
    let mut units = properties.features.matmul.cmma.iter();
    properties.supports_type(factor)
        && units.any(|unit| unit.a_type == factor && unit.b_type == factor)
}

/// A factor as the kernel reads it: rows (or columns) of the result, the inner dimension, which of the two is contiguous, and
/// the stride of the other.
struct Factor<R: CubeRuntime> {
    tensor: CubeTensor<R>,
    inner_first: bool,
    by_inner: bool,
    stride: usize,
}

impl<R: CubeRuntime> Factor<R> {
    /// `tensor [count, inner]`, or `[inner, count]` where the inner dimension comes `first`.
    fn new(tensor: CubeTensor<R>, inner_first: bool) -> Self {
        let tensor = if readable(&tensor) {
            tensor
        } else {
            into_contiguous(tensor)
        };
        let (shape, strides) = (tensor.meta.shape(), tensor.meta.strides());
        // The stride of a dimension of one element is anything.
        let (second_contiguous, stride) =
            if (strides[1] == 1 || shape[1] == 1) && strides[0] >= shape[1] {
                (true, strides[0])
            } else {
                (false, strides[1])
            };
        Self {
            inner_first,
            by_inner: second_contiguous != inner_first,
            stride,
            tensor,
        }
    }
}

/// Whether one of the two dimensions is contiguous and nothing overlaps.
fn readable<R: CubeRuntime>(x: &CubeTensor<R>) -> bool {
    let (shape, strides) = (x.meta.shape(), x.meta.strides());
    let by_rows = (strides[1] == 1 || shape[1] == 1) && strides[0] >= shape[1];
    let by_columns = (strides[0] == 1 || shape[0] == 1) && strides[1] >= shape[0];
    by_rows || by_columns
}

/// `lhs rhs`, times a factor, plus a bias a column.
pub(super) struct Product<R: CubeRuntime> {
    lhs: Factor<R>,
    rhs: Factor<R>,
    sizes: [usize; 3],
    bias: Option<CubeTensor<R>>,
    factor: f64,
    rounded: bool,
}

impl<R: CubeRuntime> Product<R> {
    /// `lhs [m, k]` by `rhs [n, k]`, transposed.
    pub(super) fn by_transposed(lhs: CubeTensor<R>, rhs: CubeTensor<R>) -> Self {
        let sizes = [
            lhs.meta.shape()[0],
            rhs.meta.shape()[0],
            lhs.meta.shape()[1],
        ];
        Self::new(Factor::new(lhs, false), Factor::new(rhs, false), sizes)
    }

    /// `lhs [m, k]` by `rhs [k, n]`.
    pub(super) fn plain(lhs: CubeTensor<R>, rhs: CubeTensor<R>) -> Self {
        let sizes = [
            lhs.meta.shape()[0],
            rhs.meta.shape()[1],
            lhs.meta.shape()[1],
        ];
        Self::new(Factor::new(lhs, false), Factor::new(rhs, true), sizes)
    }

    /// `lhs [k, m]`, transposed, by `rhs [k, n]`.
    pub(super) fn of_transposed(lhs: CubeTensor<R>, rhs: CubeTensor<R>) -> Self {
        let sizes = [
            lhs.meta.shape()[1],
            rhs.meta.shape()[1],
            lhs.meta.shape()[0],
        ];
        Self::new(Factor::new(lhs, true), Factor::new(rhs, true), sizes)
    }

    fn new(lhs: Factor<R>, rhs: Factor<R>, sizes: [usize; 3]) -> Self {
        Self {
            lhs,
            rhs,
            sizes,
            bias: None,
            factor: 1.0,
            rounded: false,
        }
    }

    pub(super) fn with_bias(self, bias: Option<CubeTensor<R>>) -> Self {
        Self { bias, ..self }
    }

    pub(super) fn times(self, factor: f64) -> Self {
        Self { factor, ..self }
    }

    /// The result `[m, n]` in this precision.
    pub(super) fn compute(self, precision: Precision) -> CubeTensor<R> {
        let [m, n, k] = self.sizes;
        let out = empty(&self.lhs.tensor, [m, n]);
        if m * n == 0 {
            return out;
        }
        if k == 0 || precision == Precision::F32 {
            return self.compute_into(out);
        }
        if in_matrix_units(precision, &out.client) && self.by_matrix_units(precision, &out) {
            return out;
        }
        let rounded = Self {
            rounded: precision == Precision::Bf16,
            ..self
        };
        rounded.compute_into(out)
    }

    /// The result `[m, n]`, and the sums over the inner dimension of the left factor, `[m]`.
    pub(super) fn with_sums(self, precision: Precision) -> (CubeTensor<R>, CubeTensor<R>) {
        let [m, n, _] = self.sizes;
        let like = &self.lhs.tensor;
        let (out, sums) = (empty(like, [m, n]), empty(like, [m]));
        let product = Self {
            rounded: precision == Precision::Bf16,
            ..self
        };
        let out = product.compute_both(out, Some(&sums));
        (out, sums)
    }

    /// The result in f32, in `result [m, n]`.
    pub(super) fn compute_into(self, result: CubeTensor<R>) -> CubeTensor<R> {
        self.compute_both(result, None)
    }

    /// The same, and the sums of the left factor where somebody wants them.
    fn compute_both(
        self,
        result: CubeTensor<R>,
        lhs_sums: Option<&CubeTensor<R>>,
    ) -> CubeTensor<R> {
        let [m, n, k] = self.sizes;
        let like = self.lhs.tensor.clone();
        let hardware = &like.client.properties().hardware;
        let processors = hardware.num_streaming_multiprocessors.unwrap_or(8) as usize;
        let software = hardware.plane_size_max <= VECTOR;
        if software && self.by_vectors(&like) {
            return self.compute_by_vectors(result, lhs_sums);
        }
        let (tile, parts) = match software {
            true => (SOFTWARE, 1),
            false => plan([m, n, k], processors),
        };
        let share = k.div_ceil(parts).next_multiple_of(tile.depth);
        let parts = k.div_ceil(share.max(1)).max(1);
        let bias = self.bias;
        let form = Form {
            tile,
            lhs_by_inner: self.lhs.by_inner,
            rhs_by_inner: self.rhs.by_inner,
            has_bias: bias.is_some() && parts == 1,
            has_sums: lhs_sums.is_some(),
            rounded: self.rounded,
        };
        let out = match parts {
            1 => result.clone(),
            _ => empty(&like, [parts, m * n]),
        };
        // What nobody wants is not written.
        let sums_out = match (lhs_sums, parts) {
            (None, _) => empty(&like, [1]),
            (Some(sums), 1) => sums.clone(),
            (Some(_), _) => empty(&like, [parts, m]),
        };
        let count = CubeCount::Static(
            n.div_ceil(tile.side) as u32,
            m.div_ceil(tile.side) as u32,
            parts as u32,
        );
        let bias_input = match &bias {
            Some(bias) => into_contiguous(bias.clone()),
            None => like.clone(),
        };
        // SAFETY: what lies outside of a factor or of the result is neither read nor written.
        unsafe {
            product_kernel::launch_unchecked::<R>(
                &like.client,
                count,
                CubeDim::new_1d(tile.units() as u32),
                self.lhs.tensor.into_array_arg(),
                self.rhs.tensor.into_array_arg(),
                bias_input.into_array_arg(),
                out.clone().into_array_arg(),
                sums_out.clone().into_array_arg(),
                m,
                n,
                k,
                self.lhs.stride,
                self.rhs.stride,
                share,
                self.factor as f32,
                form,
            );
        }
        if parts == 1 {
            return out;
        }
        let out = sums::parts(out, result);
        if let Some(lhs_sums) = lhs_sums {
            sums::parts(sums_out, lhs_sums.clone());
        }
        if let Some(bias) = bias {
            super::elementwise::add_bias(&out, bias);
        }
        out
    }

    /// Whether the kernel for adapters in software takes this: it reads four values at a time.
    fn by_vectors(&self, like: &CubeTensor<R>) -> bool {
        let [m, n, k] = self.sizes;
        let whole = |factor: &Factor<R>, count: usize| {
            factor.stride.is_multiple_of(4) && (factor.by_inner || count.is_multiple_of(4))
        };
        let sizes = k > 0 && k.is_multiple_of(4) && whole(&self.lhs, m) && whole(&self.rhs, n);
        sizes && vectors::available(&like.client)
    }

    /// The result by that kernel.
    fn compute_by_vectors(
        self,
        result: CubeTensor<R>,
        lhs_sums: Option<&CubeTensor<R>>,
    ) -> CubeTensor<R> {
        let [m, n, k] = self.sizes;
        let like = self.lhs.tensor.clone();
        let form = VectorForm {
            lhs_by_inner: self.lhs.by_inner,
            rhs_by_inner: self.rhs.by_inner,
            has_bias: self.bias.is_some(),
            has_sums: lhs_sums.is_some(),
            rounded: self.rounded,
        };
        let bias = match self.bias {
            Some(bias) => into_contiguous(bias),
            None => like.clone(),
        };
        let sums = match lhs_sums {
            Some(sums) => sums.clone(),
            None => empty(&like, [1]),
        };
        let count = CubeCount::Static(n.div_ceil(SIDE) as u32, m.div_ceil(ROWS) as u32, 1);
        // SAFETY: places beyond a factor's last are its last, and what lies outside of the result is not written.
        unsafe {
            vector_kernel::launch_unchecked::<R>(
                &like.client,
                count,
                CubeDim::new_1d(LANES as u32),
                self.lhs.tensor.into_array_arg(),
                self.rhs.tensor.into_array_arg(),
                bias.into_array_arg(),
                result.clone().into_array_arg(),
                sums.into_array_arg(),
                m,
                n,
                k,
                self.lhs.stride,
                self.rhs.stride,
                self.factor as f32,
                form,
            );
        }
        result
    }

    /// By `cubek`'s kernel with one stage, where it takes these sizes. It rounds f32 to TF32 by itself.
    fn by_matrix_units(&self, precision: Precision, out: &CubeTensor<R>) -> bool {
        let dtype = match precision {
            Precision::Bf16 => DType::BF16,
            Precision::F32 | Precision::Tf32 => DType::F32,
        };
        // As `[m, k]` and `[k, n]`.
        let binding = |factor: &Factor<R>, inner_first: bool| {
            let taken = match precision {
                Precision::Bf16 => burn_cubecl::kernel::cast(factor.tensor.clone(), dtype),
                Precision::F32 | Precision::Tf32 => factor.tensor.clone(),
            };
            let mut binding = InputBinding::new(taken.binding(), dtype.into());
            if factor.inner_first != inner_first {
                binding.swap_dims(0, 1);
            }
            binding
        };
        let (lhs, rhs) = (binding(&self.lhs, false), binding(&self.rhs, true));
        let mut types = MatmulElems::from_globals(&MatmulGlobalElems {
            lhs: dtype.into(),
            rhs: dtype.into(),
            out: DType::F32.into(),
        });
        let strategy = Strategy::SimpleCyclicCmma(Default::default());
        let result = out.clone().binding();
        if launch_ref(&strategy, &out.client, lhs, rhs, result, &mut types).is_err() {
            return false;
        }
        if self.factor != 1.0 {
            sums::scale(out, self.factor);
        }
        if let Some(bias) = &self.bias {
            super::elementwise::add_bias(out, bias.clone());
        }
        true
    }
}
