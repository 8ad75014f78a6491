//! Token classification: one of several tags for each word, by softmax and cross-entropy; the spans that they make are what is
//! answered and counted.

use super::{
    LabelledSpan, Loss, Objective, Prediction, Wrong,
    classification::{cross_entropy, probabilities},
    shortest,
};
use crate::{
    evaluation::{Logits, argmax},
    figures::{Figures, Scalar, Section, Shown, Tile, Watched},
    guess::Guess,
    inputs::ExampleOf,
    report::text::{count, figure, percent},
};
use burn::tensor::{Int, Tensor, TensorData};
use rekindle_base::counted;
use rekindle_data::{
    TargetEncoder, TargetRow, Targets,
    tokens::{IGNORED, TagLabels, WordTag},
};
use rekindle_metrics::{Entities, EntitySpan};
use rekindle_nn::{
    TuneBackend,
    ops::{self, CrossEntropy},
};
use serde_json::{Map, Value, json};

pub(super) struct Tags {
    encoder: TargetEncoder,
}

impl Tags {
    /// By an encoder of tags.
    pub(super) fn new(encoder: TargetEncoder) -> Self {
        Self { encoder }
    }

    fn labels(&self) -> &TagLabels {
        match &self.encoder {
            TargetEncoder::Tags(labels) => labels,
            _ => unreachable!("the targets of this task are tags"),
        }
    }

    /// The tag with the largest logit of each word, with its probability.
    fn said(&self, logits: &[f32]) -> Vec<WordTag> {
        let words = logits.chunks_exact(self.labels().len());
        words
            .map(|logits| {
                let best = argmax(logits);
                WordTag {
                    label: best as u32,
                    score: probabilities(logits)[best] as f32,
                }
            })
            .collect()
    }

    /// Of the words of a row that have a tag: the logits, and the tag.
    fn learned<'a>(
        &self,
        logits: &'a Logits,
        targets: &'a Targets,
        row: usize,
    ) -> impl Iterator<Item = (&'a [f32], usize)> + use<'a> {
        let right = match targets.row(row) {
            TargetRow::Tags(right) => right,
            _ => &[],
        };
        let words = logits.row(row).chunks_exact(self.labels().len());
        let words = words.zip(right).filter(|(_, right)| **right != IGNORED);
        words.map(|(logits, &right)| (logits, right as usize))
    }

    /// A row: the tags that were said, those that are right, the sum of the losses.
    fn compared(&self, logits: &Logits, targets: &Targets, row: usize) -> Compared {
        let mut compared = Compared::default();
        for (logits, right) in self.learned(logits, targets, row) {
            compared.said.push(argmax(logits) as u32);
            compared.right.push(right as u32);
            compared.loss += cross_entropy(logits, right);
        }
        compared
    }

    /// The rows of which `wanted` says so, the highest loss first.
    fn rows(
        &self,
        logits: &Logits,
        targets: &Targets,
        most: usize,
        wanted: impl Fn(&Compared) -> bool,
    ) -> Vec<Wrong> {
        let mut rows: Vec<(usize, f64)> = (0..logits.len())
            .map(|row| (row, self.compared(logits, targets, row)))
            .filter(|(_, compared)| wanted(compared))
            .map(|(row, compared)| (row, compared.loss))
            .collect();
        rows.sort_by(|a, b| b.1.total_cmp(&a.1));
        rows.truncate(most);
        rows.into_iter()
            .map(|(row, loss)| Wrong {
                row,
                right: String::new(),
                said: String::new(),
                probability: None,
                loss,
                top: Vec::new(),
                words: Some([self.right(targets, row), self.said(logits.row(row))]),
            })
            .collect()
    }

    /// The right tag of each word of a row, as if it had been said without a doubt.
    fn right(&self, targets: &Targets, row: usize) -> Vec<WordTag> {
        let TargetRow::Tags(right) = targets.row(row) else {
            return Vec::new();
        };
        // What is ignored is no tag, and so is a number beyond them.
        let tag = |&id: &i32| WordTag {
            label: u32::try_from(id).unwrap_or(u32::MAX),
            score: 1.0,
        };
        right.iter().map(tag).collect()
    }
}

