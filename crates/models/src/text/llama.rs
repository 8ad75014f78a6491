//! Llama (Touvron et al. 2023; 3.1's rotary positions too) and the families that differ from it by a few switches: Mistral
//! (a window), Qwen2 (biases), Qwen3 (norms of queries and keys), SmolLM3 (some layers without positions), Phi-3 (maps stored
//! as one). As transformers' `...ForCausalLM`.

use super::{finish_decoder, no_head};
use crate::{
    Activation, DecoderConfig, Modality, ModelConfig, ModelError, Positions, Rotary, RotaryScaling,
    config::Reader,
    load::Rule,
    pretrained::{Family, Found},
};
use rekindle_nn::params::NameMap;
use serde_json::Value;

const NAMES: NameMap = NameMap(&[
    ("backbone.embeddings", "model.embed_tokens"),
    (
        "backbone.layers.*.attention_norm",
        "model.layers.*.input_layernorm",
    ),
    ("backbone.layers.*.query", "model.layers.*.self_attn.q_proj"),
    ("backbone.layers.*.key", "model.layers.*.self_attn.k_proj"),
    ("backbone.layers.*.value", "model.layers.*.self_attn.v_proj"),
    ("backbone.layers.*.qkv", "model.layers.*.self_attn.qkv_proj"),
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
        "backbone.layers.*.mlp_norm",
        "model.layers.*.post_attention_layernorm",
    ),
    ("backbone.layers.*.gate", "model.layers.*.mlp.gate_proj"),
    ("backbone.layers.*.up", "model.layers.*.mlp.up_proj"),
    (
        "backbone.layers.*.gate_up",
        "model.layers.*.mlp.gate_up_proj",
    ),
    ("backbone.layers.*.down", "model.layers.*.mlp.down_proj"),
    ("backbone.norm", "model.norm"),
    ("head.out", "lm_head"),
]);

pub(crate) static LLAMA: Family = BASE;

pub(crate) static MISTRAL: Family = Family {
    name: "mistral",
    class: "Mistral",
    ..BASE
};

pub(crate) static QWEN2: Family = Family {
    name: "qwen2",
    class: "Qwen2",
    ..BASE
};

pub(crate) static QWEN3: Family = Family {
    name: "qwen3",
    class: "Qwen3",
    ..BASE
};

pub(crate) static SMOLLM3: Family = Family {
    name: "smollm3",
    class: "SmolLM3",
    ..BASE
};

pub(crate) static PHI3: Family = Family {
    name: "phi3",
    class: "Phi3",
    ..BASE
};

