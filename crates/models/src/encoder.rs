//! The encoder of BERT (Devlin et al. 2018) and its relatives (DistilBERT, RoBERTa, XLM-RoBERTa, ELECTRA, ALBERT, MPNet, DeBERTa): learned
//! positions, relative ones beside or instead of them, and a layer norm behind every residual. On packed tokens: there is no padding and so
//! no attention mask.
//!
//! A block in which nothing trains runs as in evaluation (no dropout): frozen is frozen.

use crate::{
    input::{Asked, TextInput, firsts},
    prenorm::{PreNorm, PreNormLayer, WindowAngles},
};
use burn::{
    module::Module,
    tensor::{Tensor, TensorData, activation, backend::Backend},
};
use rekindle_base::rng;
use rekindle_nn::{
    adapter_slots,
    layers::{AdapterSlots, Embedding, LayerNorm, Linear, Slot},
    ops::{
        self, AttentionConfig, Distances, Gate, GeluKind, Pass, Relative, Sequences, TuneBackend,
    },
    params::{self, NameMap},
};

/// The activation between a layer's two linear maps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    /// GELU, exact or by tanh.
    Gelu(GeluKind),
    /// max(x, 0)
    Relu,
    /// x σ(x)
    Silu,
}

impl Activation {
    /// The activation of any tensor.
    pub(crate) fn apply<B: TuneBackend, const D: usize>(self, x: Tensor<B, D>) -> Tensor<B, D> {
        match self {
            Self::Gelu(kind) => ops::gelu(x, kind),
            Self::Relu => activation::relu(x),
            Self::Silu => activation::silu(x),
        }
    }

    /// Of `gate [T, I]`, times `up [T, I]`.
    pub(crate) fn gated<B: TuneBackend>(
        self,
        gate: Tensor<B, 2>,
        up: Tensor<B, 2>,
    ) -> Tensor<B, 2> {
        match self {
            Self::Gelu(kind) => ops::gated(gate, up, Gate::Gelu(kind)),
            Self::Silu => ops::gated(gate, up, Gate::Silu),
            Self::Relu => activation::relu(gate) * up,
        }
    }
}

/// An encoder's sizes and settings.
#[derive(Debug, Clone, PartialEq)]
pub struct EncoderConfig {
    /// V
    pub vocab_size: usize,
    /// D
    pub hidden_size: usize,
    /// Width of the embeddings, where a linear map takes them to D (ELECTRA); `None` where they are of width D.
    pub embedding_size: Option<usize>,
    /// Number of layers with parameters of their own.
    pub layers: usize,
    /// How often each is applied, in a row (ALBERT); 1 elsewhere.
    pub repeats: usize,
    /// H
    pub heads: usize,
    /// Width between a layer's two linear maps.
    pub intermediate_size: usize,
    /// Activation between them.
    pub activation: Activation,
    /// Dropout after embeddings and layers, in [0, 1).
    pub hidden_dropout: f64,
    /// Dropout on attention's probabilities, in [0, 1).
    pub attention_dropout: f64,
    /// Whether the hidden dropout also follows attention's output (not in DistilBERT).
    pub drops_attention_output: bool,
    /// Whether it also follows the second linear map (not in ALBERT).
    pub drops_output: bool,
    /// Rows of the table of positions; without such a table the longest sequence.
    pub position_rows: usize,
    /// The row of a sequence's first token: RoBERTa's tables begin with rows for padding.
    pub first_position: usize,
    /// Number of segment types; 0 where there is no table of them.
    pub type_vocab_size: usize,
    /// What the distance of two tokens adds to attention's scores, where it does.
    pub relative: Option<RelativePositions>,
    /// Standard deviation of new weights.
    pub initializer_range: f64,
    /// ε of layer norms.
    pub layer_norm_eps: f64,
    /// Where norms stand in front of blocks and positions are rotary (ModernBERT), what else such layers need.
    pub pre_norm: Option<PreNorm>,
}

