//! A tensor as it lies in a file: its type, its shape and its bytes.

use crate::{GgmlType, WeightError};
use half::{bf16, f16};
use std::{borrow::Cow, fmt, path::Path};

/// The largest magnitude up to which f32 holds every integer.
pub(crate) const MAX_EXACT: u64 = 1 << 24;
/// What [`StoredTensor::to_f32`] reads.
const READABLE: &str = "a float of up to 64 bits, an integer or a boolean";

/// An element type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Dtype {
    /// IEEE double precision.
    F64,
    /// IEEE single precision.
    F32,
    /// IEEE half precision.
    F16,
    /// The upper half of an F32.
    BF16,
    /// 64-bit signed integer.
    I64,
    /// 32-bit signed integer.
    I32,
    /// 16-bit signed integer.
    I16,
    /// 8-bit signed integer.
    I8,
    /// 8-bit unsigned integer.
    U8,
    /// One byte, 0 for false.
    Bool,
    /// Blocks of GGUF, each of a few scales and many small integers.
    Packed(GgmlType),
    /// A type whose name is known and whose values are not read.
    Other {
        /// Its name in safetensors.
        name: &'static str,
        /// Bytes of one element, 0 where an element is less than a byte.
        size: usize,
    },
}

impl Dtype {
    /// Bytes of one element; 0 for packed blocks.
    #[must_use]
    pub fn size(self) -> usize {
        match self {
            Self::F64 | Self::I64 => 8,
            Self::F32 | Self::I32 => 4,
            Self::F16 | Self::BF16 | Self::I16 => 2,
            Self::I8 | Self::U8 | Self::Bool => 1,
            Self::Packed(_) => 0,
            Self::Other { size, .. } => size,
        }
    }

    /// Whether it is a floating-point type whose values can be read.
    #[must_use]
    pub fn is_float(self) -> bool {
        matches!(
            self,
            Self::F64 | Self::F32 | Self::F16 | Self::BF16 | Self::Packed(_)
        )
    }
}

/// The name that safetensors or ggml uses: `F32`, `BF16`, `I64`, `BOOL`, `Q4_0`.
impl fmt::Display for Dtype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Packed(kind) => kind.fmt(f),
            Self::Other { name, .. } => f.write_str(name),
            known => f.write_str(&format!("{known:?}").to_uppercase()),
        }
    }
}

/// A tensor of a file, not converted: its bytes are little-endian, row-major, and borrowed from the mapped file unless its
/// elements had to be gathered.
#[derive(Debug, Clone)]
pub struct StoredTensor<'a> {
    pub(crate) file: &'a Path,
    pub(crate) name: &'a str,
    /// Element type.
    pub dtype: Dtype,
    /// Dimensions.
    pub shape: &'a [usize],
    /// The elements.
    pub bytes: Cow<'a, [u8]>,
}

