//! The layer of ModernBERT (Warner et al. 2024): norms in front of both halves, rotary positions, and a window on both sides
//! for the attention of most layers. As transformers' `ModernBertEncoderLayer`, on packed tokens.

use crate::{Activation, EncoderConfig, Rotary, decoder::Angles, encoder::within, input::Asked};
use burn::{
    module::Module,
    tensor::{Int, Tensor, TensorData, backend::Backend},
};
use rekindle_nn::{
    adapter_slots,
    layers::{LayerNorm, Linear},
    ops::{self, AttentionConfig, Pass, Sequences, TuneBackend},
};

/// What layers with their norms in front need besides an encoder's sizes.
#[derive(Debug, Clone, PartialEq)]
pub struct PreNorm {
    /// Rotary positions of layers that see everything.
    pub rotary: Rotary,
    /// And of those with a window.
    pub local_rotary: Rotary,
    /// By layer: a token sees only those less than so many places away; `None` for all.
    pub windows: Vec<Option<usize>>,
    /// Whether norms have biases.
    pub norm_bias: bool,
    /// Whether the maps to and from attention do.
    pub attention_bias: bool,
    /// Whether the maps to and from the wide activation do.
    pub mlp_bias: bool,
    /// Dropout on the wide activation, in [0, 1).
    pub mlp_dropout: f64,
}

/// One layer: self-attention, then the gated wide map and back, each behind its norm and beside its residual. The first layer's
/// attention reads what the embeddings' norm put out.
#[derive(Module, Debug)]
pub struct PreNormLayer<B: Backend> {
    attention_norm: Option<LayerNorm<B>>,
    qkv: Linear<B>,
    attention_output: Linear<B>,
    mlp_norm: LayerNorm<B>,
    gate_up: Linear<B>,
    down: Linear<B>,
    heads: usize,
    attention_dropout: f64,
    mlp_dropout: f64,
    #[module(skip)]
    window: Option<usize>,
    #[module(skip)]
    activation: Activation,
}

adapter_slots!(PreNormLayer {
    qkv,
    attention_output,
    gate_up,
    down
});

/// The angles of a batch's tokens, by kind of layer.
pub(crate) struct WindowAngles<B: Backend> {
    all: Angles<B>,
    local: Angles<B>,
}

impl<B: TuneBackend> WindowAngles<B> {
    /// Of tokens that each stand at their place in their sequence.
    pub fn new(settings: &PreNorm, sequences: &Sequences, device: &B::Device) -> Self {
        // Of each position once; the rows of all tokens are taken from these on the device.
        let positions: Vec<usize> = (0..sequences.longest()).collect();
        let places: Vec<i32> = sequences
            .ranges()
            .flat_map(|range| 0..range.len() as i32)
            .collect();
        let places = Tensor::from_data(TensorData::from(places.as_slice()), device);
        let of = |rotary: &Rotary| rows(&rotary.angles(&positions, device), &places);
        Self {
            all: of(&settings.rotary),
            local: of(&settings.local_rotary),
        }
    }
}

/// The rows of some tokens.
fn rows<B: TuneBackend>(angles: &Angles<B>, tokens: &Tensor<B, 1, Int>) -> Angles<B> {
    let of = |table: &Tensor<B, 2>| ops::embedding_rows(table.clone(), tokens.clone());
    Angles {
        cos: of(&angles.cos),
        sin: of(&angles.sin),
    }
}

