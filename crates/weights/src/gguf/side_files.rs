//! The files that lie beside the weights in a Hugging Face model directory, from a GGUF file's metadata: `config.json`,
//! `tokenizer.json`, `tokenizer_config.json` and `generation_config.json`.
//!
//! Keys are those of ggml's `docs/gguf.md` and llama.cpp's `convert_hf_to_gguf.py`. Token types: 2 unknown, 3 control (special),
//! 4 user-defined (added, not special), 5 unused, 6 a byte.

use super::{DAMAGED, Fault, GgufFile, OTHER_FILE, Value, names::Architecture, number};
use crate::WeightError;
use serde_json::{Map, Value as Json, json};
use std::{cmp::Ordering, collections::HashMap};

/// How text is split before byte-level BPE.
pub(super) enum Split {
    /// GPT-2's pattern, after numbers were split into digits or not.
    Gpt2 { digits: bool },
    /// A pattern of its own.
    Pattern(&'static str),
}

const LLAMA3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const QWEN2: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// The values of `tokenizer.ggml.pre` that are known. The first of each kind is the one that is written.
pub(super) const SPLITS: [(&str, Split); 12] = [
    ("gpt-2", Split::Gpt2 { digits: false }),
    ("phi-2", Split::Gpt2 { digits: false }),
    ("olmo", Split::Gpt2 { digits: false }),
    ("smollm", Split::Gpt2 { digits: true }),
    ("starcoder", Split::Gpt2 { digits: true }),
    ("refact", Split::Gpt2 { digits: true }),
    ("llama-bpe", Split::Pattern(LLAMA3)),
    ("llama3", Split::Pattern(LLAMA3)),
    ("llama-v3", Split::Pattern(LLAMA3)),
    ("qwen2", Split::Pattern(QWEN2)),
    ("deepseek-r1-qwen", Split::Pattern(QWEN2)),
    ("megrez", Split::Pattern(QWEN2)),
];

/// No model has more layers; a file that says so is damaged, and must not fill the memory.
const LAYERS: u64 = 65_536;
/// The longest token of a SentencePiece vocabulary, in characters: its merges are found by trying every cut.
const LONGEST_TOKEN: usize = 256;
/// The settings of Llama 3's rope scaling, which all its versions share but for the factor.
pub(super) const LLAMA3_ROPE: Llama3Rope = Llama3Rope {
    factor: 8.0,
    low: 1.0,
    high: 4.0,
    context: 8192.0,
};
/// Where we write settings that are not those: factor, low, high, context.
pub(super) const LLAMA3_KEYS: [&str; 4] = [
    "rekindle.llama3_rope.factor",
    "rekindle.llama3_rope.low_freq_factor",
    "rekindle.llama3_rope.high_freq_factor",
    "rekindle.llama3_rope.original_max_position_embeddings",
];
/// What llama.cpp takes of Gemma 3 where a file does not say it: the base of the rotary positions of layers with a window, and
/// that one layer in so many has none.
pub(super) const LOCAL_ROPE_BASE: f64 = 10_000.0;
pub(super) const GEMMA3_PATTERN: u64 = 6;
/// How far a table of rope scaling may lie from the formula, relatively: it was computed in f32.
const ROPE_TOLERANCE: f64 = 1e-4;

/// The files of a Hugging Face model directory that a GGUF file's metadata describe, as (name, text): `config.json`,
/// `tokenizer.json`, `tokenizer_config.json` with the chat template, `generation_config.json`.
///
/// The weights are not among them: [`crate::WeightFiles`] presents them.
///
/// # Errors
/// [`WeightError::Gguf`] where a key is missing or senseless, and for a kind of tokenizer that is not known.
pub fn side_files(file: &GgufFile) -> Result<Vec<(String, String)>, WeightError> {
    let source = Source { file };
    source.files().map_err(|fault| fault.at(file.path()))
}

/// The metadata, by what is asked of them.
struct Source<'a> {
    file: &'a GgufFile,
}

/// A vocabulary with its added tokens.
struct Vocabulary<'a> {
    /// By id.
    tokens: Vec<&'a str>,
    types: Vec<u64>,
}

impl Vocabulary<'_> {
    fn kind(&self, id: usize) -> u64 {
        self.types.get(id).copied().unwrap_or(1)
    }
}

