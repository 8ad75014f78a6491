//! The families for texts. A family's file reads its `config.json`, maps its names, says which tensors belong to other heads,
//! and how its own head looks; what they share stands here.

pub(crate) mod albert;
pub(crate) mod bert;
pub(crate) mod deberta;
pub(crate) mod distilbert;
pub(crate) mod electra;
pub(crate) mod gemma;
pub(crate) mod gpt2;
pub(crate) mod llama;
pub(crate) mod modernbert;
pub(crate) mod mpnet;
pub(crate) mod roberta;

use crate::{
    DecoderConfig, EncoderConfig, Modality, ModelConfig, ModelError, Problem, TextLimits,
    config::{Reader, Sizes},
    heads::{Dense, HeadConfig},
    load::Rule,
    pretrained::{Family, Found},
};
use serde_json::Value;
use std::collections::BTreeSet;

/// Before the dropout of a text's head come its pooler's stream and the backbone's.
const HEAD_STREAM: u64 = 2;

/// How a family names its tensors.
struct Layout {
    /// What stands before the names of the backbone, or does not: `bert.`.
    root: &'static str,
    /// Beginnings of the names of its own head for whole examples.
    head: &'static [&'static str],
    /// Beginnings of the names of other heads, with what they are.
    others: &'static [(&'static str, &'static str)],
}

impl Layout {
    /// What a tensor is.
    fn rule(&self, found: &Found, name: &str) -> Rule {
        if name.ends_with("embeddings.position_ids") || name.ends_with("embeddings.token_type_ids")
        {
            return Rule::Ignore("a buffer of indices, computed here".into());
        }
        let inner = name.strip_prefix(self.root).unwrap_or(name);
        let own: &[&str] = match own_class(found) {
            Some((_, Problem::Tokens)) => &["classifier.weight", "classifier.bias"],
            Some((_, Problem::Span)) => &["qa_outputs.weight", "qa_outputs.bias"],
            Some((_, Problem::Choice)) => &[
                "classifier.weight",
                "classifier.bias",
                "sequence_summary.summary.weight",
                "sequence_summary.summary.bias",
            ],
            _ => &[],
        };
        if own.contains(&inner) {
            return Rule::Load(inner.to_owned());
        }
        let starts = |prefix: &&str| inner.starts_with(*prefix);
        if let Some((_, what)) = self.others.iter().find(|(prefix, _)| starts(prefix)) {
            return Rule::Ignore((*what).to_owned());
        }
        // TensorFlow's names, which old checkpoints kept.
        let name = name
            .replace("LayerNorm.gamma", "LayerNorm.weight")
            .replace("LayerNorm.beta", "LayerNorm.bias")
            .replace("layer_norm.gamma", "layer_norm.weight")
            .replace("layer_norm.beta", "layer_norm.bias");
        if self.head.iter().any(starts) {
            return match own_class(found) {
                // Before its last map it has what a sequence classifier has.
                Some((_, Problem::Choice)) => Rule::Load(name),
                Some((class, _)) => Rule::Ignore(format!("the head of {class}")),
                None => Rule::Load(name),
            };
        }
        match name.starts_with(self.root) {
            true => Rule::Load(name),
            false => Rule::Load(format!("{}{name}", self.root)),
        }
    }
}

/// The class that saved the model and what its head is for, where that is not for whole examples with labels or numbers.
fn own_class(found: &Found) -> Option<(String, Problem)> {
    let reader = Reader {
        raw: &found.raw,
        path: &found.path,
    };
    let of = |class: String| {
        let problem = match &class {
            c if c.ends_with("ForTokenClassification") => Problem::Tokens,
            c if c.ends_with("ForQuestionAnswering") => Problem::Span,
            c if c.ends_with("ForMultipleChoice") => Problem::Choice,
            _ => return None,
        };
        Some((class, problem))
    };
    reader.strings("architectures").into_iter().find_map(of)
}

