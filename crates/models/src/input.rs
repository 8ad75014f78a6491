//! What goes into a model and what comes out of its backbone.

use crate::decoder::Decoding;
use burn::tensor::{
    Int, Tensor, TensorData,
    backend::{AutodiffBackend, Backend},
};
use rekindle_nn::Sequences;
use std::sync::Arc;

/// What a model takes.
#[derive(Debug, Clone)]
pub enum Input<B: Backend> {
    /// A packed batch of texts.
    Text(TextInput<B>),
    /// Pictures `[N, H, W, 3]`.
    Images(Tensor<B, 4>),
}

impl<B: Backend> From<TextInput<B>> for Input<B> {
    fn from(input: TextInput<B>) -> Self {
        Self::Text(input)
    }
}

impl<B: Backend> From<Tensor<B, 4>> for Input<B> {
    fn from(pictures: Tensor<B, 4>) -> Self {
        Self::Images(pictures)
    }
}

/// A packed batch of text on a device.
#[derive(Debug, Clone)]
pub struct TextInput<B: Backend> {
    /// Token ids `[T]`, each below V.
    pub ids: Tensor<B, 1, Int>,
    /// Segment of each token `[T]`.
    pub type_ids: Tensor<B, 1, Int>,
    /// Position of each token in its sequence `[T]`.
    pub positions: Tensor<B, 1, Int>,
    /// First token of each sequence `[B]`.
    pub firsts: Tensor<B, 1, Int>,
    /// Where the sequences lie.
    pub sequences: Sequences,
    /// Whether the first sequence is the beginning of all others, which then lie without it. Decoders only.
    pub shares_beginning: bool,
    /// Which tokens' next tokens are learned; `None` where only hidden states are read.
    pub next: Option<NextTokens<B>>,
    /// The tokens that a head for tokens reads; `None` for all of them.
    pub asked: Option<Asked<B>>,
}

/// The tokens of a batch that somebody reads.
#[derive(Debug, Clone)]
pub struct Asked<B: Backend> {
    /// `[Q]`, each below T, rising.
    pub tokens: Tensor<B, 1, Int>,
    /// Which of them are of which sequence.
    pub sequences: Sequences,
    /// The same tokens on the host.
    on_host: Arc<[usize]>,
}

impl<B: Backend> Asked<B> {
    /// From the tokens `[Q]` and how many are each sequence's.
    pub fn new(tokens: &[i32], sequences: Sequences, device: &B::Device) -> Self {
        Self {
            tokens: integers(tokens, device),
            sequences,
            on_host: tokens.iter().map(|&token| token as usize).collect(),
        }
    }

    /// The first token of each sequence.
    pub(crate) fn firsts(tokens: Tensor<B, 1, Int>, sequences: &Sequences) -> Self {
        Self {
            tokens,
            sequences: Sequences::from_lengths(&vec![1; sequences.count()]),
            on_host: sequences.ranges().map(|range| range.start).collect(),
        }
    }

    /// The place of each in its sequence; `sequences` are those of all tokens.
    pub(crate) fn places(&self, sequences: &Sequences) -> Vec<usize> {
        let pairs = self.sequences.ranges().zip(sequences.ranges());
        pairs
            .flat_map(|(asked, all)| {
                self.on_host[asked]
                    .iter()
                    .map(move |token| token - all.start)
            })
            .collect()
    }
}

/// The next tokens of a packed batch that count.
#[derive(Debug, Clone)]
pub struct NextTokens<B: Backend> {
    /// The tokens whose next one counts, `[R]`, each below T.
    pub rows: Tensor<B, 1, Int>,
    /// The next tokens `[R]`, each below V.
    pub targets: Tensor<B, 1, Int>,
    /// Which of them are of which group: G of them, R in all. A group is a sequence, unless sums over parts of one are wanted.
    pub sequences: Sequences,
}

impl<B: Backend> NextTokens<B> {
    /// From rows and targets (`[R]` each) and how many are each group's.
    pub fn new(rows: &[i32], targets: &[i32], sequences: Sequences, device: &B::Device) -> Self {
        Self {
            rows: integers(rows, device),
            targets: integers(targets, device),
            sequences,
        }
    }
}

impl<B: Backend> TextInput<B> {
    /// From packed ids and types (`[T]` each) and the sequences' offsets.
    pub fn new(
        ids: Vec<i32>,
        type_ids: Vec<i32>,
        sequences: Sequences,
        device: &B::Device,
    ) -> Self {
        let positions: Vec<i32> = sequences
            .ranges()
            .flat_map(|range| 0..range.len() as i32)
            .collect();
        Self {
            ids: integers(&ids, device),
            type_ids: integers(&type_ids, device),
            positions: integers(&positions, device),
            firsts: firsts(&sequences, device),
            sequences,
            shares_beginning: false,
            next: None,
            asked: None,
        }
    }

    /// The same batch where its first sequence is the beginning of all others, which lie without it.
    #[must_use]
    pub fn with_shared_beginning(mut self) -> Self {
        self.shares_beginning = true;
        let places = self.places();
        let positions: Vec<i32> = places.into_iter().map(|place| place as i32).collect();
        self.positions = integers(&positions, &self.ids.device());
        self
    }