impl StoredTensor<'_> {
    /// The values as f32.
    ///
    /// # Errors
    /// On a type that is no float, integer or boolean, on integers beyond 2^24 in magnitude, and on values that are not
    /// finite (an F64 beyond f32's range becomes one).
    pub fn to_f32(&self) -> Result<Vec<f32>, WeightError> {
        let bytes = &*self.bytes;
        let values: Vec<f32> = match self.dtype {
            Dtype::F32 => {
                let mut values = vec![0f32; bytes.len() / size_of::<f32>()];
                bytemuck::cast_slice_mut(&mut values).copy_from_slice(bytes);
                values
            }
            Dtype::F16 => convert(bytes, f16::to_f32),
            Dtype::BF16 => convert(bytes, bf16::to_f32),
            Dtype::F64 => convert(bytes, |v: f64| v as f32),
            Dtype::I64 => self.exact(convert(bytes, |v: i64| v))?,
            Dtype::I32 => self.exact(convert(bytes, |v: i32| v.into()))?,
            Dtype::I16 => convert(bytes, |v: i16| v.into()),
            Dtype::I8 => convert(bytes, |v: i8| v.into()),
            Dtype::U8 => convert(bytes, |v: u8| v.into()),
            Dtype::Bool => convert(bytes, |v: u8| f32::from(u8::from(v != 0))),
            Dtype::Packed(kind) => kind.dequantize(bytes),
            Dtype::Other { .. } => {
                return Err(WeightError::Type {
                    path: self.file.to_owned(),
                    tensor: self.name.to_owned(),
                    dtype: self.dtype.to_string(),
                    expected: READABLE,
                });
            }
        };
        match rekindle_base::first_not_finite(&values) {
            Some((index, value)) => Err(WeightError::NotFinite {
                path: self.file.to_owned(),
                tensor: self.name.to_owned(),
                value,
                index,
            }),
            None => Ok(values),
        }
    }

    fn exact(&self, values: Vec<i64>) -> Result<Vec<f32>, WeightError> {
        match values.iter().position(|v| v.unsigned_abs() > MAX_EXACT) {
            Some(index) => Err(WeightError::Inexact {
                path: self.file.to_owned(),
                tensor: self.name.to_owned(),
                value: values[index],
                index,
            }),
            None => Ok(values.into_iter().map(|v| v as f32).collect()),
        }
    }
}

/// A matrix as codes in groups: a value is `scale * code + offset` of its group.
#[derive(Debug, Clone, PartialEq)]
pub struct GroupedTensor {
    /// Rows and columns.
    pub shape: [usize; 2],
    /// Bits of a code, 4 or 8.
    pub bits: u32,
    /// Columns that share a scale and an offset.
    pub group: usize,
    /// The codes, row by row, in whole words. Of 4 bits, a group's first half stands in the low nibbles and its second half in the
    /// high ones.
    pub codes: Vec<u8>,
    /// A scale for each group.
    pub scales: Vec<f32>,
    /// An offset for each group.
    pub offsets: Vec<f32>,
}

impl StoredTensor<'_> {
    /// A packed matrix with its blocks in one form for all their types; `None` for plain numbers. Its values, multiplied and then
    /// added in f32, are those of [`to_f32`](Self::to_f32), bit for bit.
    ///
    /// # Errors
    /// On a scale or an offset that is not finite.
    pub fn grouped(&self) -> Result<Option<GroupedTensor>, WeightError> {
        let (Dtype::Packed(kind), &[rows, columns]) = (self.dtype, self.shape) else {
            return Ok(None);
        };
        let Some((group, bits)) = kind.group() else {
            return Ok(None);
        };
        let groups = rows * columns / group;
        let bits = if bits == 4 { 4 } else { 8 };
        let mut grouped = GroupedTensor {
            shape: [rows, columns],
            bits,
            group,
            codes: Vec::with_capacity(rows * columns * bits as usize / 8),
            scales: Vec::with_capacity(groups),
            offsets: Vec::with_capacity(groups),
        };
        kind.each_group(&self.bytes, &mut |codes, (scale, offset)| {
            match bits {
                4 => {
                    let (low, high) = codes.split_at(group / 2);
                    let bytes = low.iter().zip(high).map(|(low, high)| low | high << 4);
                    grouped.codes.extend(bytes);
                }
                _ => grouped.codes.extend_from_slice(codes),
            }
            grouped.scales.push(scale);
            grouped.offsets.push(offset);
        });
        for values in [&grouped.scales, &grouped.offsets] {
            if let Some((index, value)) = rekindle_base::first_not_finite(values) {
                return Err(WeightError::NotFinite {
                    path: self.file.to_owned(),
                    tensor: self.name.to_owned(),
                    value,
                    index: index * group,
                });
            }
        }
        Ok(Some(grouped))
    }
}

fn convert<T: bytemuck::AnyBitPattern, U>(bytes: &[u8], convert: impl Fn(T) -> U) -> Vec<U> {
    bytes
        .chunks_exact(size_of::<T>())
        .map(|element| convert(bytemuck::pod_read_unaligned(element)))
        .collect()
}
