//! ModernBERT (Warner et al. 2024) as transformers' `ModernBertForSequenceClassification`,
//! `ModernBertForTokenClassification`, `ModernBertForQuestionAnswering` and `ModernBertForMultipleChoice`. The `head` before the classifier is the masked language model's too, so it is loaded from there.

use super::{
    BERT_KEYS, EachDropout, HEAD_STREAM, Layout, finish,
    gemma::{Old, rotary_of},
    llama::windows_of,
    own_class,
};
use crate::{
    EncoderConfig, Modality, ModelConfig, ModelError, PreNorm, Problem,
    config::{CLASSIFIER_POOLING, Reader},
    heads::{Dense, HeadConfig},
    load::Rule,
    pretrained::{Family, Found},
};
use rekindle_nn::params::NameMap;
use serde_json::Value;

const NAMES: NameMap = NameMap(&[
    (
        "backbone.embeddings.word",
        "model.embeddings.tok_embeddings",
    ),
    ("backbone.embeddings.norm", "model.embeddings.norm"),
    (
        "backbone.layers.*.attention_norm",
        "model.layers.*.attn_norm",
    ),
    ("backbone.layers.*.qkv", "model.layers.*.attn.Wqkv"),
    (
        "backbone.layers.*.attention_output",
        "model.layers.*.attn.Wo",
    ),
    ("backbone.layers.*.mlp_norm", "model.layers.*.mlp_norm"),
    ("backbone.layers.*.gate_up", "model.layers.*.mlp.Wi"),
    ("backbone.layers.*.down", "model.layers.*.mlp.Wo"),
    ("backbone.norm", "model.final_norm"),
    ("head.dense", "head.dense"),
    ("head.norm", "head.norm"),
    ("head.out", "classifier"),
]);

const LAYOUT: Layout = Layout {
    root: "model.",
    head: &["classifier."],
    others: &[("decoder.", "the pretraining head")],
};

/// In so many layers one sees everything, where the file does not say.
const PATTERN: usize = 3;

const FULL: Old = Old {
    key: "global_rope_theta",
    default: 160_000.0,
    scaled: true,
};

const LOCAL: Old = Old {
    key: "local_rope_theta",
    default: 10_000.0,
    scaled: true,
};

pub(crate) static FAMILY: Family = Family {
    name: "modernbert",
    class: "ModernBert",
    modality: Modality::Text,
    names: NAMES,
    head: "classifier",
    head_modules: &["classifier"],
    transposed: &[],
    in_files: None,
    token_names: Some(NAMES),
    span_names: Some(NAMES),
    choice_names: None,
    pooler: Some("head"),
    claims: |_| false,
    rule,
    read,
};

fn rule(found: &Found, name: &str) -> Rule {
    // Every class of it calls its last map so.
    let own = matches!(own_class(found), Some((_, Problem::Span | Problem::Choice)));
    match name.starts_with("head.") || (own && name.starts_with("classifier.")) {
        true => Rule::Load(name.to_owned()),
        false => LAYOUT.rule(found, name),
    }
}

