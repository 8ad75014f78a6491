//! Writes a Hugging Face model as one GGUF file that llama.cpp and what builds on it load: what llama.cpp's
//! `convert_hf_to_gguf.py` writes, for the architectures and tokenizers that we read.

use super::{
    ARRAY, Fault, GgmlType, MAGIC, STRING,
    names::{Architecture, Layout, reorder_rope, transpose},
    side_files::{
        GEMMA3_PATTERN, LLAMA3_KEYS, LLAMA3_ROPE, LOCAL_ROPE_BASE, Llama3Rope, SPLITS, Split,
    },
};
use crate::WeightError;
use rekindle_base::{HostTensor, write_atomically_with};
use serde_json::Value as Json;
use std::{
    collections::HashMap,
    io::{self, Write},
    path::Path,
};

/// Every tensor begins at a multiple of so many bytes.
const ALIGNMENT: usize = 32;
/// ggml keeps a tensor's name in 64 bytes with a zero at the end.
const LONGEST_NAME: usize = 63;
/// What to do about settings that GGUF has no place for.
const NOT_WRITTEN: &str = "save the model as safetensors instead";
/// What to do about files that do not fit together.
const BROKEN_MODEL: &str = "write the model from a complete directory as transformers saves it";

/// Writes one GGUF file, whole or not at all, from a Hugging Face model.
///
/// `files` are (name, text) of the model directory: `config.json` and `tokenizer.json`, and where they are there
/// `tokenizer_config.json`, `generation_config.json` and `chat_template.jinja`. `tensors` are the names and shapes of the
/// weights as Hugging Face has them, and `read` gives the values of one; it is called once for each, in order, so that only
/// one tensor is in memory at a time.
///
/// `kind` is F32, F16, BF16, Q8_0 or Q4_0, and that of the matrices: vectors and GPT-2's positions stay F32, matrices whose
/// rows do not divide into blocks are F16, and beside Q4_0 the embedding and the head are Q8_0. A tied head is left out.
///
/// # Errors
/// [`WeightError::Gguf`] for an architecture, a tokenizer or a setting that cannot be written, and for files or tensors that
/// do not fit together; [`WeightError::NotFinite`]; those of `read`; [`WeightError::Io`]. The target is then as it was.
pub fn write_gguf(
    path: &Path,
    files: &[(String, String)],
    tensors: &[(String, Vec<usize>)],
    kind: GgmlType,
    mut read: impl FnMut(&str) -> Result<HostTensor, WeightError>,
) -> Result<(), WeightError> {
    let model = Model::of(files).map_err(|fault| fault.at(path))?;
    let planned = model.plan(tensors, kind).map_err(|fault| fault.at(path))?;
    let extra = model.rope_table().map_err(|fault| fault.at(path))?;
    let header = model
        .header(path, kind, &planned, extra.as_deref())
        .map_err(|fault| fault.at(path))?;
    let written = write_atomically_with(path, |file| {
        file.write_all(&header)?;
        if let Some(table) = &extra {
            let bytes: &[u8] = bytemuck::cast_slice(table);
            file.write_all(bytes)?;
            file.write_all(&padding(bytes.len()))?;
        }
        for tensor in &planned {
            let bytes = read(&tensor.hf)
                .and_then(|values| model.pack(path, tensor, values))
                .map_err(io::Error::other)?;
            file.write_all(&bytes)?;
            file.write_all(&padding(bytes.len()))?;
        }
        Ok(())
    });
    written.map_err(|error| match error.downcast::<WeightError>() {
        Ok(ours) => ours,
        Err(source) => WeightError::Io {
            path: path.to_owned(),
            source,
        },
    })
}

/// The zeros that follow so many bytes.
fn padding(length: usize) -> Vec<u8> {
    vec![0; length.next_multiple_of(ALIGNMENT) - length]
}

/// A tensor to be written.
struct Planned {
    hf: String,
    gguf: String,
    /// Hugging Face's.
    shape: Vec<usize>,
    kind: GgmlType,
    layout: Layout,
    heads: usize,
}

impl Planned {
    /// The shape in the file, slowest first.
    fn written_shape(&self) -> Vec<usize> {
        let mut shape = self.shape.clone();
        if self.layout == Layout::Transposed {
            shape.reverse();
        }
        shape
    }

    fn bytes(&self) -> usize {
        let values: usize = self.shape.iter().product();
        values / self.kind.block_len() * self.kind.block_bytes()
    }
}

/// The files of a model directory, parsed.
struct Model<'a> {
    architecture: Architecture,
    config: Json,
    tokenizer: Json,
    tokenizer_config: Json,
    generation_config: Json,
    chat_template: Option<&'a str>,
}

