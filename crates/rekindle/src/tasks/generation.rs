//! Generation: the next token of conversations and texts, by cross-entropy. A language model gives no logits but, of each example,
//! the sum of its tokens' losses and how many of them it would have chosen; the mean is over tokens, whatever the batch.

use super::{Loss, Objective, Prediction, Wrong, shortest};
use crate::{
    evaluation::Logits,
    figures::{Figures, Scalar, Shown, Tile, Watched},
    report::text::{count, figure, percent},
};
use burn::tensor::Tensor;
use rekindle_data::{TargetEncoder, TargetRow, Targets};
use rekindle_nn::TuneBackend;
use serde_json::{Map, Value, json};

pub(super) struct Generation {
    encoder: TargetEncoder,
}

impl Generation {
    pub(super) fn new() -> Self {
        Self {
            encoder: TargetEncoder::Next,
        }
    }
}

/// How many tokens of an example are learned.
fn tokens(targets: &Targets, row: usize) -> f64 {
    match targets.row(row) {
        TargetRow::Next(tokens) => f64::from(tokens),
        _ => 0.0,
    }
}

impl Objective for Generation {
    fn encoder(&self) -> &TargetEncoder {
        &self.encoder
    }

    fn described_as(&self) -> &'static str {
        "learns"
    }

    fn watched(&self) -> Vec<Watched> {
        vec![
            Watched::new("loss", "loss", false),
            Watched::new("perplexity", "perplexity", false),
            Watched::new("token_accuracy", "token accuracy", true),
        ]
    }

    fn figures(&self, outputs: &Logits, targets: &Targets) -> Figures {
        let (mut loss, mut right, mut learned, mut nonfinite) = (0.0, 0.0, 0.0, 0u64);
        for row in 0..outputs.len() {
            let (sum, chosen) = (
                f64::from(outputs.row(row)[0]),
                f64::from(outputs.row(row)[1]),
            );
            nonfinite += u64::from(!sum.is_finite());
            loss += sum;
            right += chosen;
            learned += tokens(targets, row);
        }
        let (loss, accuracy) = (loss / learned.max(1.0), right / learned.max(1.0));
        let n = outputs.len() as u64;
        let mut warnings = Vec::new();
        if nonfinite > 0 {
            warnings.push(format!(
                "The loss was not finite in {nonfinite} of {n} examples."
            ));
        }
        Figures {
            n,
            headline: "loss".into(),
            scalars: vec![
                Scalar::new("loss", "loss", loss, Shown::Always),
                Scalar::new("perplexity", "perplexity", loss.exp(), Shown::Always),
                Scalar::new("token_accuracy", "token accuracy", accuracy, Shown::Always),
                Scalar::new("tokens", "tokens learned", learned, Shown::Behind),
            ],
            tiles: vec![
                Tile::new(
                    "loss",
                    figure(loss),
                    format!("a token, {} tokens", count(learned as u64)),
                ),
                Tile::new("perplexity", figure(loss.exp()), String::new()),
                Tile::new(
                    "token accuracy",
                    percent(accuracy),
                    "each token after the right ones before it".into(),
                ),
            ],
            warnings,
            guess: None,
            sections: Vec::new(),
        }
    }

    fn worst(&self, outputs: &Logits, targets: &Targets, most: usize) -> Vec<Wrong> {
        let mean = |row: usize| f64::from(outputs.row(row)[0]) / tokens(targets, row).max(1.0);
        let wrong = |row: &usize| f64::from(outputs.row(*row)[1]) < tokens(targets, *row);
        let mut rows: Vec<(usize, f64)> = (0..outputs.len())
            .filter(wrong)
            .map(|row| (row, mean(row)))
            .collect();
        rows.sort_by(|a, b| b.1.total_cmp(&a.1));
        rows.truncate(most);
        let described = rows.into_iter().map(|(row, loss)| Wrong {
            row,
            right: String::new(),
            said: format!(
                "{} of {} tokens right",
                outputs.row(row)[1],
                tokens(targets, row)
            ),
            probability: None,
            loss,
            top: Vec::new(),
        });
        described.collect()
    }

    fn scored(&self, outputs: &Logits, targets: &Targets, row: usize) -> Map<String, Value> {
        let (learned, right) = (tokens(targets, row), f64::from(outputs.row(row)[1]));
        let loss = f64::from(outputs.row(row)[0]) / learned.max(1.0);
        let mut line = Map::new();
        line.insert("tokens".into(), json!(learned as u64));
        line.insert("tokens_right".into(), json!(right as u64));
        line.insert("loss".into(), json!(shortest(loss)));
        line
    }

    fn answer(&self, outputs: &[f32]) -> Prediction {
        Prediction::Numbers {
            values: vec![("loss".into(), f64::from(outputs[0]))],
        }
    }
}

impl<B: TuneBackend> Loss<B> for Generation {
    fn losses(&self, outputs: Tensor<B, 2>, _: &Targets) -> Tensor<B, 1> {
        let examples = outputs.dims()[0];
        outputs.narrow(1, 0, 1).reshape([examples])
    }
}
