//! Multi-label classification: any number of labels, each by a sigmoid of its own and binary cross-entropy.
//!
//! During training a label counts as given from a probability of 0.5 on. After training each label gets the threshold that
//! is best on the validation examples; `rekindle.json` keeps them.

use super::{Loss, Objective, Prediction, Wrong, most_probable, shortest};
use crate::{
    evaluation::Logits,
    figures::{Figures, Scalar, Section, Shown, Tile, Watched},
    guess::Guess,
    inputs::ExampleOf,
    report::text::{count, figure, percent},
};
use burn::tensor::{Tensor, TensorData, activation};
use rekindle_data::{TargetEncoder, TargetRow, Targets};
use rekindle_metrics::MultiLabel as Metrics;
use rekindle_nn::TuneBackend;
use serde_json::{Map, Value, json};

/// The threshold of a label for which nothing better is known.
const EVEN: f64 = 0.5;

pub(super) struct MultiLabel {
    encoder: TargetEncoder,
    /// Least probability of each label that is given.
    thresholds: Vec<f64>,
}

impl MultiLabel {
    pub(super) fn train(encoder: TargetEncoder) -> Self {
        Self::restore(encoder, Vec::new())
    }

    pub(super) fn restore(encoder: TargetEncoder, thresholds: Vec<f64>) -> Self {
        let labels = encoder.outputs();
        let thresholds = match thresholds.len() == labels {
            true => thresholds,
            false => vec![EVEN; labels],
        };
        Self {
            encoder,
            thresholds,
        }
    }

    /// Names of the labels for which `given` says yes.
    fn named(&self, given: impl Iterator<Item = bool>) -> Vec<String> {
        let names = self.encoder.names().iter();
        let given = names.zip(given).filter(|(_, given)| *given);
        given.map(|(name, _)| name.clone()).collect()
    }

    fn given<'a>(&'a self, probabilities: &'a [f64]) -> impl Iterator<Item = bool> + 'a {
        let pairs = probabilities.iter().zip(&self.thresholds);
        pairs.map(|(p, threshold)| p >= threshold)
    }

    fn metrics(&self, logits: &Logits, targets: &Targets) -> Metrics {
        let mut metrics = Metrics::new(self.encoder.outputs());
        for row in 0..targets.len() {
            let truth = truth_of(targets, row);
            let logits = logits.row(row);
            // Both have as many columns as the encoder has names.
            let _ = metrics.update(&probabilities(logits), truth, cross_entropy(logits, truth));
        }
        metrics
    }
}

/// Sigmoids in f64.
fn probabilities(logits: &[f32]) -> Vec<f64> {
    let sigmoid = |&logit: &f32| 1.0 / (1.0 + (-f64::from(logit)).exp());
    logits.iter().map(sigmoid).collect()
}

/// Binary cross-entropy in f64, the mean over labels.
fn cross_entropy(logits: &[f32], truth: &[bool]) -> f64 {
    let of_label = |(&logit, &truth): (&f32, &bool)| {
        let x = f64::from(logit);
        let signed = if truth { -x } else { x };
        signed.max(0.0) + (-signed.abs()).exp().ln_1p()
    };
    let sum: f64 = logits.iter().zip(truth).map(of_label).sum();
    sum / truth.len().max(1) as f64
}

fn truth_of(targets: &Targets, row: usize) -> &[bool] {
    match targets.row(row) {
        TargetRow::Classes(truth) => truth,
        _ => &[],
    }
}

/// Labels as people read them.
fn listed(labels: &[String]) -> String {
    match labels.is_empty() {
        true => "(no label)".to_owned(),
        false => labels.join(", "),
    }
}

impl Objective for MultiLabel {
    fn encoder(&self) -> &TargetEncoder {
        &self.encoder
    }

