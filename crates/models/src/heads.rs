//! Heads: for a whole example, logits of what the backbone puts out for it (BERT's pooler is part of that); for the words of a
//! text, the same of each; for the next token, losses of the tokens that count; for an embedding, none.

use crate::{
    decoder::DecoderConfig,
    encoder::{Activation, within},
};
use burn::{
    module::{Module, Param},
    tensor::{Tensor, activation, backend::Backend},
};
use rekindle_base::rng;
use rekindle_nn::{
    adapter_slots,
    layers::{AdapterSlots, LayerNorm, Linear, Slot, Weight},
    ops::{self, GeluKind, Pass, Precision, TuneBackend},
    params::NameMap,
};
use std::marker::PhantomData;

/// What the outputs of a head are, by `problem_type` of transformers' `config.json`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Problem {
    /// Logits of classes that exclude one another: `single_label_classification`.
    SingleLabel,
    /// A logit for each label, by itself: `multi_label_classification`.
    MultiLabel,
    /// Numbers: `regression`.
    Regression,
    /// Logits of classes for each word of a text, which transformers has no name for: the class says it.
    Tokens,
    /// Two logits for each token of a text: whether an answer begins with it, and whether it ends with it. Likewise.
    Span,
    /// One logit for each choice that a question has, each read by itself. Likewise.
    Choice,
    /// The next token, which transformers has no name for: the class says it.
    NextToken,
    /// No logits, but what the backbone's pooling gives, which transformers has no name for: the class says it.
    Embedding,
}

impl Problem {
    /// transformers' name, or ours for what it does not name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::SingleLabel => "single_label_classification",
            Self::MultiLabel => "multi_label_classification",
            Self::Regression => "regression",
            Self::Tokens => "token_classification",
            Self::Span => "question_answering",
            Self::Choice => "multiple_choice",
            Self::NextToken => "next_token",
            Self::Embedding => "embedding",
        }
    }

    /// By transformers' name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::SingleLabel, Self::MultiLabel, Self::Regression]
            .into_iter()
            .find(|problem| problem.name() == name)
    }
}

/// Which rows of a text's hidden states the head reads. Of pictures it always reads the mean over the map.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reads {
    /// The first token's, as transformers' sequence classifiers do.
    First,
    /// The mean of all tokens', as sentence-transformers models are trained.
    Mean,
    /// Each by itself, or only those [asked for](crate::TextInput::asked): transformers' classes for tokens and for answers.
    Each,
}

/// How to set up a head.
#[derive(Debug, Clone, PartialEq)]
pub struct HeadSpec {
    /// C: number of outputs; of an embedding it does not count.
    pub outputs: usize,
    /// Their names by id; may be empty for regression.
    pub labels: Vec<String>,
    /// What they are.
    pub problem: Problem,
    /// What the head reads; `None`: what the directory says, see [`ModelConfig::reads`](crate::ModelConfig::reads). Of a head
    /// for tokens or answers always each.
    pub reads: Option<Reads>,
    /// Seed of new parameters.
    pub seed: u64,
    /// Whether the checkpoint's own head must be there (evaluation, prediction) rather than may be.
    pub require: bool,
}

/// How a family's head is built.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct HeadConfig {
    /// Width of what it reads.
    pub width: usize,
    /// The linear map of that width before the last one, if there is one.
    pub dense: Dense,
    /// Dropout before the last linear map, in [0, 1).
    pub dropout: f64,
    /// Standard deviation of new weights.
    pub std: f64,
    /// The stream of the dropout before the last linear map; the two maps' are the ones around it.
    pub stream: u64,
}