impl Source<'_> {
    fn files(&self) -> Result<Vec<(String, String)>, Fault> {
        let vocabulary = self.vocabulary()?;
        let files = [
            ("config.json", self.config(&vocabulary)?),
            ("tokenizer.json", self.tokenizer(&vocabulary)?),
            ("tokenizer_config.json", self.tokenizer_config(&vocabulary)?),
            (
                "generation_config.json",
                self.generation_config(&vocabulary)?,
            ),
        ];
        let text = |json: &Json| format!("{json:#}\n");
        Ok(files
            .iter()
            .map(|(name, json)| ((*name).to_owned(), text(json)))
            .collect())
    }

    // Metadata.

    fn get(&self, key: &str) -> Option<&Value> {
        self.file.metadata.get(key)
    }

    /// A key of the architecture's own.
    fn own(&self, key: &str) -> String {
        format!("{}.{key}", self.file.architecture())
    }

    fn count(&self, key: &str) -> Option<u64> {
        number(&self.file.metadata, &self.own(key))
    }

    fn required(&self, key: &str) -> Result<u64, Fault> {
        self.count(key).ok_or_else(|| {
            Fault::damaged(format!("the metadata have no number `{}`", self.own(key)))
        })
    }

    /// A number with a fraction. An f32 is read as the shortest decimal that means it, as `config.json` had it.
    fn float(&self, key: &str) -> Option<f64> {
        match self.get(&self.own(key))? {
            Value::F32(value) => value.to_string().parse().ok(),
            Value::F64(value) => Some(*value),
            Value::Unsigned(value) => Some(*value as f64),
            Value::Signed(value) => Some(*value as f64),
            _ => None,
        }
    }

    fn required_float(&self, key: &str) -> Result<f64, Fault> {
        self.float(key).ok_or_else(|| {
            Fault::damaged(format!("the metadata have no number `{}`", self.own(key)))
        })
    }

    fn text(&self, key: &str) -> Option<&str> {
        match self.get(key)? {
            Value::String(text) => Some(text),
            _ => None,
        }
    }

    fn flag(&self, key: &str) -> Option<bool> {
        match self.get(key)? {
            Value::Bool(flag) => Some(*flag),
            _ => None,
        }
    }

    // config.json

    fn config(&self, vocabulary: &Vocabulary<'_>) -> Result<Json, Fault> {
        let mut config = match self.file.architecture {
            Architecture::Gpt2 => self.gpt2_config()?,
            _ => self.llama_config()?,
        };
        let embedding = match self.file.architecture {
            Architecture::Gpt2 => "transformer.wte.weight",
            _ => "model.embed_tokens.weight",
        };
        let shape = self.file.shape(embedding);
        let Some([rows, _]) = shape else {
            return Err(Fault::damaged(
                "there is no matrix `token_embd.weight`, expected the embedding",
            ));
        };
        config["vocab_size"] = json!(rows);
        config["tie_word_embeddings"] = json!(self.file.shape("lm_head.weight").is_none());
        for (key, value) in self.special_ids(vocabulary)? {
            config[key] = value;
        }
        Ok(config)
    }

    fn gpt2_config(&self) -> Result<Json, Fault> {
        let context = self.required("context_length")?;
        Ok(json!({
            "model_type": "gpt2",
            "architectures": ["GPT2LMHeadModel"],
            "n_embd": self.required("embedding_length")?,
            "n_layer": self.required("block_count")?,
            "n_head": self.required("attention.head_count")?,
            "n_inner": self.required("feed_forward_length")?,
            "n_positions": context,
            "n_ctx": context,
            "layer_norm_epsilon": self.required_float("attention.layer_norm_epsilon")?,
            "activation_function": "gelu_new",
        }))
    }

    fn llama_config(&self) -> Result<Json, Fault> {
        let architecture = self.file.architecture;
        let window = self.count("attention.sliding_window").filter(|w| *w > 0);
        let (model_type, class) = match architecture {
            Architecture::Llama if window.is_some() => ("mistral", "MistralForCausalLM"),
            Architecture::Llama => ("llama", "LlamaForCausalLM"),
            Architecture::SmolLm3 => ("smollm3", "SmolLM3ForCausalLM"),
            Architecture::Qwen2 => ("qwen2", "Qwen2ForCausalLM"),
            Architecture::Qwen3 => ("qwen3", "Qwen3ForCausalLM"),
            Architecture::Gemma2 => ("gemma2", "Gemma2ForCausalLM"),
            Architecture::Gemma3 => ("gemma3_text", "Gemma3ForCausalLM"),
            Architecture::Phi3 => ("phi3", "Phi3ForCausalLM"),
            Architecture::Gpt2 => ("gpt2", "GPT2LMHeadModel"),
        };
        let hidden = self.required("embedding_length")?;
        let heads = self.file.heads("attention.head_count")? as u64;
        let mut config = json!({
            "model_type": model_type,
            "architectures": [class],
            "hidden_size": hidden,
            "intermediate_size": self.required("feed_forward_length")?,
            "num_hidden_layers": self.required("block_count")?,
            "num_attention_heads": heads,
            "num_key_value_heads": self.file.key_heads()?,
            "hidden_act": "silu",
            "max_position_embeddings": self.required("context_length")?,
            "rms_norm_eps": self.required_float("attention.layer_norm_rms_epsilon")?,
            "rope_theta": self.float("rope.freq_base").unwrap_or(10_000.0),
        });
        let rotary = self.count("rope.dimension_count");
        let head = self
            .count("attention.key_length")
            .or(rotary.filter(|_| architecture == Architecture::Llama));
        let width = head.unwrap_or(hidden / heads);
        if width == 0 {
            return Err(Fault::damaged("the heads have no width"));
        }
        if let Some(head) = head {
            config["head_dim"] = json!(head);
        }
        if let Some(rotary) = rotary.filter(|r| *r < width && architecture == Architecture::Phi3) {
            config["partial_rotary_factor"] = json!(rotary as f64 / width as f64);
        }
        if let Some(window) = window {
            config["sliding_window"] = json!(window);
        }
        match architecture {
            Architecture::SmolLm3 => {
                // llama.cpp has it so, whatever the file's size.
                let layers = self.required("block_count")?.min(LAYERS);
                let rotates = (1..=layers).map(|layer| u8::from(layer % 4 != 0));
                config["no_rope_layer_interval"] = json!(4);
                config["no_rope_layers"] = json!(rotates.collect::<Vec<_>>());
            }
            _ if architecture.is_gemma() => self.add_gemma(&mut config, hidden, heads, width)?,
            _ => {}
        }
        // Biases are told by the tensors: llama.cpp has no key for them.
        let has = |name: &str| self.file.shape(name).is_some();
        if architecture == Architecture::Llama {
            let attention = has("model.layers.0.self_attn.q_proj.bias");
            config["attention_bias"] = json!(attention);
            config["mlp_bias"] = json!(has("model.layers.0.mlp.down_proj.bias"));
        }
        if let Some(scaling) = self.rope_scaling(width, &mut config)? {
            config["rope_scaling"] = scaling;
        }
        Ok(config)
    }

    /// What Gemma adds.
    fn add_gemma(
        &self,
        config: &mut Json,
        hidden: u64,
        heads: u64,
        width: u64,
    ) -> Result<(), Fault> {
        let architecture = self.file.architecture;
        let layers = self.required("block_count")?;
        if let Some(config) = config.as_object_mut() {
            config.remove("hidden_act");
        }
        config["hidden_activation"] = json!("gelu_pytorch_tanh");
        let scalar = architecture.query_scalar(layers, hidden, heads, width);
        config["query_pre_attn_scalar"] = json!(scalar);
        for key in ["attn_logit_softcapping", "final_logit_softcapping"] {
            config[key] = json!(self.float(key));
        }
        if architecture != Architecture::Gemma3 {
            return Ok(());
        }
        let local = self.float("rope.freq_base_swa");
        config["rope_local_base_freq"] = json!(local.unwrap_or(LOCAL_ROPE_BASE));
        // Newer files may say which layers have the window: one flag a layer, or one layer in so many has none.
        let key = "attention.sliding_window_pattern";
        let Some(Value::Array(flags)) = self.get(&self.own(key)) else {
            let pattern = match config["sliding_window"].is_null() {
                true => 1,
                false => self.count(key).unwrap_or(GEMMA3_PATTERN),
            };
            config["sliding_window_pattern"] = json!(pattern);
            return Ok(());
        };
        if flags.count as u64 != layers {
            return Err(Fault::damaged(format!(
                "`{}` is for {} layers, of {layers}",
                self.own(key),
                flags.count
            )));
        }
        let kinds = self.file.numbers(flags).map(|slides| match slides {
            Some(0) => "full_attention",
            _ => "sliding_attention",
        });
        config["layer_types"] = json!(kinds.collect::<Vec<_>>());
        Ok(())
    }

    /// `rope_scaling`: from the metadata, or from the tables among the tensors.
    fn rope_scaling(&self, width: u64, config: &mut Json) -> Result<Option<Json>, Fault> {
        if let Some(table) = self.file.table("rope_freqs.weight") {
            return self.llama3_scaling(width, &table).map(Some);
        }
        let original = self.count("rope.scaling.original_context_length");
        let tables = ["rope_factors_short.weight", "rope_factors_long.weight"];
        if let [Some(short), Some(long)] = tables.map(|name| self.file.table(name)) {
            config["original_max_position_embeddings"] = json!(original);
            return Ok(Some(json!({
                "type": "longrope",
                "rope_type": "longrope",
                "short_factor": short,
                "long_factor": long,
            })));
        }
        let factor = self.float("rope.scaling.factor");
        match self.text(&self.own("rope.scaling.type")) {
            None | Some("none") => Ok(None),
            Some("linear") => Ok(factor.map(|f| json!({"rope_type": "linear", "factor": f}))),
            Some("yarn") => Ok(Some(json!({
                "rope_type": "yarn",
                "factor": factor,
                "original_max_position_embeddings": original,
            }))),
            Some(other) => Err(Fault {
                reason: format!(
                    "`{}` is {other:?}, expected linear or yarn",
                    self.own("rope.scaling.type")
                ),
                hint: OTHER_FILE,
            }),
        }
    }

    /// Llama 3's scaling lies in the file as a divisor for each frequency; the largest is the factor, and the rest follows
    /// from settings that all versions share, unless the file says others.
    fn llama3_scaling(&self, width: u64, table: &[f32]) -> Result<Json, Fault> {
        let theta = self.float("rope.freq_base").unwrap_or(10_000.0);
        let factor = table.iter().fold(1f32, |max, v| max.max(*v));
        let written = LLAMA3_KEYS.map(|key| match self.get(key) {
            Some(Value::F64(number)) => Some(*number),
            _ => None,
        });
        let rope = match written {
            [Some(factor), Some(low), Some(high), Some(context)] => Llama3Rope {
                factor,
                low,
                high,
                context,
            },
            _ => Llama3Rope {
                factor: factor.into(),
                ..LLAMA3_ROPE
            },
        };
        let expected = rope.table(width, theta);
        let close =
            |(a, b): (&f32, &f32)| f64::from((a - b).abs()) <= ROPE_TOLERANCE * f64::from(b.abs());
        if expected.len() != table.len() || !table.iter().zip(&expected).all(close) {
            return Err(Fault {
                reason: "tensor `rope_freqs.weight` holds another rope scaling than Llama 3's"
                    .into(),
                hint: "use the original weights with their config.json",
            });
        }
        Ok(json!({
            "rope_type": "llama3",
            "factor": rope.factor,
            "low_freq_factor": rope.low,
            "high_freq_factor": rope.high,
            "original_max_position_embeddings": rope.context as u64,
        }))
    }

    // The tokenizer's files.

    fn vocabulary(&self) -> Result<Vocabulary<'_>, Fault> {
        let key = "tokenizer.ggml.tokens";
        let tokens = self.file.strings(key).filter(|tokens| !tokens.is_empty());
        let mut tokens = tokens.ok_or_else(|| Fault {
            reason: format!("the metadata have no strings `{key}`: the file holds no tokenizer"),
            hint: OTHER_FILE,
        })?;
        let mut types = Vec::new();
        if let Some(Value::Array(array)) = self.get("tokenizer.ggml.token_type") {
            types = self.file.numbers(array).map(|t| t.unwrap_or(1)).collect();
            if types.len() != tokens.len() {
                return Err(Fault::damaged(format!(
                    "{} tokens have {} types",
                    tokens.len(),
                    types.len()
                )));
            }
        }
        // Rows of the embedding beyond the vocabulary have made-up names; Hugging Face's files do not list them.
        while types.last() == Some(&5) {
            types.pop();
            tokens.pop();
        }
        let mut seen = HashMap::with_capacity(tokens.len());
        for (id, token) in tokens.iter().enumerate() {
            if let Some(first) = seen.insert(*token, id) {
                return Err(Fault::damaged(format!(
                    "tokens {first} and {id} are both {token:?}"
                )));
            }
        }
        Ok(Vocabulary { tokens, types })
    }

    /// A special token's id.
    fn special(&self, name: &str, vocabulary: &Vocabulary<'_>) -> Result<Option<usize>, Fault> {
        let key = format!("tokenizer.ggml.{name}_token_id");
        match number(&self.file.metadata, &key) {
            // llama.cpp writes -1 as an unsigned number for none.
            None => Ok(None),
            Some(none) if none == u64::from(u32::MAX) => Ok(None),
            Some(id) if id < vocabulary.tokens.len() as u64 => Ok(Some(id as usize)),
            Some(id) => Err(Fault {
                reason: format!("`{key}` is {id}, of {} tokens", vocabulary.tokens.len()),
                hint: DAMAGED,
            }),
        }
    }

    /// The ids that `config.json` and `generation_config.json` share; the end of a turn is another end.
    fn special_ids(&self, vocabulary: &Vocabulary<'_>) -> Result<Vec<(&'static str, Json)>, Fault> {
        let mut ids = Vec::new();
        if let Some(bos) = self.special("bos", vocabulary)? {
            ids.push(("bos_token_id", json!(bos)));
        }
        let eos = self.special("eos", vocabulary)?;
        let eot = self.special("eot", vocabulary)?;
        match (eos, eot.filter(|eot| Some(*eot) != eos)) {
            (Some(eos), Some(eot)) => ids.push(("eos_token_id", json!([eos, eot]))),
            (Some(one), None) | (None, Some(one)) => ids.push(("eos_token_id", json!(one))),
            (None, None) => {}
        }
        if let Some(pad) = self.special("padding", vocabulary)? {
            ids.push(("pad_token_id", json!(pad)));
        }
        Ok(ids)
    }

    fn generation_config(&self, vocabulary: &Vocabulary<'_>) -> Result<Json, Fault> {
        let mut config = json!({"_from_model_config": true});
        for (key, value) in self.special_ids(vocabulary)? {
            config[key] = value;
        }
        Ok(config)
    }

    /// Whether a text begins with the first token. Where the file does not say, llama.cpp has an answer by tokenizer.
    fn adds_bos(&self) -> bool {
        let key = "tokenizer.ggml.add_bos_token";
        self.flag(key).unwrap_or_else(|| {
            let pre = self.text("tokenizer.ggml.pre");
            self.is_sentencepiece() || matches!(pre, Some("llama-bpe" | "llama3" | "llama-v3"))
        })
    }

    fn is_sentencepiece(&self) -> bool {
        self.text("tokenizer.ggml.model") == Some("llama")
    }

    fn tokenizer_config(&self, vocabulary: &Vocabulary<'_>) -> Result<Json, Fault> {
        let mut config = json!({"tokenizer_class": "PreTrainedTokenizerFast"});
        for (name, key) in [
            ("bos", "bos_token"),
            ("eos", "eos_token"),
            ("unknown", "unk_token"),
            ("padding", "pad_token"),
        ] {
            if let Some(id) = self.special(name, vocabulary)? {
                config[key] = json!(vocabulary.tokens[id]);
            }
        }
        config["add_bos_token"] = json!(self.adds_bos());
        config["add_eos_token"] = json!(self.flag("tokenizer.ggml.add_eos_token").unwrap_or(false));
        config["clean_up_tokenization_spaces"] = json!(false);
        config["model_max_length"] = json!(self.required("context_length")?);
        if let Some(template) = self.text("tokenizer.chat_template") {
            config["chat_template"] = json!(template);
        }
        Ok(config)
    }

    fn tokenizer(&self, vocabulary: &Vocabulary<'_>) -> Result<Json, Fault> {
        let parts = match self.text("tokenizer.ggml.model") {
            Some("gpt2") => self.byte_level(vocabulary)?,
            Some("llama") => self.sentencepiece(vocabulary)?,
            other => {
                return Err(Fault {
                    reason: format!(
                        "the tokenizer is {}, expected \"gpt2\" or \"llama\"",
                        other.map_or("not named".into(), |name| format!("{name:?}"))
                    ),
                    hint: "use the original model directory, whose tokenizer.json is read",
                });
            }
        };
        let added = |id: usize| -> Option<Json> {
            let special = match vocabulary.kind(id) {
                2 | 3 => true,
                // Runs of spaces are found by merges: under this spelling no text holds them.
                4 if !is_spaces(vocabulary.tokens[id]) => false,
                _ => return None,
            };
            Some(json!({
                "id": id, "content": vocabulary.tokens[id], "single_word": false, "lstrip": false, "rstrip": false,
                "normalized": false, "special": special,
            }))
        };
        let mut json = json!({
            "version": "1.0",
            "truncation": null,
            "padding": null,
            "added_tokens": (0..vocabulary.tokens.len()).filter_map(added).collect::<Vec<_>>(),
            "normalizer": parts.normalizer,
            "pre_tokenizer": parts.pre_tokenizer,
            "post_processor": self.post_processor(vocabulary)?,
            "decoder": parts.decoder,
        });
        json["model"] = parts.model;
        Ok(json)
    }

    /// Puts the first token before a text, and the last after it, where the file asks for them.
    fn post_processor(&self, vocabulary: &Vocabulary<'_>) -> Result<Json, Fault> {
        let mut single = vec![json!({"Sequence": {"id": "A", "type_id": 0}})];
        let mut pair = vec![
            json!({"Sequence": {"id": "A", "type_id": 0}}),
            json!({"Sequence": {"id": "B", "type_id": 1}}),
        ];
        let mut special = Map::new();
        let bos = self
            .adds_bos()
            .then(|| self.special("bos", vocabulary))
            .transpose()?
            .flatten();
        let adds_eos = self.flag("tokenizer.ggml.add_eos_token").unwrap_or(false);
        let eos = adds_eos
            .then(|| self.special("eos", vocabulary))
            .transpose()?
            .flatten();
        for id in [bos, eos].into_iter().flatten() {
            let token = vocabulary.tokens[id];
            special.insert(
                token.into(),
                json!({"id": token, "ids": [id], "tokens": [token]}),
            );
        }
        let piece = |id: usize, sequence: u8| json!({"SpecialToken": {"id": vocabulary.tokens[id], "type_id": sequence}});
        if let Some(bos) = bos {
            single.insert(0, piece(bos, 0));
            pair.insert(1, piece(bos, 1));
            pair.insert(0, piece(bos, 0));
        }
        if let Some(eos) = eos {
            single.push(piece(eos, 0));
            pair.insert(
                pair.len() - if bos.is_some() { 2 } else { 1 },
                piece(eos, 0),
            );
            pair.push(piece(eos, 1));
        }
        if special.is_empty() {
            return Ok(Json::Null);
        }
        Ok(
            json!({"type": "TemplateProcessing", "single": single, "pair": pair, "special_tokens": special}),
        )
    }

    /// Byte-level BPE, as GPT-2 has it.
    fn byte_level(&self, vocabulary: &Vocabulary<'_>) -> Result<Parts, Fault> {
        let pre = self.text("tokenizer.ggml.pre").ok_or_else(|| Fault {
            reason: "the metadata do not name `tokenizer.ggml.pre`: how text is split is not known"
                .into(),
            hint: OTHER_FILE,
        })?;
        let Some((_, split)) = SPLITS.iter().find(|(name, _)| *name == pre) else {
            let known = SPLITS.map(|(name, _)| name).join(", ");
            return Err(Fault {
                reason: format!("`tokenizer.ggml.pre` is {pre:?}, expected one of {known}"),
                hint: "use the original model directory, whose tokenizer.json is read",
            });
        };
        let key = "tokenizer.ggml.merges";
        let merges = self
            .file
            .strings(key)
            .ok_or_else(|| Fault::damaged(format!("the metadata have no strings `{key}`")))?;
        let merge = |text: &&str| match text.split(' ').collect::<Vec<_>>()[..] {
            [left, right] => Ok(json!([left, right])),
            _ => Err(Fault::damaged(format!(
                "merge {text:?} in `{key}`, expected two tokens"
            ))),
        };
        let merges = merges.iter().map(merge).collect::<Result<Vec<_>, _>>()?;
        let is_llama3 = matches!(split, Split::Pattern(LLAMA3));
        let is_qwen2 = matches!(split, Split::Pattern(QWEN2));
        Ok(Parts {
            normalizer: if is_qwen2 {
                json!({"type": "NFC"})
            } else {
                Json::Null
            },
            pre_tokenizer: split.pre_tokenizer(),
            decoder: json!({"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true}),
            model: bpe(
                vocabulary,
                merges,
                json!({
                    "unk_token": null, "fuse_unk": false, "byte_fallback": false, "ignore_merges": is_llama3,
                }),
            ),
        })
    }

    /// SentencePiece's BPE with bytes for unknown characters, as transformers converts it. The file holds no merges, but the
    /// score of each token; Gemma's scores say nothing, there the order of the tokens does.
    fn sentencepiece(&self, vocabulary: &Vocabulary<'_>) -> Result<Parts, Fault> {
        let gemma = self.file.architecture.is_gemma();
        let scores = if gemma {
            (0..vocabulary.tokens.len())
                .map(|id| -(id as f64))
                .collect()
        } else {
            let key = "tokenizer.ggml.scores";
            let scores = self
                .file
                .floats(key)
                .ok_or_else(|| Fault::damaged(format!("the metadata have no numbers `{key}`")))?;
            if scores.len() < vocabulary.tokens.len() || scores.iter().any(|s| s.is_nan()) {
                return Err(Fault::damaged(format!(
                    "`{key}` has no score for every token"
                )));
            }
            scores
        };
        // Tokens of spaces alone are stored as spaces.
        let spelled: Vec<String> = vocabulary
            .tokens
            .iter()
            .map(|token| match is_spaces(token) {
                true => "\u{2581}".repeat(token.len()),
                false => (*token).to_owned(),
            })
            .collect();
        let spelled = Vocabulary {
            tokens: spelled.iter().map(String::as_str).collect(),
            types: vocabulary.types.clone(),
        };
        let merges = merges_of(&spelled, &scores)?;
        let prefix = self
            .flag("tokenizer.ggml.add_space_prefix")
            .unwrap_or(!gemma);
        let space = json!({"type": "Replace", "pattern": {"String": " "}, "content": "\u{2581}"});
        let mut decoders = vec![
            json!({"type": "Replace", "pattern": {"String": "\u{2581}"}, "content": " "}),
            json!({"type": "ByteFallback"}),
            json!({"type": "Fuse"}),
        ];
        let mut normalizer = space.clone();
        if prefix {
            normalizer = json!({"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": "\u{2581}"}, space]});
            decoders.push(json!({"type": "Strip", "content": " ", "start": 1, "stop": 0}));
        }
        let unknown = (0..spelled.tokens.len()).find(|id| spelled.kind(*id) == 2);
        let unknown = unknown.or(self.special("unknown", vocabulary)?);
        Ok(Parts {
            normalizer,
            pre_tokenizer: Json::Null,
            decoder: json!({"type": "Sequence", "decoders": decoders}),
            model: bpe(
                &spelled,
                merges,
                json!({
                    "unk_token": unknown.map(|id| spelled.tokens[id]), "fuse_unk": true, "byte_fallback": true,
                    "ignore_merges": false,
                }),
            ),
        })
    }
}

