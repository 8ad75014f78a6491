//! Logits of a whole set of examples, on a backend without gradients.

use crate::{
    Error,
    inputs::{HostBatch, Inputs},
    report::Mistake,
    tasks::{Objective, Wrong},
};
use burn::tensor::Tensor;
use rekindle_data::{Sampler, Targets, prefetch};
use rekindle_models::Model;
use rekindle_nn::{Pass, TuneBackend, host};
use rekindle_train::Collective;
use std::sync::Arc;

/// Logits `[N][C]`.
pub(crate) struct Logits {
    values: Vec<f32>,
    outputs: usize,
}

impl Logits {
    /// From rows of C values, one after the other.
    pub(crate) fn new(values: Vec<f32>, outputs: usize) -> Self {
        Self { values, outputs }
    }

    /// Logits of one example.
    pub(crate) fn row(&self, index: usize) -> &[f32] {
        &self.values[index * self.outputs..][..self.outputs]
    }

    /// Whether all of them are finite.
    pub(crate) fn are_numbers(&self) -> bool {
        self.values.iter().all(|value| value.is_finite())
    }

    /// Number of examples.
    pub(crate) fn len(&self) -> usize {
        self.values.len().checked_div(self.outputs).unwrap_or(0)
    }

    /// The largest difference of the first so many outputs to those of other logits of the same set.
    pub(crate) fn largest_difference(&self, other: &Self, outputs: usize) -> f32 {
        let rows = 0..self.len().min(other.len());
        let pairs = rows.flat_map(|row| self.row(row).iter().zip(other.row(row)).take(outputs));
        pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
    }
}

/// The class with the largest logit, the first of equals.
pub(crate) fn argmax(logits: &[f32]) -> usize {
    logits
        .iter()
        .enumerate()
        .fold(0, |best, (i, l)| if *l > logits[best] { i } else { best })
}

/// Logits with the examples that they are of: those that could not be read have none.
pub(crate) struct Scored {
    pub logits: Logits,
    /// Indices into the set, rising.
    pub examples: Vec<usize>,
}

impl Scored {
    /// The targets of the rows.
    pub(crate) fn targets(&self, set: &dyn Inputs) -> Targets {
        set.targets().subset(&self.examples)
    }

    /// The worst answers as the report shows them.
    pub(crate) fn mistakes(
        &self,
        set: &dyn Inputs,
        objective: &dyn Objective,
        targets: &Targets,
        most: usize,
    ) -> Vec<Mistake> {
        self.shown(set, objective.worst(&self.logits, targets, most))
    }

    /// Answers as the report shows them.
    pub(crate) fn shown(&self, set: &dyn Inputs, answers: Vec<Wrong>) -> Vec<Mistake> {
        let mistake = |wrong: Wrong| {
            let example = self.examples[wrong.row];
            let shown = set.show(example);
            Mistake {
                text: shown.text,
                text_pair: shown.text_pair,
                place: set.full_place(example),
                label: wrong.right,
                predicted: wrong.said,
                probability: wrong.probability,
                loss: wrong.loss,
                top: wrong.top,
                picture: shown.picture,
            }
        };
        answers.into_iter().map(mistake).collect()
    }
}

/// Tokens in a batch of evaluation, unless one example has more.
const TOKENS: usize = 1 << 14;

/// The most tokens that a batch of evaluation has, for examples of at most `longest` tokens.
pub(crate) fn tokens_at_once(batch_size: usize, longest: usize) -> usize {
    longest * fitting(batch_size, longest)
}

/// Examples in a batch of evaluation: `batch_size`, or fewer where they are long.
pub(crate) fn fitting(batch_size: usize, longest: usize) -> usize {
    batch_size.min(TOKENS / longest.max(1)).max(1)
}

