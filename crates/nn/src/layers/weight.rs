//! The weight of a linear layer or a table: numbers that may train, or a file's quantized blocks, which stay as they are.

use crate::ops::{self, Groups, Precision, TuneBackend};
use burn::{
    module::{Module, Param},
    tensor::{Int, Tensor, TensorData, backend::Backend},
};

/// A weight `[O, I]`.
#[derive(Module, Debug)]
pub enum Weight<B: Backend> {
    /// Numbers: a parameter.
    Plain(Param<Tensor<B, 2>>),
    /// Codes in groups: no parameter, so that it is neither trained nor saved.
    Grouped(Grouped<B>),
}

/// A weight in groups: see [`ops::Grouped`].
#[derive(Module, Debug)]
pub struct Grouped<B: Backend> {
    codes: Tensor<B, 2, Int>,
    scales: Tensor<B, 2>,
    offsets: Tensor<B, 2>,
    #[module(skip)]
    groups: Groups,
}

impl<B: Backend> Grouped<B> {
    /// From the codes, four bytes a word, and a scale and an offset for each group.
    ///
    /// # Panics
    /// If there are more or fewer than `groups` says.
    pub fn new(
        codes: Vec<i32>,
        scales: Vec<f32>,
        offsets: Vec<f32>,
        groups: Groups,
        device: &B::Device,
    ) -> Self {
        let table = |values| {
            let data = TensorData::new(values, [groups.rows, groups.count()]);
            Tensor::from_data(data, device)
        };
        Self {
            codes: Tensor::from_data(
                TensorData::new(codes, [groups.rows, groups.words()]),
                device,
            ),
            scales: table(scales),
            offsets: table(offsets),
            groups,
        }
    }

    fn as_operand(&self) -> ops::Grouped<B> {
        ops::Grouped {
            codes: self.codes.clone().into_primitive(),
            scales: self.scales.clone().into_primitive().tensor(),
            offsets: self.offsets.clone().into_primitive().tensor(),
            groups: self.groups,
        }
    }
}

impl<B: Backend> Weight<B> {
    /// A parameter.
    pub fn plain(weight: Tensor<B, 2>) -> Self {
        Self::Plain(Param::from_tensor(weight))
    }

    /// The parameter, where it is one.
    pub fn parameter(&self) -> Option<&Param<Tensor<B, 2>>> {
        match self {
            Self::Plain(weight) => Some(weight),
            Self::Grouped(_) => None,
        }
    }

    /// `[O, I]`, without touching the values.
    pub fn dims(&self) -> [usize; 2] {
        match self {
            Self::Plain(weight) => weight.lazy_shape().dims(),
            Self::Grouped(weight) => [weight.groups.rows, weight.groups.columns],
        }
    }
}

impl<B: TuneBackend> Weight<B> {
    /// The values `[O, I]`; of a weight in groups they are made anew.
    pub fn val(&self) -> Tensor<B, 2> {
        match self {
            Self::Plain(weight) => weight.val(),
            Self::Grouped(weight) => ops::grouped_values(weight.as_operand()),
        }
    }

    /// `x [T, I]` -> `[T, O]`.
    pub fn linear(
        &self,
        x: Tensor<B, 2>,
        bias: Option<Tensor<B, 1>>,
        precision: Precision,
    ) -> Tensor<B, 2> {
        match self {
            Self::Plain(weight) => ops::linear(x, weight.val(), bias, precision),
            Self::Grouped(weight) => ops::grouped_linear(x, weight.as_operand(), bias, precision),
        }
    }

    /// Rows by `indices [T]`, each below O: `[T, I]`.
    pub fn rows(&self, indices: Tensor<B, 1, Int>) -> Tensor<B, 2> {
        match self {
            Self::Plain(weight) => ops::embedding_rows(weight.val(), indices),
            Self::Grouped(weight) => {
                let [rows] = indices.dims();
                let some = Grouped {
                    codes: weight.codes.clone().select(0, indices.clone()),
                    scales: weight.scales.clone().select(0, indices.clone()),
                    offsets: weight.offsets.clone().select(0, indices),
                    groups: Groups {
                        rows,
                        ..weight.groups
                    },
                };
                ops::grouped_values(some.as_operand())
            }
        }
    }
}
