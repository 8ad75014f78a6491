//! The decoder of GPT-2 (Radford et al. 2019), Llama (Touvron et al. 2023) and their relatives: blocks with their norms in
//! front, each token seeing itself and what stands before it. On packed tokens: several texts in one row never see each other.
//!
//! One file with switches: what norm and where, what positions, whether the map to the wide activation is gated, which maps have
//! biases or are stored as one, how many key heads there are, how far back a layer sees.

use crate::{Activation, NextTokens, TextInput, encoder::within};
use burn::{
    module::Module,
    tensor::{
        Int, Tensor, TensorData, activation,
        backend::{AutodiffBackend, Backend},
    },
};
use rekindle_base::rng;
use rekindle_nn::{
    adapter_slots,
    layers::{Embedding, LayerNorm, Linear, RmsNorm, Weight},
    ops::{self, AttentionConfig, Pass, Sequences, TuneBackend},
    params::{self, NameMap},
};

/// A decoder's sizes and settings.
#[derive(Debug, Clone, PartialEq)]
pub struct DecoderConfig {
    /// V
    pub vocab_size: usize,
    /// D
    pub hidden_size: usize,
    /// Number of layers.
    pub layers: usize,
    /// H
    pub heads: usize,
    /// Heads of keys and values; divides H.
    pub kv_heads: usize,
    /// K; even where positions are rotary.
    pub head_width: usize,
    /// Width between a layer's two maps.
    pub intermediate_size: usize,
    /// Activation between them, and whether another map's output multiplies it.
    pub activation: Activation,
    /// See `activation`.
    pub gated: bool,
    /// Root mean square norm rather than layer norm.
    pub rms_norm: bool,
    /// The factor of root mean square norms is 1 plus their weight (Gemma).
    pub norm_plus_one: bool,
    /// Also a norm behind attention and one behind the wide map, before each is added (Gemma).
    pub post_norms: bool,
    /// ε of norms.
    pub norm_eps: f64,
    /// What embeddings are multiplied by (Gemma).
    pub embedding_scale: Option<f64>,
    /// How a token knows where it stands.
    pub positions: Positions,
    /// Rotary positions of layers with a window, where they are others than those of the rest (Gemma 3).
    pub local_rotary: Option<Rotary>,
    /// Longest sequence.
    pub max_positions: usize,
    /// Biases of the maps to queries, keys and values.
    pub qkv_bias: bool,
    /// Bias of the map from attention.
    pub output_bias: bool,
    /// Biases of the maps to and from the wide activation.
    pub mlp_bias: bool,
    /// A norm of each head's queries and keys (Qwen3, Gemma 3).
    pub qk_norm: bool,
    /// Factor of attention's scores; `1/√K` where there is none.
    pub attention_scale: Option<f64>,
    /// Queries, keys and values are one map (GPT-2, Phi-3).
    pub joined_qkv: bool,
    /// Gate and its factor are one map (Phi-3).
    pub joined_gate: bool,
    /// So many last tokens are seen, itself included; by layer, `None` for all.
    pub windows: Vec<Option<usize>>,
    /// Whether a layer rotates queries and keys (SmolLM3 leaves some alone); by layer.
    pub rotates: Vec<bool>,
    /// Dropout after the embeddings, in [0, 1).
    pub embedding_dropout: f64,
    /// Dropout after attention and after the second map, in [0, 1).
    pub hidden_dropout: f64,
    /// Dropout on attention's probabilities, in [0, 1).
    pub attention_dropout: f64,
    /// Whether the embeddings are the language-model head too.
    pub tied: bool,
    /// Logits `x` are `c tanh(x / c)` (Gemma).
    pub logit_softcap: Option<f64>,
    /// Standard deviation of new weights.
    pub initializer_range: f64,
}

