//! DeBERTa-v3 (He et al. 2021) as transformers' `DebertaV2ForSequenceClassification`, `DebertaV2ForTokenClassification`,
//! `DebertaV2ForQuestionAnswering` and `DebertaV2ForMultipleChoice`: BERT's encoder without absolute positions, whose attention also compares content with distances, both ways, by the same linear
//! maps; and a head with a pooler of its own. Of DeBERTa-v2's settings, those that the v3 models have.

use super::{BERT_KEYS, EachDropout, HEAD_STREAM, Layout, differs, finish};
use crate::{
    EncoderConfig, Modality, ModelConfig, ModelError,
    config::Reader,
    encoder::RelativePositions,
    heads::{Dense, HeadConfig},
    pretrained::{Family, Found},
};
use rekindle_nn::params::NameMap;
use serde_json::Value;

/// The names of the encoder, then those of a head.
macro_rules! names {
    ($($head:expr),*) => {
        NameMap(&[
            ("backbone.embeddings.word", "deberta.embeddings.word_embeddings"),
            ("backbone.embeddings.token_type", "deberta.embeddings.token_type_embeddings"),
            ("backbone.embeddings.norm", "deberta.embeddings.LayerNorm"),
            ("backbone.relative.table", "deberta.encoder.rel_embeddings"),
            ("backbone.relative.norm", "deberta.encoder.LayerNorm"),
            ("backbone.layers.*.query", "deberta.encoder.layer.*.attention.self.query_proj"),
            ("backbone.layers.*.key", "deberta.encoder.layer.*.attention.self.key_proj"),
            ("backbone.layers.*.value", "deberta.encoder.layer.*.attention.self.value_proj"),
            ("backbone.layers.*.attention_output", "deberta.encoder.layer.*.attention.output.dense"),
            ("backbone.layers.*.attention_norm", "deberta.encoder.layer.*.attention.output.LayerNorm"),
            ("backbone.layers.*.intermediate", "deberta.encoder.layer.*.intermediate.dense"),
            ("backbone.layers.*.output", "deberta.encoder.layer.*.output.dense"),
            ("backbone.layers.*.output_norm", "deberta.encoder.layer.*.output.LayerNorm"),
            $($head),*
        ])
    };
}

const NAMES: NameMap = names!(("head.dense", "pooler.dense"), ("head.out", "classifier"));

const SPAN_NAMES: NameMap = names!(("head.out", "qa_outputs"));

const LAYOUT: Layout = Layout {
    root: "deberta.",
    head: &["pooler.", "classifier."],
    others: &[
        ("lm_predictions.", "the pretraining head"),
        ("mask_predictions.", "the pretraining head"),
        ("cls.", "the pretraining head"),
        ("qa_outputs.", "a head for questions and answers"),
        (
            "embeddings.position_embeddings.",
            "positions are relative: position_biased_input is false",
        ),
    ],
};