/// The keys of a family's `config.json` for sizes, where families name them differently.
struct Keys {
    hidden_size: &'static str,
    embedding_size: &'static str,
    intermediate_size: &'static str,
    layers: &'static str,
    heads: &'static str,
}

const BERT_KEYS: Keys = Keys {
    hidden_size: "hidden_size",
    embedding_size: "hidden_size",
    intermediate_size: "intermediate_size",
    layers: "num_hidden_layers",
    heads: "num_attention_heads",
};

/// An encoder as BERT's keys describe it, with one row of positions for each token.
fn bert_encoder(reader: &Reader<'_>) -> Result<EncoderConfig, ModelError> {
    let position = reader.text("position_embedding_type").unwrap_or("absolute");
    if position != "absolute" {
        return Err(reader.error(format!(
            "position_embedding_type is `{position}`, expected `absolute`"
        )));
    }
    if reader.raw.get("is_decoder") == Some(&Value::Bool(true)) {
        return Err(reader.error(
            "is_decoder is true: each token sees only those before it, which is not computed here; expected an encoder",
        ));
    }
    Ok(EncoderConfig {
        vocab_size: reader.size("vocab_size", None)?,
        hidden_size: reader.size(BERT_KEYS.hidden_size, None)?,
        embedding_size: None,
        layers: reader.size(BERT_KEYS.layers, None)?,
        repeats: 1,
        heads: reader.size(BERT_KEYS.heads, None)?,
        intermediate_size: reader.size(BERT_KEYS.intermediate_size, None)?,
        activation: reader.activation("hidden_act")?,
        hidden_dropout: reader.rate("hidden_dropout_prob", 0.1)?,
        attention_dropout: reader.rate("attention_probs_dropout_prob", 0.1)?,
        drops_attention_output: true,
        drops_output: true,
        position_rows: reader.size("max_position_embeddings", Some(512))?,
        first_position: 0,
        type_vocab_size: reader.size("type_vocab_size", Some(2))?,
        relative: None,
        initializer_range: reader.number("initializer_range", 0.02)?,
        layer_norm_eps: reader.number("layer_norm_eps", 1e-12)?,
        pre_norm: None,
    })
}

/// The dropout before a head that is for each token.
struct EachDropout {
    /// Where it is for tokens.
    tokens: f64,
    /// Where it is for answers.
    spans: f64,
}