/// The relative positions of a family: one table for all layers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RelativePositions {
    /// MPNet's: a bias a head in buckets of distances, as T5 has them.
    Bias {
        /// Rows of the table, of which the first `BIAS_BUCKETS` are in use.
        rows: usize,
    },
    /// DeBERTa's: a vector a bucket, which the layers' own linear maps make keys and queries of. There is no table of absolute
    /// positions then.
    Vectors {
        /// Half the rows of the table: distances this far on either side have buckets of their own.
        span: usize,
        /// The distance that gets the last bucket, where buckets beyond half the span are logarithmic.
        farthest: Option<usize>,
        /// Whether a layer norm follows the table.
        normed: bool,
    },
}

/// Buckets of MPNet's distances, which no setting changes.
pub(crate) const BIAS_BUCKETS: usize = 32;

impl RelativePositions {
    /// The row of a distance, the query's place minus the key's. In f32, in transformers' order of operations: buckets end at
    /// powers of 2, where another rounding falls on the other side.
    fn row(self, distance: i64) -> usize {
        let far = distance.unsigned_abs() as usize;
        match self {
            Self::Bias { .. } => {
                // The first half is for keys in front of the query; of each half, the first half for single distances.
                const HALF: usize = BIAS_BUCKETS / 2;
                const EXACT: usize = HALF / 2;
                const FARTHEST: f64 = 128.0;
                let bucket = match far < EXACT {
                    true => far,
                    false => {
                        let octaves = (far as f32 / EXACT as f32).ln();
                        let all = (FARTHEST / EXACT as f64).ln() as f32;
                        let beyond = octaves / all * (HALF - EXACT) as f32;
                        (EXACT + beyond as usize).min(HALF - 1)
                    }
                };
                bucket + if distance < 0 { HALF } else { 0 }
            }
            Self::Vectors { span, farthest, .. } => {
                let middle = span / 2;
                let bucket = match farthest {
                    Some(farthest) if far > middle => {
                        let middle_f = middle as f32;
                        let octaves = (far as f32 / middle_f).ln();
                        let all = ((farthest as f64 - 1.0) / middle as f64) as f32;
                        let beyond = octaves / all.ln() * (middle_f - 1.0);
                        distance.signum() * (beyond.ceil() + middle_f) as i64
                    }
                    _ => distance,
                };
                (bucket + span as i64).clamp(0, 2 * span as i64 - 1) as usize
            }
        }
    }
}

/// Word, position and segment embeddings.
#[derive(Module, Debug)]
pub struct Embeddings<B: Backend> {
    word: Embedding<B>,
    position: Option<Embedding<B>>,
    token_type: Option<Embedding<B>>,
    norm: LayerNorm<B>,
    project: Option<Linear<B>>,
    dropout: f64,
    first_position: usize,
}

/// The table of relative positions, `[R, H]` of biases or `[R, D]` of vectors.
#[derive(Module, Debug)]
pub struct RelativeTable<B: Backend> {
    table: Embedding<B>,
    norm: Option<LayerNorm<B>>,
    #[module(skip)]
    positions: RelativePositions,
}

/// The rows of the table that a batch has distances for.
struct RelativeRows<B: Backend> {
    rows: Tensor<B, 2>,
    distances: Distances,
    positions: RelativePositions,
}

/// One layer: self-attention, then two linear maps, each with its residual and norm.
#[derive(Module, Debug)]
pub struct Layer<B: Backend> {
    query: Linear<B>,
    key: Linear<B>,
    value: Linear<B>,
    attention_output: Linear<B>,
    attention_norm: LayerNorm<B>,
    intermediate: Linear<B>,
    output: Linear<B>,
    output_norm: LayerNorm<B>,
    heads: usize,
    attention_dropout: f64,
    hidden_dropout: f64,
    drops_attention_output: bool,
    drops_output: bool,
    #[module(skip)]
    activation: Activation,
}

/// A layer of either kind.
#[derive(Module, Debug)]
#[allow(clippy::large_enum_variant)] // an encoder's are all of one kind
pub enum EncoderLayer<B: Backend> {
    /// With its norms behind.
    Post(Layer<B>),
    /// With its norms in front.
    Pre(PreNormLayer<B>),
}