impl<'a> Model<'a> {
    fn of(files: &'a [(String, String)]) -> Result<Self, Fault> {
        let text = |wanted: &str| {
            let file = files.iter().find(|(name, _)| name == wanted);
            file.map(|(_, text)| text.as_str())
        };
        let json = |name: &str, required: bool| match text(name) {
            Some(text) => {
                serde_json::from_str(text).map_err(|e| broken(format!("{name} is no JSON: {e}")))
            }
            None if required => Err(broken(format!("{name} is missing"))),
            None => Ok(Json::Null),
        };
        let config: Json = json("config.json", true)?;
        let model_type = config["model_type"].as_str().unwrap_or("none");
        let architecture = Architecture::from_model_type(model_type).ok_or_else(|| Fault {
            reason: format!(
                "model_type {model_type:?} cannot be written as GGUF, expected one of {}",
                Architecture::all_names()
            ),
            hint: NOT_WRITTEN,
        })?;
        Ok(Self {
            architecture,
            config,
            tokenizer: json("tokenizer.json", true)?,
            tokenizer_config: json("tokenizer_config.json", false)?,
            generation_config: json("generation_config.json", false)?,
            chat_template: text("chat_template.jinja"),
        })
    }

    // config.json

    /// A count by one of the names that families give it.
    fn count(&self, names: &[&str]) -> Option<u64> {
        names.iter().find_map(|name| self.config[name].as_u64())
    }

    fn required(&self, names: &[&str]) -> Result<u64, Fault> {
        let found = self
            .count(names)
            .filter(|n| (1..=u32::MAX.into()).contains(n));
        found.ok_or_else(|| broken(format!("config.json has no count `{}`", names[0])))
    }

    fn heads(&self) -> Result<u64, Fault> {
        self.required(&["num_attention_heads", "n_head"])
    }

    fn key_heads(&self) -> Result<u64, Fault> {
        match self.count(&["num_key_value_heads"]) {
            Some(0) => Err(broken("config.json has 0 `num_key_value_heads`".into())),
            Some(heads) => Ok(heads),
            None if self.architecture.is_gemma() => Ok(4),
            None => self.heads(),
        }
    }

    fn head_width(&self) -> Result<u64, Fault> {
        match self.count(&["head_dim"]) {
            Some(width) => Ok(width),
            None if self.architecture.is_gemma() => Ok(256),
            None => Ok(self.required(&["hidden_size", "n_embd"])? / self.heads()?),
        }
    }

    /// Settings of rope: since transformers 5 in `rope_parameters`, there perhaps by kind of layer.
    fn rope(&self) -> &Json {
        let parameters = &self.config["rope_parameters"];
        match &parameters["full_attention"] {
            Json::Null => parameters,
            full => full,
        }
    }

    fn rope_theta(&self) -> f64 {
        let new = self.rope()["rope_theta"].as_f64();
        new.or(self.config["rope_theta"].as_f64())
            .unwrap_or(match self.architecture {
                Architecture::Gemma3 => 1e6,
                _ => 10_000.0,
            })
    }

    /// The kind of rope scaling, and its settings.
    fn rope_scaling(&self) -> (&str, &Json) {
        let settings = match &self.config["rope_scaling"] {
            Json::Null => self.rope(),
            old => old,
        };
        let kind = settings["rope_type"].as_str().or(settings["type"].as_str());
        (kind.unwrap_or("default"), settings)
    }

    /// Llama 3's rope scaling, which GGUF holds as a tensor. What config.json leaves out is what the model is run with.
    fn llama3_rope(&self) -> Result<Option<Llama3Rope>, Fault> {
        let ("llama3", settings) = self.rope_scaling() else {
            return Ok(None);
        };
        let number = |key: &str, usual: f64| match &settings[key] {
            Json::Null => Ok(usual),
            found => {
                let number = found.as_f64().filter(|n| *n > 0.0);
                number.ok_or_else(|| {
                    broken(format!(
                        "`{key}` of the rope scaling of config.json is {found}, expected a number above 0"
                    ))
                })
            }
        };
        let positions = self.required(&["max_position_embeddings", "n_positions"])?;
        Ok(Some(Llama3Rope {
            factor: number("factor", 1.0)?,
            low: number("low_freq_factor", LLAMA3_ROPE.low)?,
            high: number("high_freq_factor", LLAMA3_ROPE.high)?,
            context: number("original_max_position_embeddings", positions as f64)?,
        }))
    }

    fn rope_table(&self) -> Result<Option<Vec<f32>>, Fault> {
        let rope = self.llama3_rope()?;
        let table = |rope: Llama3Rope| {
            let width = self.head_width()?;
            Ok(rope.table(width, self.rope_theta()))
        };
        rope.map(table).transpose()
    }

