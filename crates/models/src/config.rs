//! What a model directory says of its model: `config.json` of transformers or timm, held against the weights.

use crate::{
    DecoderConfig, EncoderConfig, HeadSpec, ModelError, Problem, Reads,
    encoder::Activation,
    heads::{Dense, HeadConfig},
    image::{ConvNextConfig, LiteConfig, MobileNetConfig, Pictures, ResNetConfig, VitConfig},
    load::Layout,
    model::VOCABULARY,
    pretrained::Family,
};
use rekindle_base::thousands;
use rekindle_nn::ops::GeluKind;
use serde_json::{Map, Value};
use std::{collections::HashSet, path::Path};

/// A model directory's `config.json` as it stands.
///
/// # Errors
/// When the file is missing, or is no JSON object.
pub fn read_config(dir: &Path) -> Result<Map<String, Value>, ModelError> {
    read_json(&dir.join("config.json"))
}

/// A file that holds a JSON object.
pub(crate) fn read_json(path: &Path) -> Result<Map<String, Value>, ModelError> {
    let text = std::fs::read_to_string(path).map_err(|source| ModelError::Io {
        path: path.to_owned(),
        source,
    })?;
    let reason = match serde_json::from_str(&text) {
        Ok(Value::Object(map)) => return Ok(map),
        Ok(_) => "expected a JSON object".into(),
        Err(e) => format!("not valid JSON: {e}"),
    };
    Err(ModelError::Config {
        path: path.to_owned(),
        reason,
    })
}

/// transformers' key for what ModernBERT's head reads: `cls` or `mean`.
pub(crate) const CLASSIFIER_POOLING: &str = "classifier_pooling";

/// What a model takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Modality {
    /// Packed tokens.
    Text,
    /// Pictures.
    Images,
}

/// Sizes of a model for texts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TextLimits {
    /// Longest sequence. RoBERTa's table of positions has two more rows.
    pub positions: usize,
    /// V
    pub vocab_size: usize,
    /// Number of segment types; 0 where there are none.
    pub type_vocab_size: usize,
    /// D
    pub hidden_size: usize,
    /// Width between a layer's two linear maps.
    pub intermediate_size: usize,
    /// Number of layers.
    pub layers: usize,
    /// How many of them, in a row, are one with the same parameters (ALBERT); 1 elsewhere.
    pub repeats: usize,
    /// H
    pub heads: usize,
}

/// A family's sizes.
#[derive(Debug, Clone, PartialEq)]
#[allow(clippy::large_enum_variant)] // there is one of it
pub(crate) enum Sizes {
    Encoder(EncoderConfig),
    Decoder(DecoderConfig),
    ResNet(ResNetConfig),
    EfficientNet(LiteConfig),
    Vit(VitConfig),
    ConvNext(ConvNextConfig),
    MobileNet(MobileNetConfig),
}

/// A model directory's description of its model, of any family.
#[derive(Debug, Clone)]
pub struct ModelConfig {
    /// "bert", "llama", "resnet" and so on: transformers' `model_type`, or our name of a family of timm's.
    pub family: &'static str,
    /// What it takes.
    pub modality: Modality,
    /// Names of the outputs by id; empty where none are named.
    pub labels: Vec<String>,
    /// Outputs of the checkpoint's head for whole examples or for tokens; 0 where it has none.
    pub outputs: usize,
    /// `problem_type`, where the file names one; of a class for tokens, answers or choices that is [`Problem::Tokens`],
    /// [`Problem::Span`] or [`Problem::Choice`].
    pub problem: Option<Problem>,
    /// `architectures`, such as `BertForMaskedLM`; empty where the file names none.
    pub architectures: Vec<String>,
    /// Whether the head reads the mean of all tokens (our own key `rekindle_pooling`).
    pub mean_pooling: bool,
    /// What it expects of pictures.
    pub pictures: Option<Pictures>,
    /// Its sizes, for texts.
    pub text: Option<TextLimits>,
    pub(crate) entry: &'static Family,
    pub(crate) sizes: Sizes,
    pub(crate) head: HeadConfig,
    /// How a head for tokens is built, where the family has one.
    pub(crate) token_head: Option<HeadConfig>,
    /// How a head for answers is built, where the family has one.
    pub(crate) span_head: Option<HeadConfig>,
    /// How a head for choices is built, where that is not as one for whole examples is.
    pub(crate) choice_head: Option<HeadConfig>,
    /// Whether the checkpoint has a pooler.
    pub(crate) has_pooler: bool,
    /// The file, so that saving writes back what we did not change.
    pub(crate) raw: Map<String, Value>,
}

