//! Gemma 3 (Gemma Team 2025), the models for texts alone: Llama's blocks with norms of `1 + w` around both halves, scaled
//! embeddings, norms of queries and keys, and layers with a window, whose rotary positions have a base of their own. As
//! transformers' `Gemma3ForCausalLM`, whose defaults stand for keys that a file leaves out.

use super::{
    finish_decoder,
    llama::{self, rotary_scaling, windows_of},
    no_head,
};
use crate::{
    Activation, DecoderConfig, Modality, ModelConfig, ModelError, Positions, Rotary,
    config::Reader,
    load::Rule,
    pretrained::{Family, Found},
};
use rekindle_nn::{ops::GeluKind, params::NameMap};
use serde_json::{Map, Value};

/// One layer in so many sees all tokens, where the file does not say.
const PATTERN: usize = 6;

const NAMES: NameMap = NameMap(&[
    ("backbone.embeddings", "model.embed_tokens"),
    (
        "backbone.layers.*.attention_norm",
        "model.layers.*.input_layernorm",
    ),
    ("backbone.layers.*.query", "model.layers.*.self_attn.q_proj"),
    ("backbone.layers.*.key", "model.layers.*.self_attn.k_proj"),
    ("backbone.layers.*.value", "model.layers.*.self_attn.v_proj"),
    (
        "backbone.layers.*.query_norm",
        "model.layers.*.self_attn.q_norm",
    ),
    (
        "backbone.layers.*.key_norm",
        "model.layers.*.self_attn.k_norm",
    ),
    (
        "backbone.layers.*.attention_output",
        "model.layers.*.self_attn.o_proj",
    ),
    (
        "backbone.layers.*.attention_post_norm",
        "model.layers.*.post_attention_layernorm",
    ),
    (
        "backbone.layers.*.mlp_norm",
        "model.layers.*.pre_feedforward_layernorm",
    ),
    ("backbone.layers.*.gate", "model.layers.*.mlp.gate_proj"),
    ("backbone.layers.*.up", "model.layers.*.mlp.up_proj"),
    ("backbone.layers.*.down", "model.layers.*.mlp.down_proj"),
    (
        "backbone.layers.*.mlp_post_norm",
        "model.layers.*.post_feedforward_layernorm",
    ),
    ("backbone.norm", "model.norm"),
    ("head.out", "lm_head"),
]);

pub(crate) static GEMMA3: Family = Family {
    name: "gemma3_text",
    class: "Gemma3",
    modality: Modality::Text,
    names: NAMES,
    head: "lm_head",
    head_modules: &[],
    transposed: &[],
    in_files: None,
    token_names: None,
    span_names: None,
    choice_names: None,
    pooler: None,
    claims: |_| false,
    rule,
    read,
};

fn rule(found: &Found, name: &str) -> Rule {
    match name {
        // Tied unless the file says otherwise.
        "lm_head.weight" if found.raw.get("tie_word_embeddings") != Some(&Value::Bool(false)) => {
            Rule::Ignore("the embeddings are the head".into())
        }
        _ => llama::rule(found, name),
    }
}

