//! The element types of GGUF, and how their blocks become f32 values and back. The layouts are those of ggml's
//! `ggml-quants.c`; `gguf.quants` of the Python package is what the tests hold them against, bit for bit.

use crate::Dtype;
use half::{bf16, f16};
use std::fmt;

/// How GGUF stores the values of a tensor: plain floats, or blocks of a few scales and small integers.
///
/// A block holds values of one row, so a row's length is a multiple of the block's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum GgmlType {
    /// IEEE single precision.
    F32,
    /// IEEE half precision.
    F16,
    /// The upper half of an F32.
    BF16,
    /// 32 values of 4 bits and a scale.
    Q4_0,
    /// 32 values of 4 bits, a scale and a minimum.
    Q4_1,
    /// 32 values of 5 bits and a scale.
    Q5_0,
    /// 32 values of 5 bits, a scale and a minimum.
    Q5_1,
    /// 32 values of 8 bits and a scale.
    Q8_0,
    /// 256 values of 2 bits; 16 scales and minima of 4 bits.
    Q2K,
    /// 256 values of 3 bits; 16 scales of 6 bits.
    Q3K,
    /// 256 values of 4 bits; 8 scales and minima of 6 bits.
    Q4K,
    /// 256 values of 5 bits; 8 scales and minima of 6 bits.
    Q5K,
    /// 256 values of 6 bits; 16 scales of 8 bits.
    Q6K,
}

/// What takes a group's codes, and its scale and offset.
pub(crate) type TakeGroup<'a> = &'a mut dyn FnMut(&[u8], (f32, f32));

/// Types that GGUF knows and that are not read, by their number, for messages.
const UNREAD: [(u32, &str); 20] = [
    (9, "Q8_1"),
    (15, "Q8_K"),
    (16, "IQ2_XXS"),
    (17, "IQ2_XS"),
    (18, "IQ3_XXS"),
    (19, "IQ1_S"),
    (20, "IQ4_NL"),
    (21, "IQ3_S"),
    (22, "IQ2_S"),
    (23, "IQ4_XS"),
    (24, "I8"),
    (25, "I16"),
    (26, "I32"),
    (27, "I64"),
    (28, "F64"),
    (29, "IQ1_M"),
    (34, "TQ1_0"),
    (35, "TQ2_0"),
    (39, "MXFP4"),
    (40, "NVFP4"),
];

impl GgmlType {
    /// All types that are read.
    pub const ALL: [Self; 13] = [
        Self::F32,
        Self::F16,
        Self::BF16,
        Self::Q4_0,
        Self::Q4_1,
        Self::Q5_0,
        Self::Q5_1,
        Self::Q8_0,
        Self::Q2K,
        Self::Q3K,
        Self::Q4K,
        Self::Q5K,
        Self::Q6K,
    ];

    /// Its number in a file, its name, and the values and bytes of a block.
    const fn traits(self) -> (u32, &'static str, usize, usize) {
        match self {
            Self::F32 => (0, "F32", 1, 4),
            Self::F16 => (1, "F16", 1, 2),
            Self::Q4_0 => (2, "Q4_0", 32, 18),
            Self::Q4_1 => (3, "Q4_1", 32, 20),
            Self::Q5_0 => (6, "Q5_0", 32, 22),
            Self::Q5_1 => (7, "Q5_1", 32, 24),
            Self::Q8_0 => (8, "Q8_0", 32, 34),
            Self::Q2K => (10, "Q2_K", 256, 84),
            Self::Q3K => (11, "Q3_K", 256, 110),
            Self::Q4K => (12, "Q4_K", 256, 144),
            Self::Q5K => (13, "Q5_K", 256, 176),
            Self::Q6K => (14, "Q6_K", 256, 210),
            Self::BF16 => (30, "BF16", 1, 2),
        }
    }

    /// Its number in a file.
    pub(super) fn id(self) -> u32 {
        self.traits().0
    }

    /// The type of a number, or what to call it.
    pub(super) fn from_id(id: u32) -> Result<Self, String> {
        let known = Self::ALL.into_iter().find(|kind| kind.id() == id);
        known.ok_or_else(|| {
            let name = UNREAD.iter().find(|(unread, _)| *unread == id);
            name.map_or_else(|| format!("number {id}"), |(_, name)| (*name).to_owned())
        })
    }

    /// Values of one block; 1 for plain floats.
    #[must_use]
    pub fn block_len(self) -> usize {
        self.traits().2
    }

