//! What a model is tuned to answer. One file a kind of task; [`train`] and [`restore`] are the places that know them all.

mod choice;
mod classification;
mod embedding;
mod extraction;
mod generation;
mod multi_label;
mod preference;
mod regression;
mod setfit;
mod tags;

use prediction::shortest;
pub use prediction::{ExtractedAnswer, LabelledSpan, Prediction, RatedChoice};

mod prediction;

use crate::{
    RunConfig,
    config::Method,
    evaluation::Logits,
    figures::{Figures, Watched},
    inputs::ExampleOf,
    task::{Kind, Task},
};
use burn::tensor::{Int, Tensor, TensorData};
use rekindle_data::{TargetEncoder, TargetKind, Targets, tokens::WordTag};
use rekindle_nn::TuneBackend;
use serde_json::{Map, Value};

use choice::Choice;
use classification::Classification;
use embedding::Embedding;
pub(crate) use embedding::normalized;
use extraction::Extraction;
pub(crate) use extraction::in_words;
use generation::Generation;
use multi_label::MultiLabel;
use preference::Preference;
use regression::Regression;
use setfit::Setfit;
use tags::Tags;

/// What is answered, on the host: from labels as written to targets, from logits to answers and figures.
pub(crate) trait Objective: Send + Sync {
    /// Labels as written to targets; also the names of what is answered and their number.
    fn encoder(&self) -> &TargetEncoder;
    /// What is answered: its name in the plan, and its names or their number.
    fn described_as(&self) -> &'static str;
    /// The figures that sum up an evaluation during training, the loss first.
    fn watched(&self) -> Vec<Watched>;
    /// The figures of predictions `[N][C]` against their targets.
    fn figures(&self, logits: &Logits, targets: &Targets) -> Figures;
    /// The worst answers, the worst first.
    fn worst(&self, logits: &Logits, targets: &Targets, most: usize) -> Vec<Wrong>;
    /// The right answers that it was least sure of, the least sure first; none where it gives no probabilities.
    fn doubtful(&self, _logits: &Logits, _targets: &Targets, _most: usize) -> Vec<Wrong> {
        Vec::new()
    }
    /// Row `row` for a file of predictions, of this example: what is right, what was answered, the loss.
    fn scored(
        &self,
        logits: &Logits,
        _targets: &Targets,
        row: usize,
        of: ExampleOf<'_>,
    ) -> Map<String, Value> {
        self.answer(logits.row(row), of).to_json()
    }
    /// The answer of one example's logits: `[C]`, or `[R, C]` where its words or tokens have some.
    fn answer(&self, logits: &[f32], of: ExampleOf<'_>) -> Prediction;
    /// Chooses what is chosen after training, such as thresholds, from logits of validation examples.
    fn fit(&mut self, _logits: &Logits, _targets: &Targets) {}
    /// What [`fit`](Self::fit) chooses, as the beginning of a sentence: "the thresholds were"; `None` where it chooses nothing.
    fn fitted(&self) -> Option<&'static str> {
        None
    }
    /// Least probabilities of labels, chosen by [`fit`](Self::fit).
    fn thresholds(&self) -> &[f64] {
        &[]
    }
    /// Whether its loss compares texts of a batch with each other: it reads what the backbone's pooling gives, `[R, D]`, instead of
    /// outputs of the head.
    fn compares_texts(&self) -> bool {
        false
    }
    /// Whether its figures stand beside those of the model before tuning.
    fn compares_with_base(&self) -> bool {
        false
    }
    /// What the outputs are multiplied by and what is added, which is folded into the head that is saved.
    fn scale(&self) -> Option<&Scale> {
        None
    }
}

/// From a model's outputs to numbers: factor and offset of each output.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Scale {
    pub factors: Vec<f64>,
    pub offsets: Vec<f64>,
}

impl Scale {
    /// The outputs are the numbers.
    fn identity(outputs: usize) -> Self {
        Self {
            factors: vec![1.0; outputs],
            offsets: vec![0.0; outputs],
        }
    }
}

/// The loss of an objective on a backend.
pub(crate) trait Loss<B: TuneBackend>: Objective {
    /// One loss an example `[N]`, or a word `[R]`, of a model's outputs `[N, C]`, or `[R, C]` of words or tokens: logits, or what a language model
    /// says of itself, or embeddings.
    fn losses(&self, logits: Tensor<B, 2>, targets: &Targets) -> Tensor<B, 1>;
}