/// How a token knows where it stands.
#[derive(Debug, Clone, PartialEq)]
pub enum Positions {
    /// A learned table of `max_positions` rows.
    Learned,
    /// Rotary (Su et al. 2021).
    Rotary(Rotary),
}

/// Settings of rotary positions.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rotary {
    /// Base of the wavelengths.
    pub theta: f64,
    /// Columns of each head that turn; the others stay. Even.
    pub width: usize,
    /// How a longer context was made of a shorter one.
    pub scaling: RotaryScaling,
}

/// How rotary wavelengths were stretched for a longer context.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum RotaryScaling {
    /// Not at all.
    None,
    /// Positions divided by a factor.
    Linear(f64),
    /// Long wavelengths divided by a factor, short ones left, a slope between (Llama 3.1).
    Llama3 {
        /// What long wavelengths are divided by.
        factor: f64,
        /// Wavelengths above `original / low` are long.
        low: f64,
        /// Wavelengths below `original / high` are short.
        high: f64,
        /// The context before.
        original: f64,
    },
}

impl Rotary {
    /// The angle of each pair of columns at position 1, `[width / 2]`; f32 as transformers computes them.
    fn frequencies(&self) -> Vec<f32> {
        let pairs = 0..self.width / 2;
        let frequency = |pair: usize| {
            let exponent = (2 * pair) as f32 / self.width as f32;
            let frequency = 1.0 / (self.theta as f32).powf(exponent);
            match self.scaling {
                RotaryScaling::None => frequency,
                RotaryScaling::Linear(factor) => frequency / factor as f32,
                RotaryScaling::Llama3 {
                    factor,
                    low,
                    high,
                    original,
                } => {
                    let wavelength = 2.0 * std::f64::consts::PI / f64::from(frequency);
                    if wavelength > original / low {
                        return frequency / factor as f32;
                    }
                    if wavelength < original / high {
                        return frequency;
                    }
                    let share = (original / wavelength - low) / (high - low);
                    let frequency = f64::from(frequency);
                    ((1.0 - share) * frequency / factor + share * frequency) as f32
                }
            }
        };
        pairs.map(frequency).collect()
    }

    /// Cosines and sines of the angles of positions `[T]`: `[T, width / 2]` each.
    pub(crate) fn angles<B: Backend>(&self, positions: &[usize], device: &B::Device) -> Angles<B> {
        let frequencies = self.frequencies();
        let table = |of: fn(f64) -> f64| {
            let rows = positions.iter().flat_map(|&position| {
                let angles = frequencies.iter();
                angles.map(move |frequency| of(f64::from(position as f32 * frequency)) as f32)
            });
            let data = TensorData::new(rows.collect(), [positions.len(), frequencies.len()]);
            Tensor::from_data(data, device)
        };
        Angles {
            cos: table(f64::cos),
            sin: table(f64::sin),
        }
    }
}

/// Cosines and sines `[T, K / 2]`.
#[derive(Debug, Clone)]
pub(crate) struct Angles<B: Backend> {
    pub cos: Tensor<B, 2>,
    pub sin: Tensor<B, 2>,
}

/// The angles of a batch's positions.
#[derive(Debug, Clone)]
struct LayerAngles<B: Backend> {
    most: Angles<B>,
    /// Those of layers with a window, where they are others.
    local: Option<Angles<B>>,
}

impl<B: Backend> LayerAngles<B> {
    fn of(&self, layer: &DecoderLayer<B>) -> &Angles<B> {
        match (&self.local, layer.window) {
            (Some(local), Some(_)) => local,
            _ => &self.most,
        }
    }
}

/// What a decoder's units hand on: hidden states, and the batch as they see it.
#[derive(Debug, Clone)]
pub struct Decoding<B: Backend> {
    /// `[T, D]`
    pub(crate) x: Tensor<B, 2>,
    angles: Option<LayerAngles<B>>,
    pub(crate) sequences: Sequences,
    seen: Option<Seen<B>>,
    pub(crate) next: Option<NextTokens<B>>,
}

