//! BERT (Devlin et al. 2018) as transformers' `BertForSequenceClassification`, on packed tokens: there is no padding and
//! so no attention mask. Two poolings: `[CLS]` through the pooler, as transformers has it, or the mean of all tokens.
//!
//! A block in which nothing trains runs as in evaluation (no dropout): frozen is frozen.

mod config;

pub use config::{Activation, BertConfig};

use crate::{Checkpoint, LoadReport, ModelError, Rule, Weights};
use burn::{
    module::{Module, Param},
    tensor::{Int, Tensor, activation, backend::Backend},
};
use rekindle_base::{rng, write_atomically};
use rekindle_nn::{
    adapter_slots,
    layers::{Embedding, LayerNorm, Linear},
    ops::{self, AttentionConfig, Pass, Precision, Sequences, TuneBackend},
    params::{self, NameMap},
};
use rekindle_weights as weights;
use std::path::Path;

/// Fields to the names of checkpoints.
pub const NAMES: NameMap = NameMap(&[("self_attention", "self"), ("layer_norm", "LayerNorm")]);

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
        let firsts: Vec<i32> = sequences.ranges().map(|range| range.start as i32).collect();
        let tensor = |values: Vec<i32>| {
            Tensor::from_data(burn::tensor::TensorData::from(values.as_slice()), device)
        };
        Self {
            ids: tensor(ids),
            type_ids: tensor(type_ids),
            positions: tensor(positions),
            firsts: tensor(firsts),
            sequences,
        }
    }
}

/// What the classification head reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Pooling {
    /// `[CLS]` through the pooler (dense and tanh), as transformers.
    #[default]
    Cls,
    /// The mean of all tokens' last hidden states.
    Mean,
}

/// Word, position and segment embeddings.
#[derive(Module, Debug)]
pub struct Embeddings<B: Backend> {
    word_embeddings: Embedding<B>,
    position_embeddings: Embedding<B>,
    token_type_embeddings: Embedding<B>,
    layer_norm: LayerNorm<B>,
    dropout: f64,
}

/// Queries, keys and values.
#[derive(Module, Debug)]
pub struct SelfAttention<B: Backend> {
    query: Linear<B>,
    key: Linear<B>,
    value: Linear<B>,
    heads: usize,
    dropout: f64,
}

/// A linear map, dropout, and the norm of its sum with the residual.
#[derive(Module, Debug)]
pub struct Output<B: Backend> {
    dense: Linear<B>,
    layer_norm: LayerNorm<B>,
    dropout: f64,
}

/// Self-attention with its output.
#[derive(Module, Debug)]
pub struct Attention<B: Backend> {
    self_attention: SelfAttention<B>,
    output: Output<B>,
}

/// The widening linear map and its activation.
#[derive(Module, Debug)]
pub struct Intermediate<B: Backend> {
    dense: Linear<B>,
    #[module(skip)]
    activation: Activation,
}

/// One encoder layer.
#[derive(Module, Debug)]
pub struct Layer<B: Backend> {
    attention: Attention<B>,
    intermediate: Intermediate<B>,
    output: Output<B>,
}

/// The stack of layers.
#[derive(Module, Debug)]
pub struct Encoder<B: Backend> {
    layer: Vec<Layer<B>>,
}

/// Dense and tanh over `[CLS]`.
#[derive(Module, Debug)]
pub struct Pooler<B: Backend> {
    dense: Linear<B>,
}

/// The encoder without a head.
#[derive(Module, Debug)]
pub struct Bert<B: Backend> {
    embeddings: Embeddings<B>,
    encoder: Encoder<B>,
    pooler: Option<Pooler<B>>,
}

/// BERT with a classification head.
#[derive(Module, Debug)]
pub struct BertClassifier<B: Backend> {
    bert: Bert<B>,
    classifier: Linear<B>,
    dropout: f64,
    #[module(skip)]
    pooling: Pooling,
}

adapter_slots!(SelfAttention { query, key, value });
adapter_slots!(Output { dense });
adapter_slots!(Attention {
    self_attention,
    output
});
adapter_slots!(Intermediate { dense });
adapter_slots!(Layer {
    attention,
    intermediate,
    output
});
adapter_slots!(Encoder { layer });
adapter_slots!(Pooler { dense });
adapter_slots!(Bert { encoder, pooler });
adapter_slots!(BertClassifier { bert, classifier });

/// The tokens of a batch that somebody reads.
struct Asked<B: Backend> {
    /// `[Q]`
    tokens: Tensor<B, 1, Int>,
    /// Which of them are of which sequence.
    sequences: Sequences,
}

