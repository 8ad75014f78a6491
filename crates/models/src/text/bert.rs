//! BERT (Devlin et al. 2018) as transformers' `BertForSequenceClassification`, `BertForTokenClassification`,
//! `BertForQuestionAnswering` and `BertForMultipleChoice`.

use super::{BERT_KEYS, EachDropout, HEAD_STREAM, Layout, bert_encoder, finish};
use crate::{
    Modality, ModelConfig, ModelError,
    config::Reader,
    heads::{Dense, HeadConfig},
    pretrained::{Family, Found},
};
use rekindle_nn::params::NameMap;

/// The names of an encoder of BERT's under a root, then those of a head.
macro_rules! bert_names {
    ($root:literal, $($head:expr),*) => {
        ::rekindle_nn::params::NameMap(&[
            ("backbone.embeddings.word", concat!($root, ".embeddings.word_embeddings")),
            ("backbone.embeddings.position", concat!($root, ".embeddings.position_embeddings")),
            ("backbone.embeddings.token_type", concat!($root, ".embeddings.token_type_embeddings")),
            ("backbone.embeddings.norm", concat!($root, ".embeddings.LayerNorm")),
            ("backbone.layers.*.query", concat!($root, ".encoder.layer.*.attention.self.query")),
            ("backbone.layers.*.key", concat!($root, ".encoder.layer.*.attention.self.key")),
            ("backbone.layers.*.value", concat!($root, ".encoder.layer.*.attention.self.value")),
            ("backbone.layers.*.attention_output", concat!($root, ".encoder.layer.*.attention.output.dense")),
            ("backbone.layers.*.attention_norm", concat!($root, ".encoder.layer.*.attention.output.LayerNorm")),
            ("backbone.layers.*.intermediate", concat!($root, ".encoder.layer.*.intermediate.dense")),
            ("backbone.layers.*.output", concat!($root, ".encoder.layer.*.output.dense")),
            ("backbone.layers.*.output_norm", concat!($root, ".encoder.layer.*.output.LayerNorm")),
            $($head),*
        ])
    };
}
pub(super) use bert_names;

const NAMES: NameMap = bert_names!(
    "bert",
    ("head.dense", "bert.pooler.dense"),
    ("head.out", "classifier")
);

const SPAN_NAMES: NameMap = bert_names!("bert", ("head.out", "qa_outputs"));

const LAYOUT: Layout = Layout {
    root: "bert.",
    head: &["classifier."],
    others: &[
        ("cls.", "the pretraining head"),
        ("qa_outputs.", "a head for questions and answers"),
    ],
};

pub(crate) static FAMILY: Family = Family {
    name: "bert",
    class: "Bert",
    modality: Modality::Text,
    names: NAMES,
    head: "classifier",
    head_modules: &["classifier"],
    transposed: &[],
    in_files: None,
    token_names: Some(NAMES),
    span_names: Some(SPAN_NAMES),
    choice_names: None,
    pooler: Some("bert.pooler"),
    claims: |_| false,
    rule: |found, name| LAYOUT.rule(found, name),
    read,
};

fn read(found: &Found, family: &'static Family) -> Result<ModelConfig, ModelError> {
    let reader = Reader {
        raw: &found.raw,
        path: &found.path,
    };
    let encoder = bert_encoder(&reader)?;
    let head = HeadConfig {
        width: encoder.hidden_size,
        dense: Dense::Tanh,
        dropout: reader.rate("classifier_dropout", encoder.hidden_dropout)?,
        std: encoder.initializer_range,
        stream: HEAD_STREAM,
    };
    let each = EachDropout {
        tokens: head.dropout,
        spans: 0.0,
    };
    finish(found, family, encoder, &BERT_KEYS, (head, each))
}