impl<B: Backend> PreNormLayer<B> {
    /// New parameters of layer `index`: norms' factors 1, biases 0, the rest normal, each from the stream that `key` gives of its
    /// field's name.
    pub(crate) fn init(
        config: &EncoderConfig,
        settings: &PreNorm,
        index: usize,
        key: &dyn Fn(&str) -> u64,
        norm: &dyn Fn() -> LayerNorm<B>,
        device: &B::Device,
    ) -> Self {
        let (width, wide) = (config.hidden_size, config.intermediate_size);
        let linear = |name: &str, inputs, outputs, bias: bool| {
            let std = config.initializer_range;
            let mut linear = Linear::normal(key(name), inputs, outputs, std, device);
            linear.bias = linear.bias.filter(|_| bias);
            linear
        };
        let (of_attention, of_mlp) = (settings.attention_bias, settings.mlp_bias);
        Self {
            attention_norm: (index > 0).then(norm),
            qkv: linear("qkv", width, 3 * width, of_attention),
            attention_output: linear("attention_output", width, width, of_attention),
            mlp_norm: norm(),
            gate_up: linear("gate_up", width, 2 * wide, of_mlp),
            down: linear("down", wide, width, of_mlp),
            heads: config.heads,
            attention_dropout: config.attention_dropout,
            mlp_dropout: settings.mlp_dropout,
            window: settings.windows.get(index).copied().flatten(),
            activation: config.activation,
        }
    }

    /// Sets the rate of every dropout, in [0, 1).
    pub(crate) fn set_dropout(&mut self, rate: f64) {
        self.attention_dropout = rate;
        self.mlp_dropout = rate;
    }
}

impl<B: TuneBackend> PreNormLayer<B> {
    /// `x [T, D]` -> `[T, D]`, or `[Q, D]` where only `asked` tokens are read behind this layer: of the others, nothing behind
    /// attention is computed.
    pub(crate) fn forward(
        &self,
        x: Tensor<B, 2>,
        angles: &WindowAngles<B>,
        sequences: &Sequences,
        asked: Option<&Asked<B>>,
        pass: Pass,
    ) -> Tensor<B, 2> {
        let pass = within(self, pass);
        let config = AttentionConfig {
            window: self.window,
            dropout: pass.child(0).dropout(self.attention_dropout),
            ..AttentionConfig::new(self.heads)
        };
        let normed = match &self.attention_norm {
            Some(norm) => norm.forward(x.clone()),
            None => x.clone(),
        };
        let qkv = self.qkv.forward(normed, pass.child(1));
        let width = x.dims()[1];
        let part = |n: usize| qkv.clone().narrow(1, n * width, width);
        let of_keys = match self.window {
            Some(_) => &angles.local,
            None => &angles.all,
        };
        let turned = |x, angles: &Angles<B>| {
            ops::rotary(x, angles.cos.clone(), angles.sin.clone(), self.heads)
        };
        let taken =
            |x: Tensor<B, 2>, asked: &Asked<B>| ops::embedding_rows(x, asked.tokens.clone());
        let (k, v) = (turned(part(1), of_keys), part(2));
        // In a window it matters where a query stands, so there all tokens ask.
        let (context, x) = match (asked, self.window) {
            (None, _) => {
                let q = turned(part(0), of_keys);
                (ops::attention(q, k, v, (sequences, sequences), config), x)
            }
            (Some(asked), Some(_)) => {
                let q = turned(part(0), of_keys);
                let context = ops::attention(q, k, v, (sequences, sequences), config);
                (taken(context, asked), taken(x, asked))
            }
            (Some(asked), None) => {
                let q = turned(taken(part(0), asked), &rows(of_keys, &asked.tokens));
                let both = (&asked.sequences, sequences);
                (ops::attention(q, k, v, both, config), taken(x, asked))
            }
        };
        let attended = pass.child(4);
        let y = self.attention_output.forward(context, attended.child(0));
        let x = x + ops::dropout(y, self.attention_dropout, attended.child(1));

        let wide = (self.gate_up).forward(self.mlp_norm.forward(x.clone()), pass.child(5));
        let half = wide.dims()[1] / 2;
        let (gate, up) = (wide.clone().narrow(1, 0, half), wide.narrow(1, half, half));
        let narrowed = pass.child(6);
        let y = self.activation.gated(gate, up);
        let y = ops::dropout(y, self.mlp_dropout, narrowed.child(1));
        x + self.down.forward(y, narrowed.child(0))
    }
}