/// The linear map between the backbone and the last one.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Dense {
    /// None: images, tokens, answers, and BERT where it reads a mean.
    None,
    /// tanh behind it: BERT's pooler, and that of RoBERTa and MPNet for choices.
    Tanh,
    /// ReLU behind it: DistilBERT's `pre_classifier`.
    Relu,
    /// tanh behind it and the same dropout before it: RoBERTa's `classifier.dense`.
    DroppedTanh,
    /// GELU behind it and the same dropout before it: ELECTRA's `classifier.dense`.
    DroppedGelu,
    /// An activation and a norm behind it: ModernBERT's `head`, of examples and of tokens.
    Normed {
        /// The activation.
        activation: Activation,
        /// Whether the map has a bias.
        bias: bool,
        /// Whether the norm has one.
        norm_bias: bool,
        /// ε of the norm.
        epsilon: f64,
    },
    /// An activation behind it: DeBERTa's pooler, ELECTRA's summary for choices.
    Activated(Activation),
}

/// What stands on a backbone.
#[derive(Module, Debug)]
#[allow(clippy::large_enum_variant)] // there is one of it, and it is moved once
pub enum Head<B: Backend> {
    /// Logits of a whole example, or of each of its tokens.
    Example(ExampleHead<B>),
    /// Losses of next tokens.
    NextToken(NextTokenHead<B>),
    /// What the backbone's pooling gives.
    None(NoHead<B>),
}

/// In the place of a head: the embedding of a text as it is.
#[derive(Module, Debug)]
pub struct NoHead<B: Backend> {
    backend: PhantomData<B>,
    /// D
    #[module(skip)]
    pub(crate) width: usize,
}

impl<B: Backend> NoHead<B> {
    /// For embeddings of this width.
    pub(crate) fn new(width: usize) -> Self {
        Self {
            backend: PhantomData,
            width,
        }
    }
}

/// The map to the vocabulary, where it is not the table of embeddings.
#[derive(Module, Debug)]
pub struct NextTokenHead<B: Backend> {
    pub(crate) out: Option<Linear<B>>,
    /// Logits `x` are `c tanh(x / c)`.
    #[module(skip)]
    pub(crate) softcap: Option<f64>,
}

/// `out(dropout(norm(act(dense(x)))))`, of which all but the last map may be missing.
#[derive(Module, Debug)]
pub struct ExampleHead<B: Backend> {
    dense: Option<Linear<B>>,
    norm: Option<LayerNorm<B>>,
    out: Linear<B>,
    dropout: f64,
    stream: u64,
    #[module(skip)]
    kind: Dense,
}

adapter_slots!(ExampleHead { dense, out });

impl<B: Backend> AdapterSlots<B> for Head<B> {
    fn visit_slots(&mut self, path: &str, visit: &mut dyn FnMut(&str, Slot<'_, B>)) {
        match self {
            Self::Example(head) => head.visit_slots(path, visit),
            // As PEFT has it: `all-linear` leaves the map to the vocabulary out.
            Self::NextToken(_) | Self::None(_) => {}
        }
    }
}

impl<B: Backend> NextTokenHead<B> {
    /// A map `[V, D]` of its own, or none.
    pub(crate) fn init(
        config: &DecoderConfig,
        root: &str,
        names: NameMap,
        seed: u64,
        device: &B::Device,
    ) -> Self {
        let out = (!config.tied).then(|| {
            let key = rng::named(seed, &names.published(&format!("{root}.out")));
            let (inputs, outputs) = (config.hidden_size, config.vocab_size);
            let mut out = Linear::normal(key, inputs, outputs, config.initializer_range, device);
            out.bias = None;
            out
        });
        Self {
            out,
            softcap: config.logit_softcap,
        }
    }
}

impl<B: Backend> ExampleHead<B> {
    /// New parameters, each from a stream of its published name: `names` takes paths below `root`.
    pub(crate) fn init(
        config: &HeadConfig,
        outputs: usize,
        root: &str,
        names: NameMap,
        seed: u64,
        device: &B::Device,
    ) -> Self {
        let linear = |name: &str, outputs| {
            let key = rng::named(seed, &names.published(&format!("{root}.{name}")));
            Linear::normal(key, config.width, outputs, config.std, device)
        };
        let mut dense = (config.dense != Dense::None).then(|| linear("dense", config.width));
        let mut norm = None;
        if let Dense::Normed {
            bias,
            norm_bias,
            epsilon,
            ..
        } = config.dense
        {
            let of_width = LayerNorm::new(config.width, epsilon, device);
            norm = Some(match norm_bias {
                true => of_width,
                false => of_width.without_bias(),
            });
            if let Some(dense) = dense.as_mut().filter(|_| !bias) {
                dense.bias = None;
            }
        }
        Self {
            dense,
            norm,
            out: linear("out", outputs),
            dropout: config.dropout,
            stream: config.stream,
            kind: config.dense,
        }
    }