/// What sequences see that begin with the first one: its rows, then their own.
#[derive(Debug, Clone)]
struct Seen<B: Backend> {
    sequences: Sequences,
    rows: Tensor<B, 1, Int>,
}

impl<B: Backend> Seen<B> {
    fn of(input: &TextInput<B>) -> Option<Self> {
        let mut ranges = input.sequences.ranges().filter(|_| input.shares_beginning);
        let shared = ranges.next()?;
        // The first sequence is the beginning itself.
        let (mut lengths, mut rows) = (Vec::new(), Vec::new());
        for (before, own) in
            std::iter::once((0..0, shared.clone())).chain(ranges.map(|own| (shared.clone(), own)))
        {
            lengths.push(before.len() + own.len());
            rows.extend(before.chain(own).map(|row| row as i32));
        }
        Some(Self {
            sequences: Sequences::from_lengths(&lengths),
            rows: Tensor::from_data(TensorData::from(rows.as_slice()), &input.ids.device()),
        })
    }
}

impl<B: AutodiffBackend> Decoding<B> {
    /// See [`Activations::from_inner`](crate::Activations::from_inner).
    pub(crate) fn from_inner(inner: Decoding<B::InnerBackend>) -> Self {
        let angles = |angles: Angles<B::InnerBackend>| Angles {
            cos: Tensor::from_inner(angles.cos),
            sin: Tensor::from_inner(angles.sin),
        };
        let by_layer = |of: LayerAngles<B::InnerBackend>| LayerAngles {
            most: angles(of.most),
            local: of.local.map(angles),
        };
        Self {
            x: Tensor::from_inner(inner.x),
            angles: inner.angles.map(by_layer),
            sequences: inner.sequences,
            seen: inner.seen.map(|seen| Seen {
                sequences: seen.sequences,
                rows: Tensor::from_inner(seen.rows),
            }),
            next: inner.next.map(NextTokens::from_inner),
        }
    }
}

/// The norm in front of a block, or behind it.
#[derive(Module, Debug)]
pub enum Norm<B: Backend> {
    /// Root mean square.
    Rms(RmsNorm<B>),
    /// Mean and variance.
    Layer(LayerNorm<B>),
}

impl<B: Backend> Norm<B> {
    fn new(config: &DecoderConfig, width: usize, device: &B::Device) -> Self {
        let epsilon = config.norm_eps;
        match (config.rms_norm, config.norm_plus_one) {
            (true, true) => Self::Rms(RmsNorm::plus_one(width, epsilon, device)),
            (true, false) => Self::Rms(RmsNorm::new(width, epsilon, device)),
            (false, _) => Self::Layer(LayerNorm::new(width, epsilon, device)),
        }
    }
}

impl<B: TuneBackend> Norm<B> {
    /// `x [T, D]` -> `[T, D]`.
    fn forward(&self, x: Tensor<B, 2>) -> Tensor<B, 2> {
        match self {
            Self::Rms(norm) => norm.forward(x),
            Self::Layer(norm) => norm.forward(x),
        }
    }

    /// Of each head of `x [T, H K]` by itself.
    fn forward_heads(&self, x: Tensor<B, 2>, heads: usize) -> Tensor<B, 2> {
        let [tokens, width] = x.dims();
        let rows = x.reshape([tokens * heads, width / heads]);
        self.forward(rows).reshape([tokens, width])
    }
}