pub(crate) static FAMILY: Family = Family {
    name: "deberta-v2",
    class: "DebertaV2",
    modality: Modality::Text,
    names: NAMES,
    head: "classifier",
    head_modules: &["pooler", "classifier"],
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

/// The words of a setting that is a list, or a text with bars between.
fn words(reader: &Reader<'_>, key: &str) -> Vec<String> {
    match reader.text(key) {
        Some(text) => text
            .split('|')
            .map(|word| word.trim().to_lowercase())
            .collect(),
        None => reader.strings(key),
    }
}

/// Refuses settings of DeBERTa-v2 that no v3 model has and no code here computes.
fn check(reader: &Reader<'_>, hidden_size: usize, heads: usize) -> Result<(), ModelError> {
    let found = |key: &str| {
        reader
            .get(key)
            .map_or_else(|| "missing".into(), Value::to_string)
    };
    let refuse = |key: &str, expected: &str| {
        let reason = format!(
            "`{key}` is {}, expected {expected}: of DeBERTa-v2's settings, those of the v3 models are computed here\nhint: take a DeBERTa-v3, such as microsoft/deberta-v3-small",
            found(key)
        );
        Err(reader.error(reason))
    };
    for (key, expected, missing) in [
        ("relative_attention", true, false),
        ("share_att_key", true, false),
        ("position_biased_input", false, true),
    ] {
        let value = reader.get(key).map_or(Some(missing), Value::as_bool);
        if value != Some(expected) {
            return refuse(key, &expected.to_string());
        }
    }
    let kinds = words(reader, "pos_att_type");
    if !["c2p", "p2c"]
        .iter()
        .all(|kind| kinds.iter().any(|word| word == kind))
    {
        return refuse("pos_att_type", "c2p and p2c");
    }
    for (key, expected) in [
        ("conv_kernel_size", 0),
        ("embedding_size", hidden_size),
        ("pooler_hidden_size", hidden_size),
        ("attention_head_size", hidden_size / heads.max(1)),
    ] {
        if reader.integer(key, expected as i64)? != expected as i64 {
            return refuse(key, &expected.to_string());
        }
    }
    if reader.number("pooler_dropout", 0.0)? > 0.0 {
        return refuse("pooler_dropout", "0");
    }
    Ok(())
}

fn read(found: &Found, family: &'static Family) -> Result<ModelConfig, ModelError> {
    let reader = Reader {
        raw: &found.raw,
        path: &found.path,
    };
    let hidden_size = reader.size(BERT_KEYS.hidden_size, None)?;
    let heads = reader.size(BERT_KEYS.heads, None)?;
    check(&reader, hidden_size, heads)?;
    let longest = reader.size("max_position_embeddings", Some(512))?;
    let type_vocab_size = match reader.integer("type_vocab_size", 0)? {
        0 => 0,
        _ => reader.size("type_vocab_size", None)?,
    };
    // Below 1 both say that they are not set.
    let optional = |key: &str| -> Result<Option<usize>, ModelError> {
        match reader.integer(key, -1)? {
            i64::MIN..=0 => Ok(None),
            _ => reader.size(key, None).map(Some),
        }
    };
    let farthest = optional("max_relative_positions")?.unwrap_or(longest);
    let buckets = optional("position_buckets")?;
    if buckets.is_some_and(|buckets| buckets / 2 < 2 || farthest <= buckets / 2 + 1) {
        return Err(reader.error(format!(
            "`position_buckets` is {}, expected at least 4, and half of it well below the {farthest} positions",
            buckets.unwrap_or(0)
        )));
    }
    let (span, key) = match buckets {
        Some(buckets) => (buckets, "position_buckets"),
        None => (farthest, "max_relative_positions"),
    };
    let table = format!(
        "{}.weight",
        family.names.published("backbone.relative.table")
    );
    if let Some(rows) = found.dimension(&table, 0).filter(|&rows| rows / 2 != span) {
        return Err(differs(found, (key, span), rows / 2, &table));
    }
    let encoder = EncoderConfig {
        vocab_size: reader.size("vocab_size", None)?,
        hidden_size,
        embedding_size: None,
        layers: reader.layers(BERT_KEYS.layers)?,
        repeats: 1,
        heads,
        intermediate_size: reader.size(BERT_KEYS.intermediate_size, None)?,
        activation: reader.activation("hidden_act")?,
        hidden_dropout: reader.rate("hidden_dropout_prob", 0.1)?,
        attention_dropout: reader.rate("attention_probs_dropout_prob", 0.1)?,
        drops_attention_output: true,
        drops_output: true,
        position_rows: longest,
        first_position: 0,
        type_vocab_size,
        relative: Some(RelativePositions::Vectors {
            span,
            farthest: buckets.map(|_| farthest),
            normed: words(&reader, "norm_rel_ebd")
                .iter()
                .any(|word| word == "layer_norm"),
        }),
        initializer_range: reader.number("initializer_range", 0.02)?,
        layer_norm_eps: reader.number("layer_norm_eps", 1e-7)?,
        pre_norm: None,
    };
    let head = HeadConfig {
        width: hidden_size,
        dense: Dense::Activated(reader.activation("pooler_hidden_act")?),
        dropout: reader.rate("cls_dropout", encoder.hidden_dropout)?,
        std: encoder.initializer_range,
        stream: HEAD_STREAM,
    };
    let each = EachDropout {
        // `DebertaV2ForTokenClassification` has the encoder's.
        tokens: encoder.hidden_dropout,
        spans: 0.0,
    };
    Ok(ModelConfig {
        // The head's own, for the first token: what the encoder was saved with says nothing.
        has_pooler: true,
        ..finish(found, family, encoder, &BERT_KEYS, (head, each))?
    })
}
