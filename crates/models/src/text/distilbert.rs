//! DistilBERT (Sanh et al. 2019) as transformers' `DistilBertForSequenceClassification`: BERT's encoder without segment types,
//! without dropout on attention's output, and a head with a linear map and ReLU instead of the pooler.

use super::{EachDropout, HEAD_STREAM, Keys, Layout, finish};
use crate::{
    EncoderConfig, Modality, ModelConfig, ModelError,
    config::Reader,
    heads::{Dense, HeadConfig},
    pretrained::{Family, Found},
};
use rekindle_nn::params::NameMap;

/// The names of the encoder, then those of a head.
macro_rules! names {
    ($($head:expr),*) => {
        NameMap(&[
            ("backbone.embeddings.word", "distilbert.embeddings.word_embeddings"),
            ("backbone.embeddings.position", "distilbert.embeddings.position_embeddings"),
            ("backbone.embeddings.norm", "distilbert.embeddings.LayerNorm"),
            ("backbone.layers.*.query", "distilbert.transformer.layer.*.attention.q_lin"),
            ("backbone.layers.*.key", "distilbert.transformer.layer.*.attention.k_lin"),
            ("backbone.layers.*.value", "distilbert.transformer.layer.*.attention.v_lin"),
            ("backbone.layers.*.attention_output", "distilbert.transformer.layer.*.attention.out_lin"),
            ("backbone.layers.*.attention_norm", "distilbert.transformer.layer.*.sa_layer_norm"),
            ("backbone.layers.*.intermediate", "distilbert.transformer.layer.*.ffn.lin1"),
            ("backbone.layers.*.output", "distilbert.transformer.layer.*.ffn.lin2"),
            ("backbone.layers.*.output_norm", "distilbert.transformer.layer.*.output_layer_norm"),
            $($head),*
        ])
    };
}

const NAMES: NameMap = names!(("head.dense", "pre_classifier"), ("head.out", "classifier"));

const SPAN_NAMES: NameMap = names!(("head.out", "qa_outputs"));

const LAYOUT: Layout = Layout {
    root: "distilbert.",
    head: &["pre_classifier.", "classifier."],
    others: &[
        ("vocab_transform.", "the pretraining head"),
        ("vocab_layer_norm.", "the pretraining head"),
        ("vocab_projector.", "the pretraining head"),
        ("qa_outputs.", "a head for questions and answers"),
    ],
};

const KEYS: Keys = Keys {
    hidden_size: "dim",
    embedding_size: "dim",
    intermediate_size: "hidden_dim",
    layers: "n_layers",
    heads: "n_heads",
};

/// ε of layer norms, which `config.json` does not name.
const EPSILON: f64 = 1e-12;

pub(crate) static FAMILY: Family = Family {
    name: "distilbert",
    class: "DistilBert",
    modality: Modality::Text,
    names: NAMES,
    head: "classifier",
    head_modules: &["pre_classifier", "classifier"],
    transposed: &[],
    in_files: None,
    token_names: Some(NAMES),
    span_names: Some(SPAN_NAMES),
    choice_names: None,
    pooler: None,
    claims: |_| false,
    rule: |found, name| LAYOUT.rule(found, name),
    read,
};

fn read(found: &Found, family: &'static Family) -> Result<ModelConfig, ModelError> {
    let reader = Reader {
        raw: &found.raw,
        path: &found.path,
    };
    let encoder = EncoderConfig {
        vocab_size: reader.size("vocab_size", None)?,
        hidden_size: reader.size(KEYS.hidden_size, None)?,
        embedding_size: None,
        layers: reader.size(KEYS.layers, None)?,
        repeats: 1,
        heads: reader.size(KEYS.heads, None)?,
        intermediate_size: reader.size(KEYS.intermediate_size, None)?,
        activation: reader.activation("activation")?,
        hidden_dropout: reader.rate("dropout", 0.1)?,
        attention_dropout: reader.rate("attention_dropout", 0.1)?,
        drops_attention_output: false,
        drops_output: true,
        position_rows: reader.size("max_position_embeddings", Some(512))?,
        first_position: 0,
        type_vocab_size: 0,
        relative: None,
        initializer_range: reader.number("initializer_range", 0.02)?,
        layer_norm_eps: EPSILON,
        pre_norm: None,
    };
    let head = HeadConfig {
        width: encoder.hidden_size,
        dense: Dense::Relu,
        dropout: reader.rate("seq_classif_dropout", 0.2)?,
        std: encoder.initializer_range,
        stream: HEAD_STREAM,
    };
    let each = EachDropout {
        // `DistilBertForTokenClassification` has the encoder's.
        tokens: encoder.hidden_dropout,
        spans: reader.rate("qa_dropout", 0.1)?,
    };
    finish(found, family, encoder, &KEYS, (head, each))
}