    fn described_as(&self) -> &'static str {
        "labels"
    }

    fn watched(&self) -> Vec<Watched> {
        vec![
            Watched::new("loss", "loss", false),
            Watched::new("map", "mAP", true),
            Watched::new("micro_f1", "micro F1", true),
        ]
    }

    fn figures(&self, logits: &Logits, targets: &Targets) -> Figures {
        let labels = self.encoder.names().to_vec();
        // As many thresholds as labels.
        let Ok(report) = self.metrics(logits, targets).report(&self.thresholds) else {
            return Figures::none();
        };
        let mut warnings = Vec::new();
        if report.nonfinite > 0 {
            warnings.push(format!(
                "{} probabilities or losses are not finite.",
                count(report.nonfinite)
            ));
        }
        let without = report.per_label.iter().filter(|label| label.support == 0);
        let without = without.count();
        if without > 0 {
            warnings.push(format!(
                "{without} of {} labels have no example here: their F1 counts as 0, and mAP leaves them out.",
                labels.len()
            ));
        }
        use Shown::{Always, Behind, InFull};
        Figures {
            n: report.n,
            headline: "micro_f1".into(),
            scalars: vec![
                Scalar::new("micro_f1", "micro F1", report.micro_f1, Always),
                Scalar::new("macro_f1", "macro F1", report.macro_f1, Always),
                Scalar::new("samples_f1", "samples F1", report.samples_f1, InFull),
                Scalar::new("map", "mAP", report.mean_average_precision, Always),
                Scalar::new("loss", "loss", report.loss, Always),
                Scalar::new("exact", "exact match", report.subset_accuracy, Behind),
                Scalar::new("hamming", "Hamming loss", report.hamming_loss, Behind),
            ],
            tiles: vec![
                Tile::new(
                    "micro F1",
                    percent(report.micro_f1),
                    format!("macro F1 {}", percent(report.macro_f1)),
                ),
                Tile::new(
                    "mean average precision",
                    percent(report.mean_average_precision),
                    "over labels, at any threshold".into(),
                ),
                Tile::new(
                    "exact match",
                    percent(report.subset_accuracy),
                    "all labels of an example right".into(),
                ),
                Tile::new(
                    "loss",
                    figure(report.loss),
                    format!("{} examples", count(report.n)),
                ),
            ],
            warnings,
            guess: Guess::of_labels(&report),
            sections: vec![Section::Labels { report, labels }],
        }
    }

    fn worst(&self, logits: &Logits, targets: &Targets, most: usize) -> Vec<Wrong> {
        let wrong = |row: &usize| {
            let probabilities = probabilities(logits.row(*row));
            !self
                .given(&probabilities)
                .eq(truth_of(targets, *row).iter().copied())
        };
        let mut losses: Vec<(usize, f64)> = (0..targets.len())
            .filter(wrong)
            .map(|row| (row, cross_entropy(logits.row(row), truth_of(targets, row))))
            .collect();
        losses.sort_by(|a, b| b.1.total_cmp(&a.1));
        losses.truncate(most);
        let described = losses.into_iter().map(|(row, loss)| {
            let probabilities = probabilities(logits.row(row));
            Wrong {
                row,
                right: listed(&self.named(truth_of(targets, row).iter().copied())),
                said: listed(&self.named(self.given(&probabilities))),
                probability: None,
                loss,
                top: most_probable(self.encoder.names(), &probabilities),
                words: None,
            }
        });
        described.collect()
    }

    fn scored(
        &self,
        logits: &Logits,
        targets: &Targets,
        row: usize,
        of: ExampleOf<'_>,
    ) -> Map<String, Value> {
        let (logits, truth) = (logits.row(row), truth_of(targets, row));
        let said = self.answer(logits, of).to_json();
        let right = json!(self.named(truth.iter().copied()));
        let mut line = Map::new();
        let correct = right == said["labels"];
        line.insert("labels".into(), right);
        line.insert("predicted".into(), said["labels"].clone());
        line.insert("probabilities".into(), said["probabilities"].clone());
        line.insert("loss".into(), json!(shortest(cross_entropy(logits, truth))));
        line.insert("correct".into(), json!(correct));
        line
    }

    fn answer(&self, logits: &[f32], _: ExampleOf<'_>) -> Prediction {
        let probabilities = probabilities(logits);
        Prediction::Labels {
            labels: self.named(self.given(&probabilities)),
            probabilities: (self.encoder.names().iter().cloned())
                .zip(probabilities)
                .collect(),
        }
    }

    fn fitted(&self) -> Option<&'static str> {
        Some("the thresholds were")
    }

    fn fit(&mut self, logits: &Logits, targets: &Targets) {
        self.thresholds = self.metrics(logits, targets).best_thresholds();
    }

    fn thresholds(&self) -> &[f64] {
        &self.thresholds
    }
}

impl<B: TuneBackend> Loss<B> for MultiLabel {
    fn losses(&self, logits: Tensor<B, 2>, targets: &Targets) -> Tensor<B, 1> {
        let data = TensorData::new(targets.to_f32(), logits.dims());
        let truth = Tensor::from_data(data, &logits.device());
        // -log sigmoid without overflow: max(x, 0) - x y + log(1 + exp(-|x|)).
        let smooth = logits.clone().abs().neg().exp().log1p();
        let losses = activation::relu(logits.clone()) - logits * truth + smooth;
        losses.mean_dim(1).squeeze_dim::<1>(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loss_is_that_of_sigmoids_and_does_not_overflow() {
        let naive = |x: f64, y: f64| {
            let p = 1.0 / (1.0 + (-x).exp());
            -(y * p.ln() + (1.0 - y) * (1.0 - p).ln())
        };
        let expected = (naive(0.7, 1.0) + naive(-1.3, 1.0) + naive(2.1, 0.0)) / 3.0;
        let found = cross_entropy(&[0.7, -1.3, 2.1], &[true, true, false]);
        assert!((found - expected).abs() < 1e-6, "{found} {expected}");
        assert_eq!(cross_entropy(&[-1e4, 1e4], &[false, true]), 0.0);
        assert_eq!(cross_entropy(&[1e4], &[false]), 1e4);
    }
}