/// Embeddings and layers, and the norm behind them where they have theirs in front.
#[derive(Module, Debug)]
pub struct Encoder<B: Backend> {
    embeddings: Embeddings<B>,
    relative: Option<RelativeTable<B>>,
    layers: Vec<EncoderLayer<B>>,
    repeats: usize,
    norm: Option<LayerNorm<B>>,
    #[module(skip)]
    pre_norm: Option<PreNorm>,
}

adapter_slots!(Layer {
    query,
    key,
    value,
    attention_output,
    intermediate,
    output
});
adapter_slots!(Embeddings { project });
adapter_slots!(Encoder { embeddings, layers });

impl<B: Backend> AdapterSlots<B> for EncoderLayer<B> {
    fn visit_slots(&mut self, path: &str, visit: &mut dyn FnMut(&str, Slot<'_, B>)) {
        match self {
            Self::Post(layer) => layer.visit_slots(path, visit),
            Self::Pre(layer) => layer.visit_slots(path, visit),
        }
    }
}

impl<B: Backend> Encoder<B> {
    /// New parameters, as transformers initialises them (norms 1 and 0, biases 0, the rest normal), each from a stream of its
    /// published name: `names` takes paths below `root`.
    pub fn init(
        config: &EncoderConfig,
        root: &str,
        names: NameMap,
        seed: u64,
        device: &B::Device,
    ) -> Self {
        let (width, std) = (config.hidden_size, config.initializer_range);
        let key = |path: &str| rng::named(seed, &names.published(&format!("{root}.{path}")));
        let norm_of = |width| {
            let norm = LayerNorm::new(width, config.layer_norm_eps, device);
            match &config.pre_norm {
                Some(PreNorm {
                    norm_bias: false, ..
                }) => norm.without_bias(),
                _ => norm,
            }
        };
        let norm = || norm_of(width);
        let of_tables = config.embedding_size.unwrap_or(width);
        let table = |path: &str, rows| Embedding::normal(key(path), rows, of_tables, std, device);
        let project = "embeddings.project";
        let layer = |i: usize| {
            if let Some(pre_norm) = &config.pre_norm {
                let key = |name: &str| key(&format!("layers.{i}.{name}"));
                let layer = PreNormLayer::init(config, pre_norm, i, &key, &norm, device);
                return EncoderLayer::Pre(layer);
            }
            let linear = |name: &str, inputs, outputs| {
                let key = key(&format!("layers.{i}.{name}"));
                Linear::normal(key, inputs, outputs, std, device)
            };
            EncoderLayer::Post(Layer {
                query: linear("query", width, width),
                key: linear("key", width, width),
                value: linear("value", width, width),
                attention_output: linear("attention_output", width, width),
                attention_norm: norm(),
                intermediate: linear("intermediate", width, config.intermediate_size),
                output: linear("output", config.intermediate_size, width),
                output_norm: norm(),
                heads: config.heads,
                attention_dropout: config.attention_dropout,
                hidden_dropout: config.hidden_dropout,
                drops_attention_output: config.drops_attention_output,
                drops_output: config.drops_output,
                activation: config.activation,
            })
        };
        let learned = config.pre_norm.is_none();
        let types = config.type_vocab_size;
        let relative = config.relative.map(|positions| {
            let (rows, width, normed) = match positions {
                RelativePositions::Bias { rows } => (rows, config.heads, false),
                RelativePositions::Vectors { span, normed, .. } => (2 * span, width, normed),
            };
            RelativeTable {
                table: Embedding::normal(key("relative.table"), rows, width, std, device),
                norm: normed.then(norm),
                positions,
            }
        });
        let absolute = !matches!(config.relative, Some(RelativePositions::Vectors { .. }));
        let positions = || table("embeddings.position", config.position_rows);
        Self {
            embeddings: Embeddings {
                word: table("embeddings.word", config.vocab_size),
                position: (learned && absolute).then(positions),
                token_type: (types > 0).then(|| table("embeddings.token_type", types)),
                norm: norm_of(of_tables),
                project: (config.embedding_size)
                    .map(|inputs| Linear::normal(key(project), inputs, width, std, device)),
                dropout: config.hidden_dropout,
                first_position: config.first_position,
            },
            relative,
            layers: (0..config.layers).map(layer).collect(),
            repeats: config.repeats,
            norm: (!learned).then(norm),
            pre_norm: config.pre_norm.clone(),
        }
    }