/// How to set up the head.
#[derive(Debug, Clone)]
pub struct Head {
    /// Label names by id; their number is C.
    pub labels: Vec<String>,
    /// What the head reads; `None`: what the checkpoint was saved with, else `[CLS]` where it has a pooler, else the mean.
    pub pooling: Option<Pooling>,
    /// Seed of new parameters.
    pub seed: u64,
    /// Whether the checkpoint's own head must be there (evaluation, prediction) rather than may be.
    pub require: bool,
}

impl<B: Backend> BertClassifier<B> {
    /// With random weights, as transformers initialises a new BERT (layer norms 1 and 0, biases 0, the rest normal).
    pub fn init(config: &BertConfig, head: &Head, pooling: Pooling, device: &B::Device) -> Self {
        let (width, std) = (config.hidden_size, config.initializer_range);
        let key = |name: &str| rng::named(head.seed, name);
        let linear =
            |name: &str, inputs, outputs| Linear::normal(key(name), inputs, outputs, std, device);
        let norm = || LayerNorm::new(width, config.layer_norm_eps, device);
        let table = |name: &str, rows| Embedding::normal(key(name), rows, width, std, device);
        let layer = (0..config.num_hidden_layers)
            .map(|i| {
                let linear = |name: &str, inputs, outputs| {
                    linear(&format!("bert.encoder.layer.{i}.{name}"), inputs, outputs)
                };
                let dropout = config.hidden_dropout_prob;
                Layer {
                    attention: Attention {
                        self_attention: SelfAttention {
                            query: linear("attention.self.query", width, width),
                            key: linear("attention.self.key", width, width),
                            value: linear("attention.self.value", width, width),
                            heads: config.num_attention_heads,
                            dropout: config.attention_probs_dropout_prob,
                        },
                        output: Output {
                            dense: linear("attention.output.dense", width, width),
                            layer_norm: norm(),
                            dropout,
                        },
                    },
                    intermediate: Intermediate {
                        dense: linear("intermediate.dense", width, config.intermediate_size),
                        activation: config.hidden_act,
                    },
                    output: Output {
                        dense: linear("output.dense", config.intermediate_size, width),
                        layer_norm: norm(),
                        dropout,
                    },
                }
            })
            .collect();
        Self {
            bert: Bert {
                embeddings: Embeddings {
                    word_embeddings: table("bert.embeddings.word_embeddings", config.vocab_size),
                    position_embeddings: table(
                        "bert.embeddings.position_embeddings",
                        config.max_position_embeddings,
                    ),
                    token_type_embeddings: table(
                        "bert.embeddings.token_type_embeddings",
                        config.type_vocab_size,
                    ),
                    layer_norm: norm(),
                    dropout: config.hidden_dropout_prob,
                },
                encoder: Encoder { layer },
                pooler: (pooling == Pooling::Cls).then(|| Pooler {
                    dense: linear("bert.pooler.dense", width, width),
                }),
            },
            classifier: linear("classifier", width, head.labels.len()),
            dropout: config.classifier_dropout,
            pooling,
        }
    }

    /// Loads a model directory as transformers or sentence-transformers saves it. A head for exactly these labels is
    /// loaded; another is replaced by a new one, which the report says.
    ///
    /// # Errors
    /// See [`ModelError`]; every tensor that has no place and every parameter that has no tensor is named.
    pub fn from_pretrained(
        dir: &Path,
        config: &BertConfig,
        head: &Head,
        device: &B::Device,
    ) -> Result<(Self, LoadReport), ModelError> {
        let checkpoint = Checkpoint::open(dir)?;
        let has_pooler = checkpoint
            .files()
            .names()
            .any(|name| name.ends_with("pooler.dense.weight"));
        let pooling = head
            .pooling
            .unwrap_or(match (config.mean_pooling, has_pooler) {
                (false, true) => Pooling::Cls,
                _ => Pooling::Mean,
            });
        let same_labels = head.require || config.labels == head.labels;
        let module = Self::init(config, head, pooling, device);
        let weights = Weights {
            names: NAMES,
            rule: &|name| rule(name, pooling),
            may_initialise: &|name| match name {
                "classifier.weight" | "classifier.bias" if !head.require => {
                    Some("the checkpoint has no classifier".into())
                }
                "bert.pooler.dense.weight" | "bert.pooler.dense.bias" if !head.require => {
                    Some("the checkpoint has no pooler".into())
                }
                _ => None,
            },
            may_replace: &|name| {
                (name.starts_with("classifier.") && !same_labels)
                    .then(|| "the checkpoint's head is for other labels".into())
            },
        };
        checkpoint.load_into(module, &weights, device)
    }

    /// C.
    pub fn classes(&self) -> usize {
        self.classifier.dims().1
    }

