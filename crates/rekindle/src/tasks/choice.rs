//! Multiple choice: of each choice one logit, by softmax over those of a question and cross-entropy, as transformers' `...ForMultipleChoice`.

use super::{
    Loss, Objective, Prediction, RatedChoice, Wrong,
    classification::{cross_entropy, probabilities},
    in_rows, most_probable, shortest,
};
use crate::{
    evaluation::{Logits, argmax},
    figures::{Figures, OfChoices, Scalar, Section, Shown, Tile, Watched},
    guess::Guess,
    inputs::ExampleOf,
    report::text::{figure, percent},
};
use burn::tensor::{Int, Tensor, TensorData};
use rekindle_base::counted;
use rekindle_data::{
    TargetEncoder, Targets,
    choices::{ChoiceQuestion, Posed},
};
use rekindle_metrics::{Calibration, wilson_95};
use rekindle_nn::{
    TuneBackend,
    ops::{self, CrossEntropy},
};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// Of so many choices the right one counts as found if it is among them, which is of no interest here.
const TOP: usize = 1;

pub(super) struct Choice {
    encoder: TargetEncoder,
}

impl Choice {
    pub(super) fn new(encoder: TargetEncoder) -> Self {
        Self { encoder }
    }

    /// The rows that are right, or wrong, the highest loss first.
    fn rows(&self, logits: &Logits, targets: &Targets, most: usize, are_right: bool) -> Vec<Wrong> {
        let posed = posed(targets);
        let mut rows: Vec<(usize, f64)> = (0..logits.len())
            .filter(|&row| (argmax(logits.row(row)) == right(posed.question(row))) == are_right)
            .map(|row| (row, loss_of(posed.question(row), logits.row(row))))
            .collect();
        rows.sort_by(|a, b| b.1.total_cmp(&a.1));
        rows.truncate(most);
        let described = |(row, loss)| {
            let (question, logits) = (posed.question(row), logits.row(row));
            let (said, probabilities) = (argmax(logits), probabilities(logits));
            Wrong {
                row,
                right: question.choices[right(question)].clone(),
                said: question.choices[said].clone(),
                probability: Some(probabilities[said]),
                loss,
                top: most_probable(&question.choices, &probabilities),
                words: None,
            }
        };
        rows.into_iter().map(described).collect()
    }
}

/// The questions that targets are.
fn posed(targets: &Targets) -> &Posed {
    match targets {
        Targets::Choices(posed) => posed,
        _ => unreachable!("the targets of this task are questions with choices"),
    }
}

/// The right choice. What is learned or counted has one.
fn right(question: &ChoiceQuestion) -> usize {
    question.answer.unwrap_or_default()
}

/// The loss that training has; NaN where no answer is known.
fn loss_of(question: &ChoiceQuestion, logits: &[f32]) -> f64 {
    let loss = |answer| cross_entropy(logits, answer);
    question.answer.map_or(f64::NAN, loss)
}

impl Objective for Choice {
    fn encoder(&self) -> &TargetEncoder {
        &self.encoder
    }

