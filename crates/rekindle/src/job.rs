//! Text classification as the training loop sees it.

use crate::evaluation::{input, logits, score};
use burn::tensor::{Int, Tensor, TensorData};
use rekindle_data::{EncodedSet, Example, Sampler, TextBatch, prefetch};
use rekindle_models::bert::{BertClassifier, NAMES};
use rekindle_nn::{Pass, TuneAutodiff, ops, params::NameMap};
use rekindle_train::{BatchStream, Evaluation, Job, TrainError};
use std::{collections::BTreeMap, sync::Arc};

/// Batches made ahead of the loop.
const AHEAD: usize = 8;

/// The examples and settings of a run.
pub(crate) struct TextClassification<'a, B: TuneAutodiff> {
    pub train: Arc<EncodedSet>,
    pub validation: &'a EncodedSet,
    /// The training examples as text, to name them.
    pub examples: &'a [Example],
    pub sampler: Sampler,
    pub eval_batch_size: usize,
    pub label_smoothing: f64,
    pub device: &'a B::Device,
}

impl<B: TuneAutodiff> Job<B> for TextClassification<'_, B> {
    type Model = BertClassifier<B>;
    type Batch = TextBatch;

    fn names(&self) -> NameMap {
        NAMES
    }

    fn batches(&self, _: u64) -> usize {
        self.sampler.batches(self.train.len())
    }

    fn stream(&self, epoch: u64, start: usize) -> Result<BatchStream<'_, TextBatch>, TrainError> {
        let (set, order) = (
            Arc::clone(&self.train),
            self.sampler.epoch(&self.train.lengths(), epoch),
        );
        let batches = prefetch(AHEAD, start, order.len(), move |i| {
            TextBatch::pack(&set, &order[i])
        })
        .map_err(boxed)?;
        Ok(Box::new(batches.map(|batch| batch.map_err(boxed))))
    }

    fn count(&self, batch: &TextBatch) -> usize {
        batch.len()
    }

    fn describe(&self, batch: &TextBatch) -> String {
        let places: Vec<String> = batch
            .indices
            .iter()
            .take(4)
            .map(|&i| self.examples[i].place.to_string())
            .collect();
        let more = batch.len().saturating_sub(places.len());
        let more = if more > 0 {
            format!(" and {more} more")
        } else {
            String::new()
        };
        format!("{}{more}", places.join(", "))
    }

    fn loss(&self, model: &BertClassifier<B>, batch: &TextBatch, pass: Pass) -> Tensor<B, 1> {
        let logits = model.forward(&input::<B>(batch, self.device), pass);
        let labels: Tensor<B, 1, Int> =
            Tensor::from_data(TensorData::from(batch.labels.as_slice()), self.device);
        ops::cross_entropy(logits, labels, self.label_smoothing).sum()
    }

    fn evaluate(&self, model: &BertClassifier<B::InnerBackend>) -> Result<Evaluation, TrainError> {
        let logits =
            logits::<B::InnerBackend>(model, self.validation, self.eval_batch_size, self.device);
        let report = score(&logits, &self.validation.labels)
            .map_err(boxed)?
            .report();
        let metrics = [
            ("loss", report.loss),
            ("accuracy", report.accuracy),
            ("macro_f1", report.macro_f1),
            ("weighted_f1", report.weighted_f1),
            ("mcc", report.mcc),
        ];
        Ok(Evaluation {
            metrics: BTreeMap::from(metrics.map(|(name, value)| (name.to_owned(), value))),
        })
    }
}

fn boxed<E: std::error::Error + Send + Sync + 'static>(error: E) -> TrainError {
    TrainError::Job(Box::new(error))
}