    /// Bytes of one block.
    #[must_use]
    pub fn block_bytes(self) -> usize {
        self.traits().3
    }

    /// What a tensor of it is to the rest of the program.
    pub(super) fn dtype(self) -> Dtype {
        match self {
            Self::F32 => Dtype::F32,
            Self::F16 => Dtype::F16,
            Self::BF16 => Dtype::BF16,
            packed => Dtype::Packed(packed),
        }
    }

    /// The values of whole blocks; bytes after the last whole block are left out. Any part of a tensor that begins and
    /// ends at blocks may be read by itself, so a caller may share the work among threads.
    #[must_use]
    pub fn dequantize(self, bytes: &[u8]) -> Vec<f32> {
        match self {
            Self::F32 => floats(bytes, f32::from_le_bytes),
            Self::F16 => floats(bytes, |b| f16::from_le_bytes(b).to_f32()),
            Self::BF16 => floats(bytes, |b| bf16::from_le_bytes(b).to_f32()),
            _ => {
                let blocks = bytes.len() / self.block_bytes();
                let mut values = Vec::with_capacity(blocks * self.block_len());
                self.each_group(bytes, &mut |codes, (scale, offset)| {
                    values.extend(codes.iter().map(|&q| scale * f32::from(q) + offset));
                });
                values
            }
        }
    }

    /// How many values of a block share a scale, and the bits of each; `None` for plain floats.
    pub(crate) const fn group(self) -> Option<(usize, u32)> {
        match self {
            Self::F32 | Self::F16 | Self::BF16 => None,
            Self::Q4_0 | Self::Q4_1 | Self::Q4K => Some((32, 4)),
            Self::Q5_0 | Self::Q5_1 | Self::Q5K => Some((32, 5)),
            Self::Q8_0 => Some((32, 8)),
            Self::Q2K => Some((16, 2)),
            Self::Q3K => Some((16, 3)),
            Self::Q6K => Some((16, 6)),
        }
    }

    /// Calls `take` with the codes of each group of values in order, and their scale and offset: a value is
    /// `scale * code + offset`, which is exact in f32 but for the last sum. None for plain floats.
    pub(crate) fn each_group(self, bytes: &[u8], take: TakeGroup<'_>) {
        match self {
            Self::F32 | Self::F16 | Self::BF16 => {}
            Self::Q4_0 => each(bytes, q4_0, take),
            Self::Q4_1 => each(bytes, q4_1, take),
            Self::Q5_0 => each(bytes, q5_0, take),
            Self::Q5_1 => each(bytes, q5_1, take),
            Self::Q8_0 => each(bytes, q8_0, take),
            Self::Q2K => each(bytes, q2_k, take),
            Self::Q3K => each(bytes, q3_k, take),
            Self::Q4K => each(bytes, q4_k, take),
            Self::Q5K => each(bytes, q5_k, take),
            Self::Q6K => each(bytes, q6_k, take),
        }
    }

    /// Packs rows of values as F32, F16, BF16, Q8_0 or Q4_0, as `gguf.quants.quantize` does. `None` for other types, for a
    /// part of a block, and where a value or a scale is too large for half precision.
    pub(super) fn quantize(self, values: &[f32]) -> Option<Vec<u8>> {
        if !values.len().is_multiple_of(self.block_len()) {
            return None;
        }
        let mut bytes = Vec::with_capacity(values.len() / self.block_len() * self.block_bytes());
        match self {
            Self::F32 => values
                .iter()
                .for_each(|v| bytes.extend_from_slice(&v.to_le_bytes())),
            Self::F16 => {
                for &value in values {
                    bytes.extend_from_slice(&half_of(value)?);
                }
            }
            Self::BF16 => values
                .iter()
                .for_each(|&v| bytes.extend_from_slice(&bf16::from_f32(v).to_le_bytes())),
            Self::Q8_0 => {
                for block in values.as_chunks().0 {
                    pack_q8_0(block, &mut bytes)?;
                }
            }
            Self::Q4_0 => {
                for block in values.as_chunks().0 {
                    pack_q4_0(block, &mut bytes)?;
                }
            }
            _ => return None,
        }
        Some(bytes)
    }
}

/// ggml's name: `F16`, `Q4_0`, `Q6_K`.
impl fmt::Display for GgmlType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.traits().1)
    }
}

fn floats<const B: usize>(bytes: &[u8], value: impl Fn([u8; B]) -> f32) -> Vec<f32> {
    bytes.as_chunks::<B>().0.iter().map(|b| value(*b)).collect()
}

