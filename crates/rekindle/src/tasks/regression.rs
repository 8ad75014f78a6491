//! Regression: one or several numbers, by mean squared error.
//!
//! The model learns standardised numbers, so that prices train as well as ratings; what is saved gives the numbers
//! themselves, because the scale is folded into the head (`train.standardize_targets`).

use super::{Loss, Objective, Prediction, Scale, Wrong, shortest};
use crate::{
    RunConfig,
    evaluation::Logits,
    figures::{Figures, Scalar, Section, Shown, Tile, Watched},
    guess::Guess,
    report::text::{count, figure},
};
use burn::tensor::{Tensor, TensorData};
use rekindle_data::{TargetEncoder, TargetRow, Targets};
use rekindle_metrics::Regression as Metrics;
use rekindle_nn::TuneBackend;
use serde_json::{Map, Value, json};

pub(super) struct Regression {
    encoder: TargetEncoder,
    /// From the model's outputs to the numbers.
    scale: Scale,
    /// Means of the training targets, where they are known.
    means: Option<Vec<f64>>,
}

impl Regression {
    pub(super) fn train(config: &RunConfig, encoder: TargetEncoder, targets: &Targets) -> Self {
        let columns = Columns::of(targets, encoder.outputs());
        let scale = match config.train.standardize_targets {
            true => columns.scale(),
            false => Scale::identity(encoder.outputs()),
        };
        Self {
            encoder,
            scale,
            means: Some(columns.means),
        }
    }

    pub(super) fn restore(encoder: TargetEncoder) -> Self {
        Self {
            scale: Scale::identity(encoder.outputs()),
            encoder,
            means: None,
        }
    }

    /// The numbers that outputs `[K]` stand for.
    fn numbers(&self, outputs: &[f32]) -> Vec<f64> {
        let scaled = outputs
            .iter()
            .zip(&self.scale.factors)
            .zip(&self.scale.offsets);
        scaled
            .map(|((&output, factor), offset)| f64::from(output) * factor + offset)
            .collect()
    }

    /// Mean of the squared errors of one example, in the scale that is learned.
    fn loss(&self, predicted: &[f64], target: &[f64]) -> f64 {
        let pairs = predicted.iter().zip(target).zip(&self.scale.factors);
        let squares: f64 = pairs
            .map(|((p, t), factor)| ((p - t) / factor).powi(2))
            .sum();
        squares / target.len().max(1) as f64
    }
}

/// Mean and standard deviation of each column.
struct Columns {
    means: Vec<f64>,
    deviations: Vec<f64>,
}

impl Columns {
    fn of(targets: &Targets, width: usize) -> Self {
        let n = targets.len().max(1) as f64;
        let values = |column: usize| {
            let rows = 0..targets.len();
            rows.map(move |row| row_of(targets, row).get(column).copied().unwrap_or(0.0))
        };
        let means: Vec<f64> = (0..width).map(|c| values(c).sum::<f64>() / n).collect();
        let deviation = |column: usize| {
            let squares: f64 = values(column).map(|v| (v - means[column]).powi(2)).sum();
            (squares / n).sqrt()
        };
        Self {
            deviations: (0..width).map(deviation).collect(),
            means,
        }
    }

    /// A constant column keeps its unit.
    fn scale(&self) -> Scale {
        let factor = |&deviation: &f64| match deviation > 0.0 && deviation.is_finite() {
            true => deviation,
            false => 1.0,
        };
        Scale {
            factors: self.deviations.iter().map(factor).collect(),
            offsets: self.means.clone(),
        }
    }
}

fn row_of(targets: &Targets, row: usize) -> Vec<f64> {
    match targets.row(row) {
        TargetRow::Real(values) => values.iter().map(|&v| f64::from(v)).collect(),
        _ => Vec::new(),
    }
}

/// Numbers as people read them, by name where there are several.
fn shown(names: &[String], numbers: &[f64]) -> String {
    match numbers {
        [only] => figure(*only),
        several => {
            let named = names.iter().zip(several);
            let parts: Vec<String> = named
                .map(|(name, number)| format!("{name} {}", figure(*number)))
                .collect();
            parts.join(", ")
        }
    }
}

impl Objective for Regression {
    fn encoder(&self) -> &TargetEncoder {
        &self.encoder
    }