/// What is left to say of a text model whose encoder was read: its sizes held against the weights, its labels, its heads: for
/// whole examples, and for each token.
fn finish(
    found: &Found,
    family: &'static Family,
    encoder: EncoderConfig,
    keys: &Keys,
    (head, each): (HeadConfig, EachDropout),
) -> Result<ModelConfig, ModelError> {
    let reader = Reader {
        raw: &found.raw,
        path: &found.path,
    };
    let weight = |path: &str| format!("{}.weight", family.names.published(path));
    let word = weight("backbone.embeddings.word");
    let position = weight("backbone.embeddings.position");
    let token_type = weight("backbone.embeddings.token_type");
    let intermediate = weight("backbone.layers.0.intermediate");
    let attended = weight("backbone.layers.0.attention_output");
    let gate_up = weight("backbone.layers.0.gate_up");
    let of_tables = encoder.embedding_size.unwrap_or(encoder.hidden_size);
    for (key, value, tensor, axis) in [
        ("vocab_size", encoder.vocab_size, &word, 0),
        (keys.embedding_size, of_tables, &word, 1),
        (keys.hidden_size, encoder.hidden_size, &attended, 0),
        (
            "max_position_embeddings",
            encoder.position_rows,
            &position,
            0,
        ),
        ("type_vocab_size", encoder.type_vocab_size, &token_type, 0),
        (
            keys.intermediate_size,
            encoder.intermediate_size,
            &intermediate,
            0,
        ),
        (
            "twice the intermediate size",
            encoder.intermediate_size.saturating_mul(2),
            &gate_up,
            0,
        ),
    ] {
        let there = found.dimension(tensor, axis);
        if let Some(expected) = there.filter(|there| *there != value) {
            return Err(differs(found, (key, value), expected, tensor));
        }
    }
    check_layers(found, family, keys.layers, encoder.layers)?;
    if !encoder.hidden_size.is_multiple_of(encoder.heads) {
        return Err(reader.error(format!(
            "{} {} is not a multiple of {} {}",
            keys.hidden_size, encoder.hidden_size, keys.heads, encoder.heads
        )));
    }
    let Some(positions) = encoder.position_rows.checked_sub(encoder.first_position) else {
        return Err(reader.error(format!(
            "`max_position_embeddings` is {}, but the first position is row {}",
            encoder.position_rows, encoder.first_position
        )));
    };
    let problem = match own_class(found) {
        Some((_, own)) => Some(own),
        None => reader.problem()?,
    };
    let names = family.names_for(problem.unwrap_or(Problem::SingleLabel));
    let for_each = |dropout: f64| HeadConfig {
        dense: Dense::None,
        dropout,
        ..head
    };
    let out = format!("{}.weight", names.published("head.out"));
    Ok(ModelConfig {
        family: family.name,
        modality: Modality::Text,
        labels: match problem {
            // A choice has no name; what the file names is of another head.
            Some(Problem::Choice) => Vec::new(),
            _ => reader.labels()?,
        },
        outputs: found.dimension(&out, 0).unwrap_or(0),
        problem,
        architectures: reader.strings("architectures"),
        mean_pooling: reader.text("rekindle_pooling") == Some("mean"),
        pictures: None,
        text: Some(TextLimits {
            positions,
            vocab_size: encoder.vocab_size,
            type_vocab_size: encoder.type_vocab_size,
            hidden_size: encoder.hidden_size,
            intermediate_size: encoder.intermediate_size,
            layers: encoder.layers.saturating_mul(encoder.repeats),
            repeats: encoder.repeats,
            heads: encoder.heads,
        }),
        entry: family,
        has_pooler: found.has_pooler,
        sizes: Sizes::Encoder(encoder),
        head,
        token_head: Some(for_each(each.tokens)),
        span_head: Some(for_each(each.spans)),
        choice_head: None,
        raw: found.raw.clone(),
    })
}

/// The error for a setting, its name and value, where a tensor's axis has another size.
fn differs(
    found: &Found,
    (key, value): (&str, usize),
    expected: usize,
    tensor: &str,
) -> ModelError {
    ModelError::Size {
        path: found.path.clone(),
        key: key.to_owned(),
        value,
        expected,
        weights: format!("tensor `{tensor}` has shape {:?}", found.shapes[tensor]),
    }
}

/// Whether the weights have no head of their own: then the embeddings are it.
fn no_head(found: &Found) -> bool {
    !found.shapes.contains_key("lm_head.weight")
}