const BASE: Family = Family {
    name: "llama",
    class: "Llama",
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

pub(super) fn rule(found: &Found, name: &str) -> Rule {
    let tied = found.raw.get("tie_word_embeddings") == Some(&Value::Bool(true));
    match name {
        "lm_head.weight" if tied => Rule::Ignore("the embeddings are the head".into()),
        "lm_head.weight" => Rule::Load(name.to_owned()),
        "score.weight" => Rule::Ignore("a head for classes".into()),
        _ if name.ends_with("rotary_emb.inv_freq") => {
            Rule::Ignore("a buffer of angles, computed here".into())
        }
        _ => Rule::Load(format!("model.{name}")),
    }
}

fn read(found: &Found, family: &'static Family) -> Result<ModelConfig, ModelError> {
    let reader = Reader {
        raw: &found.raw,
        path: &found.path,
    };
    let flag = |key: &str| found.raw.get(key).and_then(Value::as_bool);
    let (hidden_size, heads) = (
        reader.size("hidden_size", None)?,
        reader.size("num_attention_heads", None)?,
    );
    let head_width = reader.size("head_dim", Some((hidden_size / heads).max(1)))?;
    let layers = reader.layers("num_hidden_layers")?;
    let max_positions = reader.size("max_position_embeddings", Some(2048))?;
    let joined = family.name == "phi3";
    let bias = flag("attention_bias").unwrap_or(false);
    let mlp_bias = flag("mlp_bias").unwrap_or(false);
    let decoder = DecoderConfig {
        vocab_size: reader.size("vocab_size", None)?,
        hidden_size,
        layers,
        heads,
        kv_heads: reader.size("num_key_value_heads", Some(heads))?,
        head_width,
        intermediate_size: reader.size("intermediate_size", None)?,
        activation: match reader.text("hidden_act") {
            None => Activation::Silu,
            Some(_) => reader.activation("hidden_act")?,
        },
        gated: true,
        rms_norm: true,
        norm_plus_one: false,
        post_norms: false,
        norm_eps: reader.number("rms_norm_eps", 1e-6)?,
        embedding_scale: None,
        positions: Positions::Rotary(rotary(&reader, head_width, max_positions)?),
        local_rotary: None,
        max_positions,
        qkv_bias: bias || family.name == "qwen2",
        output_bias: bias,
        mlp_bias,
        qk_norm: family.name == "qwen3",
        attention_scale: None,
        joined_qkv: joined,
        joined_gate: joined,
        windows: windows(&reader, family, layers)?,
        rotates: rotates(found, layers),
        embedding_dropout: reader.rate("embd_pdrop", 0.0)?,
        hidden_dropout: reader.rate("resid_pdrop", 0.0)?,
        attention_dropout: reader.rate("attention_dropout", 0.0)?,
        tied: no_head(found),
        logit_softcap: None,
        initializer_range: reader.number("initializer_range", 0.02)?,
    };
    finish_decoder(found, family, decoder)
}

/// Layers whose number `no_rope_layers` marks with 0 have no positions.
fn rotates(found: &Found, layers: usize) -> Vec<bool> {
    let marks = found.raw.get("no_rope_layers").and_then(Value::as_array);
    let mark = |i: usize| marks.and_then(|marks| marks.get(i)?.as_u64());
    (0..layers).map(|i| mark(i) != Some(0)).collect()
}

/// How far back each layer sees.
fn windows(
    reader: &Reader<'_>,
    family: &Family,
    layers: usize,
) -> Result<Vec<Option<usize>>, ModelError> {
    let flag = |key: &str| reader.raw.get(key).and_then(Value::as_bool);
    let given = reader
        .raw
        .get("sliding_window")
        .is_some_and(|w| !w.is_null());
    let used = flag("use_sliding_window").unwrap_or(matches!(family.name, "mistral" | "phi3"));
    if !given || !used {
        return Ok(vec![None; layers]);
    }
    let window = Some(reader.size("sliding_window", None)?);
    let kinds = reader.strings("layer_types");
    if kinds.len() == layers {
        return windows_of(reader, &kinds, window);
    }
    // Qwen2's first layers see everything.
    let from = match family.name.starts_with("qwen") {
        true => reader.size("max_window_layers", Some(layers))?,
        false => 0,
    };
    Ok((0..layers).map(|i| window.filter(|_| i >= from)).collect())
}

/// The window of the layers that `layer_types` says slide.
pub(super) fn windows_of(
    reader: &Reader<'_>,
    kinds: &[String],
    window: Option<usize>,
) -> Result<Vec<Option<usize>>, ModelError> {
    let windows = kinds.iter().map(|kind| match kind.as_str() {
        "full_attention" => Ok(None),
        "sliding_attention" => Ok(window),
        other => Err(reader.error(format!(
            "`layer_types` names `{other}`, expected full_attention or sliding_attention"
        ))),
    });
    windows.collect()
}

/// Rotary positions as `rope_theta` and `rope_scaling`, or transformers 5's `rope_parameters`, describe them.
fn rotary(
    reader: &Reader<'_>,
    head_width: usize,
    max_positions: usize,
) -> Result<Rotary, ModelError> {
    let section = |key: &str| reader.raw.get(key).and_then(Value::as_object);
    let empty = serde_json::Map::new();
    let parameters = section("rope_parameters").unwrap_or(&empty);
    let scaling = section("rope_scaling").unwrap_or(parameters);
    let within = |raw| Reader {
        raw,
        path: reader.path,
    };
    let (parameters, scaling) = (within(parameters), within(scaling));
    let theta = parameters.number("rope_theta", reader.number("rope_theta", 10_000.0)?)?;
    let share = parameters.number(
        "partial_rotary_factor",
        reader.number("partial_rotary_factor", 1.0)?,
    )?;
    let width = (head_width as f64 * share) as usize;
    if width == 0 || !width.is_multiple_of(2) || width > head_width {
        return Err(reader.error(format!(
            "rotary positions turn {width} of a head's {head_width} columns, expected an even number of them"
        )));
    }
    Ok(Rotary {
        theta,
        width,
        scaling: rotary_scaling(&scaling, max_positions)?,
    })
}

/// The scaling that a section of `config.json` describes.
pub(super) fn rotary_scaling(
    section: &Reader<'_>,
    max_positions: usize,
) -> Result<RotaryScaling, ModelError> {
    let kind = section.text("rope_type").or(section.text("type"));
    let factor = || match section.number("factor", 1.0)? {
        factor if factor >= 1.0 => Ok(factor),
        factor => Err(section.error(format!(
            "the rotary positions' `factor` is {factor}, expected at least 1"
        ))),
    };
    Ok(match kind.unwrap_or("default") {
        "default" => RotaryScaling::None,
        "linear" => RotaryScaling::Linear(factor()?),
        "llama3" => RotaryScaling::Llama3 {
            factor: factor()?,
            low: section.number("low_freq_factor", 1.0)?,
            high: section.number("high_freq_factor", 4.0)?,
            original: section.number("original_max_position_embeddings", max_positions as f64)?,
        },
        other => {
            return Err(section.error(format!(
                "rotary positions are scaled by `{other}`, expected default, linear or llama3\nhint: texts within the original context do not need it: set it to default and max_position_embeddings to that context"
            )));
        }
    })
}
