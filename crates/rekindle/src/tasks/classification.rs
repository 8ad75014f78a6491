//! Classification: one of several classes, by softmax and cross-entropy.

use super::{Loss, Objective, Prediction, Wrong, most_probable, shortest};
use crate::{
    RunConfig, balance,
    evaluation::{Logits, argmax},
    figures::{Figures, Scalar, Section, Shown, Tile, Watched},
    guess::Guess,
    inputs::ExampleOf,
    report::text::{count, figure, percent},
};
use burn::tensor::{Int, Tensor, TensorData};
use rekindle_data::{TargetEncoder, Targets};
use rekindle_metrics::{Calibration, Classification as Metrics, wilson_95};
use rekindle_nn::{
    TuneBackend,
    ops::{self, CrossEntropy},
};
use serde_json::{Map, Value, json};

/// The right class counts as found if it is among so many.
const TOP: usize = 5;

pub(super) struct Classification {
    encoder: TargetEncoder,
    loss: CrossEntropy,
}

impl Classification {
    pub(super) fn train(config: &RunConfig, encoder: TargetEncoder, targets: &Targets) -> Self {
        let weighted = config.train.class_weights;
        let weights = || balance::class_weights(targets.class_ids(), encoder.outputs()).into();
        let loss = CrossEntropy {
            label_smoothing: config.train.label_smoothing,
            weights: weighted.then(weights),
            ignored: None,
        };
        Self { encoder, loss }
    }

    pub(super) fn restore(encoder: TargetEncoder) -> Self {
        Self {
            encoder,
            loss: CrossEntropy::default(),
        }
    }
}

impl Classification {
    /// An answer as the report shows it.
    fn described(&self, logits: &Logits, row: usize, class: usize, loss: f64) -> Wrong {
        let (names, said) = (self.encoder.names(), argmax(logits.row(row)));
        let probabilities = probabilities(logits.row(row));
        Wrong {
            row,
            right: names[class].clone(),
            said: names[said].clone(),
            probability: Some(probabilities[said]),
            loss,
            top: most_probable(names, &probabilities),
            words: None,
        }
    }
}

/// Softmax in f64.
pub(super) fn probabilities(logits: &[f32]) -> Vec<f64> {
    let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let exp: Vec<f64> = logits
        .iter()
        .map(|&l| f64::from(l - largest).exp())
        .collect();
    let sum: f64 = exp.iter().sum();
    exp.into_iter().map(|e| e / sum).collect()
}

/// Cross-entropy in f64, without weights or smoothing.
pub(super) fn cross_entropy(logits: &[f32], class: usize) -> f64 {
    let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = logits.iter().map(|&l| f64::from(l - largest).exp()).sum();
    sum.ln() - f64::from(logits[class] - largest)
}

/// The same of logits in f64, of which `right` is that of the class.
pub(super) fn cross_entropy_of(logits: impl Iterator<Item = f64> + Clone, right: f64) -> f64 {
    let most = logits.clone().fold(f64::NEG_INFINITY, f64::max);
    let sum: f64 = logits.map(|logit| (logit - most).exp()).sum();
    sum.ln() + most - right
}

impl Objective for Classification {
    fn encoder(&self) -> &TargetEncoder {
        &self.encoder
    }