/// One block: self-attention, then the wide map and back, each behind its norm and beside its residual.
#[derive(Module, Debug)]
pub struct DecoderLayer<B: Backend> {
    attention_norm: Norm<B>,
    query: Option<Linear<B>>,
    key: Option<Linear<B>>,
    value: Option<Linear<B>>,
    qkv: Option<Linear<B>>,
    query_norm: Option<Norm<B>>,
    key_norm: Option<Norm<B>>,
    attention_output: Linear<B>,
    attention_post_norm: Option<Norm<B>>,
    mlp_norm: Norm<B>,
    gate: Option<Linear<B>>,
    up: Option<Linear<B>>,
    gate_up: Option<Linear<B>>,
    down: Linear<B>,
    mlp_post_norm: Option<Norm<B>>,
    heads: usize,
    kv_heads: usize,
    head_width: usize,
    attention_dropout: f64,
    hidden_dropout: f64,
    rotates: bool,
    #[module(skip)]
    window: Option<usize>,
    #[module(skip)]
    scale: Option<f64>,
    #[module(skip)]
    activation: Activation,
}

/// Embeddings, blocks and a last norm.
#[derive(Module, Debug)]
pub struct Decoder<B: Backend> {
    embeddings: Embedding<B>,
    positions: Option<Embedding<B>>,
    layers: Vec<DecoderLayer<B>>,
    norm: Norm<B>,
    embedding_dropout: f64,
    #[module(skip)]
    embedding_scale: Option<f64>,
    #[module(skip)]
    rotary: Option<Rotary>,
    #[module(skip)]
    local_rotary: Option<Rotary>,
}

adapter_slots!(DecoderLayer {
    query,
    key,
    value,
    qkv,
    attention_output,
    gate,
    up,
    gate_up,
    down
});
adapter_slots!(Decoder { layers });

impl<B: Backend> Decoder<B> {
    /// New parameters: norms' factors 1, biases 0, the rest normal, each from a stream of its published name; `names` takes paths
    /// below `root`.
    pub fn init(
        config: &DecoderConfig,
        root: &str,
        names: NameMap,
        seed: u64,
        device: &B::Device,
    ) -> Self {
        let (width, std) = (config.hidden_size, config.initializer_range);
        let key = |path: &str| rng::named(seed, &names.published(&format!("{root}.{path}")));
        let norm = |width| Norm::new(config, width, device);
        let table = |path: &str, rows| Embedding::normal(key(path), rows, width, std, device);
        let (queries, keys) = (
            config.heads * config.head_width,
            config.kv_heads * config.head_width,
        );
        let wide = config.intermediate_size;
        let layer = |i: usize| {
            let linear = |name: &str, inputs, outputs, bias: bool| {
                let key = key(&format!("layers.{i}.{name}"));
                let mut linear = Linear::normal(key, inputs, outputs, std, device);
                if !bias {
                    linear.bias = None;
                }
                linear
            };
            let apart = |name: &str, outputs| {
                (!config.joined_qkv).then(|| linear(name, width, outputs, config.qkv_bias))
            };
            let (gate, up) = (
                config.gated && !config.joined_gate,
                !(config.gated && config.joined_gate),
            );
            let mlp = |name: &str, outputs| linear(name, width, outputs, config.mlp_bias);
            let head_norm = || config.qk_norm.then(|| norm(config.head_width));
            let post_norm = || config.post_norms.then(|| norm(width));
            DecoderLayer {
                attention_norm: norm(width),
                query: apart("query", queries),
                key: apart("key", keys),
                value: apart("value", keys),
                qkv: (config.joined_qkv)
                    .then(|| linear("qkv", width, queries + 2 * keys, config.qkv_bias)),
                query_norm: head_norm(),
                key_norm: head_norm(),
                attention_output: linear("attention_output", queries, width, config.output_bias),
                attention_post_norm: post_norm(),
                mlp_norm: norm(width),
                gate: gate.then(|| mlp("gate", wide)),
                up: up.then(|| mlp("up", wide)),
                gate_up: (!up).then(|| mlp("gate_up", 2 * wide)),
                down: linear("down", wide, width, config.mlp_bias),
                mlp_post_norm: post_norm(),
                heads: config.heads,
                kv_heads: config.kv_heads,
                head_width: config.head_width,
                attention_dropout: config.attention_dropout,
                hidden_dropout: config.hidden_dropout,
                rotates: config.rotates.get(i).copied().unwrap_or(true),
                window: config.windows.get(i).copied().flatten(),
                scale: config.attention_scale,
                activation: config.activation,
            }
        };
        let (positions, rotary) = match &config.positions {
            Positions::Learned => (Some(table("positions", config.max_positions)), None),
            Positions::Rotary(rotary) => (None, Some(*rotary)),
        };
        Self {
            embeddings: table("embeddings", config.vocab_size),
            positions,
            layers: (0..config.layers).map(layer).collect(),
            norm: norm(width),
            embedding_dropout: config.embedding_dropout,
            embedding_scale: config.embedding_scale,
            rotary,
            local_rotary: config.local_rotary,
        }
    }