fn read(found: &Found, family: &'static Family) -> Result<ModelConfig, ModelError> {
    let reader = Reader {
        raw: &found.raw,
        path: &found.path,
    };
    let flag = |key: &str| found.raw.get(key).and_then(Value::as_bool) == Some(true);
    let hidden_size = reader.size(BERT_KEYS.hidden_size, None)?;
    let heads = reader.size(BERT_KEYS.heads, None)?;
    let layers = reader.layers(BERT_KEYS.layers)?;
    let positions = reader.size("max_position_embeddings", Some(8192))?;
    let (norm_bias, epsilon) = (flag("norm_bias"), reader.number("norm_eps", 1e-5)?);
    let of = |kind, old| rotary_of(&reader, kind, old, hidden_size / heads, positions);
    let attention_dropout = reader.rate("attention_dropout", 0.0)?;
    let encoder = EncoderConfig {
        vocab_size: reader.size("vocab_size", None)?,
        hidden_size,
        embedding_size: None,
        layers,
        repeats: 1,
        heads,
        intermediate_size: reader.size(BERT_KEYS.intermediate_size, None)?,
        activation: reader.activation("hidden_activation")?,
        hidden_dropout: reader.rate("embedding_dropout", 0.0)?,
        attention_dropout,
        drops_attention_output: true,
        drops_output: false,
        position_rows: positions,
        first_position: 0,
        type_vocab_size: 0,
        initializer_range: reader.number("initializer_range", 0.02)?,
        layer_norm_eps: epsilon,
        relative: None,
        pre_norm: Some(PreNorm {
            rotary: of("full_attention", FULL)?,
            local_rotary: of("sliding_attention", LOCAL)?,
            windows: windows(&reader, layers)?,
            norm_bias,
            attention_bias: flag("attention_bias"),
            mlp_bias: flag("mlp_bias"),
            mlp_dropout: reader.rate("mlp_dropout", 0.0)?,
        }),
    };
    let head = HeadConfig {
        width: hidden_size,
        dense: Dense::Normed {
            activation: reader.activation("classifier_activation")?,
            bias: flag("classifier_bias"),
            norm_bias,
            epsilon,
        },
        dropout: reader.rate("classifier_dropout", 0.0)?,
        std: encoder.initializer_range,
        stream: HEAD_STREAM,
    };
    let pooling = reader.text(CLASSIFIER_POOLING).unwrap_or("cls");
    if !["cls", "mean"].contains(&pooling) {
        return Err(reader.error(format!(
            "`{CLASSIFIER_POOLING}` is `{pooling}`, expected cls or mean"
        )));
    }
    let each = EachDropout {
        tokens: head.dropout,
        spans: head.dropout,
    };
    let config = finish(found, family, encoder, &BERT_KEYS, (head, each))?;
    Ok(ModelConfig {
        mean_pooling: pooling == "mean",
        // The file says which, also where there is no head yet.
        has_pooler: true,
        token_head: Some(head),
        span_head: Some(head),
        ..config
    })
}

/// How far each layer sees to both sides: by `layer_types`, or by older files' `global_attn_every_n_layers`.
fn windows(reader: &Reader<'_>, layers: usize) -> Result<Vec<Option<usize>>, ModelError> {
    // Half of it on each side of the token, which sees itself besides.
    let window = Some(reader.size("local_attention", Some(128))? / 2 + 1);
    let kinds = reader.strings("layer_types");
    if kinds.is_empty() {
        let pattern = reader.size("global_attn_every_n_layers", Some(PATTERN))?;
        let slides = |i: &usize| !i.is_multiple_of(pattern);
        return Ok((0..layers).map(|i| window.filter(|_| slides(&i))).collect());
    }
    if kinds.len() != layers {
        return Err(reader.error(format!(
            "`layer_types` names {} layers, expected num_hidden_layers: {layers}",
            kinds.len()
        )));
    }
    windows_of(reader, &kinds, window)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;
    use std::path::Path;

    #[test]
    fn layers_have_windows_by_their_types_or_by_a_pattern() {
        let windows = |raw: Value| {
            let raw = raw.as_object().unwrap();
            let path = Path::new("config.json");
            windows(&Reader { raw, path }, 4)
        };
        for (raw, expected) in [
            (json!({}), [None, Some(65), Some(65), None]),
            (
                json!({"local_attention": 8, "global_attn_every_n_layers": 2}),
                [None, Some(5), None, Some(5)],
            ),
            (json!({"global_attn_every_n_layers": 1}), [None; 4]),
            (
                json!({"local_attention": 9, "global_attn_every_n_layers": 1, "layer_types":
                    ["sliding_attention", "full_attention", "full_attention", "sliding_attention"]}),
                [Some(5), None, None, Some(5)],
            ),
        ] {
            assert_eq!(windows(raw.clone()).unwrap(), expected, "{raw}");
        }
        let short = windows(json!({"layer_types": ["full_attention"]}));
        let message = short.unwrap_err().to_string();
        assert!(message.contains("names 1 layers"), "{message}");
    }
}
