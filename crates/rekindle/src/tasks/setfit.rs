//! Few-shot classification (Tunstall et al. 2022, "Efficient Few-Shot Learning Without Prompts"): the encoder learns of pairs of
//! texts whether they have the same label, by the squared error of their cosine; its embeddings are then what a logistic
//! regression tells the labels from. That is done outside (`Recipe::with_fitted_head`); all but the loss is classification's.

use super::{Loss, Objective, Prediction, Wrong, classification::Classification, embedding};
use crate::{
    evaluation::Logits,
    figures::{Figures, Watched},
    inputs::ExampleOf,
};
use burn::tensor::Tensor;
use rekindle_data::{TargetEncoder, Targets};
use rekindle_nn::TuneBackend;
use serde_json::{Map, Value};

pub(super) struct Setfit(pub Classification);

impl Objective for Setfit {
    fn encoder(&self) -> &TargetEncoder {
        self.0.encoder()
    }

    fn described_as(&self) -> &'static str {
        self.0.described_as()
    }

    fn watched(&self) -> Vec<Watched> {
        self.0.watched()
    }

    fn compares_texts(&self) -> bool {
        true
    }

    fn figures(&self, logits: &Logits, targets: &Targets) -> Figures {
        self.0.figures(logits, targets)
    }

    fn worst(&self, logits: &Logits, targets: &Targets, most: usize) -> Vec<Wrong> {
        self.0.worst(logits, targets, most)
    }

    fn doubtful(&self, logits: &Logits, targets: &Targets, most: usize) -> Vec<Wrong> {
        self.0.doubtful(logits, targets, most)
    }

    fn scored(
        &self,
        logits: &Logits,
        targets: &Targets,
        row: usize,
        of: ExampleOf<'_>,
    ) -> Map<String, Value> {
        self.0.scored(logits, targets, row, of)
    }

    fn answer(&self, logits: &[f32], of: ExampleOf<'_>) -> Prediction {
        self.0.answer(logits, of)
    }
}

impl<B: TuneBackend> Loss<B> for Setfit {
    fn losses(&self, embeddings: Tensor<B, 2>, targets: &Targets) -> Tensor<B, 1> {
        match targets {
            Targets::Related(rows) => embedding::squared_errors(&embeddings, rows),
            _ => unreachable!("a step of few-shot classification takes pairs"),
        }
    }
}
