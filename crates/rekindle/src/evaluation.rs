//! Logits of a whole set of examples, on a backend without gradients.

use crate::{
    Error,
    grad_cache::pooled,
    inputs::{ExampleOf, HostBatch, Inputs},
    report::{MarkedSpan, Mistake},
    tasks::{LabelledSpan, Objective, Wrong},
};
use burn::tensor::Tensor;
use rekindle_data::{Sampler, Targets, prefetch};
use rekindle_models::Model;
use rekindle_nn::{Pass, TuneBackend, host};
use rekindle_train::Collective;
use std::sync::Arc;

/// Logits `[N][C]`, or `[N][R C]` where each example has R rows of its own.
pub(crate) struct Logits {
    values: Vec<f32>,
    /// Where each example's begin, and the end: `[N + 1]`.
    starts: Vec<usize>,
}

impl Logits {
    /// From one row of values an example, of any lengths.
    pub(crate) fn of_rows(rows: impl IntoIterator<Item = Vec<f32>>) -> Self {
        let (mut values, mut starts) = (Vec::new(), vec![0]);
        for row in rows {
            values.extend(row);
            starts.push(values.len());
        }
        Self { values, starts }
    }

    /// Logits of one example.
    pub(crate) fn row(&self, index: usize) -> &[f32] {
        &self.values[self.starts[index]..self.starts[index + 1]]
    }

    /// Whether all of them are finite.
    pub(crate) fn are_numbers(&self) -> bool {
        self.values.iter().all(|value| value.is_finite())
    }

    /// Number of examples.
    pub(crate) fn len(&self) -> usize {
        self.starts.len() - 1
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

    /// The example of a row.
    pub(crate) fn example<'a>(&self, set: &'a dyn Inputs, row: usize) -> ExampleOf<'a> {
        ExampleOf {
            set,
            index: self.examples[row],
        }
    }

    /// Answers as the report shows them.
    pub(crate) fn shown(&self, set: &dyn Inputs, answers: Vec<Wrong>) -> Vec<Mistake> {
        let mistake = |wrong: Wrong| {
            let example = self.examples[wrong.row];
            let shown = set.show(example);
            let of = self.example(set, wrong.row);
            let spans = wrong.words.as_ref().map(|tags| {
                let [right, said] = tags.each_ref();
                [right, said].map(|tags| LabelledSpan::of_example(of, tags))
            });
            let [right, said] = match &spans {
                None => [wrong.right, wrong.said],
                Some(spans) => spans.each_ref().map(|spans| listed(spans)),
            };
            Mistake {
                text: shown.text,
                text_pair: shown.text_pair,
                place: set.full_place(example),
                label: right,
                predicted: said,
                spans: spans.map_or_else(Vec::new, |[right, said]| marked(right, said)),
                probability: wrong.probability,
                loss: wrong.loss,
                top: wrong.top,
                picture: shown.picture,
            }
        };
        answers.into_iter().map(mistake).collect()
    }
}

/// Spans in words.
fn listed(spans: &[LabelledSpan]) -> String {
    let named = spans
        .iter()
        .map(|span| format!("{}: {}", span.label, span.text));
    match spans {
        [] => "nothing".into(),
        _ => named.collect::<Vec<_>>().join("; "),
    }
}

/// The right spans and those that were said, each once.
fn marked(right: Vec<LabelledSpan>, said: Vec<LabelledSpan>) -> Vec<MarkedSpan> {
    let is = |a: &LabelledSpan, b: &LabelledSpan| {
        (a.start, a.end, &a.label) == (b.start, b.end, &b.label)
    };
    let mut marked: Vec<MarkedSpan> = Vec::new();
    for (spans, others, are_right) in [(&right, &said, true), (&said, &right, false)] {
        for span in spans {
            let both = others.iter().any(|other| is(span, other));
            if both && !are_right {
                continue;
            }
            marked.push(MarkedSpan {
                start: span.start,
                end: span.end,
                label: span.label.clone(),
                right: are_right,
                said: both || !are_right,
            });
        }
    }
    marked.sort_by_key(|span| (span.start, span.end));
    marked
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

/// Logits of a set by `forward`, which gives `[N, C]` for a batch of N examples, or as many rows as [`Inputs::rows`] says of each; these
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
    let widths: Vec<usize> = (0..n).map(|i| set.rows(i) * outputs).collect();
    let own = || -> Result<Vec<(usize, Vec<f32>)>, Error> {
        let mut own = Vec::new();
        for batch in prefetch(set.ahead(), 0, batches, make)? {
            let batch = batch??;
            if batch.examples.is_empty() {
                continue;
            }
            let values = host::values(forward(&batch)?)?;
            let mut left = values.as_slice();
            for &example in &batch.examples {
                let (row, rest) = left.split_at(widths[example]);
                own.push((example, row.to_vec()));
                left = rest;
            }
        }
        Ok(own)
    };
    let own = own();
    let own = processes.agree(own)?;
    let mut scored: Vec<Option<Vec<f32>>> = vec![None; n];
    for (example, row) in gathered(processes, own, &widths)? {
        scored[example] = Some(row);
    }
    Ok(Scored {
        examples: (0..n).filter(|&i| scored[i].is_some()).collect(),
        logits: Logits::of_rows(scored.into_iter().flatten()),
    })
}

/// The rows of all processes, each with its example; of so many values each.
fn gathered(
    processes: &Collective,
    own: Vec<(usize, Vec<f32>)>,
    widths: &[usize],
) -> Result<Vec<(usize, Vec<f32>)>, Error> {
    if processes.is_alone() {
        return Ok(own);
    }
    let bytes = own.iter().flat_map(|(example, row)| {
        let example = (*example as u64).to_le_bytes().into_iter();
        example.chain(row.iter().flat_map(|value| value.to_le_bytes()))
    });
    let all = processes.gather(bytes.collect())?.concat();
    let (mut rows, mut left) = (Vec::new(), all.as_slice());
    while let Some((example, rest)) = left.split_first_chunk::<8>() {
        let example = usize::try_from(u64::from_le_bytes(*example)).unwrap_or(usize::MAX);
        let width = widths.get(example).map_or(0, |width| 4 * width);
        let Some((row, rest)) = rest.split_at_checked(width) else {
            return Err(Error::Internal("rows of a process that do not fit".into()));
        };
        let values = row.as_chunks::<4>().0.iter();
        rows.push((example, values.map(|&v| f32::from_le_bytes(v)).collect()));
        left = rest;
    }
    Ok(rows)
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

/// What a model's backbone pools of the texts of a set, each by itself, in one process: `[N][D]`.
pub(crate) fn embed_with<B: TuneBackend>(
    model: &Model<B>,
    set: &Arc<dyn Inputs>,
    batch_size: usize,
    device: &B::Device,
) -> Result<Scored, Error> {
    let width = model.width();
    let alone = Collective::alone();
    score(
        &alone,
        set,
        batch_size,
        width,
        None,
        |_| true,
        |batch| {
            let input = batch.input.as_ref();
            let input = input.ok_or_else(|| Error::Internal("a batch without its input".into()))?;
            let input = input.to_device(device);
            Ok(pooled(model.begin(
                input,
                model.units(),
                Pass::evaluation(),
            )))
        },
    )
}