    fn is_tied(&self) -> bool {
        // transformers' defaults: of the families here, these tie.
        let default = matches!(
            self.architecture,
            Architecture::Gemma2
                | Architecture::Gemma3
                | Architecture::Gpt2
                | Architecture::SmolLm3
        );
        self.config["tie_word_embeddings"]
            .as_bool()
            .unwrap_or(default)
    }

    /// Refuses settings that llama.cpp has by the architecture alone, where the model's are others: it would compute something
    /// else, and say nothing.
    fn check_settings(&self) -> Result<(), Fault> {
        let other =
            |key: &str, expected: &str| Err(self.unsayable(key, &self.config[key], expected));
        let activations: (&str, &[&str]) = match self.architecture {
            Architecture::Gpt2 => (
                "activation_function",
                &["gelu_new", "gelu_pytorch_tanh", "gelu_fast"],
            ),
            Architecture::Gemma2 | Architecture::Gemma3 => {
                ("hidden_activation", &["gelu_pytorch_tanh"])
            }
            _ => ("hidden_act", &["silu", "swish"]),
        };
        let (key, known) = activations;
        if self.config[key]
            .as_str()
            .is_some_and(|name| !known.contains(&name))
        {
            return other(key, known[0]);
        }
        if matches!(self.architecture, Architecture::Qwen2 | Architecture::Qwen3)
            && self.config["use_sliding_window"] == true
        {
            return other("use_sliding_window", "false");
        }
        if self.architecture.is_gemma() {
            self.check_gemma()?;
        }
        if self.architecture == Architecture::SmolLm3 {
            const EVERY: usize = 4;
            let every = "1 (rotary) but 0 in every fourth layer";
            let layers = self.config["no_rope_layers"].as_array();
            let is_usual = |(i, rotary): (usize, &Json)| {
                rotary.as_u64() == Some(u64::from((i + 1) % EVERY != 0))
            };
            match layers {
                Some(layers) if !layers.iter().enumerate().all(is_usual) => {
                    return other("no_rope_layers", every);
                }
                None if self
                    .count(&["no_rope_layer_interval"])
                    .is_some_and(|n| n != 4) =>
                {
                    return other("no_rope_layer_interval", "4");
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// A setting that a file of this architecture cannot say.
    fn unsayable(&self, key: &str, found: &Json, expected: &str) -> Fault {
        Fault {
            reason: format!(
                "`{key}` of config.json is {found}, which a GGUF file of architecture {} cannot say; llama.cpp takes {expected}",
                self.architecture.name()
            ),
            hint: NOT_WRITTEN,
        }
    }

    /// Of each layer of a Gemma, whether it has a window: by `layer_types`, or by the pattern of older files.
    fn slides(&self) -> Result<Vec<bool>, Fault> {
        let layers = self.required(&["num_hidden_layers"])? as usize;
        if let Some(kinds) = self.config["layer_types"].as_array() {
            let slides = kinds.iter().map(|kind| kind == "sliding_attention");
            return Ok(slides.collect());
        }
        let pattern = self.count(&["sliding_window_pattern", "_sliding_window_pattern"]);
        let pattern = pattern.filter(|pattern| *pattern > 0);
        let pattern = pattern.unwrap_or(self.gemma_pattern()) as usize;
        Ok((1..=layers).map(|i| !i.is_multiple_of(pattern)).collect())
    }

    /// One layer in so many of a Gemma has no window, by the architecture.
    fn gemma_pattern(&self) -> u64 {
        match self.architecture {
            Architecture::Gemma2 => 2,
            _ => GEMMA3_PATTERN,
        }
    }

    /// What llama.cpp has of a Gemma by the architecture and the number of layers.
    fn check_gemma(&self) -> Result<(), Fault> {
        let config = &self.config;
        if config["use_bidirectional_attention"] == true {
            let key = "use_bidirectional_attention";
            return Err(self.unsayable(key, &config[key], "false"));
        }
        let scalar = self.architecture.query_scalar(
            self.required(&["num_hidden_layers"])?,
            self.required(&["hidden_size"])?,
            self.heads()?,
            self.head_width()?,
        );
        let key = "query_pre_attn_scalar";
        if config[key].as_f64().unwrap_or(256.0) != scalar as f64 {
            return Err(self.unsayable(key, &config[key], &scalar.to_string()));
        }
        let (slides, pattern) = (self.slides()?, self.gemma_pattern());
        let is_usual =
            |(i, slides): (usize, &bool)| *slides != (i as u64 + 1).is_multiple_of(pattern);
        let never = self.architecture == Architecture::Gemma3 && !slides.contains(&true);
        if !never && !slides.iter().enumerate().all(is_usual) {
            let expected = format!("a window in all layers but one in {pattern}");
            let key = match config["layer_types"].is_null() {
                true => "sliding_window_pattern",
                false => "layer_types",
            };
            return Err(self.unsayable(key, &config[key], &expected));
        }
        if self.architecture == Architecture::Gemma3 && !never {
            let local = &config["rope_parameters"]["sliding_attention"];
            let new = &local["rope_theta"];
            let (key, base) = match new.is_null() {
                true => ("rope_local_base_freq", &config["rope_local_base_freq"]),
                false => ("rope_parameters.sliding_attention.rope_theta", new),
            };
            if base.as_f64().unwrap_or(LOCAL_ROPE_BASE) != LOCAL_ROPE_BASE {
                return Err(self.unsayable(key, base, &LOCAL_ROPE_BASE.to_string()));
            }
            let kind = &local["rope_type"];
            if kind.as_str().is_some_and(|kind| kind != "default") {
                let key = "rope_parameters.sliding_attention.rope_type";
                return Err(self.unsayable(key, kind, "default"));
            }
        }
        Ok(())
    }

    // Tensors.

    /// What is written of the tensors, and how.
    fn plan(
        &self,
        tensors: &[(String, Vec<usize>)],
        kind: GgmlType,
    ) -> Result<Vec<Planned>, Fault> {
        use GgmlType::{BF16, F16, F32, Q4_0, Q8_0};
        if !matches!(kind, F32 | F16 | BF16 | Q8_0 | Q4_0) {
            return Err(Fault {
                reason: format!("type {kind} cannot be written"),
                hint: "write F32, F16, BF16, Q8_0 or Q4_0; llama.cpp's llama-quantize makes the others of F16",
            });
        }
        self.check_settings()?;
        let mut planned = Vec::new();
        for (hf, shape) in tensors {
            if hf == "lm_head.weight" && self.is_tied() {
                continue;
            }
            let gguf = self
                .architecture
                .to_gguf(hf)
                .filter(|name| name.len() <= LONGEST_NAME);
            let gguf = gguf.ok_or_else(|| Fault {
                reason: format!(
                    "tensor `{hf}` has no name in a GGUF file of architecture {}",
                    self.architecture.name()
                ),
                hint: NOT_WRITTEN,
            })?;
            let layout = self.architecture.layout(&gguf);
            let heads = match layout {
                Layout::RopeQueries => self.heads()?,
                Layout::RopeKeys => self.key_heads()?,
                _ => 0,
            };
            let mut tensor = Planned {
                hf: hf.clone(),
                gguf,
                shape: shape.clone(),
                kind,
                layout,
                heads: heads as usize,
            };
            let fits = (1..=2).contains(&shape.len())
                && !shape.contains(&0)
                && (heads == 0 || shape[0].is_multiple_of(2 * tensor.heads))
                && (layout != Layout::Transposed || shape.len() == 2);
            if !fits {
                return Err(broken(format!("tensor `{hf}` has shape {shape:?}")));
            }
            tensor.kind = match tensor.gguf.as_str() {
                "position_embd.weight" => F32,
                _ if shape.len() == 1 => F32,
                "token_embd.weight" | "output.weight" if kind == Q4_0 => Q8_0,
                _ => kind,
            };
            let row = tensor.written_shape().last().copied().unwrap_or(1);
            if !row.is_multiple_of(tensor.kind.block_len()) {
                tensor.kind = F16;
            }
            planned.push(tensor);
        }
        match planned
            .iter()
            .any(|tensor| tensor.gguf == "token_embd.weight")
        {
            true => Ok(planned),
            false => Err(broken("there is no embedding among the tensors".into())),
        }
    }

    /// A tensor's bytes in the file.
    fn pack(
        &self,
        path: &Path,
        tensor: &Planned,
        read: HostTensor,
    ) -> Result<Vec<u8>, WeightError> {
        if read.shape != tensor.shape {
            let reason = format!(
                "tensor `{}` has shape {:?}, expected {:?}",
                tensor.hf, read.shape, tensor.shape
            );
            return Err(broken(reason).at(path));
        }
        if let Some((index, value)) = read.first_not_finite() {
            return Err(WeightError::NotFinite {
                path: path.to_owned(),
                tensor: tensor.hf.clone(),
                value,
                index,
            });
        }
        let rows = tensor.shape[0];
        let values = match tensor.layout {
            Layout::Same => read.values,
            Layout::RopeQueries | Layout::RopeKeys => {
                reorder_rope(&read.values, rows, tensor.heads, true)
            }
            Layout::Transposed => transpose(&read.values, rows),
            Layout::PlusOne => read.values.into_iter().map(|v| v + 1.0).collect(),
        };
        tensor.kind.quantize(&values).ok_or_else(|| {
            let fault = Fault {
                reason: format!(
                    "tensor `{}` holds a value that is too large for {}",
                    tensor.hf, tensor.kind
                ),
                hint: "write the model as F32",
            };
            fault.at(path)
        })
    }

    // The header.

    fn header(
        &self,
        path: &Path,
        kind: GgmlType,
        tensors: &[Planned],
        rope_table: Option<&[f32]>,
    ) -> Result<Vec<u8>, Fault> {
        let embedding = tensors.iter().find(|t| t.gguf == "token_embd.weight");
        let rows = embedding.map_or(0, |tensor| tensor.shape[0]);
        let mut keys = Keys::default();
        self.add_settings(&mut keys, path, kind, rows)?;
        self.add_tokenizer(&mut keys, rows)?;
        let mut header = MAGIC.to_vec();
        header.extend(3u32.to_le_bytes());
        let count = tensors.len() + usize::from(rope_table.is_some());
        header.extend((count as u64).to_le_bytes());
        header.extend(keys.count.to_le_bytes());
        header.extend(keys.bytes);
        let mut offset = 0;
        let mut add = |name: &str, shape: &[usize], kind: GgmlType, bytes: usize| {
            put_string(&mut header, name);
            header.extend((shape.len() as u32).to_le_bytes());
            for &dim in shape.iter().rev() {
                header.extend((dim as u64).to_le_bytes());
            }
            header.extend(kind.id().to_le_bytes());
            header.extend((offset as u64).to_le_bytes());
            offset += bytes.next_multiple_of(ALIGNMENT);
        };
        if let Some(table) = rope_table {
            add(
                "rope_freqs.weight",
                &[table.len()],
                GgmlType::F32,
                size_of_val(table),
            );
        }
        for tensor in tensors {
            add(
                &tensor.gguf,
                &tensor.written_shape(),
                tensor.kind,
                tensor.bytes(),
            );
        }
        let length = header.len();
        header.extend(padding(length));
        Ok(header)
    }

    /// The architecture's settings.
    fn add_settings(
        &self,
        keys: &mut Keys,
        path: &Path,
        kind: GgmlType,
        rows: usize,
    ) -> Result<(), Fault> {
        let name = path
            .file_stem()
            .map_or_else(Default::default, |s| s.to_string_lossy());
        keys.string("general.architecture", self.architecture.name());
        keys.string("general.type", "model");
        keys.string("general.name", &name);
        let file_type = match kind {
            GgmlType::F32 => 0,
            GgmlType::F16 => 1,
            GgmlType::Q4_0 => 2,
            GgmlType::Q8_0 => 7,
            _ => 32,
        };
        keys.u32("general.file_type", file_type);
        keys.u32("general.quantization_version", 2);
        let own = |key: &str| format!("{}.{key}", self.architecture.name());
        let hidden = self.required(&["hidden_size", "n_embd"])?;
        let inner = match self.count(&["intermediate_size", "n_inner"]) {
            None if self.architecture == Architecture::Gpt2 => 4 * hidden,
            _ => self.required(&["intermediate_size", "n_inner"])?,
        };
        let width = self.head_width()?;
        for (key, value) in [
            (
                "context_length",
                self.required(&["max_position_embeddings", "n_positions"])?,
            ),
            ("embedding_length", hidden),
            (
                "block_count",
                self.required(&["num_hidden_layers", "n_layer"])?,
            ),
            ("feed_forward_length", inner),
            ("attention.head_count", self.heads()?),
            ("attention.head_count_kv", self.key_heads()?),
            ("vocab_size", rows as u64),
        ] {
            keys.u32(&own(key), value as u32);
        }
        let (epsilon, key) = match self.architecture {
            Architecture::Gpt2 => ("layer_norm_epsilon", "attention.layer_norm_epsilon"),
            _ => ("rms_norm_eps", "attention.layer_norm_rms_epsilon"),
        };
        let default = if self.architecture == Architecture::Gpt2 {
            1e-5
        } else {
            1e-6
        };
        keys.f32(&own(key), self.config[epsilon].as_f64().unwrap_or(default));
        if self.architecture == Architecture::Gpt2 {
            return Ok(());
        }
        keys.f32(&own("rope.freq_base"), self.rope_theta());
        if self.count(&["head_dim"]).is_some() || self.architecture.is_gemma() {
            keys.u32(&own("attention.key_length"), width as u32);
            keys.u32(&own("attention.value_length"), width as u32);
        }
        let part = self.config["partial_rotary_factor"].as_f64();
        let part = part
            .or(self.rope()["partial_rotary_factor"].as_f64())
            .unwrap_or(1.0);
        keys.u32(&own("rope.dimension_count"), (width as f64 * part) as u32);
        let window = self.count(&["sliding_window"]);
        match (self.architecture, window) {
            (Architecture::Qwen2 | Architecture::Qwen3 | Architecture::SmolLm3, _) => {}
            (Architecture::Gemma3, _) if !self.slides()?.contains(&true) => {}
            // transformers' default.
            (Architecture::Gemma2 | Architecture::Gemma3, None) => {
                keys.u32(&own("attention.sliding_window"), 4096);
            }
            (Architecture::Phi3, None) => keys.u32(&own("attention.sliding_window"), 0),
            (_, None) => {}
            (_, Some(window)) => keys.u32(&own("attention.sliding_window"), window as u32),
        }
        for key in ["attn_logit_softcapping", "final_logit_softcapping"] {
            if let Some(cap) = self.config[key]
                .as_f64()
                .filter(|_| self.architecture.is_gemma())
            {
                keys.f32(&own(key), cap);
            }
        }
        self.add_rope_scaling(keys)
    }

    fn add_rope_scaling(&self, keys: &mut Keys) -> Result<(), Fault> {
        let own = |key: &str| format!("{}.rope.scaling.{key}", self.architecture.name());
        let (kind, settings) = self.rope_scaling();
        match kind {
            "default" => return Ok(()),
            // Llama 3's is a tensor; what that leaves open stands under keys of our own, which others pass over.
            "llama3" => {
                let Some(rope) = self.llama3_rope()? else {
                    return Ok(());
                };
                let table = rope.table(self.head_width()?, self.rope_theta());
                // A short table may hold no wavelength that the whole factor is of.
                if !rope.is_usual() || !table.contains(&(rope.factor as f32)) {
                    for (key, value) in LLAMA3_KEYS.into_iter().zip(rope.numbers()) {
                        keys.f64(key, value);
                    }
                }
                return Ok(());
            }
            "linear" | "yarn" => {}
            other => {
                return Err(Fault {
                    reason: format!(
                        "rope scaling {other:?} cannot be written as GGUF, expected linear, yarn or llama3"
                    ),
                    hint: NOT_WRITTEN,
                });
            }
        }
        keys.string(&own("type"), kind);
        let factor = settings["factor"].as_f64();
        let factor = factor
            .ok_or_else(|| broken("the rope scaling of config.json has no `factor`".into()))?;
        keys.f32(&own("factor"), factor);
        if let Some(context) = settings["original_max_position_embeddings"].as_u64() {
            keys.u32(&own("original_context_length"), context as u32);
        }
        Ok(())
    }

    // The tokenizer.

    /// Tokens of all rows of the embedding, with their types.
    fn tokens(&self, rows: usize) -> Result<(Vec<String>, Vec<i32>), Fault> {
        let mut tokens = vec![None; rows];
        let mut types = vec![1; rows];
        let mut put = |token: &str, id: Option<u64>, kind: i32| {
            let id = id.filter(|id| *id < rows as u64).ok_or_else(|| {
                broken(format!(
                    "tokenizer.json gives token {token:?} the id {id:?}, the embedding has {rows} rows"
                ))
            })?;
            tokens[id as usize] = Some(token.to_owned());
            types[id as usize] = kind;
            Ok::<_, Fault>(())
        };
        let model = &self.tokenizer["model"];
        let is_sentencepiece = model["byte_fallback"] == true;
        let unknown = model["unk_token"].as_str();
        let vocab = model["vocab"]
            .as_object()
            .ok_or_else(|| broken("tokenizer.json has no object `model.vocab`".into()))?;
        for (token, id) in vocab {
            let is_byte = token.len() == 6 && token.starts_with("<0x") && token.ends_with('>');
            let kind = if is_sentencepiece && unknown == Some(token) {
                2
            } else if is_sentencepiece && is_byte {
                6
            } else {
                1
            };
            put(token, id.as_u64(), kind)?;
        }
        for added in self.tokenizer["added_tokens"]
            .as_array()
            .into_iter()
            .flatten()
        {
            let content = added["content"].as_str().unwrap_or_default();
            let kind = match added["special"] == true {
                true if is_sentencepiece && unknown == Some(content) => 2,
                true => 3,
                false => 4,
            };
            put(content, added["id"].as_u64(), kind)?;
        }
        let named = tokens.into_iter().enumerate().map(|(id, token)| {
            token.unwrap_or_else(|| {
                types[id] = 5;
                format!("[PAD{id}]")
            })
        });
        Ok((named.collect(), types))
    }

    /// The merges of `tokenizer.json`: pairs, or two tokens with a space between them.
    fn merges(&self) -> Result<Vec<(&str, &str)>, Fault> {
        let merges = self.tokenizer["model"]["merges"].as_array();
        let merges = merges.ok_or_else(|| Fault {
            reason: "tokenizer.json has no list `model.merges`: only BPE is written as GGUF".into(),
            hint: NOT_WRITTEN,
        })?;
        merges
            .iter()
            .map(|merge| {
                pair(merge).ok_or_else(|| broken(format!("merge {merge} in tokenizer.json")))
            })
            .collect()
    }

    fn add_tokenizer(&self, keys: &mut Keys, rows: usize) -> Result<(), Fault> {
        let (tokens, types) = self.tokens(rows)?;
        let merges = self.merges()?;
        if self.tokenizer["model"]["byte_fallback"] == true {
            keys.string("tokenizer.ggml.model", "llama");
            keys.string("tokenizer.ggml.pre", "default");
            keys.bool("tokenizer.ggml.add_space_prefix", self.adds_space());
            keys.f32s("tokenizer.ggml.scores", &scores(&tokens, &merges));
        } else {
            keys.string("tokenizer.ggml.model", "gpt2");
            keys.string("tokenizer.ggml.pre", self.pre()?);
            let merges = merges.iter().map(|(left, right)| format!("{left} {right}"));
            keys.strings("tokenizer.ggml.merges", &merges.collect::<Vec<_>>());
        }
        keys.strings("tokenizer.ggml.tokens", &tokens);
        keys.i32s("tokenizer.ggml.token_type", &types);
        self.add_special_tokens(keys, &tokens);
        if let Some(template) = self.template() {
            keys.string("tokenizer.chat_template", template);
        }
        Ok(())
    }

    fn add_special_tokens(&self, keys: &mut Keys, tokens: &[String]) {
        let id_of = |token: &str| tokens.iter().position(|known| known == token);
        let named = |name: &str| {
            let token = &self.tokenizer_config[name];
            token.as_str().or(token["content"].as_str()).and_then(id_of)
        };
        // A list of ends: the first is the end of a text, another one that of a turn.
        let ids = |name: &str| -> Vec<usize> {
            let found = [&self.generation_config, &self.config].map(|json| match &json[name] {
                Json::Array(ids) => ids.iter().filter_map(Json::as_u64).collect(),
                one => one.as_u64().into_iter().collect::<Vec<_>>(),
            });
            let [first, second] = found;
            let found = if first.is_empty() { second } else { first };
            found
                .into_iter()
                .map(|id| id as usize)
                .filter(|id| *id < tokens.len())
                .collect()
        };
        let mut eos = None;
        for (key, token, id) in [
            ("bos", "bos_token", "bos_token_id"),
            ("eos", "eos_token", "eos_token_id"),
            ("unknown", "unk_token", "unk_token_id"),
            ("padding", "pad_token", "pad_token_id"),
        ] {
            let found = named(token).or(ids(id).first().copied());
            if let Some(id) = found {
                keys.u32(&format!("tokenizer.ggml.{key}_token_id"), id as u32);
            }
            if key == "eos" {
                eos = found;
            }
        }
        if let Some(eot) = ids("eos_token_id").into_iter().find(|id| Some(*id) != eos) {
            keys.u32("tokenizer.ggml.eot_token_id", eot as u32);
        }
        let bos = self.tokenizer_config["bos_token"].as_str();
        let bos = bos.or(self.tokenizer_config["bos_token"]["content"].as_str());
        let processor = &self.tokenizer["post_processor"];
        let adds_bos = match template_of(processor) {
            Some(template) => bos.is_some() && template[0]["SpecialToken"]["id"].as_str() == bos,
            None => self.tokenizer_config["add_bos_token"] == true,
        };
        keys.bool("tokenizer.ggml.add_bos_token", adds_bos);
        keys.bool(
            "tokenizer.ggml.add_eos_token",
            self.tokenizer_config["add_eos_token"] == true,
        );
    }

    fn template(&self) -> Option<&str> {
        let template = &self.tokenizer_config["chat_template"];
        let named = template.as_array().and_then(|all| {
            let default = all.iter().find(|one| one["name"] == "default");
            default.and_then(|one| one["template"].as_str())
        });
        self.chat_template.or(template.as_str()).or(named)
    }

    /// Whether a text is given a space before it.
    fn adds_space(&self) -> bool {
        let prepends = parts(&self.tokenizer["normalizer"], "normalizers")
            .iter()
            .any(|part| part["type"] == "Prepend");
        let metaspace = parts(&self.tokenizer["pre_tokenizer"], "pretokenizers")
            .into_iter()
            .find(|part| part["type"] == "Metaspace");
        prepends
            || metaspace.is_some_and(|part| match part["prepend_scheme"].as_str() {
                Some(scheme) => scheme != "never",
                None => part["add_prefix_space"] != false,
            })
    }

    /// The name of how `tokenizer.json` splits text.
    fn pre(&self) -> Result<&'static str, Fault> {
        let unknown = || Fault {
            reason: format!(
                "tokenizer.json splits text in a way that GGUF has no name for: {}",
                self.tokenizer["pre_tokenizer"]
            ),
            hint: NOT_WRITTEN,
        };
        let parts = parts(&self.tokenizer["pre_tokenizer"], "pretokenizers");
        let (last, before) = parts.split_last().ok_or_else(unknown)?;
        if last["type"] != "ByteLevel" || last["add_prefix_space"] == true {
            return Err(unknown());
        }
        let regex = last["use_regex"] != false;
        let is = |split: &Split| match (split, before) {
            (Split::Gpt2 { digits: false }, []) => regex,
            (Split::Gpt2 { digits: true }, [digits]) => {
                regex && digits["type"] == "Digits" && digits["individual_digits"] == true
            }
            (Split::Pattern(pattern), [split]) => {
                !regex && split["pattern"]["Regex"] == *pattern && split["behavior"] == "Isolated"
            }
            _ => false,
        };
        let known = SPLITS.iter().find(|(_, split)| is(split));
        known.map(|(name, _)| *name).ok_or_else(unknown)
    }
}

/// A merge's two tokens.
fn pair(merge: &Json) -> Option<(&str, &str)> {
    let (left, right) = match merge {
        Json::String(text) => text.split_once(' ')?,
        Json::Array(pair) => match &pair[..] {
            [left, right] => (left.as_str()?, right.as_str()?),
            _ => return None,
        },
        _ => return None,
    };
    (!left.is_empty() && !right.contains(' ')).then_some((left, right))
}

/// The parts of a sequence, or the one thing that it is.
fn parts<'a>(json: &'a Json, name: &str) -> Vec<&'a Json> {
    match json[name].as_array() {
        Some(parts) => parts.iter().collect(),
        None if json.is_null() => Vec::new(),
        None => vec![json],
    }
}

/// What a `TemplateProcessing` makes of one text.
fn template_of(processor: &Json) -> Option<&Json> {
    let all = parts(processor, "processors");
    let template = all
        .into_iter()
        .find(|part| part["type"] == "TemplateProcessing")?;
    Some(&template["single"])
}

/// SentencePiece's scores: a token is the better the earlier it is merged. Tokens that no merge makes are never asked.
fn scores(tokens: &[String], merges: &[(&str, &str)]) -> Vec<f32> {
    let mut ranks: HashMap<String, usize> = HashMap::new();
    for (rank, (left, right)) in merges.iter().enumerate() {
        ranks.entry(format!("{left}{right}")).or_insert(rank);
    }
    let worst = merges.len();
    let rank = |token: &String| ranks.get(token).copied().unwrap_or(worst);
    tokens.iter().map(|token| -(rank(token) as f32)).collect()
}

fn broken(reason: String) -> Fault {
    Fault {
        reason,
        hint: BROKEN_MODEL,
    }
}

fn put_string(bytes: &mut Vec<u8>, text: &str) {
    bytes.extend((text.len() as u64).to_le_bytes());
    bytes.extend(text.as_bytes());
}

/// The metadata as they are written.
#[derive(Default)]
struct Keys {
    count: u64,
    bytes: Vec<u8>,
}

impl Keys {
    fn key(&mut self, key: &str, kind: u32) {
        self.count += 1;
        put_string(&mut self.bytes, key);
        self.bytes.extend(kind.to_le_bytes());
    }

