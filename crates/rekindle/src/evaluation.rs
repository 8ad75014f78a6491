//! Logits of a whole set, and what they say: loss, probabilities, metrics, the worst mistakes. Computed on the host in
//! f64, so that every backend's figures are made the same way.

use crate::{Error, report::Mistake};
use burn::tensor::Tensor;
use rekindle_data::{EncodedSet, Example, Sampler, TextBatch};
use rekindle_metrics::{Calibration, CalibrationReport, Classification};
use rekindle_models::bert::{BertClassifier, TextInput};
use rekindle_nn::{
    Pass, Sequences, TuneBackend,
    host::{self, ReadError},
};
use rekindle_train::Evaluation;
use std::collections::BTreeMap;

/// Logits `[N][C]` in the order of the set.
pub(crate) struct Logits {
    values: Vec<f32>,
    classes: usize,
}

impl Logits {
    /// From rows one after the other.
    pub(crate) fn new(values: Vec<f32>, classes: usize) -> Self {
        Self { values, classes }
    }

    /// Logits of one example.
    pub(crate) fn row(&self, index: usize) -> &[f32] {
        &self.values[index * self.classes..][..self.classes]
    }

    /// Number of examples.
    pub(crate) fn len(&self) -> usize {
        self.values.len().checked_div(self.classes).unwrap_or(0)
    }

    /// The largest difference to other logits of the same set.
    pub(crate) fn largest_difference(&self, other: &Self) -> f32 {
        self.values
            .iter()
            .zip(&other.values)
            .map(|(a, b)| (a - b).abs())
            .fold(0.0, f32::max)
    }
}

/// A packed batch on a device.
pub(crate) fn input<B: TuneBackend>(batch: &TextBatch, device: &B::Device) -> TextInput<B> {
    TextInput::new(
        batch.ids.clone(),
        batch.type_ids.clone(),
        Sequences::new(batch.offsets.clone()),
        device,
    )
}

/// Runs the model over a set, in batches of like length.
pub(crate) fn logits<B: TuneBackend>(
    model: &BertClassifier<B>,
    set: &EncodedSet,
    batch_size: usize,
    device: &B::Device,
) -> Result<Logits, ReadError> {
    let head = |batch: &TextBatch| model.forward(&input::<B>(batch, device), Pass::evaluation());
    logits_by(set, batch_size, model.classes(), head)
}

/// Runs `forward` over a set, in batches of like length.
pub(crate) fn logits_by<B: TuneBackend>(
    set: &EncodedSet,
    batch_size: usize,
    classes: usize,
    forward: impl Fn(&TextBatch) -> Tensor<B, 2>,
) -> Result<Logits, ReadError> {
    let sampler = Sampler {
        seed: 0,
        shuffle: false,
        group_by_length: true,
        batch_size,
        drop_last: false,
    };
    let mut values = vec![0f32; set.len() * classes];
    for indices in sampler.epoch(&set.lengths(), 0) {
        let batch = TextBatch::pack(set, &indices);
        let out = forward(&batch);
        let rows = host::values(out)?;
        for (row, index) in rows.chunks(classes).zip(&batch.indices) {
            values[index * classes..][..classes].copy_from_slice(row);
        }
    }
    Ok(Logits { values, classes })
}

/// Softmax in f64.
pub(crate) fn probabilities(logits: &[f32]) -> Vec<f64> {
    let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let exp: Vec<f64> = logits
        .iter()
        .map(|&l| f64::from(l - largest).exp())
        .collect();
    let sum: f64 = exp.iter().sum();
    exp.into_iter().map(|e| e / sum).collect()
}

/// The class with the largest logit, the first of equals.
pub(crate) fn argmax(logits: &[f32]) -> usize {
    logits
        .iter()
        .enumerate()
        .fold(0, |best, (i, l)| if *l > logits[best] { i } else { best })
}

/// Cross-entropy in f64.
fn loss(logits: &[f32], label: usize) -> f64 {
    let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = logits.iter().map(|&l| f64::from(l - largest).exp()).sum();
    sum.ln() - f64::from(logits[label] - largest)
}

/// All metrics of a labelled set.
pub(crate) fn score(logits: &Logits, labels: &[u32]) -> Result<Classification, Error> {
    let mut metrics = Classification::new(logits.classes);
    for (index, &label) in labels.iter().enumerate() {
        let row = logits.row(index);
        metrics
            .update(
                &[argmax(row) as u32],
                &[label],
                loss(row, label as usize),
                1,
            )
            .map_err(|e| Error::Internal(e.to_string()))?;
    }
    Ok(metrics)
}

/// The figures of an evaluation during training.
pub(crate) fn figures(logits: &Logits, labels: &[u32]) -> Result<Evaluation, Error> {
    let report = score(logits, labels)?.report();
    let calibration = calibration(logits, labels);
    let metrics = [
        ("loss", report.loss),
        ("accuracy", report.accuracy),
        ("macro_f1", report.macro_f1),
        ("weighted_f1", report.weighted_f1),
        ("mcc", report.mcc),
        ("top5", calibration.top_k_accuracy),
        ("ece", calibration.ece),
    ];
    Ok(Evaluation {
        metrics: BTreeMap::from(metrics.map(|(name, value)| (name.to_owned(), value))),
    })
}

/// Top-5 accuracy and calibration error.
pub(crate) fn calibration(logits: &Logits, labels: &[u32]) -> CalibrationReport {
    const K: usize = 5;
    let mut figures = Calibration::new(K);
    for (index, &label) in labels.iter().enumerate() {
        figures.update(&probabilities(logits.row(index)), label as usize);
    }
    figures.report()
}

/// One wrong prediction.
pub(crate) struct Wrong {
    pub example: usize,
    pub predicted: usize,
    pub probability: f64,
    pub loss: f64,
}

/// The wrong predictions with the highest loss.
pub(crate) fn wrong(logits: &Logits, labels: &[u32], most: usize) -> Vec<Wrong> {
    let mut wrong: Vec<(usize, f64)> = (0..logits.len())
        .filter(|&i| argmax(logits.row(i)) != labels[i] as usize)
        .map(|i| (i, loss(logits.row(i), labels[i] as usize)))
        .collect();
    wrong.sort_by(|a, b| b.1.total_cmp(&a.1));
    wrong
        .into_iter()
        .take(most)
        .map(|(example, loss)| {
            let predicted = argmax(logits.row(example));
            Wrong {
                example,
                predicted,
                probability: probabilities(logits.row(example))[predicted],
                loss,
            }
        })
        .collect()
}

/// The wrong predictions with the highest loss, with their texts.
pub(crate) fn worst(
    logits: &Logits,
    labels: &[u32],
    examples: &[Example],
    names: &[String],
    most: usize,
) -> Vec<Mistake> {
    wrong(logits, labels, most)
        .into_iter()
        .map(|wrong| {
            let example = &examples[wrong.example];
            Mistake {
                text: example.text.clone(),
                text_pair: example.text_pair.clone(),
                place: example.place.to_string(),
                label: names[labels[wrong.example] as usize].clone(),
                predicted: names[wrong.predicted].clone(),
                probability: wrong.probability,
                loss: wrong.loss,
                picture: None,
            }
        })
        .collect()
}
