//! Extractive question answering: of each token whether an answer begins or ends with it, each by softmax over the tokens of a
//! window and cross-entropy, as `BertForQuestionAnswering` and its siblings (Devlin et al. 2018, section 4.2). Padding, which theirs
//! take into the softmax, does not exist here.

use super::{
    ExtractedAnswer, Loss, Objective, Prediction, Wrong, classification::cross_entropy_of, in_rows,
    shortest,
};
use crate::{
    RunConfig,
    evaluation::Logits,
    figures::{Figures, Scalar, Section, Shown, Tile, Watched},
    guess::Guess,
    inputs::ExampleOf,
    report::text::{count, figure, percent},
};
use burn::tensor::{Int, Tensor, TensorData};
use rekindle_data::{
    TargetEncoder, Targets,
    questions::{AnswerOptions, Asked, FoundAnswer, FoundAnswers, Question},
};
use rekindle_metrics::{ExtractiveAnswers, SquadVersion, extractive_score};
use rekindle_nn::{
    TuneBackend,
    ops::{self, CrossEntropy},
};
use serde_json::{Map, Value, json};

/// How people call that there is no answer.
const NO_ANSWER: &str = "no answer";
/// Answers beside the best one that are told.
const OTHERS: usize = 3;

pub(super) struct Extraction {
    encoder: TargetEncoder,
    options: AnswerOptions,
    /// What was chosen on validation examples: [`AnswerOptions::null_score_diff_threshold`]; none where there always is an answer.
    threshold: Option<f64>,
}

impl Extraction {
    /// Of a run, by its training questions.
    pub(super) fn train(config: &RunConfig, encoder: TargetEncoder, targets: &Targets) -> Self {
        let asked = asked(targets);
        let impossible = |question: &Question| question.answers.as_ref().is_some_and(Vec::is_empty);
        let may_have_none = (0..asked.len()).any(|row| impossible(asked.question(row)));
        Self::new(config, encoder, may_have_none.then_some(0.0))
    }

    /// Of a saved model: without a threshold, one that always answers.
    pub(super) fn restore(config: &RunConfig, encoder: TargetEncoder, thresholds: &[f64]) -> Self {
        Self::new(config, encoder, thresholds.first().copied())
    }

    fn new(config: &RunConfig, encoder: TargetEncoder, threshold: Option<f64>) -> Self {
        Self {
            encoder,
            options: AnswerOptions {
                max_answer_length: config.data.max_answer_length,
                may_have_none: threshold.is_some(),
                null_score_diff_threshold: threshold.unwrap_or_default() as f32,
                ..AnswerOptions::default()
            },
            threshold,
        }
    }

    /// The best piece of the text, whether it is better than none or not.
    fn best(found: &FoundAnswers) -> Option<&FoundAnswer> {
        found.n_best.iter().find(|answer| !answer.text.is_empty())
    }

    /// A row's answers, and its loss where it is known what is right.
    fn judged(&self, logits: &Logits, targets: &Targets, row: usize) -> Judged {
        let asked = asked(targets);
        let found = asked.answer(row, logits.row(row), &self.options);
        let right = right(asked.question(row));
        let said = found
            .answer
            .as_ref()
            .map_or("", |answer| answer.text.as_str());
        let version = match right.is_empty() {
            true => SquadVersion::V2,
            false => SquadVersion::V1,
        };
        let score = extractive_score(said, &right, version);
        Judged {
            exact: score.exact,
            f1: score.f1,
            loss: loss_of(asked, row, logits.row(row)),
            found,
        }
    }

    /// The rows of which `wanted` says so, the highest loss first.
    fn rows(
        &self,
        logits: &Logits,
        targets: &Targets,
        most: usize,
        wanted: impl Fn(&Judged) -> bool,
    ) -> Vec<Wrong> {
        let mut rows: Vec<(usize, Judged)> = (0..logits.len())
            .map(|row| (row, self.judged(logits, targets, row)))
            .filter(|(_, judged)| wanted(judged))
            .collect();
        rows.sort_by(|a, b| b.1.loss.total_cmp(&a.1.loss));
        rows.truncate(most);
        let wrong = |(row, judged): (usize, Judged)| Wrong {
            row,
            right: in_words(right(asked(targets).question(row))),
            said: in_words(
                judged
                    .found
                    .answer
                    .iter()
                    .map(|a| &a.text)
                    .collect::<Vec<_>>(),
            ),
            probability: judged
                .found
                .answer
                .as_ref()
                .map(|a| f64::from(a.probability)),
            loss: judged.loss,
            top: Vec::new(),
            words: None,
        };
        rows.into_iter().map(wrong).collect()
    }