    fn described_as(&self) -> &'static str {
        "numbers"
    }

    fn watched(&self) -> Vec<Watched> {
        vec![
            Watched::new("loss", "loss", false),
            Watched::new("mae", "MAE", false),
            Watched::new("pearson", "Pearson", false),
        ]
    }

    fn figures(&self, logits: &Logits, targets: &Targets) -> Figures {
        let names = self.encoder.names().to_vec();
        let mut metrics = match &self.means {
            Some(means) => Metrics::with_training_means(means),
            None => Metrics::new(names.len()),
        };
        let mut losses = 0.0;
        for row in 0..targets.len() {
            let (predicted, target) = (self.numbers(logits.row(row)), row_of(targets, row));
            losses += self.loss(&predicted, &target);
            // Both have as many columns as the encoder has names.
            let _ = metrics.update(&predicted, &target);
        }
        let report = metrics.report();
        let loss = losses / targets.len() as f64;
        let all = report.overall;
        let mut warnings = Vec::new();
        if report.nonfinite > 0 {
            warnings.push(format!(
                "{} predictions or targets are not finite.",
                count(report.nonfinite)
            ));
        }
        use Shown::{Always, InFull};
        Figures {
            n: report.n,
            headline: "pearson".into(),
            scalars: vec![
                Scalar::new("mse", "MSE", all.mse, InFull),
                Scalar::new("mae", "MAE", all.mae, Always),
                Scalar::new("pearson", "Pearson", all.pearson, Always),
                Scalar::new("spearman", "Spearman", all.spearman, Always),
                Scalar::new("r2", "R²", all.r2, Always),
                Scalar::new("loss", "loss", loss, Always),
            ],
            tiles: vec![
                Tile::new(
                    "Pearson correlation",
                    format!("{:.3}", all.pearson),
                    format!("Spearman {:.3}", all.spearman),
                ),
                Tile::new("R²", format!("{:.3}", all.r2), String::new()),
                Tile::new(
                    "mean absolute error",
                    figure(all.mae),
                    match all.baseline_mae.is_finite() {
                        true => format!("{} by the training mean", figure(all.baseline_mae)),
                        false => String::new(),
                    },
                ),
                Tile::new(
                    "root of the mean squared error",
                    figure(all.rmse),
                    format!("{} examples", count(report.n)),
                ),
            ],
            warnings,
            guess: Guess::of_numbers(&all, report.n),
            sections: vec![Section::Numbers { report, names }],
        }
    }

    fn worst(&self, logits: &Logits, targets: &Targets, most: usize) -> Vec<Wrong> {
        let names = self.encoder.names();
        let mut losses: Vec<(usize, f64)> = (0..targets.len())
            .map(|row| {
                let predicted = self.numbers(logits.row(row));
                (row, self.loss(&predicted, &row_of(targets, row)))
            })
            .filter(|(_, loss)| *loss > 0.0)
            .collect();
        losses.sort_by(|a, b| b.1.total_cmp(&a.1));
        losses.truncate(most);
        let described = losses.into_iter().map(|(row, loss)| Wrong {
            row,
            right: shown(names, &row_of(targets, row)),
            said: shown(names, &self.numbers(logits.row(row))),
            probability: None,
            loss,
            top: Vec::new(),
        });
        described.collect()
    }

    fn scored(&self, logits: &Logits, targets: &Targets, row: usize) -> Map<String, Value> {
        let (predicted, right) = (self.numbers(logits.row(row)), row_of(targets, row));
        let named = |numbers: &[f64]| -> Map<String, Value> {
            let names = self.encoder.names().iter().cloned();
            names
                .zip(numbers.iter().map(|&number| json!(shortest(number))))
                .collect()
        };
        let errors: Vec<f64> = predicted.iter().zip(&right).map(|(p, r)| p - r).collect();
        let mut line = Map::new();
        line.insert("label".into(), named(&right).into());
        line.insert("predicted".into(), named(&predicted).into());
        line.insert("error".into(), named(&errors).into());
        line.insert(
            "loss".into(),
            json!(shortest(self.loss(&predicted, &right))),
        );
        line
    }

    fn answer(&self, logits: &[f32]) -> Prediction {
        let numbers = self.numbers(logits).into_iter();
        let names = self.encoder.names().iter().cloned();
        Prediction::Numbers {
            values: names.zip(numbers).collect(),
        }
    }

    fn scale(&self) -> Option<&Scale> {
        Some(&self.scale)
    }
}

impl<B: TuneBackend> Loss<B> for Regression {
    fn losses(&self, logits: Tensor<B, 2>, targets: &Targets) -> Tensor<B, 1> {
        let [n, width] = logits.dims();
        let scale = (self.scale.factors.iter()).zip(&self.scale.offsets).cycle();
        let values: Vec<f32> = targets
            .to_f32()
            .into_iter()
            .zip(scale)
            .map(|(value, (factor, offset))| ((f64::from(value) - offset) / factor) as f32)
            .collect();
        let data = TensorData::new(values, [n, width]);
        let difference = logits.clone() - Tensor::from_data(data, &logits.device());
        (difference.clone() * difference)
            .mean_dim(1)
            .squeeze_dim::<1>(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_of_any_size_are_learned_in_the_same_scale() {
        let targets = Targets::Real {
            width: 2,
            values: vec![100_000.0, 5.0, 300_000.0, 5.0],
        };
        let columns = Columns::of(&targets, 2);
        assert_eq!(columns.means, [200_000.0, 5.0]);
        let scale = columns.scale();
        assert_eq!(scale.factors, [100_000.0, 1.0]);
        assert_eq!(scale.offsets, [200_000.0, 5.0]);
    }
}