    /// Number of layers with parameters of their own.
    pub fn layers(&self) -> usize {
        self.layers.len()
    }

    /// Sets the rate of every dropout, in [0, 1).
    #[must_use]
    pub fn with_dropout(mut self, rate: f64) -> Self {
        self.embeddings.dropout = rate;
        for layer in &mut self.layers {
            match layer {
                EncoderLayer::Post(layer) => {
                    layer.attention_dropout = rate;
                    layer.hidden_dropout = rate;
                }
                EncoderLayer::Pre(layer) => layer.set_dropout(rate),
            }
        }
        self
    }
}

/// The pass as a block sees it: as in evaluation where nothing in the block trains.
pub(crate) fn within<B: Backend, M: Module<B>>(block: &M, pass: Pass) -> Pass {
    if pass.is_training() && !pass.is_training_block() && !params::any_trainable(block) {
        pass.frozen()
    } else {
        pass
    }
}

impl<B: TuneBackend> Embeddings<B> {
    /// -> `[T, D]`
    fn forward(&self, input: &TextInput<B>, pass: Pass) -> Tensor<B, 2> {
        let pass = within(self, pass);
        let x = self.word.forward(input.ids.clone());
        let x = match &self.position {
            None => x,
            Some(table) => {
                let positions = match self.first_position {
                    0 => input.positions.clone(),
                    first => input.positions.clone() + first as i64,
                };
                table.add_to(x, positions)
            }
        };
        let x = match &self.token_type {
            None => x,
            Some(table) => {
                // A family with one type has tokenizers that may number the second text's tokens 1.
                let type_ids = match table.weight.dims()[0] {
                    1 => input.type_ids.zeros_like(),
                    _ => input.type_ids.clone(),
                };
                table.add_to(x, type_ids)
            }
        };
        let x = ops::dropout(self.norm.forward(x), self.dropout, pass);
        match &self.project {
            None => x,
            Some(project) => project.forward(x, pass.child(0)),
        }
    }
}

impl<B: TuneBackend> RelativeTable<B> {
    /// The rows that distances in sequences of up to `longest` tokens have.
    fn rows(&self, longest: usize) -> RelativeRows<B> {
        let positions = self.positions;
        let distances = Distances::new(longest, |distance| positions.row(distance));
        let rows = self.table.weight.val().slice([distances.span()]);
        let rows = match &self.norm {
            None => rows,
            Some(norm) => norm.forward(rows),
        };
        RelativeRows {
            rows,
            distances,
            positions,
        }
    }
}

impl<B: TuneBackend> Layer<B> {
    /// `x [T, D]` -> `[T, D]`, or `[Q, D]` where only `asked` tokens are read behind this layer: the others are keys and values,
    /// and nothing else of them is computed.
    fn forward(
        &self,
        x: Tensor<B, 2>,
        sequences: &Sequences,
        asked: Option<&Asked<B>>,
        relative: Option<&RelativeRows<B>>,
        pass: Pass,
    ) -> Tensor<B, 2> {
        let pass = within(self, pass);
        let (residual, queries) = match asked {
            None => (x.clone(), sequences),
            Some(asked) => {
                let rows = ops::embedding_rows(x.clone(), asked.tokens.clone());
                (rows, &asked.sequences)
            }
        };
        let config = AttentionConfig {
            dropout: pass.child(0).dropout(self.attention_dropout),
            ..AttentionConfig::new(self.heads)
        };
        let q = self.query.forward(residual.clone(), pass.child(1));
        let k = self.key.forward(x.clone(), pass.child(2));
        let v = self.value.forward(x, pass.child(3));
        let context = match relative {
            None => ops::attention(q, k, v, (queries, sequences), config),
            Some(relative) => {
                let distances = match asked {
                    None => relative.distances.clone(),
                    Some(asked) => {
                        let places = asked.places(sequences);
                        relative.distances.clone().with_places(places)
                    }
                };
                let (config, tables) = self.distanced(relative, config, pass.child(7));
                let sequences = (queries, sequences);
                ops::relative_attention([q, k, v], tables, &distances, sequences, config)
            }
        };

        let attended = pass.child(4);
        let x = self.attention_output.forward(context, attended.child(0));
        let rate = if self.drops_attention_output {
            self.hidden_dropout
        } else {
            0.0
        };
        let x = ops::dropout(x, rate, attended.child(1));
        let x = self.attention_norm.forward_sum(x, residual);

        let wide = self.intermediate.forward(x.clone(), pass.child(5));
        let narrowed = pass.child(6);
        let within = narrowed.child(0);
        let y = match self.activation {
            Activation::Gelu(kind) => self.output.forward_gelu(wide, kind, within),
            other => self.output.forward(other.apply(wide), within),
        };
        let rate = match self.drops_output {
            true => self.hidden_dropout,
            false => 0.0,
        };
        let y = ops::dropout(y, rate, narrowed.child(1));
        self.output_norm.forward_sum(y, x)
    }