    /// Number of layers.
    pub fn layers(&self) -> usize {
        self.layers.len()
    }

    /// The table of embeddings `[V, D]`.
    pub(crate) fn table(&self) -> &Weight<B> {
        &self.embeddings.weight
    }

    pub(crate) fn table_mut(&mut self) -> &mut Weight<B> {
        &mut self.embeddings.weight
    }

    /// Sets the rate of every dropout, in [0, 1).
    #[must_use]
    pub fn with_dropout(mut self, rate: f64) -> Self {
        self.embedding_dropout = rate;
        for layer in &mut self.layers {
            layer.attention_dropout = rate;
            layer.hidden_dropout = rate;
        }
        self
    }
}

/// Keys and values of the tokens so far, of several sequences, each layer's `[T, H_kv K]`.
#[derive(Debug, Clone)]
pub struct KvCache<B: Backend> {
    layers: Vec<[Rows<B>; 2]>,
    lengths: Vec<usize>,
}

/// Rows that more follow: there is room behind them, so that a new one need not copy the old ones.
#[derive(Debug, Clone)]
struct Rows<B: Backend> {
    /// `[room, W]`
    held: Tensor<B, 2>,
    len: usize,
}

impl<B: Backend> Rows<B> {
    fn new(rows: Tensor<B, 2>) -> Self {
        let len = rows.dims()[0];
        Self { held: rows, len }
    }

    fn all(&self) -> Tensor<B, 2> {
        self.held.clone().narrow(0, 0, self.len)
    }

    fn push(&mut self, new: Tensor<B, 2>) {
        const ROOM: usize = 64;
        let ([added, width], len) = (new.dims(), self.len);
        // The only holder of a buffer can write into it.
        let held = std::mem::replace(&mut self.held, new.clone());
        let held = match held.dims()[0] >= len + added {
            true => held,
            false => {
                let room = Tensor::zeros([len + added + ROOM, width], &new.device());
                Tensor::cat(vec![held.narrow(0, 0, len), room], 0)
            }
        };
        self.held = held.slice_assign([len..len + added, 0..width], new);
        self.len += added;
    }
}

impl<B: Backend> KvCache<B> {
    /// For so many sequences, nothing read yet.
    #[must_use]
    pub fn new(sequences: usize) -> Self {
        Self {
            layers: Vec::new(),
            lengths: vec![0; sequences],
        }
    }

    /// Tokens read of each sequence.
    #[must_use]
    pub fn lengths(&self) -> &[usize] {
        &self.lengths
    }

    /// Keeps these sequences, in this order, and forgets the others.
    pub fn keep(&mut self, sequences: &[usize]) {
        let offsets = Sequences::from_lengths(&self.lengths);
        let ranges: Vec<_> = offsets.ranges().collect();
        let rows: Vec<i32> = sequences
            .iter()
            .flat_map(|&s| ranges[s].clone().map(|row| row as i32))
            .collect();
        for held in self.layers.iter_mut().flatten() {
            let data = TensorData::from(rows.as_slice());
            let rows = Tensor::<B, 1, Int>::from_data(data, &held.held.device());
            *held = Rows::new(held.all().select(0, rows));
        }
        self.lengths = sequences.iter().map(|&s| self.lengths[s]).collect();
    }
}