    fn string(&mut self, key: &str, value: &str) {
        self.key(key, STRING);
        put_string(&mut self.bytes, value);
    }

    fn u32(&mut self, key: &str, value: u32) {
        self.key(key, 4);
        self.bytes.extend(value.to_le_bytes());
    }

    fn f32(&mut self, key: &str, value: f64) {
        self.key(key, 6);
        self.bytes.extend((value as f32).to_le_bytes());
    }

    fn f64(&mut self, key: &str, value: f64) {
        self.key(key, 12);
        self.bytes.extend(value.to_le_bytes());
    }

    fn bool(&mut self, key: &str, value: bool) {
        self.key(key, 7);
        self.bytes.push(value.into());
    }

    fn array(&mut self, key: &str, kind: u32, count: usize) {
        self.key(key, ARRAY);
        self.bytes.extend(kind.to_le_bytes());
        self.bytes.extend((count as u64).to_le_bytes());
    }

    fn strings(&mut self, key: &str, values: &[String]) {
        self.array(key, STRING, values.len());
        for value in values {
            put_string(&mut self.bytes, value);
        }
    }

    fn f32s(&mut self, key: &str, values: &[f32]) {
        self.array(key, 6, values.len());
        self.bytes
            .extend(values.iter().flat_map(|v| v.to_le_bytes()));
    }

    fn i32s(&mut self, key: &str, values: &[i32]) {
        self.array(key, 5, values.len());
        self.bytes
            .extend(values.iter().flat_map(|v| v.to_le_bytes()));
    }
}