    fn described_as(&self) -> &'static str {
        "labels"
    }

    fn watched(&self) -> Vec<Watched> {
        vec![
            Watched::new("loss", "loss", false),
            Watched::new("accuracy", "accuracy", true),
            Watched::new("macro_f1", "macro F1", true),
        ]
    }

    fn figures(&self, logits: &Logits, targets: &Targets) -> Figures {
        use Shown::{Always, Behind, InFull};
        let labels = self.encoder.names().to_vec();
        let mut metrics = Metrics::new(labels.len());
        let mut calibration = Calibration::new(TOP);
        for (row, &class) in targets.class_ids().iter().enumerate() {
            let row = logits.row(row);
            let loss = cross_entropy(row, class as usize);
            // Classes come from an encoder with as many names as there are logits.
            let _ = metrics.update(&[argmax(row) as u32], &[class], loss, 1);
            calibration.update(&probabilities(row), class as usize);
        }
        let (report, calibration) = (metrics.report(), calibration.report());
        let correct = (0..report.confusion.len())
            .filter_map(|class| report.confusion[class].get(class))
            .sum();
        let (low, high) = wilson_95(correct, report.n);
        let mut tiles = vec![
            Tile::new(
                "accuracy",
                percent(report.accuracy),
                format!("95 % interval {} to {}", percent(low), percent(high)),
            ),
            Tile::new(
                "macro F1",
                percent(report.macro_f1),
                format!("MCC {:.3}", report.mcc),
            ),
            Tile::new(
                "loss",
                figure(report.loss),
                format!("{} examples", count(report.n)),
            ),
        ];
        let mut scalars = vec![
            Scalar::new("accuracy", "accuracy", report.accuracy, Always),
            Scalar::new("macro_f1", "macro F1", report.macro_f1, Always),
            Scalar::new("weighted_f1", "weighted F1", report.weighted_f1, InFull),
            Scalar::new("mcc", "MCC", report.mcc, InFull),
            Scalar::new("loss", "loss", report.loss, Always),
            Scalar::new("ece", "calibration error", calibration.ece, Behind),
        ];
        let share = |name: &str, share: f64| Tile::new(name, percent(share), String::new());
        // Of five classes or fewer, the right one always is among the first five.
        if labels.len() > calibration.k {
            let (name, value) = (
                format!("top-{} accuracy", calibration.k),
                calibration.top_k_accuracy,
            );
            tiles.push(share(&name, value));
            scalars.push(Scalar::new("top5", &name, value, Behind));
        }
        tiles.push(share("calibration error", calibration.ece));
        let mut warnings = Vec::new();
        if report.nonfinite > 0 {
            warnings.push(format!(
                "The loss was not finite in {} of {} examples.",
                report.nonfinite, report.n
            ));
        }
        Figures {
            n: report.n,
            headline: "accuracy".into(),
            scalars,
            tiles,
            warnings,
            guess: Guess::of_classes(&report, &labels),
            sections: vec![Section::Classes {
                report,
                labels,
                calibration,
            }],
        }
    }

    fn worst(&self, logits: &Logits, targets: &Targets, most: usize) -> Vec<Wrong> {
        let classes = targets.class_ids();
        let mut wrong: Vec<(usize, f64)> = (0..logits.len())
            .filter(|&row| argmax(logits.row(row)) != classes[row] as usize)
            .map(|row| (row, cross_entropy(logits.row(row), classes[row] as usize)))
            .collect();
        wrong.sort_by(|a, b| b.1.total_cmp(&a.1));
        wrong.truncate(most);
        let described = wrong
            .into_iter()
            .map(|(row, loss)| self.described(logits, row, classes[row] as usize, loss));
        described.collect()
    }

    fn doubtful(&self, logits: &Logits, targets: &Targets, most: usize) -> Vec<Wrong> {
        let classes = targets.class_ids();
        let mut right: Vec<(usize, f64)> = (0..logits.len())
            .filter(|&row| argmax(logits.row(row)) == classes[row] as usize)
            .map(|row| (row, cross_entropy(logits.row(row), classes[row] as usize)))
            .collect();
        right.sort_by(|a, b| b.1.total_cmp(&a.1));
        right.truncate(most);
        let described = right.into_iter();
        described
            .map(|(row, loss)| self.described(logits, row, classes[row] as usize, loss))
            .collect()
    }

    fn scored(
        &self,
        logits: &Logits,
        targets: &Targets,
        row: usize,
        of: ExampleOf<'_>,
    ) -> Map<String, Value> {
        let (logits, class) = (logits.row(row), targets.class_ids()[row] as usize);
        let said = self.answer(logits, of).to_json();
        let mut line = Map::new();
        line.insert("label".into(), json!(self.encoder.names()[class]));
        line.insert("predicted".into(), said["label"].clone());
        line.insert("probability".into(), said["probability"].clone());
        line.insert("probabilities".into(), said["probabilities"].clone());
        line.insert("loss".into(), json!(shortest(cross_entropy(logits, class))));
        line.insert("correct".into(), json!(argmax(logits) == class));
        line
    }

    fn answer(&self, logits: &[f32], _: ExampleOf<'_>) -> Prediction {
        let (probabilities, best) = (probabilities(logits), argmax(logits));
        let names = self.encoder.names();
        Prediction::Class {
            label: names[best].clone(),
            probability: probabilities[best],
            probabilities: names.iter().cloned().zip(probabilities).collect(),
        }
    }
}

impl<B: TuneBackend> Loss<B> for Classification {
    fn losses(&self, logits: Tensor<B, 2>, targets: &Targets) -> Tensor<B, 1> {
        let classes = targets.to_i32();
        let device = logits.device();
        let classes: Tensor<B, 1, Int> =
            Tensor::from_data(TensorData::from(classes.as_slice()), &device);
        ops::cross_entropy(logits, classes, &self.loss)
    }
}