    /// What the head reads.
    pub fn pooling(&self) -> Pooling {
        self.pooling
    }

    /// Sets hidden, attention and classifier dropout (all three), in [0, 1).
    #[must_use]
    pub fn with_dropout(mut self, rate: f64) -> Self {
        self.dropout = rate;
        self.bert.embeddings.dropout = rate;
        for layer in &mut self.bert.encoder.layer {
            layer.attention.self_attention.dropout = rate;
            layer.attention.output.dropout = rate;
            layer.output.dropout = rate;
        }
        self
    }

    /// Writes `config.json` and `model.safetensors` as transformers does; adapters must have been merged or saved apart.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn save_pretrained(&self, dir: &Path, config: &BertConfig) -> Result<(), ModelError> {
        let io = |path: &Path| {
            let path = path.to_owned();
            move |source| ModelError::Io { path, source }
        };
        std::fs::create_dir_all(dir).map_err(io(dir))?;
        let state = params::state(self, NAMES)?;
        weights::write(
            &dir.join("model.safetensors"),
            state.iter().map(|(name, tensor)| (name.as_str(), tensor)),
            &[],
        )?;
        let path = dir.join("config.json");
        let text = format!("{:#}\n", config.to_json());
        write_atomically(&path, text.as_bytes()).map_err(io(&path))
    }
}

/// What a tensor of a BERT checkpoint is, by its name.
fn rule(name: &str, pooling: Pooling) -> Rule {
    if name.ends_with("embeddings.position_ids") || name.ends_with("embeddings.token_type_ids") {
        return Rule::Ignore("a buffer of indices, computed here");
    }
    if name.starts_with("cls.") {
        return Rule::Ignore("the pretraining head");
    }
    if name.contains("pooler.") && pooling == Pooling::Mean {
        return Rule::Ignore("mean pooling reads no pooler");
    }
    let name = name
        .replace("LayerNorm.gamma", "LayerNorm.weight")
        .replace("LayerNorm.beta", "LayerNorm.bias");
    let rooted = ["bert.", "classifier."]
        .iter()
        .any(|root| name.starts_with(root));
    Rule::Load(if rooted { name } else { format!("bert.{name}") })
}

/// The pass as a block sees it: as in evaluation where nothing in the block trains.
fn within<B: Backend, M: Module<B>>(block: &M, pass: Pass) -> Pass {
    if pass.is_training() && !params::any_trainable(block) {
        pass.frozen()
    } else {
        pass
    }
}

/// The pass of the pooler and the classifier, which are small and of which everything is read.
fn exact(pass: Pass) -> Pass {
    pass.with_precision(Precision::F32)
}

impl<B: TuneBackend> Embeddings<B> {
    /// -> `[T, D]`
    fn forward(&self, input: &TextInput<B>, pass: Pass) -> Tensor<B, 2> {
        let pass = within(self, pass);
        let x = self.word_embeddings.forward(input.ids.clone());
        let x = self.position_embeddings.add_to(x, input.positions.clone());
        let x = self.token_type_embeddings.add_to(x, input.type_ids.clone());
        let x = self.layer_norm.forward(x);
        ops::dropout(x, self.dropout, pass)
    }
}

impl<B: TuneBackend> Output<B> {
    /// `x [T, I]`, `residual [T, D]` -> `[T, D]`
    fn forward(&self, x: Tensor<B, 2>, residual: Tensor<B, 2>, pass: Pass) -> Tensor<B, 2> {
        self.add_to(residual, self.dense.forward(x, pass.child(0)), pass)
    }

    /// The same of an activation of x.
    fn forward_active(
        &self,
        x: Tensor<B, 2>,
        activation: Activation,
        residual: Tensor<B, 2>,
        pass: Pass,
    ) -> Tensor<B, 2> {
        let within = pass.child(0);
        let x = match activation {
            Activation::Gelu(kind) => self.dense.forward_gelu(x, kind, within),
            Activation::Relu => self.dense.forward(activation::relu(x), within),
            Activation::Silu => self.dense.forward(activation::silu(x), within),
        };
        self.add_to(residual, x, pass)
    }

    fn add_to(&self, residual: Tensor<B, 2>, x: Tensor<B, 2>, pass: Pass) -> Tensor<B, 2> {
        let x = ops::dropout(x, self.dropout, pass.child(1));
        self.layer_norm.forward_sum(x, residual)
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
        let attention = &self.attention.self_attention;
        let config = AttentionConfig {
            heads: attention.heads,
            causal: false,
            dropout: pass.child(0).dropout(attention.dropout),
        };
        let q = attention.query.forward(residual.clone(), pass.child(1));
        let k = attention.key.forward(x.clone(), pass.child(2));
        let v = attention.value.forward(x, pass.child(3));
        let context = ops::attention(q, k, v, (queries, sequences), config);
        let output = &self.attention.output;
        let x = output.forward(context, residual, pass.child(4));
        let wide = self.intermediate.dense.forward(x.clone(), pass.child(5));
        let active = self.intermediate.activation;
        self.output.forward_active(wide, active, x, pass.child(6))
    }
}