/// What was said of a text's words, beside what is right.
#[derive(Default)]
struct Compared {
    said: Vec<u32>,
    right: Vec<u32>,
    loss: f64,
}

fn spans<'a>(labels: &'a TagLabels, ids: &[u32]) -> Vec<EntitySpan<'a>> {
    let entities = labels.entities(ids).into_iter();
    entities
        .map(|(words, label)| EntitySpan {
            start: words.start,
            end: words.end,
            label,
        })
        .collect()
}

impl Objective for Tags {
    fn encoder(&self) -> &TargetEncoder {
        &self.encoder
    }

    fn described_as(&self) -> &'static str {
        "tags"
    }

    fn watched(&self) -> Vec<Watched> {
        vec![
            Watched::new("loss", "loss", false),
            Watched::new("entity_f1", "entity F1", true),
            Watched::new("token_accuracy", "word accuracy", true),
        ]
    }

    fn figures(&self, logits: &Logits, targets: &Targets) -> Figures {
        use Shown::{Always, InFull, InSection};
        let mut entities = Entities::new();
        let (mut words, mut right, mut loss) = (0u64, 0u64, 0.0);
        for row in 0..logits.len() {
            let compared = self.compared(logits, targets, row);
            entities.update(
                &spans(self.labels(), &compared.said),
                &spans(self.labels(), &compared.right),
            );
            let pairs = compared.said.iter().zip(&compared.right);
            right += pairs.filter(|(said, right)| said == right).count() as u64;
            words += compared.right.len() as u64;
            loss += compared.loss;
        }
        let report = entities.report();
        let (accuracy, loss) = (right as f64 / words as f64, loss / words as f64);
        let scalars = vec![
            Scalar::new("entity_f1", "entity F1", report.micro_f1, Always),
            Scalar::new("precision", "precision", report.micro_precision, InFull),
            Scalar::new("recall", "recall", report.micro_recall, InFull),
            Scalar::new("macro_f1", "macro F1", report.macro_f1, InFull),
            Scalar::new("weighted_f1", "weighted F1", report.weighted_f1, InSection),
            Scalar::new("token_accuracy", "word accuracy", accuracy, Always),
            Scalar::new("loss", "loss", loss, Always),
        ];
        let tiles = vec![
            Tile::new(
                "entity F1",
                percent(report.micro_f1),
                format!(
                    "precision {}, recall {}",
                    percent(report.micro_precision),
                    percent(report.micro_recall)
                ),
            ),
            Tile::new(
                "entities right",
                count(report.correct),
                format!(
                    "{} expected, {} found",
                    count(report.support),
                    count(report.predicted)
                ),
            ),
            Tile::new(
                "word accuracy",
                percent(accuracy),
                format!("{} words", count(words)),
            ),
            Tile::new(
                "loss",
                figure(loss),
                format!("a word; {}", counted(report.n as usize, "text", "texts")),
            ),
        ];
        Figures {
            n: report.n,
            headline: "entity_f1".into(),
            scalars,
            tiles,
            warnings: Vec::new(),
            guess: Guess::of_entities(&report),
            sections: vec![Section::Entities { report }],
        }
    }

    fn worst(&self, logits: &Logits, targets: &Targets, most: usize) -> Vec<Wrong> {
        self.rows(logits, targets, most, |compared| {
            spans(self.labels(), &compared.said) != spans(self.labels(), &compared.right)
        })
    }

    fn doubtful(&self, logits: &Logits, targets: &Targets, most: usize) -> Vec<Wrong> {
        self.rows(logits, targets, most, |compared| {
            !spans(self.labels(), &compared.right).is_empty()
        })
    }

    fn scored(
        &self,
        logits: &Logits,
        targets: &Targets,
        row: usize,
        of: ExampleOf<'_>,
    ) -> Map<String, Value> {
        let said = self.answer(logits.row(row), of).to_json();
        let right = self.right(targets, row);
        let right = LabelledSpan::of_example(of, &right).into_iter();
        let right: Vec<Value> = right.map(|span| span.to_json(false)).collect();
        let compared = self.compared(logits, targets, row);
        let is_right =
            spans(self.labels(), &compared.said) == spans(self.labels(), &compared.right);
        let words = compared.right.len().max(1) as f64;
        let mut line = Map::new();
        line.insert("spans".into(), right.into());
        line.insert("predicted".into(), said["spans"].clone());
        line.insert("loss".into(), json!(shortest(compared.loss / words)));
        line.insert("correct".into(), is_right.into());
        line
    }

    fn answer(&self, logits: &[f32], of: ExampleOf<'_>) -> Prediction {
        Prediction::Spans {
            text: of.set.show(of.index).text,
            spans: LabelledSpan::of_example(of, &self.said(logits)),
        }
    }
}