    fn described_as(&self) -> &'static str {
        "answers"
    }

    fn watched(&self) -> Vec<Watched> {
        vec![
            Watched::new("loss", "loss", false),
            Watched::new("accuracy", "accuracy", true),
        ]
    }

    fn figures(&self, logits: &Logits, targets: &Targets) -> Figures {
        use Shown::{Always, Behind};
        let posed = posed(targets);
        let mut calibration = Calibration::new(TOP);
        let mut by_count: BTreeMap<usize, OfChoices> = BTreeMap::new();
        // What guessing gives: the loss of equal probabilities, and how often it is right.
        let (mut loss, mut even_loss, mut chance) = (0.0, 0.0, 0.0);
        for row in 0..logits.len() {
            let (question, logits) = (posed.question(row), logits.row(row));
            let choices = question.choices.len();
            loss += loss_of(question, logits);
            even_loss += (choices as f64).ln();
            chance += 1.0 / choices as f64;
            calibration.update(&probabilities(logits), right(question));
            let of = by_count.entry(choices).or_insert(OfChoices {
                choices,
                n: 0,
                right: 0,
            });
            of.n += 1;
            of.right += u64::from(argmax(logits) == right(question));
        }
        let n = logits.len() as u64;
        let [loss, even_loss, chance] = [loss, even_loss, chance].map(|sum| sum / n as f64);
        let rows: Vec<OfChoices> = by_count.into_values().collect();
        let found: u64 = rows.iter().map(|row| row.right).sum();
        let accuracy = found as f64 / n as f64;
        let (low, high) = wilson_95(found, n);
        let calibration = calibration.report();
        let tiles = vec![
            Tile::new(
                "accuracy",
                percent(accuracy),
                format!("95 % interval {} to {}", percent(low), percent(high)),
            ),
            Tile::new(
                "loss",
                figure(loss),
                format!(
                    "{}; {} by chance",
                    counted(n as usize, "question", "questions"),
                    figure(even_loss)
                ),
            ),
            Tile::new("calibration error", percent(calibration.ece), String::new()),
        ];
        Figures {
            n,
            headline: "accuracy".into(),
            scalars: vec![
                Scalar::new("accuracy", "accuracy", accuracy, Always),
                Scalar::new("loss", "loss", loss, Always),
                Scalar::new("ece", "calibration error", calibration.ece, Behind),
            ],
            tiles,
            warnings: Vec::new(),
            guess: Guess::of_choices((found, n), chance, [loss, even_loss]),
            sections: vec![Section::Choices { rows, calibration }],
        }
    }

    fn worst(&self, logits: &Logits, targets: &Targets, most: usize) -> Vec<Wrong> {
        self.rows(logits, targets, most, false)
    }

    fn doubtful(&self, logits: &Logits, targets: &Targets, most: usize) -> Vec<Wrong> {
        self.rows(logits, targets, most, true)
    }

    fn scored(
        &self,
        logits: &Logits,
        targets: &Targets,
        row: usize,
        of: ExampleOf<'_>,
    ) -> Map<String, Value> {
        let (question, logits) = (posed(targets).question(row), logits.row(row));
        let mut line = Map::new();
        line.insert("answer".into(), json!(question.right()));
        line.insert("answer_index".into(), json!(question.answer));
        line.extend(self.answer(logits, of).to_json());
        line.insert("loss".into(), json!(shortest(loss_of(question, logits))));
        let correct = argmax(logits) == right(question);
        line.insert("correct".into(), correct.into());
        line
    }

    fn answer(&self, logits: &[f32], of: ExampleOf<'_>) -> Prediction {
        let choices = &posed(of.set.targets()).question(of.index).choices;
        let rated = choices.iter().zip(probabilities(logits)).enumerate();
        let choices: Vec<RatedChoice> = rated
            .map(|(index, (text, probability))| RatedChoice {
                index,
                text: text.clone(),
                probability,
            })
            .collect();
        Prediction::Choice {
            chosen: choices[argmax(logits)].clone(),
            choices,
        }
    }
}

impl<B: TuneBackend> Loss<B> for Choice {
    /// One loss a question, `[N]`, of logits `[R, 1]` of all choices.
    fn losses(&self, logits: Tensor<B, 2>, targets: &Targets) -> Tensor<B, 1> {
        let (posed, device) = (posed(targets), logits.device());
        let counts: Vec<usize> = posed.questions().map(|q| q.choices.len()).collect();
        let answers: Vec<i32> = posed.questions().map(|q| right(q) as i32).collect();
        let answers: Tensor<B, 1, Int> =
            Tensor::from_data(TensorData::from(answers.as_slice()), &device);
        ops::cross_entropy(in_rows(logits, &counts), answers, &CrossEntropy::default())
    }
}