    /// What distances add to this layer's scores, and attention's settings with it.
    fn distanced(
        &self,
        relative: &RelativeRows<B>,
        config: AttentionConfig,
        pass: Pass,
    ) -> (AttentionConfig, Relative<Tensor<B, 2>>) {
        let rows = relative.rows.clone();
        match relative.positions {
            RelativePositions::Bias { .. } => (config, Relative::Bias(rows)),
            RelativePositions::Vectors { .. } => {
                let head_width = rows.dims()[1] / self.heads;
                // Three products are summed.
                let scale = Some(1.0 / (3.0 * head_width as f64).sqrt());
                let rows = ops::dropout(rows, self.hidden_dropout, pass.child(0));
                let tables = Relative::Vectors {
                    keys: self.key.forward(rows.clone(), pass.child(1)),
                    queries: self.query.forward(rows, pass.child(2)),
                };
                (AttentionConfig { scale, ..config }, tables)
            }
        }
    }
}

/// What the layers of an encoder read of positions.
enum Places<B: Backend> {
    /// Nothing: the embeddings hold them.
    Absolute,
    /// Angles, by which queries and keys are turned.
    Rotary(WindowAngles<B>),
    /// Rows of a table of distances.
    Relative(RelativeRows<B>),
}

impl<B: TuneBackend> Encoder<B> {
    /// Hidden states `[T, D]` after the embeddings and after each application of a layer, the last behind the last norm, as in
    /// evaluation.
    pub fn hidden_states(&self, input: &TextInput<B>) -> Vec<Tensor<B, 2>> {
        let pass = Pass::evaluation();
        let mut states = vec![self.embed(input, pass)];
        let places = self.places(&input.sequences, &input.ids.device());
        for n in 0..self.layers.len() * self.repeats {
            let x = states[n].clone();
            states.push(self.apply(n, x, &places, &input.sequences, None, pass));
        }
        states
    }

    /// The embeddings: `[T, D]`.
    pub(crate) fn embed(&self, input: &TextInput<B>, pass: Pass) -> Tensor<B, 2> {
        self.embeddings.forward(input, pass.child(0))
    }

    /// Some of the layers, on `x [T, D]`: `[T, D]`, or `[Q, D]` of the tokens `asked` for where the last layer is among them.
    pub(crate) fn run(
        &self,
        mut x: Tensor<B, 2>,
        sequences: &Sequences,
        layers: std::ops::Range<usize>,
        asked: Option<&Asked<B>>,
        pass: Pass,
    ) -> Tensor<B, 2> {
        if layers.is_empty() {
            return x;
        }
        let places = self.places(sequences, &x.device());
        for n in layers.start * self.repeats..layers.end * self.repeats {
            x = self.apply(n, x, &places, sequences, asked, pass);
        }
        x
    }

    /// What the layers read of positions.
    fn places(&self, sequences: &Sequences, device: &B::Device) -> Places<B> {
        match (&self.pre_norm, &self.relative) {
            (Some(settings), _) => Places::Rotary(WindowAngles::new(settings, sequences, device)),
            (None, Some(table)) => Places::Relative(table.rows(sequences.longest())),
            (None, None) => Places::Absolute,
        }
    }

