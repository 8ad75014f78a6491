//! BERT's `config.json`.

use crate::{ModelError, read_config};
use rekindle_nn::ops::GeluKind;
use serde_json::{Map, Value};
use std::path::Path;

/// The activation between a layer's two linear maps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    /// GELU, exact or by tanh.
    Gelu(GeluKind),
    /// max(x, 0)
    Relu,
    /// x σ(x)
    Silu,
}

/// A BERT's sizes and settings; the whole file is kept so that saving writes back what we did not change.
#[derive(Debug, Clone)]
pub struct BertConfig {
    /// V
    pub vocab_size: usize,
    /// D
    pub hidden_size: usize,
    /// Number of layers.
    pub num_hidden_layers: usize,
    /// H
    pub num_attention_heads: usize,
    /// Width between a layer's two linear maps.
    pub intermediate_size: usize,
    /// Activation between them.
    pub hidden_act: Activation,
    /// Dropout after embeddings, attention and layers, in [0, 1).
    pub hidden_dropout_prob: f64,
    /// Dropout on attention's probabilities, in [0, 1).
    pub attention_probs_dropout_prob: f64,
    /// Dropout before the classifier; the hidden rate where the file names none.
    pub classifier_dropout: f64,
    /// Longest sequence.
    pub max_position_embeddings: usize,
    /// Number of segment types.
    pub type_vocab_size: usize,
    /// Standard deviation of new weights.
    pub initializer_range: f64,
    /// ε of layer norms.
    pub layer_norm_eps: f64,
    /// Label names by id, where the file names them.
    pub labels: Vec<String>,
    /// Whether the head reads the mean of all tokens (our own key `rekindle_pooling`).
    pub mean_pooling: bool,
    /// The file.
    pub raw: Map<String, Value>,
}

impl BertConfig {
    /// Reads `dir/config.json`.
    ///
    /// # Errors
    /// On another model type, a missing size, or a setting this implementation does not have.
    pub fn read(dir: &Path) -> Result<Self, ModelError> {
        let path = dir.join("config.json");
        let raw = read_config(dir)?;
        let reader = Reader {
            raw: &raw,
            path: &path,
        };
        let model_type = raw
            .get("model_type")
            .and_then(Value::as_str)
            .unwrap_or("(none)");
        if model_type != "bert" {
            return Err(reader.error(format!("model_type is `{model_type}`, expected `bert`\nhint: BERT models are what text classification tunes today")));
        }
        let position = raw
            .get("position_embedding_type")
            .and_then(Value::as_str)
            .unwrap_or("absolute");
        if position != "absolute" {
            return Err(reader.error(format!(
                "position_embedding_type is `{position}`, expected `absolute`"
            )));
        }
        let hidden_act = match raw
            .get("hidden_act")
            .and_then(Value::as_str)
            .unwrap_or("gelu")
        {
            "gelu" => Activation::Gelu(GeluKind::Exact),
            "gelu_new" | "gelu_pytorch_tanh" | "gelu_fast" => Activation::Gelu(GeluKind::Tanh),
            "relu" => Activation::Relu,
            "silu" | "swish" => Activation::Silu,
            other => {
                return Err(reader.error(format!("hidden_act is `{other}`, expected gelu, gelu_new, gelu_pytorch_tanh, relu or silu")));
            }
        };
        let hidden_dropout_prob = reader.rate("hidden_dropout_prob", 0.1)?;
        let config = Self {
            vocab_size: reader.size("vocab_size", None)?,
            hidden_size: reader.size("hidden_size", None)?,
            num_hidden_layers: reader.size("num_hidden_layers", None)?,
            num_attention_heads: reader.size("num_attention_heads", None)?,
            intermediate_size: reader.size("intermediate_size", None)?,
            hidden_act,
            hidden_dropout_prob,
            attention_probs_dropout_prob: reader.rate("attention_probs_dropout_prob", 0.1)?,
            classifier_dropout: reader.rate("classifier_dropout", hidden_dropout_prob)?,
            max_position_embeddings: reader.size("max_position_embeddings", Some(512))?,
            type_vocab_size: reader.size("type_vocab_size", Some(2))?,
            initializer_range: reader.number("initializer_range", 0.02)?,
            layer_norm_eps: reader.number("layer_norm_eps", 1e-12)?,
            labels: reader.labels()?,
            mean_pooling: raw.get("rekindle_pooling").and_then(Value::as_str) == Some("mean"),
            raw: raw.clone(),
        };
        if !config
            .hidden_size
            .is_multiple_of(config.num_attention_heads)
        {
            return Err(reader.error(format!(
                "hidden_size {} is not a multiple of num_attention_heads {}",
                config.hidden_size, config.num_attention_heads
            )));
        }
        Ok(config)
    }