/// What a cache grows by in one pass.
struct Growth<B: Backend> {
    /// All tokens, old and new.
    sequences: Sequences,
    /// The places of all tokens among old ones followed by new ones; `None` where they follow in order.
    order: Option<Tensor<B, 1, Int>>,
}

impl<B: Backend> Growth<B> {
    fn new(cache: &KvCache<B>, new: &Sequences, device: &B::Device) -> Self {
        let old = Sequences::from_lengths(&cache.lengths);
        let lengths: Vec<usize> = (old.ranges().zip(new.ranges()))
            .map(|(old, new)| old.len() + new.len())
            .collect();
        let sequences = Sequences::from_lengths(&lengths);
        let in_order = old.count() < 2 || old.tokens() == 0;
        let order = (!in_order).then(|| {
            let places: Vec<i32> = (old.ranges().zip(new.ranges()))
                .flat_map(|(before, after)| {
                    let after = after.map(|row| old.tokens() + row);
                    before.chain(after).map(|row| row as i32)
                })
                .collect();
            Tensor::from_data(TensorData::from(places.as_slice()), device)
        });
        Self { sequences, order }
    }

    /// Adds new rows, each behind those of its sequence.
    fn add(&self, held: &mut Rows<B>, new: Tensor<B, 2>) {
        match &self.order {
            None => held.push(new),
            Some(order) => {
                let rows = Tensor::cat(vec![held.all(), new], 0);
                *held = Rows::new(rows.select(0, order.clone()));
            }
        }
    }
}

/// The keys and values that tokens see.
enum Keys<'a, B: Backend> {
    /// Those of their sequence.
    Own,
    /// The first sequence's too.
    Shared(&'a Seen<B>),
    /// Also those that a cache holds of the layer of this number, to which they are added.
    Cached(&'a mut KvCache<B>, &'a Growth<B>, usize),
}

/// `y [T, D]` behind a norm, if there is one.
fn behind<B: TuneBackend>(norm: &Option<Norm<B>>, y: Tensor<B, 2>) -> Tensor<B, 2> {
    match norm {
        Some(norm) => norm.forward(y),
        None => y,
    }
}

impl<B: TuneBackend> DecoderLayer<B> {
    /// Queries, keys and values of `x [T, D]`, normed and turned.
    fn project(
        &self,
        x: Tensor<B, 2>,
        angles: Option<&Angles<B>>,
        pass: Pass,
    ) -> [Tensor<B, 2>; 3] {
        let (queries, keys) = (
            self.heads * self.head_width,
            self.kv_heads * self.head_width,
        );
        let [q, k, v] = match (&self.qkv, &self.query, &self.key, &self.value) {
            (None, Some(query), Some(key), Some(value)) => [
                query.forward(x.clone(), pass.child(1)),
                key.forward(x.clone(), pass.child(2)),
                value.forward(x, pass.child(3)),
            ],
            (Some(qkv), ..) => {
                let joined = qkv.forward(x, pass.child(1));
                [
                    joined.clone().narrow(1, 0, queries),
                    joined.clone().narrow(1, queries, keys),
                    joined.narrow(1, queries + keys, keys),
                ]
            }
            _ => unreachable!("a layer has one map or three"),
        };
        let normed = |x, norm: &Option<Norm<B>>, heads| match norm {
            Some(norm) => norm.forward_heads(x, heads),
            None => x,
        };
        let (q, k) = (
            normed(q, &self.query_norm, self.heads),
            normed(k, &self.key_norm, self.kv_heads),
        );
        match angles.filter(|_| self.rotates) {
            None => [q, k, v],
            Some(angles) => {
                let turned =
                    |x, heads| ops::rotary(x, angles.cos.clone(), angles.sin.clone(), heads);
                [turned(q, self.heads), turned(k, self.kv_heads), v]
            }
        }
    }