fn read(found: &Found, family: &'static Family) -> Result<ModelConfig, ModelError> {
    let reader = Reader {
        raw: &found.raw,
        path: &found.path,
    };
    let flag = |key: &str| found.raw.get(key).and_then(Value::as_bool);
    if flag("use_bidirectional_attention") == Some(true) {
        return Err(reader.error(
            "`use_bidirectional_attention` is true: each token sees those behind it too, so the model cannot write\nhint: take a Gemma 3 that was made to write; this one is for embeddings",
        ));
    }
    let hidden_size = reader.size("hidden_size", None)?;
    let layers = reader.layers("num_hidden_layers")?;
    let head_width = reader.size("head_dim", Some(256))?;
    let max_positions = reader.size("max_position_embeddings", Some(131_072))?;
    let scalar = reader.number("query_pre_attn_scalar", 256.0)?;
    if scalar == 0.0 {
        return Err(reader.error("`query_pre_attn_scalar` is 0, expected a number above 0"));
    }
    let softcap = reader.number("final_logit_softcapping", 0.0)?;
    let bias = flag("attention_bias").unwrap_or(false);
    let of = |kind, old: Old| rotary_of(&reader, kind, old, head_width, max_positions);
    let local = of("sliding_attention", LOCAL)?;
    let decoder = DecoderConfig {
        vocab_size: reader.size("vocab_size", None)?,
        hidden_size,
        layers,
        heads: reader.size("num_attention_heads", None)?,
        kv_heads: reader.size("num_key_value_heads", Some(4))?,
        head_width,
        intermediate_size: reader.size("intermediate_size", None)?,
        activation: match reader.text("hidden_activation") {
            None => Activation::Gelu(GeluKind::Tanh),
            Some(_) => reader.activation("hidden_activation")?,
        },
        gated: true,
        rms_norm: true,
        norm_plus_one: true,
        post_norms: true,
        norm_eps: reader.number("rms_norm_eps", 1e-6)?,
        embedding_scale: Some((hidden_size as f64).sqrt()),
        positions: Positions::Rotary(of("full_attention", FULL)?),
        local_rotary: Some(local),
        max_positions,
        qkv_bias: bias,
        output_bias: bias,
        mlp_bias: false,
        qk_norm: true,
        attention_scale: Some(scalar.sqrt().recip()),
        joined_qkv: false,
        joined_gate: false,
        windows: windows(&reader, layers)?,
        rotates: vec![true; layers],
        embedding_dropout: 0.0,
        hidden_dropout: 0.0,
        attention_dropout: reader.rate("attention_dropout", 0.0)?,
        tied: no_head(found),
        logit_softcap: Some(softcap).filter(|cap| *cap > 0.0),
        initializer_range: reader.number("initializer_range", 0.02)?,
    };
    finish_decoder(found, family, decoder)
}

/// How far back each layer sees: by `layer_types`, or by older files' `sliding_window_pattern`.
fn windows(reader: &Reader<'_>, layers: usize) -> Result<Vec<Option<usize>>, ModelError> {
    let window = Some(reader.size("sliding_window", Some(4096))?);
    let kinds = reader.strings("layer_types");
    if !kinds.is_empty() && kinds.len() != layers {
        return Err(reader.error(format!(
            "`layer_types` names {} layers, expected num_hidden_layers: {layers}",
            kinds.len()
        )));
    }
    if kinds.len() == layers {
        return windows_of(reader, &kinds, window);
    }
    let pattern = reader.size("_sliding_window_pattern", Some(PATTERN))?;
    let pattern = reader.size("sliding_window_pattern", Some(pattern))?;
    let slides = |i: usize| !(i + 1).is_multiple_of(pattern);
    Ok((0..layers).map(|i| window.filter(|_| slides(i))).collect())
}

/// How older files describe the rotary positions of one kind of layer.
#[derive(Clone, Copy)]
pub(super) struct Old {
    /// The key of their base.
    pub key: &'static str,
    /// The base where there is no such key.
    pub default: f64,
    /// Whether `rope_scaling` is theirs.
    pub scaled: bool,
}

const FULL: Old = Old {
    key: "rope_theta",
    default: 1e6,
    scaled: true,
};

const LOCAL: Old = Old {
    key: "rope_local_base_freq",
    default: 1e4,
    scaled: false,
};