/// What is left to say of a language model whose decoder was read: its sizes held against the weights.
fn finish_decoder(
    found: &Found,
    family: &'static Family,
    decoder: DecoderConfig,
) -> Result<ModelConfig, ModelError> {
    let reader = Reader {
        raw: &found.raw,
        path: &found.path,
    };
    let weight = |path: &str| format!("{}.weight", family.names.published(path));
    let of_layer = |name: &str| weight(&format!("backbone.layers.0.{name}"));
    let (queries, keys) = (
        decoder.heads.saturating_mul(decoder.head_width),
        decoder.kv_heads.saturating_mul(decoder.head_width),
    );
    let rows = usize::from(!family.transposed.is_empty());
    let twice = |n: usize| n.saturating_mul(2);
    let embeddings = weight("backbone.embeddings");
    for (what, value, tensor, axis) in [
        ("vocab_size", decoder.vocab_size, &embeddings, 0),
        ("the hidden size", decoder.hidden_size, &embeddings, 1),
        (
            "max_position_embeddings",
            decoder.max_positions,
            &weight("backbone.positions"),
            0,
        ),
        (
            "the intermediate size",
            decoder.intermediate_size,
            &of_layer("up"),
            rows,
        ),
        (
            "twice the intermediate size",
            twice(decoder.intermediate_size),
            &of_layer("gate_up"),
            0,
        ),
        ("heads times head_dim", queries, &of_layer("query"), 0),
        (
            "num_key_value_heads times head_dim",
            keys,
            &of_layer("key"),
            0,
        ),
        (
            "heads and key_value_heads times head_dim",
            queries.saturating_add(twice(keys)),
            &of_layer("qkv"),
            rows,
        ),
        ("vocab_size", decoder.vocab_size, &weight("head.out"), 0),
    ] {
        let there = found.dimension(tensor, axis);
        if let Some(expected) = there.filter(|there| *there != value) {
            return Err(differs(found, (what, value), expected, tensor));
        }
    }
    check_layers(found, family, "num_hidden_layers", decoder.layers)?;
    if decoder.tied && found.raw.get("tie_word_embeddings") == Some(&Value::Bool(false)) {
        return Err(reader.error(
            "there is no tensor `lm_head.weight`, and `tie_word_embeddings` is false: a backbone without the head that writes\nhint: name the model that was saved with its head, as ...ForCausalLM",
        ));
    }
    if !decoder.heads.is_multiple_of(decoder.kv_heads) {
        return Err(reader.error(format!(
            "num_attention_heads {} is not a multiple of num_key_value_heads {}",
            decoder.heads, decoder.kv_heads
        )));
    }
    Ok(ModelConfig {
        family: family.name,
        modality: Modality::Text,
        labels: Vec::new(),
        outputs: 0,
        problem: None,
        architectures: reader.strings("architectures"),
        mean_pooling: false,
        pictures: None,
        text: Some(TextLimits {
            positions: decoder.max_positions,
            vocab_size: decoder.vocab_size,
            type_vocab_size: 0,
            hidden_size: decoder.hidden_size,
            intermediate_size: decoder.intermediate_size,
            layers: decoder.layers,
            repeats: 1,
            heads: decoder.heads,
        }),
        entry: family,
        has_pooler: false,
        head: HeadConfig {
            width: decoder.hidden_size,
            dense: Dense::None,
            dropout: 0.0,
            std: decoder.initializer_range,
            stream: HEAD_STREAM,
        },
        token_head: None,
        span_head: None,
        choice_head: None,
        sizes: Sizes::Decoder(decoder),
        raw: found.raw.clone(),
    })
}

/// Holds the number of layers that `config.json` names against the weights.
fn check_layers(found: &Found, family: &Family, key: &str, value: usize) -> Result<(), ModelError> {
    let expected = layers(found, family);
    if expected == value {
        return Ok(());
    }
    Err(ModelError::Size {
        path: found.path.clone(),
        key: key.to_owned(),
        value,
        expected,
        weights: format!(
            "there are {} under `{}`",
            rekindle_base::counted(expected, "layer", "layers"),
            layer_root(family)
        ),
    })
}

/// What stands before the number of a layer in published names: `bert.encoder.layer.`.
fn layer_root(family: &Family) -> String {
    let first = family.names.published("backbone.layers.0.attention_output");
    first
        .split_once(".0.")
        .map_or_else(String::new, |(root, _)| format!("{root}."))
}

/// How many layers the weights have.
fn layers(found: &Found, family: &Family) -> usize {
    let root = layer_root(family);
    let numbers: BTreeSet<&str> = found
        .shapes
        .range(root.clone()..)
        .map_while(|(name, _)| name.strip_prefix(root.as_str())?.split('.').next())
        .collect();
    numbers.len()
}
