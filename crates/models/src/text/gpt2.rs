//! GPT-2 (Radford et al. 2019) as transformers' `GPT2LMHeadModel`. Its linear maps are stored `[in, out]`, queries, keys and
//! values as one.

use super::{finish_decoder, no_head};
use crate::{
    DecoderConfig, Modality, ModelConfig, ModelError, Positions,
    config::Reader,
    load::Rule,
    pretrained::{Family, Found},
};
use rekindle_nn::params::NameMap;
use serde_json::Value;

const NAMES: NameMap = NameMap(&[
    ("backbone.embeddings", "transformer.wte"),
    ("backbone.positions", "transformer.wpe"),
    ("backbone.layers.*.attention_norm", "transformer.h.*.ln_1"),
    ("backbone.layers.*.qkv", "transformer.h.*.attn.c_attn"),
    (
        "backbone.layers.*.attention_output",
        "transformer.h.*.attn.c_proj",
    ),
    ("backbone.layers.*.mlp_norm", "transformer.h.*.ln_2"),
    ("backbone.layers.*.up", "transformer.h.*.mlp.c_fc"),
    ("backbone.layers.*.down", "transformer.h.*.mlp.c_proj"),
    ("backbone.norm", "transformer.ln_f"),
    ("head.out", "lm_head"),
]);

pub(crate) static GPT2: Family = Family {
    name: "gpt2",
    class: "GPT2",
    modality: Modality::Text,
    names: NAMES,
    head: "lm_head",
    head_modules: &[],
    transposed: &["c_attn.weight", "c_proj.weight", "c_fc.weight"],
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
    let tied = found.raw.get("tie_word_embeddings") != Some(&Value::Bool(false));
    let inner = name.strip_prefix("transformer.").unwrap_or(name);
    match inner {
        "lm_head.weight" if tied => Rule::Ignore("the embeddings are the head".into()),
        "lm_head.weight" => Rule::Load(inner.to_owned()),
        "score.weight" => Rule::Ignore("a head for classes".into()),
        _ if inner.ends_with(".attn.bias") || inner.ends_with(".attn.masked_bias") => {
            Rule::Ignore("a buffer of the causal mask, not needed here".into())
        }
        _ => Rule::Load(format!("transformer.{inner}")),
    }
}

fn read(found: &Found, family: &'static Family) -> Result<ModelConfig, ModelError> {
    let reader = Reader {
        raw: &found.raw,
        path: &found.path,
    };
    for key in ["scale_attn_by_inverse_layer_idx", "reorder_and_upcast_attn"] {
        if found.raw.get(key) == Some(&Value::Bool(true)) {
            return Err(reader.error(format!("`{key}` is true, which is not supported")));
        }
    }
    let (hidden_size, heads) = (reader.size("n_embd", None)?, reader.size("n_head", None)?);
    let layers = reader.layers("n_layer")?;
    let decoder = DecoderConfig {
        vocab_size: reader.size("vocab_size", None)?,
        hidden_size,
        layers,
        heads,
        kv_heads: heads,
        head_width: (hidden_size / heads).max(1),
        intermediate_size: reader.size("n_inner", Some(4 * hidden_size))?,
        activation: match reader.text("activation_function") {
            None => crate::Activation::Gelu(rekindle_nn::ops::GeluKind::Tanh),
            Some(_) => reader.activation("activation_function")?,
        },
        gated: false,
        rms_norm: false,
        norm_plus_one: false,
        post_norms: false,
        norm_eps: reader.number("layer_norm_epsilon", 1e-5)?,
        embedding_scale: None,
        positions: Positions::Learned,
        local_rotary: None,
        max_positions: reader.size("n_positions", Some(1024))?,
        qkv_bias: true,
        output_bias: true,
        mlp_bias: true,
        qk_norm: false,
        attention_scale: None,
        joined_qkv: true,
        joined_gate: false,
        windows: vec![None; layers],
        rotates: vec![false; layers],
        embedding_dropout: reader.rate("embd_pdrop", 0.1)?,
        hidden_dropout: reader.rate("resid_pdrop", 0.1)?,
        attention_dropout: reader.rate("attn_pdrop", 0.1)?,
        tied: no_head(found),
        logit_softcap: None,
        initializer_range: reader.number("initializer_range", 0.02)?,
    };
    finish_decoder(found, family, decoder)
}
