//! `base::rng`'s counter generator on the device: 64-bit words as pairs of 32 bits, since WGSL has no others. `tests/devices.rs`
//! holds dropout against the host's.

use cubecl::prelude::*;

/// 64 bits.
#[derive(CubeType, Clone, Copy)]
pub(super) struct Word64 {
    pub low: u32,
    pub high: u32,
}

#[cube]
fn times(a: Word64, low: u32, high: u32) -> Word64 {
    Word64 {
        low: a.low * low,
        high: a.low.mul_hi(low) + a.low * high + a.high * low,
    }
}

/// `z ^ (z >> shift)` for a shift in 1..32.
#[cube]
fn fold(z: Word64, #[comptime] shift: u32) -> Word64 {
    Word64 {
        low: z.low ^ ((z.low >> shift) | (z.high << (32 - shift))),
        high: z.high ^ (z.high >> shift),
    }
}

#[cube]
fn mix(z: Word64) -> Word64 {
    let z = times(fold(z, 30u32), 0x1CE4_E5B9u32, 0xBF58_476Du32);
    let z = times(fold(z, 27u32), 0x1331_11EBu32, 0x94D0_49BBu32);
    fold(z, 31u32)
}

/// `rng::child(key, index)` for an index below 2^32 - 1.
#[cube]
pub(super) fn child(key: Word64, index: u32) -> Word64 {
    let next = Word64 {
        low: index + 1,
        high: 0u32.runtime(),
    };
    let inner = mix(times(next, 0x7F4A_7C15u32, 0x9E37_79B9u32));
    mix(Word64 {
        low: key.low ^ inner.low,
        high: key.high ^ inner.high,
    })
}

/// `rng::Row::bits` of the row with this key.
#[cube]
pub(super) fn row_bits(key: Word64, column: u32) -> u32 {
    let h = (column * 0x9E37_79B9u32) ^ key.low;
    let h = h ^ (h >> 16);
    let h = (h * 0x21f0_aaadu32) ^ key.high;
    let h = h ^ (h >> 15);
    let h = h * 0xd35a_2d97u32;
    h ^ (h >> 15)
}
