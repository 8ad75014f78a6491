//! Weights as codes in groups: each value is `scale * code + offset` of its group. The block types of GGUF are of this form.
//! A product reads the codes where they lie; the values exist, if at all, for one weight at a time.

use super::{Precision, TuneBackend, primitive, tensor};
use burn::tensor::{
    ElementConversion, Int, Tensor,
    backend::Backend,
    ops::{FloatTensor, IntTensor},
};

/// How the codes of a weight `[O, I]` lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Groups {
    /// O
    pub rows: usize,
    /// I, a multiple of `size`.
    pub columns: usize,
    /// Columns that share a scale and an offset; a multiple of 8.
    pub size: usize,
    /// Bits of a code: 8; or 4, where a group's first half stands in the low nibbles of its bytes and its second half in the
    /// high ones.
    pub bits: u32,
}

impl Groups {
    /// Words of 32 bits of a row's codes.
    #[must_use]
    pub const fn words(self) -> usize {
        self.columns * self.bits as usize / 32
    }

    /// Groups of a row.
    #[must_use]
    pub const fn count(self) -> usize {
        self.columns / self.size
    }
}

/// A weight's codes, scales and offsets.
#[derive(Debug, Clone)]
pub struct Grouped<B: Backend> {
    /// `[O, words]`: four bytes a word, the first in its lowest bits.
    pub codes: IntTensor<B>,
    /// `[O, groups]`
    pub scales: FloatTensor<B>,
    /// `[O, groups]`
    pub offsets: FloatTensor<B>,
    /// Sizes.
    pub groups: Groups,
}

/// The default body of [`TuneBackend::tune_grouped_values`].
pub fn values<B: TuneBackend>(weight: Grouped<B>) -> FloatTensor<B> {
    let groups = weight.groups;
    let count = groups.rows * groups.count();
    let words: Tensor<B, 2, Int> = Tensor::from_primitive(weight.codes);
    let words = words.reshape([count, groups.size * groups.bits as usize / 32]);
    let part = |shift: i32, mask: i32| {
        let shifted = words.clone().bitwise_right_shift_scalar(shift.elem());
        shifted.bitwise_and_scalar(mask.elem())
    };
    // The bytes of each word stand side by side.
    let bytes = |first: i32, mask: i32| {
        let parts = [0, 8, 16, 24].map(|shift| part(first + shift, mask));
        let [rows, words] = words.dims();
        Tensor::stack::<3>(parts.to_vec(), 2).reshape([rows, 4 * words])
    };
    let codes: Tensor<B, 2, Int> = match groups.bits {
        4 => Tensor::cat(vec![bytes(0, 15), bytes(4, 15)], 1),
        _ => bytes(0, 255),
    };
    let column = |x| tensor::<B, 2>(x).reshape([count, 1]);
    let values = codes.float() * column(weight.scales) + column(weight.offsets);
    primitive(values.reshape([groups.rows, groups.columns]))
}

/// The default body of [`TuneBackend::tune_grouped_linear`].
pub fn linear<B: TuneBackend>(
    x: FloatTensor<B>,
    weight: Grouped<B>,
    bias: Option<FloatTensor<B>>,
    precision: Precision,
) -> FloatTensor<B> {
    B::tune_linear(x, B::tune_grouped_values(weight), bias, precision)
}
