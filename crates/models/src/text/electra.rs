//! ELECTRA (Clark et al. 2020) as transformers' `ElectraForSequenceClassification`, `ElectraForTokenClassification`,
//! `ElectraForQuestionAnswering` and `ElectraForMultipleChoice`: BERT's encoder, with embeddings that may be narrower than the layers, and RoBERTa's
//! head with GELU; for choices without the dropout before it.

use super::{
    BERT_KEYS, EachDropout, HEAD_STREAM, Keys, Layout, bert::bert_names, bert_encoder, finish,
};
use crate::{
    EncoderConfig, Modality, ModelConfig, ModelError, Problem,
    config::Reader,
    heads::{Dense, HeadConfig},
    pretrained::{Family, Found},
};
use rekindle_nn::params::NameMap;
use serde_json::Value;

/// What both heads stand on.
const PROJECT: (&str, &str) = ("backbone.embeddings.project", "electra.embeddings_project");

const NAMES: NameMap = bert_names!(
    "electra",
    PROJECT,
    ("head.dense", "classifier.dense"),
    ("head.out", "classifier.out_proj")
);

const TOKEN_NAMES: NameMap = bert_names!("electra", PROJECT, ("head.out", "classifier"));

const SPAN_NAMES: NameMap = bert_names!("electra", PROJECT, ("head.out", "qa_outputs"));

const CHOICE_NAMES: NameMap = bert_names!(
    "electra",
    PROJECT,
    ("head.dense", "sequence_summary.summary"),
    ("head.out", "classifier")
);

const LAYOUT: Layout = Layout {
    root: "electra.",
    head: &["classifier.dense.", "classifier.out_proj."],
    others: &[
        ("discriminator_predictions.", "the pretraining head"),
        ("generator_predictions.", "the pretraining head"),
        ("generator_lm_head.", "the pretraining head"),
        ("classifier.weight", "a head for tokens or choices"),
        ("classifier.bias", "a head for tokens or choices"),
        ("sequence_summary.", "a head for choices"),
        ("qa_outputs.", "a head for questions and answers"),
    ],
};

const KEYS: Keys = Keys {
    embedding_size: "embedding_size",
    ..BERT_KEYS
};

pub(crate) static FAMILY: Family = Family {
    name: "electra",
    class: "Electra",
    modality: Modality::Text,
    names: NAMES,
    head: "classifier",
    head_modules: &["classifier"],
    transposed: &[],
    in_files: None,
    token_names: Some(TOKEN_NAMES),
    span_names: Some(SPAN_NAMES),
    choice_names: Some(CHOICE_NAMES),
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
    let encoder = bert_encoder(&reader)?;
    let of_tables = reader.size(KEYS.embedding_size, Some(128))?;
    let encoder = EncoderConfig {
        embedding_size: Some(of_tables).filter(|width| *width != encoder.hidden_size),
        ..encoder
    };
    let head = HeadConfig {
        width: encoder.hidden_size,
        dense: Dense::DroppedGelu,
        dropout: reader.rate("classifier_dropout", encoder.hidden_dropout)?,
        std: encoder.initializer_range,
        stream: HEAD_STREAM,
    };
    let each = EachDropout {
        tokens: head.dropout,
        spans: 0.0,
    };
    let choice_head = HeadConfig {
        dense: Dense::Activated(reader.activation("summary_activation")?),
        dropout: reader.rate("summary_last_dropout", encoder.hidden_dropout)?,
        ..head
    };
    let config = finish(found, family, encoder, &KEYS, (head, each))?;
    let reads = reader.text("summary_type").unwrap_or("first");
    let projects = found.raw.get("summary_use_proj") != Some(&Value::Bool(false));
    if config.problem == Some(Problem::Choice) && (reads != "first" || !projects) {
        return Err(reader.error(format!(
            "`summary_type` is `{reads}` and `summary_use_proj` is {projects}, expected `first` and true"
        )));
    }
    Ok(ModelConfig {
        choice_head: Some(choice_head),
        ..config
    })
}