    /// Whether a map stands before the last one.
    pub(crate) fn has_dense(&self) -> bool {
        self.dense.is_some()
    }

    /// C.
    pub fn outputs(&self) -> usize {
        self.out.dims().1
    }

    /// The weight `[C, D]` of the last linear map.
    pub fn output_weight(&self) -> &Weight<B> {
        &self.out.weight
    }

    /// Sets the dropout, in [0, 1).
    #[must_use]
    pub fn with_dropout(mut self, rate: f64) -> Self {
        self.dropout = rate;
        self
    }

    /// Replaces the last linear map by this weight `[C, D]` and bias `[C]`.
    #[must_use]
    pub fn with_output(mut self, weight: Tensor<B, 2>, bias: Tensor<B, 1>) -> Self {
        self.out = Linear::new(weight, Some(bias));
        self
    }
}

impl<B: TuneBackend> ExampleHead<B> {
    /// Multiplies output `i` by `factors[i]` and adds `offsets[i]`.
    #[must_use]
    pub fn with_scaled_output(mut self, factors: &[f64], offsets: &[f64]) -> Self {
        let weight = self.out.weight.val();
        let device = weight.device();
        let row = |values: &[f64]| -> Tensor<B, 1> {
            let values: Vec<f32> = values.iter().map(|&value| value as f32).collect();
            Tensor::from_data(values.as_slice(), &device)
        };
        let (factors, offsets) = (row(factors), row(offsets));
        let weight = weight * factors.clone().unsqueeze_dim::<2>(1);
        let bias = match &self.out.bias {
            Some(bias) => bias.val() * factors + offsets,
            None => offsets,
        };
        self.out.weight = Weight::plain(weight);
        self.out.bias = Some(Param::from_tensor(bias));
        self
    }

    /// What the last linear map reads, before dropout: `x [B, D]` -> `[B, D]`.
    pub fn features(&self, x: Tensor<B, 2>, pass: Pass) -> Tensor<B, 2> {
        let Some(dense) = &self.dense else {
            return x;
        };
        let x = match self.kind {
            Dense::DroppedTanh | Dense::DroppedGelu => {
                let stream = within(dense, pass).child(self.stream + 2);
                ops::dropout(x, self.dropout, stream)
            }
            _ => x,
        };
        let x = dense.forward(x, exact(pass.child(self.stream - 1)));
        let x = match self.kind {
            Dense::Relu => activation::relu(x),
            Dense::DroppedGelu => ops::gelu(x, GeluKind::Exact),
            Dense::Normed { activation, .. } | Dense::Activated(activation) => activation.apply(x),
            Dense::None | Dense::Tanh | Dense::DroppedTanh => x.tanh(),
        };
        match &self.norm {
            Some(norm) => norm.forward(x),
            None => x,
        }
    }

    /// Logits `[B, C]` of `x [B, D]`.
    pub fn forward(&self, x: Tensor<B, 2>, pass: Pass) -> Tensor<B, 2> {
        let x = self.features(x, pass);
        let stream = within(&self.out, pass).child(self.stream);
        let x = ops::dropout(x, self.dropout, stream);
        self.out.forward(x, exact(pass.child(self.stream + 1)))
    }
}

/// The pass of the head, which is small and of which everything is read.
fn exact(pass: Pass) -> Pass {
    pass.with_precision(Precision::F32)
}