/// Whether a token is spaces and nothing else.
fn is_spaces(token: &str) -> bool {
    !token.is_empty() && token.bytes().all(|b| b == b' ')
}

/// What kinds of tokenizer differ in.
struct Parts {
    normalizer: Json,
    pre_tokenizer: Json,
    decoder: Json,
    model: Json,
}

impl Split {
    /// The `pre_tokenizer` of `tokenizer.json`.
    pub(super) fn pre_tokenizer(&self) -> Json {
        let byte_level = |use_regex: bool| json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": use_regex});
        match self {
            Self::Gpt2 { digits: false } => byte_level(true),
            Self::Gpt2 { digits: true } => json!({"type": "Sequence", "pretokenizers": [
                {"type": "Digits", "individual_digits": true}, byte_level(true),
            ]}),
            Self::Pattern(pattern) => json!({"type": "Sequence", "pretokenizers": [
                {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": false},
                byte_level(false),
            ]}),
        }
    }
}

/// The `model` of `tokenizer.json`.
fn bpe(vocabulary: &Vocabulary<'_>, merges: Vec<Json>, settings: Json) -> Json {
    let mut model = json!({
        "type": "BPE", "dropout": null, "continuing_subword_prefix": null, "end_of_word_suffix": null,
    });
    if let Json::Object(settings) = settings {
        for (key, value) in settings {
            model[key] = value;
        }
    }
    let vocab = vocabulary.tokens.iter().enumerate();
    model["vocab"] = Json::Object(
        vocab
            .map(|(id, token)| ((*token).to_owned(), json!(id)))
            .collect(),
    );
    model["merges"] = Json::Array(merges);
    model
}

/// Every way of making a token of two others, the token of the highest score first, as transformers' `generate_merges` does.
fn merges_of(vocabulary: &Vocabulary<'_>, scores: &[f64]) -> Result<Vec<Json>, Fault> {
    let ids: HashMap<&str, usize> = vocabulary
        .tokens
        .iter()
        .enumerate()
        .map(|(id, token)| (*token, id))
        .collect();
    let mut merges = Vec::new();
    for (token, score) in vocabulary.tokens.iter().zip(scores) {
        if token.chars().count() > LONGEST_TOKEN {
            return Err(Fault::damaged(format!(
                "a token of {} bytes, expected at most {LONGEST_TOKEN} characters",
                token.len()
            )));
        }
        let cuts = token
            .char_indices()
            .skip(1)
            .map(|(at, _)| token.split_at(at));
        let mut own: Vec<_> = cuts
            .filter_map(|(left, right)| Some((ids.get(left)?, ids.get(right)?, left, right)))
            .collect();
        own.sort_by_key(|(left, right, ..)| (**left, **right));
        merges.extend(
            own.into_iter()
                .map(|(_, _, left, right)| (*score, left, right)),
        );
    }
    // Descending, and stable as Python's sort is.
    let key = |(score, left, right): &(f64, &str, &str)| {
        (*score, left.chars().count(), right.chars().count())
    };
    merges.sort_by(|a, b| {
        let (a, b) = (key(a), key(b));
        let by_score = b.0.partial_cmp(&a.0).unwrap_or(Ordering::Equal);
        by_score.then((b.1, b.2).cmp(&(a.1, a.2)))
    });
    Ok(merges
        .into_iter()
        .map(|(_, left, right)| json!([left, right]))
        .collect())
}

/// Llama 3's rope scaling: wavelengths above `context / low` are stretched by `factor`, those below `context / high` are not.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Llama3Rope {
    pub factor: f64,
    pub low: f64,
    pub high: f64,
    pub context: f64,
}

impl Llama3Rope {
    /// Factor, low, high, context.
    pub(super) fn numbers(self) -> [f64; 4] {
        [self.factor, self.low, self.high, self.context]
    }

    /// Whether all but the factor is what Llama 3's versions share.
    pub(super) fn is_usual(self) -> bool {
        let factor = self.factor;
        self == Self {
            factor,
            ..LLAMA3_ROPE
        } && f64::from(factor as f32) == factor
    }

    /// The divisor of each frequency of a head of a width, as llama.cpp stores it.
    pub(super) fn table(&self, width: u64, theta: f64) -> Vec<f32> {
        let divisor = |i: u64| {
            let frequency = theta.powf(-((2 * i) as f64) / width as f64);
            let wavelength = std::f64::consts::TAU / frequency;
            if wavelength < self.context / self.high {
                1.0
            } else if wavelength > self.context / self.low {
                self.factor
            } else {
                let smooth = (self.context / wavelength - self.low) / (self.high - self.low);
                1.0 / ((1.0 - smooth) / self.factor + smooth)
            }
        };
        // A width that is not the file's is cut where no head is wider.
        (0..width.min(4096) / 2)
            .map(|i| divisor(i) as f32)
            .collect()
    }
}
