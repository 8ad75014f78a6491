//! What the loop trains.

use crate::{Collective, Gradients, Shards, TrainError};
use burn::{module::AutodiffModule, tensor::Tensor};
use rekindle_nn::{Pass, TuneAutodiff, params::NameMap};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Micro-batches in order, made ahead of the loop.
pub type BatchStream<'a, T> = Box<dyn Iterator<Item = Result<T, TrainError>> + 'a>;

/// A model with its data, as the loop sees them.
pub trait Job<B: TuneAutodiff> {
    /// The model.
    type Model: AutodiffModule<B>;
    /// A batch, prepared off the training thread.
    type Batch;

    /// Fields to the names that checkpoints carry.
    fn names(&self) -> NameMap;
    /// Number of micro-batches in an epoch; a pure function of the epoch.
    fn batches(&self, epoch: u64) -> usize;
    /// The processes that share the job.
    fn collective(&self) -> Collective {
        Collective::alone()
    }
    /// The micro-batches of an epoch from number `start` on, in order, of each the own `shards`, in order: a shard of a
    /// micro-batch that has fewer examples than shards may be empty. A pure function of the arguments.
    ///
    /// # Errors
    /// When the stream cannot begin; a batch that cannot be made is an error in its place.
    fn stream(
        &self,
        epoch: u64,
        start: usize,
        shards: &Shards,
    ) -> Result<BatchStream<'_, Self::Batch>, TrainError>;
    /// The factor of the learning rate for a parameter, by published name.
    fn rate(&self, _name: &str) -> f64 {
        1.0
    }
    /// The model as an epoch trains it: which parameters are trainable. A pure function of the epoch.
    fn at_epoch(&self, model: Self::Model, _epoch: u64) -> Self::Model {
        model
    }
    /// Whether some epoch trains a parameter, by published name, that the first does not.
    fn will_train(&self, _name: &str) -> bool {
        false
    }
    /// How many examples (or tokens) the loss of a batch sums over: what the mean is taken over.
    fn count(&self, batch: &Self::Batch) -> usize;
    /// Which examples a batch holds, for an error message.
    fn describe(&self, batch: &Self::Batch) -> String;
    /// The sum of the examples' losses `[1]`.
    ///
    /// # Errors
    /// A batch whose examples cannot be read after all.
    fn loss(
        &self,
        model: &Self::Model,
        batch: &Self::Batch,
        pass: Pass,
    ) -> Result<Tensor<B, 1>, TrainError>;
    /// Adds to `grads` the gradients of the batch's loss divided by `count`, and returns that quotient `[1]`, on the device. A job
    /// that builds its graph in parts has a body of its own.
    ///
    /// # Errors
    /// Those of [`loss`](Self::loss).
    fn backward(
        &self,
        model: &Self::Model,
        batch: &Self::Batch,
        pass: Pass,
        count: usize,
        grads: &mut Gradients<B>,
    ) -> Result<Tensor<B::InnerBackend, 1>, TrainError> {
        let loss = self.loss(model, batch, pass)? / count as f64;
        grads.backward(&loss, model, self.names());
        Ok(loss.inner())
    }
    /// Evaluates the model on the validation data.
    ///
    /// # Errors
    /// Whatever stops the evaluation.
    fn evaluate(
        &self,
        model: &<Self::Model as AutodiffModule<B>>::InnerModule,
    ) -> Result<Evaluation, TrainError>;
}

/// Figures of one evaluation, by name: `loss`, `accuracy`, `macro_f1` and so on.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Evaluation {
    /// Name to value.
    #[serde(with = "crate::number::by_name")]
    pub metrics: BTreeMap<String, f64>,
}

impl Evaluation {
    /// A figure by name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<f64> {
        self.metrics.get(name).copied()
    }
}
