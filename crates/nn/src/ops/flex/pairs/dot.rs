//! Tiles of sums in registers by `vdpbf16ps`.

use super::{Kernel, LANES, PAIRS, Tile, WIDTH};
use std::arch::x86_64::{
    __cpuid, __m512bh, _mm512_dpbf16_ps, _mm512_loadu_si512, _mm512_set1_epi32, _mm512_setzero_ps,
    _mm512_storeu_ps,
};
use std::{mem::transmute, sync::LazyLock};

pub(super) struct Dot;

/// Whether this CPU has the instructions.
pub(super) fn available() -> bool {
    is_x86_feature_detected!("avx512bf16")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512f")
}

/// Whether they do more than those for f32: Intel's take twice the time, so that nothing is gained (a step of MiniLM took
/// 1.50 s against 1.05 s in f32 on Sapphire Rapids, and 0.86 s against 1.39 s on Zen 4).
pub(super) fn is_fast() -> bool {
    // Asked once: the instruction that tells the maker leaves a virtual machine.
    static FAST: LazyLock<bool> = LazyLock::new(|| {
        let maker = __cpuid(0);
        let name = [maker.ebx, maker.edx, maker.ecx].map(u32::to_le_bytes);
        available() && name.as_flattened() != b"GenuineIntel"
    });
    *FAST
}

impl Kernel<1> for Dot {
    /// 24 of the 32 registers are sums.
    const ROWS: usize = 12;

    #[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
    #[inline]
    unsafe fn sums(a: *const u32, b: *const u32, blocks: usize, tile: &mut Tile) {
        let mut sums = [[_mm512_setzero_ps(); 2]; <Self as Kernel<1>>::ROWS];
        for block in 0..blocks {
            for p in 0..PAIRS {
                // SAFETY: the caller's promise; vectors of bits are vectors of pairs.
                unsafe {
                    let b: [__m512bh; 2] = [0, 1].map(|half| {
                        let b = b.add(((block * WIDTH / LANES + half) * PAIRS + p) * LANES);
                        transmute(_mm512_loadu_si512(b.cast()))
                    });
                    for (r, sums) in sums.iter_mut().enumerate() {
                        let a = a.add((block * <Self as Kernel<1>>::ROWS + r) * PAIRS + p);
                        let a: __m512bh = transmute(_mm512_set1_epi32(*a as i32));
                        sums[0] = _mm512_dpbf16_ps(sums[0], a, b[0]);
                        sums[1] = _mm512_dpbf16_ps(sums[1], a, b[1]);
                    }
                }
            }
        }
        for (to, sums) in tile.0.iter_mut().zip(sums) {
            // SAFETY: a row has two vectors.
            unsafe {
                _mm512_storeu_ps(to.as_mut_ptr(), sums[0]);
                _mm512_storeu_ps(to[LANES..].as_mut_ptr(), sums[1]);
            }
        }
    }
}
