//! What answering without looking at the examples is worth, which a trained model should beat.

use crate::task::{Kind, Task};
use rekindle_metrics::{
    AnswersReport, ClassificationReport, EntityReport, ExtractiveReport, MultiLabelReport,
    RegressionFigures, wilson_95,
};
use serde::{Deserialize, Serialize};

/// A loss counts as better than a guess's if it is so much smaller.
const CLEARLY: f64 = 0.95;

/// How one guesses what a language model answers.
const BASE: &str = "the base model";

/// Of fewer examples nothing can be told.
pub(crate) const FEW: u64 = 8;

/// A guess, and whether the model is better than it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Guess {
    /// How one guesses: "always answering `yes`".
    pub how: String,
    /// The figure's name for people.
    pub figure: String,
    /// Its value for the guess.
    #[serde(with = "rekindle_metrics::nan_as_null")]
    pub value: f64,
    /// Its value for the model.
    #[serde(with = "rekindle_metrics::nan_as_null")]
    pub found: f64,
    /// Whether the model is better, by more than chance gives.
    pub beaten: bool,
}

impl Guess {
    /// Of one class: the most frequent one. A model that answers it always has still learned something where its
    /// probabilities are better than the shares of the classes.
    pub(crate) fn of_classes(report: &ClassificationReport, labels: &[String]) -> Option<Self> {
        let n = report.n as f64;
        let support = || report.per_class.iter().map(|class| class.support);
        let most = support().max().filter(|&most| most > 0)?;
        let class = support().position(|support| support == most)?;
        let value = most as f64 / n;
        let shares = support().filter(|&support| support > 0);
        let entropy: f64 = shares.map(|s| -(s as f64 / n) * (s as f64 / n).ln()).sum();
        let right = report.accuracy * n;
        let (at_least, _) = wilson_95(right.round() as u64, report.n);
        // Where all examples are of one class, nothing can be told.
        (value < 1.0 && report.n >= FEW).then(|| Self {
            how: format!(
                "always answering `{}`",
                labels.get(class).map_or("?", String::as_str)
            ),
            figure: "accuracy".into(),
            value,
            found: report.accuracy,
            beaten: at_least > value || report.loss < CLEARLY * entropy,
        })
    }

    /// Of sets of labels: each label as often as it occurs, in any order.
    pub(crate) fn of_labels(report: &MultiLabelReport) -> Option<Self> {
        let n = report.n as f64;
        let shares: Vec<f64> = report
            .per_label
            .iter()
            .filter(|label| label.support > 0)
            .map(|label| label.support as f64 / n)
            .collect();
        let value = shares.iter().sum::<f64>() / shares.len() as f64;
        let (found, chance) = (report.mean_average_precision, (1.0 / n).sqrt().min(0.1));
        (value < 1.0 && report.n >= FEW).then(|| Self {
            how: "giving labels at random".into(),
            figure: "mAP".into(),
            value,
            found,
            beaten: found - value > chance * (1.0 - value),
        })
    }

    /// Whether it cannot be beaten: what the base model's embeddings find is all there is to find.
    pub(crate) fn is_perfect(&self, task: Task) -> bool {
        task.kind() == Kind::Embedding && self.value >= 1.0
    }

    /// Of numbers: their mean.
    pub(crate) fn of_numbers(figures: &RegressionFigures, n: u64) -> Option<Self> {
        (n >= FEW && figures.target_std > 0.0).then(|| Self {
            how: "always answering the mean".into(),
            figure: "Pearson".into(),
            value: 0.0,
            found: figures.pearson,
            beaten: figures.pearson > 2.0 / (n as f64).sqrt(),
        })
    }

    /// Of entities: that there are none. Every entity that is right beats it.
    pub(crate) fn of_entities(report: &EntityReport) -> Option<Self> {
        (report.correct == 0 && report.support > 0).then(|| Self {
            how: "labelling nothing".into(),
            figure: "entity F1".into(),
            value: 0.0,
            found: report.micro_f1,
            beaten: false,
        })
    }

    /// Of answers that are pieces of texts: that there is none. Where each text has one, every exact answer beats it.
    pub(crate) fn of_extracted(report: &ExtractiveReport) -> Option<Self> {
        let all = report.overall;
        let none = report.no_answer.map_or(0, |share| share.n);
        let value = none as f64 / all.n as f64;
        let right = (all.exact_match * all.n as f64).round() as u64;
        let (at_least, _) = wilson_95(right, all.n);
        let beaten = match none {
            0 => right > 0,
            _ => at_least > value,
        };
        (all.n >= FEW && (none > 0 || !beaten)).then(|| Self {
            how: "answering nothing".into(),
            figure: "exact match".into(),
            value,
            found: all.exact_match,
            beaten,
        })
    }

    /// Of choices, so many of so many questions right: any of them. A model that is right no more often has still learned something where its
    /// loss is below that of equal probabilities.
    pub(crate) fn of_choices(
        (right, n): (u64, u64),
        chance: f64,
        [loss, even_loss]: [f64; 2],
    ) -> Option<Self> {
        let (at_least, _) = wilson_95(right, n);
        (n >= FEW).then(|| Self {
            how: "choosing at random".into(),
            figure: "accuracy".into(),
            value: chance,
            found: right as f64 / n as f64,
            beaten: at_least > chance || loss < CLEARLY * even_loss,
        })
    }

