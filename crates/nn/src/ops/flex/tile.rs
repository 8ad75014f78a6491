//! The inner loops of convolution: tiles of sums that stay in registers, rows by vectors, for whatever vectors this CPU has.
//! Tiles go by value: behind a reference they would be written to memory at every step. Every sum is one chain of fused multiply-adds in a fixed order, so that the width of the vectors changes no bit.

use pulp::{Simd, WithSimd};

/// Rows of a tile on CPUs with 32 vector registers, and with fewer.
const MANY: usize = 12;
const FEW: usize = 6;

/// A loop over tiles, compiled for each kind of CPU.
pub(super) trait Tiled: Sized {
    type Output;

    /// Tiles are `R` rows by up to two vectors of `S`. What it calls must be `#[inline(always)]`.
    fn run<S: Simd, const R: usize>(self, simd: S) -> Self::Output;
}

/// Runs a loop with the widest vectors of this CPU.
pub(super) fn tiled<T: Tiled>(work: T) -> T::Output {
    struct Op<T>(T);
    impl<T: Tiled> WithSimd for Op<T> {
        type Output = T::Output;

        #[inline(always)]
        fn with_simd<S: Simd>(self, simd: S) -> T::Output {
            if S::REGISTER_COUNT >= 32 {
                self.0.run::<S, MANY>(simd)
            } else {
                self.0.run::<S, FEW>(simd)
            }
        }
    }
    #[cfg(target_arch = "x86_64")]
    if pulp::x86::V4::try_new().is_none()
        && let Some(avx2) = pulp::x86::V3::try_new()
    {
        return Simd::vectorize(avx2, Op(work));
    }
    pulp::Arch::new().dispatch(Op(work))
}

/// What the vectors of this CPU are called.
pub(super) fn vectors() -> Option<&'static str> {
    #[cfg(target_arch = "x86_64")]
    {
        let avx512 = pulp::x86::V4::try_new().map(|_| "AVX-512");
        avx512.or_else(|| pulp::x86::V3::try_new().map(|_| "AVX2 and FMA"))
    }
    #[cfg(not(target_arch = "x86_64"))]
    cfg!(target_arch = "aarch64").then_some("NEON")
}

/// Lanes of a vector and rows of a tile on this CPU.
pub(super) fn shape() -> (usize, usize) {
    struct Shape;
    impl Tiled for Shape {
        type Output = (usize, usize);

        #[inline(always)]
        fn run<S: Simd, const R: usize>(self, _: S) -> Self::Output {
            (S::F32_LANES, R)
        }
    }
    tiled(Shape)
}

pub(super) type Sums<S, const R: usize, const V: usize> = [[<S as Simd>::f32s; V]; R];

/// `V` vectors from `from` on.
///
/// # Safety
/// So many values can be read there.
#[inline(always)]
unsafe fn load<S: Simd, const V: usize>(from: *const f32) -> [S::f32s; V] {
    let vectors = from.cast::<S::f32s>();
    // SAFETY: the caller's promise; vectors are plain values of f32s.
    std::array::from_fn(|v| unsafe { vectors.add(v).read_unaligned() })
}

/// Adds `a[i] * b` to row i, for the next `R` values of `a` and `V` vectors of `b`.
///
/// # Safety
/// `a` gives `R` addresses that can be read, `b` as many values as `V` vectors have.
#[inline(always)]
unsafe fn multiply_add<S: Simd, const R: usize, const V: usize>(
    simd: S,
    mut sums: Sums<S, R, V>,
    a: impl Fn(usize) -> *const f32,
    b: *const f32,
) -> Sums<S, R, V> {
    // SAFETY: the caller's promise.
    let b = unsafe { load::<S, V>(b) };
    for (r, sums) in sums.iter_mut().enumerate() {
        // SAFETY: the caller's promise.
        let a = simd.splat_f32s(unsafe { *a(r) });
        for (sum, b) in sums.iter_mut().zip(b) {
            *sum = simd.mul_add_f32s(a, b, *sum);
        }
    }
    sums
}

/// Row i gains the product of its runs with `weights [runs, len, V vectors]`; `runs` holds, run by run, where the rows' runs
/// of `len` values begin.
///
/// # Safety
/// All of that can be read.
#[inline(always)]
pub(super) unsafe fn add_runs<S: Simd, const R: usize, const V: usize>(
    simd: S,
    mut sums: Sums<S, R, V>,
    runs: &[*const f32],
    len: usize,
    mut weights: *const f32,
) -> Sums<S, R, V> {
    for starts in runs.as_chunks::<R>().0 {
        for c in 0..len {
            // SAFETY: the caller's promise.
            unsafe {
                sums = multiply_add::<S, R, V>(simd, sums, |r| starts[r].add(c), weights);
                weights = weights.add(V * S::F32_LANES);
            }
        }
    }
    sums
}

/// Row i gains the products of `x[i]` with the vectors of `grad`, over all pairs (x, grad) of addresses.
///
/// # Safety
/// `R` values can be read from each x, `V` vectors from each grad.
#[inline(always)]
pub(super) unsafe fn add_pairs<S: Simd, const R: usize, const V: usize>(
    simd: S,
    mut sums: Sums<S, R, V>,
    pairs: &[(*const f32, *const f32)],
    (x_from, grad_from): (usize, usize),
) -> Sums<S, R, V> {
    for &(x, grad) in pairs {
        // SAFETY: the caller's promise.
        sums = unsafe {
            multiply_add::<S, R, V>(simd, sums, |r| x.add(x_from + r), grad.add(grad_from))
        };
    }
    sums
}

#[inline(always)]
pub(super) fn zeros<S: Simd, const R: usize, const V: usize>(simd: S) -> Sums<S, R, V> {
    [[simd.splat_f32s(0.0); V]; R]
}

/// Reads a tile from rows that are `apart` values apart.
///
/// # Safety
/// All of it can be read.
#[inline(always)]
pub(super) unsafe fn read<S: Simd, const R: usize, const V: usize>(
    from: *const f32,
    apart: usize,
) -> Sums<S, R, V> {
    // SAFETY: the caller's promise.
    std::array::from_fn(|r| unsafe { load::<S, V>(from.add(r * apart)) })
}

/// Writes the first `count` values of a row of a tile.
///
/// # Safety
/// So many can be written at `to`.
#[inline(always)]
pub(super) unsafe fn write<S: Simd, const V: usize>(row: [S::f32s; V], to: *mut f32, count: usize) {
    if count == V * S::F32_LANES {
        for (v, vector) in row.into_iter().enumerate() {
            // SAFETY: the caller's promise.
            unsafe { to.cast::<S::f32s>().add(v).write_unaligned(vector) };
        }
    } else {
        // SAFETY: the caller's promise; an array of vectors is an array of their values.
        unsafe { to.copy_from_nonoverlapping(row.as_ptr().cast(), count) };
    }
}