    fn counted(&self, logits: &Logits, targets: &Targets) -> ExtractiveAnswers {
        let asked = asked(targets);
        let rows = 0..logits.len();
        let right_ones: Vec<Vec<&str>> =
            rows.clone().map(|row| right(asked.question(row))).collect();
        let version = match right_ones.iter().any(Vec::is_empty) {
            true => SquadVersion::V2,
            false => SquadVersion::V1,
        };
        let mut counted = ExtractiveAnswers::new(version);
        for (row, right) in rows.zip(&right_ones) {
            let found = asked.answer(row, logits.row(row), &self.options);
            let text = Self::best(&found).map_or("", |answer| answer.text.as_str());
            counted.update(text, right, found.null_score_diff.map(f64::from));
        }
        counted
    }
}

/// What is made of a row.
struct Judged {
    exact: bool,
    f1: f64,
    loss: f64,
    found: FoundAnswers,
}

/// The questions that targets are.
fn asked(targets: &Targets) -> &Asked {
    match targets {
        Targets::Answers(asked) => asked,
        _ => unreachable!("the targets of this task are answers"),
    }
}

/// The right answers; none where the text has none.
fn right(question: &Question) -> Vec<&str> {
    let answers = question.answers.iter().flatten();
    answers.map(|answer| answer.text.as_str()).collect()
}

/// How sure an answer is, or that there is none.
fn probability(found: &FoundAnswers) -> f64 {
    // No answer is among the answers, as an empty text.
    let none = || found.n_best.iter().find(|answer| answer.text.is_empty());
    let said = found.answer.as_ref().or_else(none);
    said.map_or(0.0, |answer| f64::from(answer.probability))
}

/// Answers in words, each once.
pub(crate) fn in_words<S: AsRef<str>>(answers: impl IntoIterator<Item = S>) -> String {
    let mut named: Vec<String> = Vec::new();
    for answer in answers {
        if !named.iter().any(|known| known == answer.as_ref()) {
            named.push(answer.as_ref().to_owned());
        }
    }
    match named.is_empty() {
        true => NO_ANSWER.to_owned(),
        false => named.join(" / "),
    }
}

/// The mean over a row's windows of the loss that training has: of both ends, on average. NaN where no answer is known.
fn loss_of(asked: &Asked, row: usize, logits: &[f32]) -> f64 {
    let (mut at, mut sum) = (0, 0.0);
    let windows = asked.set().windows[asked.windows_of(row)].iter();
    let count = windows.len() as f64;
    for window in windows {
        let own = &logits[2 * at..][..2 * window.offsets.len()];
        at += window.offsets.len();
        let Some((first, last)) = window.answer else {
            return f64::NAN;
        };
        for (which, place) in [(0, first), (1, last)] {
            let values = own.iter().skip(which).step_by(2).map(|&x| f64::from(x));
            let of_place = f64::from(own[2 * place as usize + which]);
            sum += cross_entropy_of(values, of_place) / 2.0;
        }
    }
    sum / count
}

impl Objective for Extraction {
    fn encoder(&self) -> &TargetEncoder {
        &self.encoder
    }