    /// Of two answers: either.
    pub(crate) fn of_pairs(accuracy: f64, n: u64) -> Option<Self> {
        (n >= FEW).then(|| Self {
            how: "preferring either answer at random".into(),
            figure: "reward accuracy".into(),
            value: 0.5,
            found: accuracy,
            beaten: accuracy > 0.5 + 0.5 / (n as f64).sqrt(),
        })
    }

    /// Of answers in words: those of the base model.
    pub(crate) fn of_answers(report: &AnswersReport, base: &AnswersReport) -> Self {
        let (figure, value, found) = match (&base.json, &report.json) {
            (Some(base), Some(report)) => ("F1 of fields", base.field_f1, report.field_f1),
            _ => ("ROUGE-L", base.rouge_l, report.rouge_l),
        };
        Self {
            how: BASE.into(),
            figure: figure.into(),
            value,
            found,
            beaten: found > value,
        }
    }

    /// Of embeddings: those of the model before tuning. More is better.
    pub(crate) fn of_base(figure: &str, value: f64, found: f64) -> Self {
        Self {
            how: BASE.into(),
            figure: figure.into(),
            value,
            found,
            beaten: found > value,
        }
    }

    /// The share of what the guess leaves to gain that the model gained, in [0, 1]: all figures are 1 at best. 0 for a model
    /// whose figure is not defined.
    #[must_use]
    pub fn gain(&self) -> f64 {
        match (self.found - self.value) / (1.0 - self.value) {
            gain if gain.is_nan() => 0.0,
            gain => gain.clamp(0.0, 1.0),
        }
    }

    /// What a user must know, where the model is no better.
    #[must_use]
    pub fn warning(&self) -> Option<String> {
        let Self {
            how,
            figure,
            value,
            found,
            ..
        } = self;
        (!self.beaten).then(|| {
            let found = match found.is_finite() {
                true => format!("{figure} {found:.4}"),
                false => format!("{figure} is not defined, the answers being all alike"),
            };
            let verdict = match (self.is_base(), self.found > *value) {
                (true, _) => "no better than before training",
                (false, true) => "not clearly better than guessing, on so few examples",
                (false, false) => "no better than guessing",
            };
            format!("{verdict}: {found}; {how} gives {value:.4}")
        })
    }

    /// Whether it is no guess, but what the model said before it was tuned.
    #[must_use]
    pub fn is_base(&self) -> bool {
        self.how == BASE
    }

    /// The guess and its figure, where the model is better.
    #[must_use]
    pub fn comparison(&self) -> Option<String> {
        let Self {
            how, figure, value, ..
        } = self;
        self.beaten
            .then(|| format!("{how} gives {figure} {value:.4}"))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use rekindle_metrics::{Classification, Regression};

    fn classes(predicted: &[u32], right: &[u32], loss: f64) -> Guess {
        let mut metrics = Classification::new(2);
        let n = right.len() as u64;
        metrics
            .update(predicted, right, loss * n as f64, n)
            .unwrap();
        Guess::of_classes(&metrics.report(), &["no".into(), "yes".into()]).unwrap()
    }

    #[test]
    fn the_most_frequent_class_is_no_learning() {
        let right = [vec![0; 60], vec![1; 40]].concat();
        let guess = classes(&[0; 100], &right, 0.70);
        assert!(!guess.beaten && guess.value == 0.6, "{guess:?}");
        assert_eq!(guess.gain(), 0.0);
        let said = guess.warning().unwrap();
        assert!(said.contains("`no`") && said.contains("0.6000"), "{said}");
        // The loss shows what was learned where the most probable class does not.
        assert!(classes(&[0; 100], &right, 0.40).beaten);
        let mut predicted = right.clone();
        predicted[..20].fill(1);
        let guess = classes(&predicted, &right, 0.9);
        // 80 of 100 right, 60 by guessing: half of the 40 that were left.
        assert!((guess.gain() - 0.5).abs() < 1e-12, "{guess:?}");
        assert!(guess.beaten && guess.warning().is_none(), "{guess:?}");
        // 7 of 12 right where guessing gives 6: that is chance.
        let few = [vec![0; 6], vec![1; 6]].concat();
        let mut predicted = few.clone();
        predicted[..5].fill(1);
        let guess = classes(&predicted, &few, 0.69);
        let said = guess.warning().unwrap();
        assert!(
            said.starts_with("not clearly better") && guess.comparison().is_none(),
            "{said}"
        );
    }

    #[test]
    fn choosing_at_random_is_no_learning() {
        // 12 of 40 right among four choices, and a loss of equal probabilities.
        let even = 4f64.ln();
        let guess = Guess::of_choices((12, 40), 0.25, [even, even]).unwrap();
        assert!(!guess.beaten && guess.value == 0.25, "{guess:?}");
        // Better probabilities, or more right than chance gives.
        for (right, loss) in [(12, 0.9 * even), (24, 2.0 * even)] {
            assert!(
                Guess::of_choices((right, 40), 0.25, [loss, even])
                    .unwrap()
                    .beaten
            );
        }
        assert!(Guess::of_choices((7, 7), 0.25, [0.0, even]).is_none());
    }

    #[test]
    fn answers_that_are_all_alike_beat_no_mean() {
        let mut metrics = Regression::new(1);
        for i in 0..20 {
            metrics.update(&[0.5], &[f64::from(i)]).unwrap();
        }
        let report = metrics.report();
        let guess = Guess::of_numbers(&report.overall, report.n).unwrap();
        assert!(guess.warning().unwrap().contains("all alike"), "{guess:?}");
    }
}