/// Scales and offsets of the groups of a block.
type Groups<const G: usize> = [(f32, f32); G];

/// Reads block after block.
fn each<const B: usize, const N: usize, const G: usize>(
    bytes: &[u8],
    read: impl Fn(&[u8; B], &mut [u8; N]) -> Groups<G>,
    take: TakeGroup<'_>,
) {
    let mut codes = [0; N];
    for block in bytes.as_chunks::<B>().0 {
        let groups = read(block, &mut codes);
        for (codes, group) in codes.chunks_exact(N / G).zip(groups) {
            take(codes, group);
        }
    }
}

/// The half-precision number at a byte of a block.
fn half_at(block: &[u8], at: usize) -> f32 {
    f16::from_le_bytes([block[at], block[at + 1]]).to_f32()
}

/// A value as half precision; `None` where it becomes infinite.
fn half_of(value: f32) -> Option<[u8; 2]> {
    let half = f16::from_f32(value);
    half.is_finite().then(|| half.to_le_bytes())
}

/// Low nibbles, then high ones.
fn nibbles(packed: &[u8], codes: &mut [u8]) {
    let (low, high) = codes.split_at_mut(packed.len());
    for ((low, high), &q) in low.iter_mut().zip(high).zip(packed) {
        (*low, *high) = (q & 15, q >> 4);
    }
}

fn q4_0(block: &[u8; 18], codes: &mut [u8; 32]) -> Groups<1> {
    let d = half_at(block, 0);
    nibbles(&block[2..], codes);
    [(d, -8.0 * d)]
}

fn q4_1(block: &[u8; 20], codes: &mut [u8; 32]) -> Groups<1> {
    nibbles(&block[4..], codes);
    [(half_at(block, 0), half_at(block, 2))]
}

/// The 32 codes of a 5-bit block: four bits from `low`, the fifth from `high`.
fn five_bits(high: &[u8], low: &[u8], codes: &mut [u8; 32]) {
    let high = u32::from_le_bytes([high[0], high[1], high[2], high[3]]);
    nibbles(low, codes);
    for (i, code) in codes.iter_mut().enumerate() {
        *code |= ((high >> i & 1) << 4) as u8;
    }
}

fn q5_0(block: &[u8; 22], codes: &mut [u8; 32]) -> Groups<1> {
    let d = half_at(block, 0);
    five_bits(&block[2..6], &block[6..], codes);
    [(d, -16.0 * d)]
}

fn q5_1(block: &[u8; 24], codes: &mut [u8; 32]) -> Groups<1> {
    five_bits(&block[4..8], &block[8..], codes);
    [(half_at(block, 0), half_at(block, 2))]
}

fn q8_0(block: &[u8; 34], codes: &mut [u8; 32]) -> Groups<1> {
    let d = half_at(block, 0);
    for (code, &q) in codes.iter_mut().zip(&block[2..]) {
        // From -128..128 to 0..256.
        *code = q ^ 128;
    }
    [(d, -128.0 * d)]
}

/// 16 bytes of scales (low nibble) and minima (high), 64 of 2-bit codes, d, dmin.
fn q2_k(block: &[u8; 84], codes: &mut [u8; 256]) -> Groups<16> {
    let (scales, rest) = block.split_at(16);
    let (d, dmin) = (half_at(rest, 64), half_at(rest, 66));
    for (group, codes) in codes.as_chunks_mut::<16>().0.iter_mut().enumerate() {
        let (half, shift, part) = (group / 8, group / 2 % 4 * 2, group % 2);
        let packed = &rest[half * 32 + part * 16..][..16];
        for (code, &q) in codes.iter_mut().zip(packed) {
            *code = (q >> shift) & 3;
        }
    }
    std::array::from_fn(|group| {
        let (scale, min) = (scales[group] & 15, scales[group] >> 4);
        (d * f32::from(scale), -dmin * f32::from(min))
    })
}

