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
        let mut values = vec![0.0; bytes.len() / self.block_bytes() * self.block_len()];
        let out = &mut values[..];
        match self {
            Self::F32 => each(bytes, out, |b, [v]| *v = f32::from_le_bytes(*b)),
            Self::F16 => each(bytes, out, |b, [v]| *v = f16::from_le_bytes(*b).to_f32()),
            Self::BF16 => each(bytes, out, |b, [v]| *v = bf16::from_le_bytes(*b).to_f32()),
            Self::Q4_0 => each(bytes, out, q4_0),
            Self::Q4_1 => each(bytes, out, q4_1),
            Self::Q5_0 => each(bytes, out, q5_0),
            Self::Q5_1 => each(bytes, out, q5_1),
            Self::Q8_0 => each(bytes, out, q8_0),
            Self::Q2K => each(bytes, out, q2_k),
            Self::Q3K => each(bytes, out, q3_k),
            Self::Q4K => each(bytes, out, q4_k),
            Self::Q5K => each(bytes, out, q5_k),
            Self::Q6K => each(bytes, out, q6_k),
        }
        values
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

/// Reads block after block.
fn each<const B: usize, const N: usize>(
    bytes: &[u8],
    values: &mut [f32],
    read: impl Fn(&[u8; B], &mut [f32; N]),
) {
    let blocks = bytes.as_chunks::<B>().0;
    for (block, values) in blocks.iter().zip(values.as_chunks_mut::<N>().0) {
        read(block, values);
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

fn q4_0(block: &[u8; 18], values: &mut [f32; 32]) {
    let d = half_at(block, 0);
    for (i, &q) in block[2..].iter().enumerate() {
        values[i] = d * f32::from((q & 15) as i8 - 8);
        values[i + 16] = d * f32::from((q >> 4) as i8 - 8);
    }
}

fn q4_1(block: &[u8; 20], values: &mut [f32; 32]) {
    let (d, m) = (half_at(block, 0), half_at(block, 2));
    for (i, &q) in block[4..].iter().enumerate() {
        values[i] = d * f32::from(q & 15) + m;
        values[i + 16] = d * f32::from(q >> 4) + m;
    }
}

/// The 32 integers of a 5-bit block: four bits from `low`, the fifth from `high`.
fn five_bits(high: &[u8], low: &[u8]) -> [u8; 32] {
    let high = u32::from_le_bytes([high[0], high[1], high[2], high[3]]);
    let mut q = [0; 32];
    for (i, &low) in low.iter().enumerate() {
        q[i] = (low & 15) | (((high >> i) & 1) as u8) << 4;
        q[i + 16] = (low >> 4) | (((high >> (i + 16)) & 1) as u8) << 4;
    }
    q
}

fn q5_0(block: &[u8; 22], values: &mut [f32; 32]) {
    let d = half_at(block, 0);
    for (value, q) in values.iter_mut().zip(five_bits(&block[2..6], &block[6..])) {
        *value = d * f32::from(q as i8 - 16);
    }
}

fn q5_1(block: &[u8; 24], values: &mut [f32; 32]) {
    let (d, m) = (half_at(block, 0), half_at(block, 2));
    for (value, q) in values.iter_mut().zip(five_bits(&block[4..8], &block[8..])) {
        *value = d * f32::from(q) + m;
    }
}

fn q8_0(block: &[u8; 34], values: &mut [f32; 32]) {
    let d = half_at(block, 0);
    for (value, &q) in values.iter_mut().zip(&block[2..]) {
        *value = d * f32::from(q as i8);
    }
}

/// 16 bytes of scales (low nibble) and minima (high), 64 of 2-bit values, d, dmin.
fn q2_k(block: &[u8; 84], values: &mut [f32; 256]) {
    let (scales, rest) = block.split_at(16);
    let (d, dmin) = (half_at(rest, 64), half_at(rest, 66));
    for (group, values) in values.as_chunks_mut::<16>().0.iter_mut().enumerate() {
        let (half, shift, part) = (group / 8, group / 2 % 4 * 2, group % 2);
        let (scale, min) = (
            d * f32::from(scales[group] & 15),
            dmin * f32::from(scales[group] >> 4),
        );
        let packed = &rest[half * 32 + part * 16..][..16];
        for (value, &q) in values.iter_mut().zip(packed) {
            *value = scale * f32::from((q >> shift) & 3) - min;
        }
    }
}

/// 32 bytes of third bits, 64 of low two bits, 12 of 6-bit scales, d.
fn q3_k(block: &[u8; 110], values: &mut [f32; 256]) {
    let (high, rest) = block.split_at(32);
    let scales = &rest[64..76];
    let d = half_at(rest, 76);
    for (group, values) in values.as_chunks_mut::<16>().0.iter_mut().enumerate() {
        let (half, shift, part) = (group / 8, group / 2 % 4 * 2, group % 2);
        let low = (scales[group % 8] >> (group / 8 * 4)) & 15;
        let upper = (scales[8 + group % 4] >> (group / 4 * 2)) & 3;
        let scale = d * f32::from((low | upper << 4) as i8 - 32);
        let packed = &rest[half * 32 + part * 16..][..16];
        for ((value, &q), &high) in values.iter_mut().zip(packed).zip(&high[part * 16..]) {
            // A third bit that is set means no offset.
            let offset = if high >> (group / 2) & 1 == 0 { 4 } else { 0 };
            *value = scale * f32::from(((q >> shift) & 3) as i8 - offset);
        }
    }
}

/// The 6-bit scale and minimum of group `j` of 8, from their 12 bytes.
fn scale_and_min(b: &[u8], j: usize) -> (f32, f32) {
    let (scale, min) = if j < 4 {
        (b[j] & 63, b[j + 4] & 63)
    } else {
        (
            (b[j + 4] & 15) | (b[j - 4] >> 6) << 4,
            (b[j + 4] >> 4) | (b[j] >> 6) << 4,
        )
    };
    (scale.into(), min.into())
}

/// d, dmin, 12 bytes of scales and minima, 128 of 4-bit values.
fn q4_k(block: &[u8; 144], values: &mut [f32; 256]) {
    let (d, dmin) = (half_at(block, 0), half_at(block, 2));
    let (scales, packed) = block[4..].split_at(12);
    for (j, values) in values.as_chunks_mut::<32>().0.iter_mut().enumerate() {
        let (scale, min) = scale_and_min(scales, j);
        let (scale, min) = (d * scale, dmin * min);
        let shift = j % 2 * 4;
        for (value, &q) in values.iter_mut().zip(&packed[j / 2 * 32..][..32]) {
            *value = scale * f32::from((q >> shift) & 15) - min;
        }
    }
}

/// d, dmin, 12 bytes of scales and minima, 32 of fifth bits, 128 of low four bits.
fn q5_k(block: &[u8; 176], values: &mut [f32; 256]) {
    let (d, dmin) = (half_at(block, 0), half_at(block, 2));
    let (scales, rest) = block[4..].split_at(12);
    let (high, packed) = rest.split_at(32);
    for (j, values) in values.as_chunks_mut::<32>().0.iter_mut().enumerate() {
        let (scale, min) = scale_and_min(scales, j);
        let (scale, min) = (d * scale, dmin * min);
        let shift = j % 2 * 4;
        let packed = &packed[j / 2 * 32..][..32];
        for ((value, &q), &high) in values.iter_mut().zip(packed).zip(high) {
            *value = scale * f32::from((q >> shift) & 15 | (high >> j & 1) << 4) - min;
        }
    }
}

/// 128 bytes of low four bits, 64 of high two bits, 16 scales of 8 bits, d.
fn q6_k(block: &[u8; 210], values: &mut [f32; 256]) {
    let (low, rest) = block.split_at(128);
    let (high, rest) = rest.split_at(64);
    let d = half_at(rest, 16);
    for (group, values) in values.as_chunks_mut::<16>().0.iter_mut().enumerate() {
        let (half, j, part) = (group / 8, group / 2 % 4, group % 2);
        let scale = d * f32::from(rest[group] as i8);
        let low = &low[half * 64 + j % 2 * 32 + part * 16..][..16];
        let high = &high[half * 32 + part * 16..][..16];
        for ((value, &low), &high) in values.iter_mut().zip(low).zip(high) {
            let q = (low >> (j / 2 * 4)) & 15 | ((high >> (j * 2)) & 3) << 4;
            *value = scale * f32::from(q as i8 - 32);
        }
    }
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