impl ModelConfig {
    pub(crate) fn family_entry(&self) -> &'static Family {
        self.entry
    }

    /// What a head reads unless it is told: the mean where the model was saved so; else the first token where there is a
    /// pooler or the weights are those of a `...For...` class of transformers; else (an encoder by itself, as
    /// sentence-transformers saves it) the mean.
    #[must_use]
    pub fn reads(&self) -> Reads {
        let tuned = self.architectures.iter().any(|name| name.contains("For"));
        match !self.mean_pooling && (self.has_pooler || tuned) {
            true => Reads::First,
            false => Reads::Mean,
        }
    }

    /// Whether a class of transformers reads the mean of all tokens where this model's head does: ModernBERT's, which has a key
    /// for it in `config.json`.
    #[must_use]
    pub fn transformers_reads_means(&self) -> bool {
        matches!(self.head.dense, Dense::Normed { .. })
    }

    /// What the model is called: the class of transformers that saved it, timm's name, or the family.
    #[must_use]
    pub fn architecture(&self) -> String {
        match &self.sizes {
            Sizes::Encoder(_) | Sizes::Decoder(_) => match self.architectures.first() {
                Some(class) => class.clone(),
                None => self.family.to_owned(),
            },
            Sizes::ResNet(config) => config.name(),
            Sizes::EfficientNet(config) => config.name(),
            Sizes::Vit(config) => match self.architectures.first() {
                Some(class) if self.is_of_transformers() => class.clone(),
                _ => config.name.clone(),
            },
            Sizes::ConvNext(config) => config.name.clone(),
            Sizes::MobileNet(config) => config.name.clone(),
        }
    }

    /// `config.json` as it stands; empty where there is none.
    #[must_use]
    pub fn raw(&self) -> &Map<String, Value> {
        &self.raw
    }

    /// Published name of the head's last linear map: `classifier`, `fc`, RoBERTa's `classifier.out_proj`.
    #[must_use]
    pub fn output_module(&self) -> String {
        let problem = self.problem.unwrap_or(Problem::SingleLabel);
        self.entry.names_for(problem).published("head.out")
    }

    /// The sizes of an encoder in words, or the architecture of a model for images.
    #[must_use]
    pub fn size_words(&self) -> String {
        match &self.text {
            Some(text) => format!(
                "{} layers, width {}, {} heads, vocabulary {}, {} positions",
                text.layers,
                text.hidden_size,
                text.heads,
                thousands(text.vocab_size as u64),
                text.positions
            ),
            None => self.architecture(),
        }
    }

    /// Width of what the head reads.
    #[must_use]
    pub fn features(&self) -> usize {
        self.head.width
    }

    /// `config.json` of a model with this head.
    #[must_use]
    pub fn to_json(&self, head: &HeadSpec, reads: Reads) -> Value {
        match &self.pictures {
            Some(_) if self.is_of_transformers() => self.to_transformers(head, reads),
            Some(pictures) => {
                let mut json = pictures.to_json(&self.architecture(), self.features(), head);
                match &self.sizes {
                    Sizes::Vit(config) => config.add_to(&mut json, pictures.size),
                    Sizes::ConvNext(config) => config.add_to(&mut json),
                    _ => {}
                }
                json
            }
            None if self.is_decoder() => self.to_causal_lm(),
            None => self.to_transformers(head, reads),
        }
    }

    /// Whether it is a model for pictures that is saved as transformers does it, and not as timm does.
    #[must_use]
    pub fn is_of_transformers(&self) -> bool {
        self.pictures.is_some() && !self.entry.class.is_empty()
    }

    /// Takes pictures of this side; a vision transformer has positions for as many patches.
    pub(crate) fn resize_pictures(&mut self, side: usize, crop: Option<f64>) {
        if let Some(pictures) = &mut self.pictures {
            pictures.size = side;
            pictures.crop = crop.unwrap_or(pictures.crop);
        }
        if let Sizes::Vit(config) = &mut self.sizes {
            config.grid = side / config.patch;
        }
    }

    /// Side of the patches that a model cuts pictures into, where it does.
    #[must_use]
    pub fn patch(&self) -> Option<usize> {
        match &self.sizes {
            Sizes::Vit(config) => Some(config.patch),
            _ => None,
        }
    }

    /// How a parameter, by published name, is stored.
    pub(crate) fn layout(&self, name: &str) -> Layout {
        match &self.sizes {
            Sizes::Vit(config) if self.entry.names.field(name) == "backbone.pos_embed" => {
                Layout::Positions {
                    prefix: config.prefix_rows(),
                }
            }
            Sizes::ConvNext(config)
                if config.of_convolutions
                    && (name.ends_with(".mlp.fc1.weight") || name.ends_with(".mlp.fc2.weight")) =>
            {
                Layout::Pointwise
            }
            _ if self.entry.is_transposed(name) => Layout::Transposed,
            _ => Layout::Same,
        }
    }

    /// Whether it is a language model, which reads from left to right.
    #[must_use]
    pub fn is_decoder(&self) -> bool {
        matches!(self.sizes, Sizes::Decoder(_))
    }

    /// Whether the embeddings of a language model are its map to the vocabulary too.
    #[must_use]
    pub fn is_tied(&self) -> bool {
        matches!(&self.sizes, Sizes::Decoder(sizes) if sizes.tied)
    }

    /// Published names of the modules of a language model whose weight has a row for each token.
    pub(crate) fn vocabulary(&self) -> Vec<String> {
        let paths = match &self.sizes {
            Sizes::Decoder(sizes) if sizes.tied => &VOCABULARY[..1],
            Sizes::Decoder(_) => &VOCABULARY[..],
            _ => &[],
        };
        let names = paths.iter().map(|path| self.entry.names.published(path));
        names
            .map(|name| name.trim_end_matches(".weight").to_owned())
            .collect()
    }

    /// Makes room for so many tokens, if there is less.
    pub(crate) fn grow_vocabulary(&mut self, tokens: usize) {
        if let Sizes::Decoder(sizes) = &mut self.sizes
            && sizes.vocab_size < tokens
        {
            sizes.vocab_size = tokens;
            self.raw.insert("vocab_size".into(), tokens.into());
            if let Some(text) = &mut self.text {
                text.vocab_size = tokens;
            }
        }
    }

    /// As transformers writes a language model.
    fn to_causal_lm(&self) -> Value {
        let mut raw = self.raw.clone();
        let class = format!("{}ForCausalLM", self.entry.class);
        raw.insert("model_type".into(), self.family.into());
        raw.insert("architectures".into(), vec![class].into());
        for stale in ["torch_dtype", "quantization_config"] {
            raw.remove(stale);
        }
        raw.insert("dtype".into(), "float32".into());
        if let Sizes::Decoder(sizes) = &self.sizes {
            raw.insert("tie_word_embeddings".into(), sizes.tied.into());
        }
        Value::Object(raw)
    }

    /// Writes the names of a head's outputs.
    fn name_labels(raw: &mut Map<String, Value>, head: &HeadSpec) {
        let labels: Vec<String> = match head.labels.len() == head.outputs {
            true => head.labels.clone(),
            false => (0..head.outputs).map(|i| format!("LABEL_{i}")).collect(),
        };
        let ids = || labels.iter().enumerate();
        let by_id: Map<String, Value> = ids()
            .map(|(i, label)| (i.to_string(), label.as_str().into()))
            .collect();
        let by_label: Map<String, Value> =
            ids().map(|(i, label)| (label.clone(), i.into())).collect();
        raw.insert("id2label".into(), by_id.into());
        raw.insert("label2id".into(), by_label.into());
    }

    /// As transformers writes it.
    fn to_transformers(&self, head: &HeadSpec, reads: Reads) -> Value {
        let mut raw = self.raw.clone();
        let class = match head.problem {
            Problem::Embedding => "Model",
            Problem::Tokens => "ForTokenClassification",
            Problem::Span => "ForQuestionAnswering",
            Problem::Choice => "ForMultipleChoice",
            _ if self.modality == Modality::Images => "ForImageClassification",
            _ => "ForSequenceClassification",
        };
        match head.problem {
            Problem::Tokens | Problem::Span | Problem::Choice | Problem::Embedding => {
                drop(raw.remove("problem_type"));
            }
            problem => drop(raw.insert("problem_type".into(), problem.name().into())),
        }
        let class = format!("{}{class}", self.entry.class);
        raw.insert("model_type".into(), self.family.into());
        raw.insert("architectures".into(), vec![class].into());
        // What we write is f32, whatever the file said before.
        raw.remove("torch_dtype");
        raw.insert("dtype".into(), "float32".into());
        raw.remove("num_labels");
        match head.problem {
            // Their outputs have no names.
            Problem::Embedding | Problem::Choice => {
                raw.remove("id2label");
                raw.remove("label2id");
            }
            _ => Self::name_labels(&mut raw, head),
        }
        if head.problem == Problem::Embedding {
            raw.remove("rekindle_pooling");
            return Value::Object(raw);
        }
        if let Some(pictures) = &self.pictures {
            raw.insert("image_size".into(), pictures.size.into());
            if let Sizes::Vit(config) = &self.sizes {
                config.add_to_transformers(&mut raw);
            }
            return Value::Object(raw);
        }
        match (reads, self.transformers_reads_means()) {
            (Reads::Mean, true) => drop(raw.insert(CLASSIFIER_POOLING.into(), "mean".into())),
            (Reads::First, true) => drop(raw.insert(CLASSIFIER_POOLING.into(), "cls".into())),
            (Reads::Mean, false) => drop(raw.insert("rekindle_pooling".into(), "mean".into())),
            (Reads::First | Reads::Each, _) => drop(raw.remove("rekindle_pooling")),
        }
        Value::Object(raw)
    }
}