/// Logits of a set by `forward`, which gives `[N, C]` for a batch of N examples, or `[N P, C]` where each has P parts; these
/// stand side by side in what is returned. At `most` so many examples. `input_needed` says whether a batch's input must be made.
/// Each of the `processes` does its share of the batches, and all get all logits: those of one process, to the bit.
#[allow(clippy::too_many_arguments)] // each says something of its own about the evaluation
pub(crate) fn score<B: TuneBackend>(
    processes: &Collective,
    set: &Arc<dyn Inputs>,
    batch_size: usize,
    outputs: usize,
    most: Option<usize>,
    input_needed: impl Fn(&[usize]) -> bool + Send + Sync + 'static,
    mut forward: impl FnMut(&HostBatch) -> Result<Tensor<B, 2>, Error>,
) -> Result<Scored, Error> {
    let n = set.len();
    // Evenly spread, where only some are asked for.
    let some = most.unwrap_or(n).min(n);
    let chosen: Vec<usize> = (0..some).map(|i| i * n / some.max(1)).collect();
    let lengths = set.lengths().unwrap_or_else(|| vec![1; n]);
    let lengths: Vec<u32> = chosen.iter().map(|&i| lengths[i]).collect();
    let longest = lengths.iter().copied().max().unwrap_or(1) as usize;
    let sampler = Sampler {
        seed: 0,
        shuffle: false,
        group_by_length: true,
        batch_size: fitting(batch_size, longest),
        drop_last: false,
    };
    let outputs = outputs * set.parts();
    let batches = sampler.epoch(&lengths, 0).into_iter();
    let of_set = |batch: Vec<usize>| batch.into_iter().map(|i| chosen[i]).collect();
    let order: Vec<Vec<usize>> = batches
        .map(of_set)
        .skip(processes.rank())
        .step_by(processes.world())
        .collect();
    let source = Arc::clone(set);
    let batches = order.len();
    let make = move |i: usize| match input_needed(&order[i]) {
        true => source.batch(&order[i], None),
        false => Ok(HostBatch::without_input(source.as_ref(), &order[i])),
    };
    let own = || -> Result<Vec<(usize, Vec<f32>)>, Error> {
        let mut own = Vec::new();
        for batch in prefetch(set.ahead(), 0, batches, make)? {
            let batch = batch??;
            if batch.examples.is_empty() {
                continue;
            }
            let rows = host::values(forward(&batch)?)?;
            let rows = rows.chunks(outputs).map(<[f32]>::to_vec);
            own.extend(batch.examples.iter().copied().zip(rows));
        }
        Ok(own)
    };
    let own = own();
    let own = processes.agree(own)?;
    let mut values = vec![0f32; n * outputs];
    let mut seen = vec![false; n];
    for (example, row) in gathered(processes, own, outputs)? {
        values[example * outputs..][..outputs].copy_from_slice(&row);
        seen[example] = true;
    }
    let examples: Vec<usize> = (0..n).filter(|&i| seen[i]).collect();
    if examples.len() < n {
        let kept = examples.iter();
        values = kept
            .flat_map(|&i| values[i * outputs..][..outputs].to_vec())
            .collect();
    }
    Ok(Scored {
        logits: Logits::new(values, outputs),
        examples,
    })
}

/// The rows of all processes, each with its example.
fn gathered(
    processes: &Collective,
    own: Vec<(usize, Vec<f32>)>,
    outputs: usize,
) -> Result<Vec<(usize, Vec<f32>)>, Error> {
    if processes.is_alone() {
        return Ok(own);
    }
    let bytes = own.iter().flat_map(|(example, row)| {
        let example = (*example as u64).to_le_bytes().into_iter();
        example.chain(row.iter().flat_map(|value| value.to_le_bytes()))
    });
    let all = processes.gather(bytes.collect())?.concat();
    let rows = all.chunks_exact(8 + 4 * outputs).map(|bytes| {
        let (example, row) = bytes.split_at(8);
        let example = example
            .iter()
            .rev()
            .fold(0, |n, &b| n << 8 | usize::from(b));
        let values = row.as_chunks::<4>().0.iter();
        (example, values.map(|&v| f32::from_le_bytes(v)).collect())
    });
    Ok(rows.collect())
}

/// Logits of a set by a whole model, in one process.
pub(crate) fn score_with<B: TuneBackend>(
    model: &Model<B>,
    set: &Arc<dyn Inputs>,
    batch_size: usize,
    device: &B::Device,
) -> Result<Scored, Error> {
    score(
        &Collective::alone(),
        set,
        batch_size,
        model.outputs(),
        None,
        |_| true,
        |batch| {
            let input = batch.input.as_ref();
            let input = input.ok_or_else(|| Error::Internal("a batch without its input".into()))?;
            Ok(model.forward(input.to_device(device), Pass::evaluation()))
        },
    )
}