/// A wrong answer.
pub(crate) struct Wrong {
    /// Row of the logits.
    pub row: usize,
    /// What was right; empty where `said` tells.
    pub right: String,
    /// What the model said.
    pub said: String,
    /// The probability it gave to that, where it gives any.
    pub probability: Option<f64>,
    /// Loss of the example.
    pub loss: f64,
    /// The most probable labels with their probabilities, the most probable first; empty where there are none.
    pub top: Vec<(String, f64)>,
    /// Where words have tags: the right ones and those that were said, of which `right` and `said` are made.
    pub words: Option<[Vec<WordTag>; 2]>,
}

/// The labels shown beside a mistake.
const SHOWN_LABELS: usize = 3;

/// The most probable labels, the most probable first.
fn most_probable(names: &[String], probabilities: &[f64]) -> Vec<(String, f64)> {
    let mut order: Vec<usize> = (0..probabilities.len()).collect();
    order.sort_by(|&a, &b| probabilities[b].total_cmp(&probabilities[a]));
    order.truncate(SHOWN_LABELS);
    let named = order.into_iter();
    named
        .map(|at| (names[at].clone(), probabilities[at]))
        .collect()
}

/// A logit that no softmax sees.
const NEVER: f32 = -1e9;

/// One column of logits, `[R, 1]`, as a row an example, `[N, W]`, where examples have so many rows each and W is the most of them; what an example
/// lacks is [`NEVER`].
fn in_rows<B: TuneBackend>(column: Tensor<B, 2>, lengths: &[usize]) -> Tensor<B, 2> {
    let device = column.device();
    let [total, _] = column.dims();
    let longest = lengths.iter().copied().max().unwrap_or(0);
    // Where each example's rows stand; behind all of them the one that is never chosen.
    let mut rows = vec![total as i32; lengths.len() * longest];
    let mut start = 0;
    for (example, length) in lengths.iter().enumerate() {
        for row in 0..*length {
            rows[example * longest + row] = (start + row) as i32;
        }
        start += length;
    }
    let rows: Tensor<B, 1, Int> = Tensor::from_data(TensorData::from(rows.as_slice()), &device);
    let never = Tensor::full([1, 1], NEVER, &device);
    let column = Tensor::cat(vec![column, never], 0).select(0, rows);
    column.reshape([lengths.len(), longest])
}

/// The targets that a kind of task learns.
pub(crate) const fn targets_of(kind: Kind) -> TargetKind {
    match kind {
        Kind::Classification => TargetKind::Class,
        Kind::Regression => TargetKind::Real,
        Kind::MultiLabel => TargetKind::Classes,
        Kind::Generation | Kind::Preference => TargetKind::Next,
        Kind::Tags => TargetKind::Tags,
        Kind::Extraction => TargetKind::Answer,
        Kind::Choice => TargetKind::Choice,
        Kind::Embedding => TargetKind::Related,
    }
}

/// The objective of a run, by its training targets.
pub(crate) fn train<B: TuneBackend>(
    config: &RunConfig,
    encoder: TargetEncoder,
    targets: &Targets,
) -> Box<dyn Loss<B>> {
    match config.task.kind() {
        Kind::Classification => {
            let classification = Classification::train(config, encoder, targets);
            match config.peft.method {
                Method::Setfit => Box::new(Setfit(classification)),
                _ => Box::new(classification),
            }
        }
        Kind::Regression => Box::new(Regression::train(config, encoder, targets)),
        Kind::MultiLabel => Box::new(MultiLabel::train(encoder)),
        Kind::Generation => Box::new(Generation::new()),
        Kind::Preference => Box::new(Preference::train(config)),
        Kind::Tags => Box::new(Tags::new(encoder)),
        Kind::Extraction => Box::new(Extraction::train(config, encoder, targets)),
        Kind::Choice => Box::new(Choice::new(encoder)),
        Kind::Embedding => Box::new(Embedding::new(config)),
    }
}

/// The objective of preferences, by the settings `[preference]`.
pub(crate) fn preference(config: &RunConfig) -> Box<dyn Objective> {
    Box::new(Preference::train(config))
}

/// The objective of a saved model, by its settings, what it answers and the thresholds that were kept.
pub(crate) fn restore(
    config: &RunConfig,
    encoder: TargetEncoder,
    thresholds: &[f64],
) -> Box<dyn Objective> {
    match config.task.kind() {
        Kind::Classification => Box::new(Classification::restore(encoder)),
        Kind::Regression => Box::new(Regression::restore(encoder)),
        Kind::MultiLabel => Box::new(MultiLabel::restore(encoder, thresholds.to_vec())),
        Kind::Generation | Kind::Preference => Box::new(Generation::new()),
        Kind::Tags => Box::new(Tags::new(encoder)),
        Kind::Extraction => Box::new(Extraction::restore(config, encoder, thresholds)),
        Kind::Choice => Box::new(Choice::new(encoder)),
        Kind::Embedding => Box::new(Embedding::new(&RunConfig::for_task(Task::TextEmbedding))),
    }
}