/// A label as it is written.
fn name_of(value: &Value) -> Option<String> {
    match value {
        Value::String(name) => Some(name.clone()),
        Value::Number(_) | Value::Bool(_) => Some(value.to_string()),
        _ => None,
    }
}

/// Reads keys of a JSON object and names the file in errors.
pub(crate) struct Reader<'a> {
    pub raw: &'a Map<String, Value>,
    pub path: &'a Path,
}

impl Reader<'_> {
    pub fn error(&self, reason: impl Into<String>) -> ModelError {
        ModelError::Config {
            path: self.path.to_owned(),
            reason: reason.into(),
        }
    }

    /// A key's value; null is none.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.raw.get(key).filter(|value| !value.is_null())
    }

    pub fn text(&self, key: &str) -> Option<&str> {
        self.get(key)?.as_str()
    }

    pub fn size(&self, key: &str, default: Option<usize>) -> Result<usize, ModelError> {
        let missing = || {
            self.error(format!(
                "`{key}` is missing\nhint: this is not the config.json of such a model"
            ))
        };
        match self.get(key) {
            None => default.ok_or_else(missing),
            Some(value) => match value.as_u64().map(usize::try_from) {
                Some(Ok(n)) if n > 0 => Ok(n),
                _ => Err(self.error(format!("`{key}` is {value}, expected a positive integer"))),
            },
        }
    }

    /// A whole number of either sign.
    pub fn integer(&self, key: &str, default: i64) -> Result<i64, ModelError> {
        match self.get(key) {
            None => Ok(default),
            Some(value) => value
                .as_i64()
                .ok_or_else(|| self.error(format!("`{key}` is {value}, expected a whole number"))),
        }
    }

    /// A number of layers, each of which takes memory before the weights are looked at.
    pub fn layers(&self, key: &str) -> Result<usize, ModelError> {
        const MOST: usize = 10_000;
        match self.size(key, None)? {
            n if n <= MOST => Ok(n),
            n => Err(self.error(format!("`{key}` is {n}, expected at most {MOST}"))),
        }
    }

    pub fn number(&self, key: &str, default: f64) -> Result<f64, ModelError> {
        match self.get(key) {
            None => Ok(default),
            Some(value) => match value.as_f64() {
                Some(x) if x >= 0.0 && x.is_finite() => Ok(x),
                _ => Err(self.error(format!(
                    "`{key}` is {value}, expected a number of at least 0"
                ))),
            },
        }
    }

    pub fn rate(&self, key: &str, default: f64) -> Result<f64, ModelError> {
        let rate = self.number(key, default)?;
        match rate < 1.0 {
            true => Ok(rate),
            false => Err(self.error(format!(
                "`{key}` is {rate}, expected a rate of at least 0 and below 1"
            ))),
        }
    }

    pub fn activation(&self, key: &str) -> Result<Activation, ModelError> {
        Ok(match self.text(key).unwrap_or("gelu") {
            "gelu" => Activation::Gelu(GeluKind::Exact),
            "gelu_new" | "gelu_pytorch_tanh" | "gelu_fast" => Activation::Gelu(GeluKind::Tanh),
            "relu" => Activation::Relu,
            "silu" | "swish" => Activation::Silu,
            other => {
                return Err(self.error(format!(
                    "{key} is `{other}`, expected gelu, gelu_new, gelu_pytorch_tanh, relu or silu"
                )));
            }
        })
    }

    /// `problem_type`.
    pub fn problem(&self) -> Result<Option<Problem>, ModelError> {
        let Some(value) = self.get("problem_type") else {
            return Ok(None);
        };
        match value.as_str().and_then(Problem::from_name) {
            Some(problem) => Ok(Some(problem)),
            None => Err(self.error(format!(
                "`problem_type` is {value}, expected {}, {} or {}",
                Problem::SingleLabel.name(),
                Problem::MultiLabel.name(),
                Problem::Regression.name(),
            ))),
        }
    }

    /// The strings of a list.
    pub fn strings(&self, key: &str) -> Vec<String> {
        let values = self.get(key).and_then(Value::as_array);
        let values = values.into_iter().flatten();
        values
            .filter_map(|value| value.as_str().map(str::to_owned))
            .collect()
    }

    /// The names of `id2label`, or of `label2id` where that stands alone, in the order of ids; empty where the file has
    /// neither. A number or a boolean is a name as it is written. A name that comes again gets its id behind it.
    pub fn labels(&self) -> Result<Vec<String>, ModelError> {
        let map = |key| Some((key, self.get(key)?.as_object()?));
        let Some((key, map)) = map("id2label").or_else(|| map("label2id")) else {
            return Ok(Vec::new());
        };
        let mut labels: Vec<(usize, String)> = Vec::with_capacity(map.len());
        for (name, value) in map {
            let pair = match key {
                "id2label" => name.parse().ok().zip(name_of(value)),
                _ => value.as_u64().map(|id| (id as usize, name.clone())),
            };
            labels.push(pair.ok_or_else(|| {
                self.error(format!(
                    "`{key}` maps `{name}` to {value}, expected a number and a name"
                ))
            })?);
        }
        labels.sort();
        if !labels.iter().enumerate().all(|(i, (id, _))| i == *id) {
            return Err(self.error(format!("the ids of `{key}` are not 0, 1, 2, ...")));
        }
        // ImageNet has two cranes; a label must tell which output it is of.
        let mut names = HashSet::new();
        for (id, label) in &mut labels {
            while !names.insert(label.clone()) {
                label.push_str(&format!(" ({id})"));
            }
        }
        Ok(labels.into_iter().map(|(_, label)| label).collect())
    }
}