    /// `x [T, D]` -> `[T, D]`.
    fn forward(
        &self,
        x: Tensor<B, 2>,
        angles: Option<&Angles<B>>,
        sequences: &Sequences,
        keys: Keys<'_, B>,
        pass: Pass,
    ) -> Tensor<B, 2> {
        let pass = within(self, pass);
        let config = AttentionConfig {
            kv_heads: self.kv_heads,
            causal: true,
            window: self.window,
            scale: self.scale,
            dropout: pass.child(0).dropout(self.attention_dropout),
            ..AttentionConfig::new(self.heads)
        };
        let [q, k, v] = self.project(self.attention_norm.forward(x.clone()), angles, pass);
        let context = match keys {
            Keys::Own => ops::attention(q, k, v, (sequences, sequences), config),
            Keys::Shared(seen) => {
                let [k, v] = [k, v].map(|x| ops::embedding_rows(x, seen.rows.clone()));
                ops::attention(q, k, v, (sequences, &seen.sequences), config)
            }
            Keys::Cached(cache, growth, layer) => {
                let [k, v] = match cache.layers.get_mut(layer) {
                    None => {
                        cache
                            .layers
                            .push([&k, &v].map(|rows| Rows::new(rows.clone())));
                        [k, v]
                    }
                    Some(held) => {
                        for (held, new) in held.iter_mut().zip([k, v]) {
                            growth.add(held, new);
                        }
                        [held[0].all(), held[1].all()]
                    }
                };
                ops::attention(q, k, v, (sequences, &growth.sequences), config)
            }
        };
        let attended = pass.child(4);
        let y = self.attention_output.forward(context, attended.child(0));
        let y = behind(&self.attention_post_norm, y);
        let x = x + ops::dropout(y, self.hidden_dropout, attended.child(1));

        let y = self.mlp_norm.forward(x.clone());
        let narrowed = pass.child(7);
        let y = self.mlp(y, pass, narrowed.child(0));
        let y = behind(&self.mlp_post_norm, y);
        x + ops::dropout(y, self.hidden_dropout, narrowed.child(1))
    }

    /// The wide map and back.
    fn mlp(&self, x: Tensor<B, 2>, wide: Pass, narrow: Pass) -> Tensor<B, 2> {
        let (gate, up) = match (&self.gate, &self.up, &self.gate_up) {
            (Some(gate), Some(up), _) => (
                gate.forward(x.clone(), wide.child(5)),
                up.forward(x, wide.child(6)),
            ),
            (None, Some(up), _) => {
                let up = up.forward(x, wide.child(6));
                return match self.activation {
                    Activation::Gelu(kind) => self.down.forward_gelu(up, kind, narrow),
                    Activation::Relu => self.down.forward(activation::relu(up), narrow),
                    Activation::Silu => self.down.forward(activation::silu(up), narrow),
                };
            }
            (_, _, Some(gate_up)) => {
                let joined = gate_up.forward(x, wide.child(5));
                let half = joined.dims()[1] / 2;
                (
                    joined.clone().narrow(1, 0, half),
                    joined.narrow(1, half, half),
                )
            }
            _ => unreachable!("a layer has a wide map"),
        };
        self.down.forward(self.activation.gated(gate, up), narrow)
    }
}

impl<B: TuneBackend> Decoder<B> {
    /// Hidden states `[T, D]` of packed texts, behind the last norm.
    pub fn forward(&self, input: &TextInput<B>, pass: Pass) -> Tensor<B, 2> {
        let state = self.begin(input, pass);
        let layers = 1..self.layers.len() + 2;
        layers.fold(state, |x, unit| self.unit(unit, x, pass)).x
    }