    fn described_as(&self) -> &'static str {
        "answers"
    }

    fn watched(&self) -> Vec<Watched> {
        vec![
            Watched::new("loss", "loss", false),
            Watched::new("answer_f1", "answer F1", true),
            Watched::new("exact_match", "exact match", true),
        ]
    }

    fn figures(&self, logits: &Logits, targets: &Targets) -> Figures {
        use Shown::{Always, InFull};
        let threshold = self.threshold.unwrap_or(f64::INFINITY);
        let report = self.counted(logits, targets).report_at(threshold);
        let rows = 0..logits.len();
        let losses = rows.map(|row| loss_of(asked(targets), row, logits.row(row)));
        let loss = losses.sum::<f64>() / logits.len() as f64;
        let all = report.overall;
        let mut scalars = vec![
            Scalar::new("answer_f1", "answer F1", all.f1, Always),
            Scalar::new("exact_match", "exact match", all.exact_match, Always),
        ];
        // Where there are both kinds.
        if let (Some(answered), Some(none)) = (&report.has_answer, &report.no_answer) {
            scalars.extend([
                Scalar::new(
                    "answerable_f1",
                    "F1 where there is an answer",
                    answered.f1,
                    InFull,
                ),
                Scalar::new(
                    "answerable_exact",
                    "exact match where there is an answer",
                    answered.exact_match,
                    InFull,
                ),
                Scalar::new(
                    "no_answer",
                    "right where there is none",
                    none.exact_match,
                    InFull,
                ),
            ]);
        }
        scalars.push(Scalar::new("loss", "loss", loss, Always));
        let right = (all.exact_match * all.n as f64).round() as u64;
        let tiles = vec![
            Tile::new(
                "answer F1",
                percent(all.f1),
                "of words, against the nearest right answer".into(),
            ),
            Tile::new(
                "exact match",
                percent(all.exact_match),
                format!("{} of {} questions", count(right), count(all.n)),
            ),
            Tile::new("loss", figure(loss), "a window of text".into()),
        ];
        Figures {
            n: all.n,
            headline: "answer_f1".into(),
            scalars,
            tiles,
            warnings: Vec::new(),
            guess: Guess::of_extracted(&report),
            sections: vec![Section::Extracted { report }],
        }
    }

    fn worst(&self, logits: &Logits, targets: &Targets, most: usize) -> Vec<Wrong> {
        self.rows(logits, targets, most, |judged| !judged.exact)
    }

    fn doubtful(&self, logits: &Logits, targets: &Targets, most: usize) -> Vec<Wrong> {
        self.rows(logits, targets, most, |judged| judged.exact)
    }

    fn scored(
        &self,
        logits: &Logits,
        targets: &Targets,
        row: usize,
        _of: ExampleOf<'_>,
    ) -> Map<String, Value> {
        let judged = self.judged(logits, targets, row);
        let mut line = Map::new();
        let right = right(asked(targets).question(row));
        line.insert("answers".into(), json!(right));
        let said = judged.found.answer.as_ref();
        line.insert("predicted".into(), json!(said.map(|answer| &answer.text)));
        let probability = shortest(probability(&judged.found));
        line.insert("probability".into(), json!(probability));
        line.insert("f1".into(), json!(shortest(judged.f1)));
        line.insert("loss".into(), json!(shortest(judged.loss)));
        line.insert("correct".into(), judged.exact.into());
        line
    }

    fn answer(&self, logits: &[f32], of: ExampleOf<'_>) -> Prediction {
        let asked = asked(of.set.targets());
        let found = asked.answer(of.index, logits, &self.options);
        let is_best = |answer: &&FoundAnswer| Some(*answer) == found.answer.as_ref();
        let others = found
            .n_best
            .iter()
            .filter(|answer| !is_best(answer) && !answer.text.is_empty());
        Prediction::Answer {
            context: asked.question(of.index).context.to_string(),
            probability: probability(&found),
            answer: found.answer.as_ref().map(ExtractedAnswer::of),
            others: others.take(OTHERS).map(ExtractedAnswer::of).collect(),
        }
    }

    fn fit(&mut self, logits: &Logits, targets: &Targets) {
        if self.threshold.is_none() {
            return;
        }
        if let Some(best) = self.counted(logits, targets).best_threshold() {
            self.threshold = Some(best);
            self.options.null_score_diff_threshold = best as f32;
        }
    }

    fn fitted(&self) -> Option<&'static str> {
        self.threshold.map(|_| "the threshold of no answer was")
    }

    fn thresholds(&self) -> &[f64] {
        self.threshold.as_slice()
    }
}

impl<B: TuneBackend> Loss<B> for Extraction {
    /// One loss a window, `[N]`, of logits `[T, 2]`: the mean of those of the start and of the end.
    fn losses(&self, logits: Tensor<B, 2>, targets: &Targets) -> Tensor<B, 1> {
        let asked = asked(targets);
        let device = logits.device();
        let lengths: Vec<usize> = asked.windows().map(|window| window.offsets.len()).collect();
        let losses = [0, 1].map(|which| {
            let by_window = in_rows(logits.clone().narrow(1, which, 1), &lengths);
            let ends = asked
                .windows()
                .map(|window| window.answer.unwrap_or((0, 0)));
            let right: Vec<i32> = ends.map(|ends| [ends.0, ends.1][which] as i32).collect();
            let right: Tensor<B, 1, Int> =
                Tensor::from_data(TensorData::from(right.as_slice()), &device);
            ops::cross_entropy(by_window, right, &CrossEntropy::default())
        });
        let [start, end] = losses;
        (start + end) / 2.0
    }
}
