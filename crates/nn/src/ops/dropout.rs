//! Dropout (Srivastava et al. 2014), inverted, from a counter-based generator: the mask of a site is a pure function of
//! (seed, step, site, row, column), so it is never stored and a resumed run draws the same.

use super::{Precision, TuneBackend};
use burn::tensor::{TensorData, TensorMetadata, ops::FloatTensor};
use rekindle_base::rng::{self, Row, drop_threshold};

/// One forward pass: an evaluation, or a training step with the key of its random choices; and the precision of its products.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pass {
    key: Option<u64>,
    precision: Precision,
    trains: bool,
}

impl Pass {
    /// No dropout anywhere; f32.
    #[must_use]
    pub const fn evaluation() -> Self {
        Self {
            key: None,
            precision: Precision::F32,
            trains: false,
        }
    }

    /// Training: every random choice a function of `seed` and `step` (counted in forward passes); f32.
    #[must_use]
    pub const fn training(seed: u64, step: u64) -> Self {
        Self {
            key: Some(rng::child(rng::child(seed, 0xD807), step)),
            precision: Precision::F32,
            trains: false,
        }
    }

    /// The same pass with linear layers of this precision (adapters' side paths stay in f32).
    #[must_use]
    pub const fn with_precision(self, precision: Precision) -> Self {
        Self { precision, ..self }
    }

    /// The precision of linear layers.
    #[must_use]
    pub const fn precision(self) -> Precision {
        self.precision
    }

    /// The same pass for a block that holds something that trains, where its parameters do not say so: they are on a backend
    /// without gradients.
    #[must_use]
    pub const fn training_block(self) -> Self {
        Self {
            trains: true,
            ..self
        }
    }

    /// Whether it is [known](Self::training_block) that something in the block trains.
    #[must_use]
    pub const fn is_training_block(self) -> bool {
        self.trains
    }

    /// The same pass without random choices, as what is frozen sees it.
    #[must_use]
    pub const fn frozen(self) -> Self {
        Self { key: None, ..self }
    }

    /// Whether this is a training pass.
    #[must_use]
    pub const fn is_training(self) -> bool {
        self.key.is_some()
    }

    /// The pass as the `index`-th part of a model sees it; parts draw independently.
    #[must_use]
    pub const fn child(self, index: u64) -> Self {
        match self.key {
            Some(key) => Self {
                key: Some(rng::child(key, index)),
                ..self
            },
            None => self,
        }
    }

    /// The dropout of this site, or none in evaluation or at rate 0.
    #[must_use]
    pub fn dropout(self, rate: f64) -> Option<Dropout> {
        self.key
            .filter(|_| rate > 0.0)
            .map(|key| Dropout { key, rate })
    }
}

/// A dropout site's key and rate in (0, 1).
#[derive(Debug, Clone, Copy)]
pub struct Dropout {
    /// Stream of the mask.
    pub key: u64,
    /// Probability of dropping an element.
    pub rate: f64,
}

/// The default body of [`TuneBackend::tune_dropout_rows`].
pub fn apply<B: TuneBackend>(x: FloatTensor<B>, dropout: Dropout) -> FloatTensor<B> {
    let shape = x.shape();
    let columns = if shape.num_dims() > 1 {
        shape[shape.num_dims() - 1]
    } else {
        1
    };
    let (threshold, scale) = (
        drop_threshold(dropout.rate),
        (1.0 / (1.0 - dropout.rate)) as f32,
    );
    let mut mask = vec![0f32; shape.num_elements()];
    for (r, row) in mask.chunks_mut(columns.max(1)).enumerate() {
        let generator = Row::new(dropout.key, r as u64);
        for (j, value) in row.iter_mut().enumerate() {
            *value = if generator.bits(j as u32) < threshold {
                0.0
            } else {
                scale
            };
        }
    }
    let mask = B::float_from_data(TensorData::new(mask, shape), &B::float_device(&x));
    B::float_mul(x, mask)
}