/// 32 bytes of third bits, 64 of low two bits, 12 of 6-bit scales, d.
fn q3_k(block: &[u8; 110], codes: &mut [u8; 256]) -> Groups<16> {
    let (high, rest) = block.split_at(32);
    let scales = &rest[64..76];
    let d = half_at(rest, 76);
    for (group, codes) in codes.as_chunks_mut::<16>().0.iter_mut().enumerate() {
        let (half, shift, part) = (group / 8, group / 2 % 4 * 2, group % 2);
        let packed = &rest[half * 32 + part * 16..][..16];
        for ((code, &q), &high) in codes.iter_mut().zip(packed).zip(&high[part * 16..]) {
            *code = (q >> shift) & 3 | (high >> (group / 2) & 1) << 2;
        }
    }
    std::array::from_fn(|group| {
        let low = (scales[group % 8] >> (group / 8 * 4)) & 15;
        let upper = (scales[8 + group % 4] >> (group / 4 * 2)) & 3;
        let scale = d * f32::from((low | upper << 4) as i8 - 32);
        (scale, -4.0 * scale)
    })
}

/// Scales and offsets of the 8 groups of a block with d, dmin, and 12 bytes of 6-bit scales and minima.
fn scales_and_minima(block: &[u8]) -> Groups<8> {
    let (d, dmin) = (half_at(block, 0), half_at(block, 2));
    let b = &block[4..16];
    std::array::from_fn(|j| {
        let (scale, min) = if j < 4 {
            (b[j] & 63, b[j + 4] & 63)
        } else {
            (
                (b[j + 4] & 15) | (b[j - 4] >> 6) << 4,
                (b[j + 4] >> 4) | (b[j] >> 6) << 4,
            )
        };
        (d * f32::from(scale), -dmin * f32::from(min))
    })
}

/// d, dmin, 12 bytes of scales and minima, 128 of 4-bit codes.
fn q4_k(block: &[u8; 144], codes: &mut [u8; 256]) -> Groups<8> {
    for (packed, codes) in block[16..].chunks_exact(32).zip(codes.chunks_exact_mut(64)) {
        nibbles(packed, codes);
    }
    scales_and_minima(block)
}

/// d, dmin, 12 bytes of scales and minima, 32 of fifth bits, 128 of low four bits.
fn q5_k(block: &[u8; 176], codes: &mut [u8; 256]) -> Groups<8> {
    let (high, packed) = block[16..].split_at(32);
    for (packed, codes) in packed.chunks_exact(32).zip(codes.chunks_exact_mut(64)) {
        nibbles(packed, codes);
    }
    for (j, codes) in codes.as_chunks_mut::<32>().0.iter_mut().enumerate() {
        for (code, &high) in codes.iter_mut().zip(high) {
            *code |= (high >> j & 1) << 4;
        }
    }
    scales_and_minima(block)
}

/// 128 bytes of low four bits, 64 of high two bits, 16 scales of 8 bits, d.
fn q6_k(block: &[u8; 210], codes: &mut [u8; 256]) -> Groups<16> {
    let (low, rest) = block.split_at(128);
    let (high, rest) = rest.split_at(64);
    let d = half_at(rest, 16);
    for (group, codes) in codes.as_chunks_mut::<16>().0.iter_mut().enumerate() {
        let (half, j, part) = (group / 8, group / 2 % 4, group % 2);
        let low = &low[half * 64 + j % 2 * 32 + part * 16..][..16];
        let high = &high[half * 32 + part * 16..][..16];
        for ((code, &low), &high) in codes.iter_mut().zip(low).zip(high) {
            *code = (low >> (j / 2 * 4)) & 15 | ((high >> (j * 2)) & 3) << 4;
        }
    }
    std::array::from_fn(|group| {
        let scale = d * f32::from(rest[group] as i8);
        (scale, -32.0 * scale)
    })
}

/// 1 / d, and 0 for 0.
fn inverse(d: f32) -> f32 {
    if d == 0.0 { 0.0 } else { 1.0 / d }
}

fn pack_q8_0(values: &[f32; 32], bytes: &mut Vec<u8>) -> Option<()> {
    let d = values.iter().fold(0f32, |max, v| max.max(v.abs())) / 127.0;
    bytes.extend_from_slice(&half_of(d)?);
    bytes.extend(values.map(|v| (v * inverse(d)).round() as i8 as u8));
    Some(())
}

fn pack_q4_0(values: &[f32; 32], bytes: &mut Vec<u8>) -> Option<()> {
    // The first value of the largest magnitude, with its sign, becomes -8.
    let extreme = values
        .iter()
        .fold(0f32, |max, &v| if v.abs() > max.abs() { v } else { max });
    let d = extreme / -8.0;
    bytes.extend_from_slice(&half_of(d)?);
    let q = values.map(|v| ((v * inverse(d) + 8.5) as u8).min(15));
    bytes.extend((0..16).map(|i| q[i] | q[i + 16] << 4));
    Some(())
}
