//! Few-shot classification (Tunstall et al. 2022, "Efficient Few-Shot Learning Without Prompts"): the encoder learns of pairs of
//! texts whether they have the same label, by the squared error of their cosine; its embeddings are then what a logistic
//! regression tells the labels from. That is done outside (`Recipe::with_fitted_head`); all but the loss is classification's.
//!
//! Difference: the paper draws pairs, and encodes both texts of each. Here a step encodes each text of a batch once and compares
//! it with every other, those of its label weighing as much as the others: of 32 texts all 496 pairs for the price of 16.

use super::{Loss, Objective, Prediction, Wrong, classification::Classification, embedding};
use crate::{
    evaluation::Logits,
    figures::{Figures, Watched},
    inputs::ExampleOf,
};
use burn::tensor::{Tensor, TensorData};
use rekindle_data::{TargetEncoder, Targets};
use rekindle_nn::{
    TuneBackend,
    ops::{self, Precision},
};
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

/// What the pairs of a batch of N texts are compared with.
struct Pairs {
    /// `[N, N]`: 1 where two texts have the same label, else 0.
    alike: Vec<f32>,
    /// `[N, N]`: pairs of equal labels weigh half of all N, those of different ones the other half; a text and itself nothing.
    weights: Vec<f32>,
}

impl Pairs {
    fn of(classes: &[u32]) -> Self {
        let n = classes.len();
        let pairs = || (0..n * n).map(|at| (at / n, at % n));
        let is_alike = |(i, j): (usize, usize)| classes[i] == classes[j];
        let alike = pairs().filter(|&(i, j)| i != j && is_alike((i, j))).count();
        let different = pairs().filter(|&pair| !is_alike(pair)).count();
        let half = n as f32 / 2.0;
        let weight = |(i, j): (usize, usize)| match (i == j, is_alike((i, j))) {
            (true, _) => 0.0,
            (false, true) => half / alike as f32,
            (false, false) => half / different as f32,
        };
        Self {
            alike: pairs()
                .map(|pair| f32::from(u8::from(is_alike(pair))))
                .collect(),
            weights: pairs().map(weight).collect(),
        }
    }
}

impl<B: TuneBackend> Loss<B> for Setfit {
    fn losses(&self, embeddings: Tensor<B, 2>, targets: &Targets) -> Tensor<B, 1> {
        let (device, n) = (embeddings.device(), embeddings.dims()[0]);
        let pairs = Pairs::of(targets.class_ids());
        let square = |values: Vec<f32>| Tensor::from_data(TensorData::new(values, [n, n]), &device);
        let unit = embedding::unit_rows(embeddings);
        let cosines = ops::linear(unit.clone(), unit, None, Precision::F32);
        let errors: Tensor<B, 2> = cosines - square(pairs.alike);
        let weighted = errors.clone() * errors * square(pairs.weights);
        weighted.sum_dim(1).squeeze_dim::<1>(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_of_equal_and_of_different_labels_weigh_the_same() {
        let pairs = Pairs::of(&[0, 0, 1, 0]);
        let sum = |alike: f32| -> f32 {
            let all = pairs.alike.iter().zip(&pairs.weights);
            all.filter(|(a, _)| **a == alike).map(|(_, w)| w).sum()
        };
        assert_eq!((sum(1.0), sum(0.0)), (2.0, 2.0));
        assert_eq!((pairs.weights[0], pairs.weights[1]), (0.0, 2.0 / 6.0));
        // Without any of one kind the others weigh what they do.
        let pairs = Pairs::of(&[3, 3]);
        assert_eq!(pairs.weights, [0.0, 0.5, 0.5, 0.0]);
    }
}
