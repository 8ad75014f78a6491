//! ALBERT (Lan et al. 2019) as transformers' `AlbertForSequenceClassification`, `AlbertForTokenClassification`,
//! `AlbertForQuestionAnswering` and `AlbertForMultipleChoice`: BERT with narrow embeddings that a map widens, and with few layers, mostly one, each applied many times in a row.

use super::{BERT_KEYS, EachDropout, HEAD_STREAM, Keys, Layout, bert_encoder, finish};
use crate::{
    Activation, EncoderConfig, Modality, ModelConfig, ModelError,
    config::Reader,
    heads::{Dense, HeadConfig},
    pretrained::{Family, Found},
};
use rekindle_nn::{ops::GeluKind, params::NameMap};

/// The names of a layer's module.
macro_rules! of_layer {
    ($name:literal) => {
        concat!(
            "albert.encoder.albert_layer_groups.*.albert_layers.0.",
            $name
        )
    };
}

/// The names of the encoder, then those of a head.
macro_rules! names {
    ($($head:expr),*) => {
        NameMap(&[
    (
        "backbone.embeddings.word",
        "albert.embeddings.word_embeddings",
    ),
    (
        "backbone.embeddings.position",
        "albert.embeddings.position_embeddings",
    ),
    (
        "backbone.embeddings.token_type",
        "albert.embeddings.token_type_embeddings",
    ),
    ("backbone.embeddings.norm", "albert.embeddings.LayerNorm"),
    (
        "backbone.embeddings.project",
        "albert.encoder.embedding_hidden_mapping_in",
    ),
    ("backbone.layers.*.query", of_layer!("attention.query")),
    ("backbone.layers.*.key", of_layer!("attention.key")),
    ("backbone.layers.*.value", of_layer!("attention.value")),
    (
        "backbone.layers.*.attention_output",
        of_layer!("attention.dense"),
    ),
    (
        "backbone.layers.*.attention_norm",
        of_layer!("attention.LayerNorm"),
    ),
    ("backbone.layers.*.intermediate", of_layer!("ffn")),
    ("backbone.layers.*.output", of_layer!("ffn_output")),
    (
        "backbone.layers.*.output_norm",
        of_layer!("full_layer_layer_norm"),
    ),
            $($head),*
        ])
    };
}

const NAMES: NameMap = names!(("head.dense", "albert.pooler"), ("head.out", "classifier"));

const SPAN_NAMES: NameMap = names!(("head.out", "qa_outputs"));

const LAYOUT: Layout = Layout {
    root: "albert.",
    head: &["classifier."],
    others: &[
        ("predictions.", "the pretraining head"),
        ("sop_classifier.", "the pretraining head"),
        ("qa_outputs.", "a head for questions and answers"),
    ],
};

const KEYS: Keys = Keys {
    embedding_size: "embedding_size",
    layers: "num_hidden_groups",
    ..BERT_KEYS
};

pub(crate) static FAMILY: Family = Family {
    name: "albert",
    class: "Albert",
    modality: Modality::Text,
    names: NAMES,
    head: "classifier",
    head_modules: &["classifier"],
    transposed: &[],
    in_files: None,
    token_names: Some(NAMES),
    span_names: Some(SPAN_NAMES),
    choice_names: None,
    pooler: Some("albert.pooler"),
    claims: |_| false,
    rule: |found, name| LAYOUT.rule(found, name),
    read,
};

fn read(found: &Found, family: &'static Family) -> Result<ModelConfig, ModelError> {
    let reader = Reader {
        raw: &found.raw,
        path: &found.path,
    };
    let applied = reader.layers(BERT_KEYS.layers)?;
    let layers = reader.size(KEYS.layers, Some(1))?;
    if !applied.is_multiple_of(layers) {
        return Err(reader.error(format!(
            "`{}` is {applied}, expected a multiple of `{}`: {layers}",
            BERT_KEYS.layers, KEYS.layers
        )));
    }
    let inner = reader.size("inner_group_num", Some(1))?;
    if inner != 1 {
        return Err(reader.error(format!(
            "`inner_group_num` is {inner}, expected 1, as all published ALBERTs have it"
        )));
    }
    let encoder = EncoderConfig {
        layers,
        repeats: applied / layers,
        embedding_size: Some(reader.size(KEYS.embedding_size, Some(128))?),
        activation: match reader.text("hidden_act") {
            None => Activation::Gelu(GeluKind::Tanh),
            Some(_) => reader.activation("hidden_act")?,
        },
        hidden_dropout: reader.rate("hidden_dropout_prob", 0.0)?,
        attention_dropout: reader.rate("attention_probs_dropout_prob", 0.0)?,
        drops_output: false,
        ..bert_encoder(&reader)?
    };
    let head = HeadConfig {
        width: encoder.hidden_size,
        dense: Dense::Tanh,
        dropout: reader.rate("classifier_dropout_prob", 0.1)?,
        std: encoder.initializer_range,
        stream: HEAD_STREAM,
    };
    let each = EachDropout {
        tokens: head.dropout,
        spans: 0.0,
    };
    finish(found, family, encoder, &KEYS, (head, each))
}