impl<B: TuneBackend> Bert<B> {
    /// Hidden states `[T, D]` after the embeddings and after each layer.
    pub fn hidden_states(&self, input: &TextInput<B>) -> Vec<Tensor<B, 2>> {
        let mut states = vec![self.embeddings.forward(input, Pass::evaluation())];
        for layer in &self.encoder.layer {
            let next = layer.forward(
                states[states.len() - 1].clone(),
                &input.sequences,
                None,
                Pass::evaluation(),
            );
            states.push(next);
        }
        states
    }

    /// Last hidden states `[T, D]`.
    pub fn forward(&self, input: &TextInput<B>, pass: Pass) -> Tensor<B, 2> {
        self.run(input, None, pass)
    }

    /// The last layer for the tokens `asked` for, or for all.
    fn run(&self, input: &TextInput<B>, asked: Option<&Asked<B>>, pass: Pass) -> Tensor<B, 2> {
        let mut x = self.embeddings.forward(input, pass.child(0));
        let last = self.encoder.layer.len().saturating_sub(1);
        for (i, layer) in self.encoder.layer.iter().enumerate() {
            let asked = asked.filter(|_| i == last);
            x = layer.forward(x, &input.sequences, asked, pass.child(1 + i as u64));
        }
        match (self.encoder.layer.is_empty(), asked) {
            (true, Some(asked)) => ops::embedding_rows(x, asked.tokens.clone()),
            _ => x,
        }
    }

    /// What the head reads, `[B, D]`.
    pub fn pool(&self, input: &TextInput<B>, pooling: Pooling, pass: Pass) -> Tensor<B, 2> {
        match (pooling, &self.pooler) {
            (Pooling::Cls, Some(pooler)) => {
                let firsts = Asked {
                    tokens: input.firsts.clone(),
                    sequences: Sequences::from_lengths(&vec![1; input.sequences.count()]),
                };
                let first = self.run(input, Some(&firsts), pass.child(0));
                pooler.dense.forward(first, exact(pass.child(1))).tanh()
            }
            _ => mean_by_sequence(self.forward(input, pass.child(0)), &input.sequences),
        }
    }
}

/// Mean of each sequence's rows: `[T, D]` -> `[B, D]`.
fn mean_by_sequence<B: TuneBackend>(x: Tensor<B, 2>, sequences: &Sequences) -> Tensor<B, 2> {
    // A [B, T] matrix of 1/length, times x: one small product on any backend, and its gradient is another.
    let (count, tokens) = (sequences.count(), sequences.tokens());
    let mut weights = vec![0f32; count * tokens];
    for (s, range) in sequences.ranges().enumerate() {
        let share = 1.0 / range.len().max(1) as f32;
        weights[s * tokens..][range].fill(share);
    }
    let weights = Tensor::from_data(
        burn::tensor::TensorData::new(weights, [count, tokens]),
        &x.device(),
    );
    weights.matmul(x)
}

impl<B: TuneBackend> BertClassifier<B> {
    /// Logits `[B, C]`.
    pub fn forward(&self, input: &TextInput<B>, pass: Pass) -> Tensor<B, 2> {
        self.head(self.features(input, pass), pass)
    }

    /// What the head reads, `[B, D]`.
    pub fn features(&self, input: &TextInput<B>, pass: Pass) -> Tensor<B, 2> {
        self.bert.pool(input, self.pooling, pass)
    }

    /// Logits `[B, C]` of features `[B, D]`.
    pub fn head(&self, features: Tensor<B, 2>, pass: Pass) -> Tensor<B, 2> {
        let features = ops::dropout(
            features,
            self.dropout,
            within(&self.classifier, pass).child(2),
        );
        self.classifier.forward(features, exact(pass.child(3)))
    }

    /// The encoder.
    pub fn encoder(&self) -> &Bert<B> {
        &self.bert
    }

    /// Replaces the classifier, `[C, D]` and `[C]`: for tests that start from given values.
    #[must_use]
    pub fn with_classifier(mut self, weight: Tensor<B, 2>, bias: Tensor<B, 1>) -> Self {
        self.classifier.weight = Param::from_tensor(weight);
        self.classifier.bias = Some(Param::from_tensor(bias));
        self
    }
}