/// Rotary positions of one kind of layer: transformers 5 has `rope_parameters` for each kind; before, each had a key of its own.
pub(super) fn rotary_of(
    reader: &Reader<'_>,
    kind: &str,
    older: Old,
    head_width: usize,
    max_positions: usize,
) -> Result<Rotary, ModelError> {
    let empty = Map::new();
    let within = |raw| Reader {
        raw,
        path: reader.path,
    };
    let by_kind = reader.raw.get("rope_parameters");
    let by_kind = by_kind.and_then(|all| all.get(kind)?.as_object());
    let old = reader.raw.get("rope_scaling").and_then(Value::as_object);
    let old = old.filter(|_| older.scaled);
    let section = within(by_kind.unwrap_or(&empty));
    if !head_width.is_multiple_of(2) {
        return Err(reader.error(format!(
            "`head_dim` is {head_width}, expected an even number: rotary positions turn pairs of columns"
        )));
    }
    Ok(Rotary {
        theta: section.number("rope_theta", reader.number(older.key, older.default)?)?,
        width: head_width,
        scaling: rotary_scaling(&old.map_or(section, within), max_positions)?,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::RotaryScaling;
    use serde_json::json;
    use std::path::Path;

    fn reader(raw: &Value) -> Reader<'_> {
        Reader {
            raw: raw.as_object().unwrap(),
            path: Path::new("config.json"),
        }
    }

    /// (base, factor) of layers that see everything, then of those with a window.
    fn bases(raw: &Value) -> [(f64, Option<f64>); 2] {
        [("full_attention", FULL), ("sliding_attention", LOCAL)].map(|(kind, old)| {
            let rotary = rotary_of(&reader(raw), kind, old, 8, 64).unwrap();
            let factor = match rotary.scaling {
                RotaryScaling::Linear(factor) => Some(factor),
                _ => None,
            };
            (rotary.theta, factor)
        })
    }

    #[test]
    fn files_of_all_ages_give_each_kind_of_layer_its_positions() {
        for (raw, expected) in [
            (json!({}), [(1e6, None), (1e4, None)]),
            (
                json!({"rope_theta": 5e5, "rope_local_base_freq": 2e4, "rope_scaling": {"rope_type": "linear", "factor": 8.0}}),
                [(5e5, Some(8.0)), (2e4, None)],
            ),
            (
                json!({"rope_theta": 5e5, "rope_scaling": null, "rope_parameters": {
                    "full_attention": {"rope_type": "linear", "factor": 4.0, "rope_theta": 7e5},
                    "sliding_attention": {"rope_type": "default"}}}),
                [(7e5, Some(4.0)), (1e4, None)],
            ),
        ] {
            assert_eq!(bases(&raw), expected, "{raw}");
        }
        let odd = rotary_of(&reader(&json!({})), "full_attention", FULL, 7, 64);
        assert!(odd.unwrap_err().to_string().contains("`head_dim` is 7"));
    }

    #[test]
    fn layers_slide_by_their_types_or_by_a_pattern() {
        let sees = |raw: Value| -> Vec<usize> {
            let windows = windows(&reader(&raw), 7).unwrap();
            windows.iter().map(|window| window.unwrap_or(0)).collect()
        };
        let window = |more: Value| {
            let mut raw = json!({"sliding_window": 512});
            for (key, value) in more.as_object().unwrap() {
                raw[key] = value.clone();
            }
            sees(raw)
        };
        assert_eq!(window(json!({})), [512, 512, 512, 512, 512, 0, 512]);
        let pattern = json!({"sliding_window_pattern": 3});
        assert_eq!(window(pattern), [512, 512, 0, 512, 512, 0, 512]);
        assert_eq!(window(json!({"_sliding_window_pattern": 1})), [0; 7]);
        let mut kinds = vec!["full_attention"; 7];
        kinds[2] = "sliding_attention";
        let kinds = json!({"layer_types": kinds, "sliding_window_pattern": 1});
        assert_eq!(window(kinds), [0, 0, 512, 0, 0, 0, 0]);
        assert_eq!(sees(json!({}))[0], 4096);
        let short = windows(&reader(&json!({"layer_types": ["full_attention"]})), 7);
        let message = short.unwrap_err().to_string();
        assert!(message.contains("names 1 layers"), "{message}");
    }
}
