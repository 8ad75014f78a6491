//! Logits of a whole set, and what they say: loss, probabilities, metrics, the worst mistakes. Computed on the host in
//! f64, so that every backend's figures are made the same way.

use crate::{Error, report::Mistake};
use burn::tensor::Tensor;
use rekindle_data::{EncodedSet, Example, Sampler, TextBatch};
use rekindle_metrics::Classification;
use rekindle_models::bert::{BertClassifier, TextInput};
use rekindle_nn::{Pass, Sequences, TuneBackend, tensors::HostTensor};

/// Logits `[N][C]` in the order of the set.
pub(crate) struct Logits {
    values: Vec<f32>,
    classes: usize,
}

impl Logits {
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
) -> Logits {
    let classes = model.classes();
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
        let out: Tensor<B, 2> = model.forward(&input::<B>(&batch, device), Pass::evaluation());
        let rows = HostTensor::from_primitive::<B>(out.into_primitive().tensor()).values;
        for (row, index) in rows.chunks(classes).zip(&batch.indices) {
            values[index * classes..][..classes].copy_from_slice(row);
        }
    }
    Logits { values, classes }
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

/// The wrong predictions with the highest loss.
pub(crate) fn worst(
    logits: &Logits,
    labels: &[u32],
    examples: &[Example],
    names: &[String],
    most: usize,
) -> Vec<Mistake> {
    let mut wrong: Vec<(usize, f64)> = (0..logits.len())
        .filter(|&i| argmax(logits.row(i)) != labels[i] as usize)
        .map(|i| (i, loss(logits.row(i), labels[i] as usize)))
        .collect();
    wrong.sort_by(|a, b| b.1.total_cmp(&a.1));
    wrong
        .into_iter()
        .take(most)
        .map(|(i, loss)| {
            let predicted = argmax(logits.row(i));
            Mistake {
                text: examples[i].text.clone(),
                text_pair: examples[i].text_pair.clone(),
                place: examples[i].place.to_string(),
                label: names[labels[i] as usize].clone(),
                predicted: names[predicted].clone(),
                probability: probabilities(logits.row(i))[predicted],
                loss,
            }
        })
        .collect()
}