    /// The position of each token in its sequence.
    pub(crate) fn places(&self) -> Vec<usize> {
        let mut firsts = self.sequences.ranges().filter(|_| self.shares_beginning);
        let shared = firsts.next().map_or(0, |range| range.len());
        let places = |(i, range): (usize, std::ops::Range<usize>)| {
            let first = if i == 0 { 0 } else { shared };
            first..first + range.len()
        };
        self.sequences
            .ranges()
            .enumerate()
            .flat_map(places)
            .collect()
    }

    /// The same batch with the next tokens that count.
    #[must_use]
    pub fn with_next(mut self, next: NextTokens<B>) -> Self {
        self.next = Some(next);
        self
    }

    /// The same batch with the tokens that a head for tokens reads.
    #[must_use]
    pub fn with_asked(mut self, asked: Asked<B>) -> Self {
        self.asked = Some(asked);
        self
    }
}

/// The first token of each sequence `[B]`.
pub(crate) fn firsts<B: Backend>(sequences: &Sequences, device: &B::Device) -> Tensor<B, 1, Int> {
    let firsts: Vec<i32> = sequences.ranges().map(|range| range.start as i32).collect();
    integers(&firsts, device)
}

fn integers<B: Backend>(values: &[i32], device: &B::Device) -> Tensor<B, 1, Int> {
    Tensor::from_data(TensorData::from(values), device)
}

/// What a backbone, or its first units, puts out.
#[derive(Debug, Clone)]
pub enum Activations<B: Backend> {
    /// A packed batch of texts of which nothing is computed yet: zero units done.
    Text(TextInput<B>),
    /// Hidden states `[T, D]` of packed tokens, and those that the head will read, where that is known.
    Tokens(Tensor<B, 2>, Sequences, Option<Asked<B>>),
    /// Feature maps `[N, H, W, C]`.
    Map(Tensor<B, 4>),
    /// What the head reads, a row for each example: `[B, D]`; or for each token that is asked for: `[Q, D]`.
    Pooled(Tensor<B, 2>),
    /// What the units of a decoder hand on.
    Decoding(Decoding<B>),
    /// Hidden states `[R, D]` of the tokens whose next one counts, and which these are.
    Next(Tensor<B, 2>, NextTokens<B>),
}

impl<B: Backend> Activations<B> {
    /// The values themselves, where they are a row for each token or each example.
    pub fn rows(&self) -> Option<&Tensor<B, 2>> {
        match self {
            Self::Tokens(x, ..) | Self::Pooled(x) | Self::Next(x, _) => Some(x),
            Self::Decoding(state) => Some(&state.x),
            Self::Text(_) | Self::Map(_) => None,
        }
    }

    fn rows_mut(&mut self) -> Option<&mut Tensor<B, 2>> {
        match self {
            Self::Tokens(x, ..) | Self::Pooled(x) | Self::Next(x, _) => Some(x),
            Self::Decoding(state) => Some(&mut state.x),
            Self::Text(_) | Self::Map(_) => None,
        }
    }
}

impl<B: AutodiffBackend> Activations<B> {
    /// Activations that were computed without a graph, as input of what trains.
    #[must_use]
    pub fn from_inner(inner: Activations<B::InnerBackend>) -> Self {
        match inner {
            Activations::Text(input) => Self::Text(TextInput {
                ids: Tensor::from_inner(input.ids),
                type_ids: Tensor::from_inner(input.type_ids),
                positions: Tensor::from_inner(input.positions),
                firsts: Tensor::from_inner(input.firsts),
                sequences: input.sequences,
                shares_beginning: input.shares_beginning,
                next: input.next.map(NextTokens::from_inner),
                asked: input.asked.map(Asked::from_inner),
            }),
            Activations::Next(x, next) => {
                Self::Next(Tensor::from_inner(x), NextTokens::from_inner(next))
            }
            Activations::Decoding(state) => Self::Decoding(Decoding::from_inner(state)),
            Activations::Tokens(x, sequences, asked) => Self::Tokens(
                Tensor::from_inner(x),
                sequences,
                asked.map(Asked::from_inner),
            ),
            Activations::Map(x) => Self::Map(Tensor::from_inner(x)),
            Activations::Pooled(x) => Self::Pooled(Tensor::from_inner(x)),
        }
    }

    /// The same as the beginning of a graph that tracks its [`rows`](Self::rows).
    #[must_use]
    pub fn tracked(mut self) -> Self {
        if let Some(x) = self.rows_mut() {
            *x = x.clone().require_grad();
        }
        self
    }
}

impl<B: AutodiffBackend> Asked<B> {
    fn from_inner(inner: Asked<B::InnerBackend>) -> Self {
        Self {
            tokens: Tensor::from_inner(inner.tokens),
            sequences: inner.sequences,
            on_host: inner.on_host,
        }
    }
}

impl<B: AutodiffBackend> NextTokens<B> {
    pub(crate) fn from_inner(inner: NextTokens<B::InnerBackend>) -> Self {
        Self {
            rows: Tensor::from_inner(inner.rows),
            targets: Tensor::from_inner(inner.targets),
            sequences: inner.sequences,
        }
    }
}