    /// Hidden states after the embeddings, after each layer, and behind the last norm, as in evaluation.
    pub fn hidden_states(&self, input: &TextInput<B>) -> Vec<Tensor<B, 2>> {
        let pass = Pass::evaluation();
        let mut state = self.begin(input, pass);
        let mut states = vec![state.x.clone()];
        for unit in 1..self.layers.len() + 2 {
            state = self.unit(unit, state, pass);
            states.push(state.x.clone());
        }
        // As transformers counts them, the last layer's are given behind the norm.
        states.swap_remove(self.layers.len());
        states
    }

    /// Unit 0: the embeddings.
    pub(crate) fn begin(&self, input: &TextInput<B>, pass: Pass) -> Decoding<B> {
        Decoding {
            x: self.embed(input, input.positions.clone(), pass.child(0)),
            angles: self.angles(&input.places(), input),
            sequences: input.sequences.clone(),
            seen: Seen::of(input),
            next: input.next.clone(),
        }
    }

    /// A later unit: a layer, or the norm after the last one.
    pub(crate) fn unit(&self, unit: usize, mut state: Decoding<B>, pass: Pass) -> Decoding<B> {
        state.x = match self.layers.get(unit - 1) {
            Some(layer) => {
                let angles = state.angles.as_ref().map(|angles| angles.of(layer));
                let sequences = &state.sequences;
                let keys = match &state.seen {
                    None => Keys::Own,
                    Some(seen) => Keys::Shared(seen),
                };
                layer.forward(state.x, angles, sequences, keys, pass.child(unit as u64))
            }
            None => self.norm.forward(state.x),
        };
        state
    }

    /// Hidden states `[T, D]` of new tokens, some for each sequence of the cache (none for some), which the cache keeps.
    ///
    /// # Panics
    /// If the input has another number of sequences than the cache.
    pub fn extend(&self, input: &TextInput<B>, cache: &mut KvCache<B>) -> Tensor<B, 2> {
        assert_eq!(
            input.sequences.count(),
            cache.lengths.len(),
            "new tokens for each sequence of the cache"
        );
        let pass = Pass::evaluation();
        let device = input.ids.device();
        let positions: Vec<usize> = (cache.lengths.iter().zip(input.sequences.ranges()))
            .flat_map(|(&read, new)| read..read + new.len())
            .collect();
        let angles = self.angles(&positions, input);
        let rows: Vec<i32> = positions.iter().map(|&p| p as i32).collect();
        let rows = Tensor::from_data(TensorData::from(rows.as_slice()), &device);
        let growth = Growth::new(cache, &input.sequences, &device);
        let mut x = self.embed(input, rows, pass);
        for (i, layer) in self.layers.iter().enumerate() {
            let keys = Keys::Cached(&mut *cache, &growth, i);
            let angles = angles.as_ref().map(|angles| angles.of(layer));
            x = layer.forward(x, angles, &input.sequences, keys, pass);
        }
        cache.lengths = growth.sequences.ranges().map(|range| range.len()).collect();
        self.norm.forward(x)
    }

    fn angles(&self, positions: &[usize], input: &TextInput<B>) -> Option<LayerAngles<B>> {
        let of = |rotary: Rotary| rotary.angles(positions, &input.ids.device());
        Some(LayerAngles {
            most: of(self.rotary?),
            local: self.local_rotary.map(of),
        })
    }

    fn embed(
        &self,
        input: &TextInput<B>,
        positions: Tensor<B, 1, Int>,
        pass: Pass,
    ) -> Tensor<B, 2> {
        let x = self.embeddings.forward(input.ids.clone());
        let x = match self.embedding_scale {
            Some(scale) => x * scale as f32,
            None => x,
        };
        let x = match &self.positions {
            Some(table) => table.add_to(x, positions),
            None => x,
        };
        let pass = match &self.positions {
            Some(table) if params::any_trainable(table) => pass,
            _ => within(&self.embeddings, pass),
        };
        ops::dropout(x, self.embedding_dropout, pass)
    }
}