    /// Application `n` of a layer; behind the last one the last norm, if there is one.
    fn apply(
        &self,
        n: usize,
        x: Tensor<B, 2>,
        places: &Places<B>,
        sequences: &Sequences,
        asked: Option<&Asked<B>>,
        pass: Pass,
    ) -> Tensor<B, 2> {
        let is_last = n + 1 == self.layers.len() * self.repeats;
        let (asked, pass) = (asked.filter(|_| is_last), pass.child(1 + n as u64));
        let x = match (&self.layers[n / self.repeats], places) {
            (EncoderLayer::Post(layer), places) => {
                let relative = match places {
                    Places::Relative(rows) => Some(rows),
                    Places::Absolute | Places::Rotary(_) => None,
                };
                layer.forward(x, sequences, asked, relative, pass)
            }
            (EncoderLayer::Pre(layer), Places::Rotary(angles)) => {
                layer.forward(x, angles, sequences, asked, pass)
            }
            (EncoderLayer::Pre(_), _) => unreachable!("such layers have rotary positions"),
        };
        match self.norm.as_ref().filter(|_| is_last) {
            Some(norm) => norm.forward(x),
            None => x,
        }
    }
}

/// The first token of each sequence, as queries.
pub(crate) fn first_tokens<B: Backend>(sequences: &Sequences, device: &B::Device) -> Asked<B> {
    Asked::firsts(firsts(sequences, device), sequences)
}

/// Mean of each sequence's rows: `[T, D]` -> `[B, D]`.
pub(crate) fn mean_by_sequence<B: TuneBackend>(
    x: Tensor<B, 2>,
    sequences: &Sequences,
) -> Tensor<B, 2> {
    by_sequence(x, sequences, |length| 1.0 / length.max(1) as f32)
}

/// Sum of each sequence's rows: `[T, D]` -> `[B, D]`.
pub(crate) fn sums_by_sequence<B: TuneBackend>(
    x: Tensor<B, 2>,
    sequences: &Sequences,
) -> Tensor<B, 2> {
    by_sequence(x, sequences, |_| 1.0)
}

/// Sum of each sequence's rows times its share, by its length: `[T, D]` -> `[B, D]`.
fn by_sequence<B: TuneBackend>(
    x: Tensor<B, 2>,
    sequences: &Sequences,
    share: impl Fn(usize) -> f32,
) -> Tensor<B, 2> {
    // A [B, T] matrix of shares, times x: one small product on any backend, and its gradient is another. Burn's own product
    // would round its factors on some GPUs.
    let (count, tokens) = (sequences.count(), sequences.tokens());
    let mut weights = vec![0f32; count * tokens];
    for (s, range) in sequences.ranges().enumerate() {
        let share = share(range.len());
        weights[s * tokens..][range].fill(share);
    }
    let weights = Tensor::from_data(TensorData::new(weights, [count, tokens]), &x.device());
    ops::linear(weights, x.transpose(), None, ops::Precision::F32)
}

#[cfg(test)]
mod tests {
    use super::RelativePositions;

    /// `golden/buckets.json` is made by transformers' own functions (`golden/buckets.py`).
    #[test]
    fn buckets_are_those_of_transformers() {
        let fixture = include_str!("../tests/golden/buckets.json");
        let fixture: serde_json::Value = serde_json::from_str(fixture).expect("JSON");
        let cases = fixture["cases"].as_array().expect("a list");
        assert!(cases.len() >= 6);
        for case in cases {
            let number = |key: &str| case[key].as_i64();
            let positions = match number("span") {
                None => RelativePositions::Bias { rows: 32 },
                Some(span) => RelativePositions::Vectors {
                    span: span as usize,
                    farthest: number("farthest").map(|farthest| farthest as usize),
                    normed: true,
                },
            };
            let rows = case["rows"].as_array().expect("a list");
            let reach = rows.len() as i64 / 2;
            assert!(reach > 20);
            for (distance, row) in (-reach..).zip(rows) {
                let found = positions.row(distance) as u64;
                assert_eq!(
                    Some(found),
                    row.as_u64(),
                    "{positions:?}, distance {distance}"
                );
            }
        }
    }
}
