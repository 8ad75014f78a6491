//! RoBERTa (Liu et al. 2019) and XLM-RoBERTa (Conneau et al. 2020) as transformers' `RobertaForSequenceClassification`:
//! BERT's encoder, whose positions begin behind the row of the padding token, and a head with a
//! linear map of its own; for tokens, answers and choices, BERT's.

use super::{BERT_KEYS, EachDropout, HEAD_STREAM, Layout, bert::bert_names, bert_encoder, finish};
use crate::{
    EncoderConfig, Modality, ModelConfig, ModelError,
    config::Reader,
    heads::{Dense, HeadConfig},
    load::Rule,
    pretrained::{Family, Found},
};
use rekindle_nn::params::NameMap;

const NAMES: NameMap = bert_names!(
    "roberta",
    ("head.dense", "classifier.dense"),
    ("head.out", "classifier.out_proj")
);

const TOKEN_NAMES: NameMap = bert_names!("roberta", ("head.out", "classifier"));

const SPAN_NAMES: NameMap = bert_names!("roberta", ("head.out", "qa_outputs"));

const CHOICE_NAMES: NameMap = bert_names!(
    "roberta",
    ("head.dense", "roberta.pooler.dense"),
    ("head.out", "classifier")
);

const LAYOUT: Layout = Layout {
    root: "roberta.",
    head: &["classifier.dense.", "classifier.out_proj."],
    others: &[
        ("lm_head.", "the pretraining head"),
        ("classifier.weight", "a head for tokens or choices"),
        ("classifier.bias", "a head for tokens or choices"),
        ("qa_outputs.", "a head for questions and answers"),
    ],
};

const BASE: Family = Family {
    name: "roberta",
    class: "Roberta",
    modality: Modality::Text,
    names: NAMES,
    head: "classifier",
    head_modules: &["classifier"],
    transposed: &[],
    in_files: None,
    token_names: Some(TOKEN_NAMES),
    span_names: Some(SPAN_NAMES),
    choice_names: Some(CHOICE_NAMES),
    pooler: Some("roberta.pooler"),
    claims: |_| false,
    rule,
    read,
};

pub(crate) static ROBERTA: Family = BASE;

pub(crate) static XLM_ROBERTA: Family = Family {
    name: "xlm-roberta",
    class: "XLMRoberta",
    ..BASE
};

fn rule(found: &Found, name: &str) -> Rule {
    LAYOUT.rule(found, name)
}

fn read(found: &Found, family: &'static Family) -> Result<ModelConfig, ModelError> {
    let reader = Reader {
        raw: &found.raw,
        path: &found.path,
    };
    // fairseq numbers positions from the row behind the padding token's.
    let padding = match found.raw.get("pad_token_id") {
        None | Some(serde_json::Value::Null) => 1,
        Some(id) => match id.as_u64().map(usize::try_from) {
            Some(Ok(id)) if id < 1 << 30 => id,
            _ => {
                return Err(reader.error(format!(
                    "`pad_token_id` is {id}, expected the number of a token"
                )));
            }
        },
    };
    let encoder = EncoderConfig {
        first_position: padding + 1,
        ..bert_encoder(&reader)?
    };
    let head = HeadConfig {
        width: encoder.hidden_size,
        dense: Dense::DroppedTanh,
        dropout: reader.rate("classifier_dropout", encoder.hidden_dropout)?,
        std: encoder.initializer_range,
        stream: HEAD_STREAM,
    };
    let each = EachDropout {
        tokens: head.dropout,
        spans: 0.0,
    };
    let choice_head = HeadConfig {
        dense: Dense::Tanh,
        dropout: encoder.hidden_dropout,
        ..head
    };
    Ok(ModelConfig {
        choice_head: Some(choice_head),
        ..finish(found, family, encoder, &BERT_KEYS, (head, each))?
    })
}