    /// `config.json` of a classifier with these labels, as transformers writes it.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let mut raw = self.raw.clone();
        raw.insert(
            "architectures".into(),
            Value::from(vec!["BertForSequenceClassification"]),
        );
        raw.insert("problem_type".into(), "single_label_classification".into());
        let by_id: Map<String, Value> = self
            .labels
            .iter()
            .enumerate()
            .map(|(i, l)| (i.to_string(), l.as_str().into()))
            .collect();
        let by_label: Map<String, Value> = self
            .labels
            .iter()
            .enumerate()
            .map(|(i, l)| (l.clone(), i.into()))
            .collect();
        raw.insert("id2label".into(), by_id.into());
        raw.insert("label2id".into(), by_label.into());
        raw.remove("num_labels");
        // What we write is f32, whatever the file said before.
        raw.remove("torch_dtype");
        raw.insert("dtype".into(), "float32".into());
        match self.mean_pooling {
            true => drop(raw.insert("rekindle_pooling".into(), "mean".into())),
            false => drop(raw.remove("rekindle_pooling")),
        }
        Value::Object(raw)
    }
}

/// Reads keys and names the file in errors.
struct Reader<'a> {
    raw: &'a Map<String, Value>,
    path: &'a Path,
}

impl Reader<'_> {
    fn error(&self, reason: String) -> ModelError {
        ModelError::Config {
            path: self.path.to_owned(),
            reason,
        }
    }

    fn size(&self, key: &str, default: Option<usize>) -> Result<usize, ModelError> {
        match (self.raw.get(key), default) {
            (None | Some(Value::Null), Some(default)) => Ok(default),
            (Some(value), _) => match value.as_u64() {
                Some(n) if n > 0 => Ok(n as usize),
                _ => Err(self.error(format!("`{key}` is {value}, expected a positive integer"))),
            },
            (None, None) => Err(self.error(format!(
                "`{key}` is missing\nhint: this is not the config.json of a BERT model"
            ))),
        }
    }

    fn number(&self, key: &str, default: f64) -> Result<f64, ModelError> {
        match self.raw.get(key) {
            None | Some(Value::Null) => Ok(default),
            Some(value) => match value.as_f64() {
                Some(x) if x >= 0.0 && x.is_finite() => Ok(x),
                _ => Err(self.error(format!(
                    "`{key}` is {value}, expected a number of at least 0"
                ))),
            },
        }
    }

    fn rate(&self, key: &str, default: f64) -> Result<f64, ModelError> {
        let rate = self.number(key, default)?;
        match rate < 1.0 {
            true => Ok(rate),
            false => Err(self.error(format!(
                "`{key}` is {rate}, expected a rate of at least 0 and below 1"
            ))),
        }
    }

    /// `id2label`, in the order of ids; empty where the file has none or numbers only in name.
    fn labels(&self) -> Result<Vec<String>, ModelError> {
        let Some(map) = self.raw.get("id2label").and_then(Value::as_object) else {
            return Ok(Vec::new());
        };
        let mut labels: Vec<(usize, String)> = Vec::with_capacity(map.len());
        for (id, label) in map {
            match (id.parse(), label.as_str()) {
                (Ok(id), Some(label)) => labels.push((id, label.to_owned())),
                _ => {
                    return Err(self.error(format!(
                        "`id2label` maps `{id}` to {label}, expected a number and a name"
                    )));
                }
            }
        }
        labels.sort();
        match labels.iter().enumerate().all(|(i, (id, _))| i == *id) {
            true => Ok(labels.into_iter().map(|(_, label)| label).collect()),
            false => Err(self.error("the ids of `id2label` are not 0, 1, 2, ...".into())),
        }
    }
}