impl<B: TuneBackend> Loss<B> for Tags {
    /// One loss a word, `[R]`, of logits `[R, C]`; 0 for what is ignored.
    fn losses(&self, logits: Tensor<B, 2>, targets: &Targets) -> Tensor<B, 1> {
        let ids = match targets {
            Targets::Tags { ids, .. } => ids.as_slice(),
            _ => &[],
        };
        let device = logits.device();
        let ids: Tensor<B, 1, Int> = Tensor::from_data(TensorData::from(ids), &device);
        let loss = CrossEntropy {
            ignored: Some(i64::from(IGNORED)),
            ..CrossEntropy::default()
        };
        ops::cross_entropy(logits, ids, &loss)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use rekindle_data::TargetKind;

    fn objective() -> Tags {
        let names = ["B-a", "B-b", "I-a", "I-b", "O"].map(str::to_owned);
        Tags::new(TargetEncoder::from_names(TargetKind::Tags, names.to_vec()).unwrap())
    }

    /// Logits that say these tags, one row a text.
    fn logits(rows: &[&[usize]]) -> Logits {
        let of = |&tag: &usize| (0..5).map(move |id| if id == tag { 3.0 } else { 0.0 });
        Logits::of_rows(rows.iter().map(|row| row.iter().flat_map(of).collect()))
    }

    #[test]
    fn texts_of_different_lengths_are_counted_by_their_spans() {
        // Two entities, of which one is found and one is cut short; then a text of nothing, of which nothing is learned.
        let right: [&[i32]; 3] = [&[0, 2, 4, 1], &[4, 0, 2], &[IGNORED]];
        let said = logits(&[&[0, 2, 4, 4], &[4, 0, 4], &[3]]);
        let targets = Targets::tags(right);
        let figures = objective().figures(&said, &targets);
        // Expected: a 0..2, b 3..4, a 1..3. Said: a 0..2, a 1..2.
        assert_eq!(figures.n, 3);
        assert_eq!(figures.get("precision"), Some(0.5));
        assert!((figures.get("recall").unwrap() - 1.0 / 3.0).abs() < 1e-12);
        assert!((figures.get("entity_f1").unwrap() - 0.4).abs() < 1e-12);
        assert!((figures.get("token_accuracy").unwrap() - 5.0 / 7.0).abs() < 1e-12);
        let wrong = objective().worst(&said, &targets, 9);
        let rows: Vec<usize> = wrong.iter().map(|wrong| wrong.row).collect();
        assert_eq!(rows, [0, 1]);
        assert!((wrong[0].loss - wrong[1].loss).abs() > 0.1);
        let all_right = logits(&[&[0, 2, 4, 1], &[4, 0, 2], &[3]]);
        assert!(objective().worst(&all_right, &targets, 9).is_empty());
        assert_eq!(objective().doubtful(&all_right, &targets, 9).len(), 2);
        assert!(objective().figures(&all_right, &targets).guess.is_none());
    }

    #[test]
    fn who_finds_nothing_is_no_better_than_a_guess() {
        let targets = Targets::tags([&[0, 2, 4][..]]);
        let figures = objective().figures(&logits(&[&[4, 4, 4]]), &targets);
        let said = figures.guess.unwrap().warning().unwrap();
        assert!(said.contains("labelling nothing"), "{said}");
    }
}
