//! A language model as one GGUF file, its adapter merged, for llama.cpp and what builds on it; and a `Modelfile` for Ollama beside it.

use crate::{
    Error, Observer,
    backend::{OnBackend, on_device},
    config::Device,
    located::{Located, locate},
    model_card::{
        self,
        whole::{self, Made},
    },
    task::Kind,
};
use burn::tensor::backend::{AutodiffBackend, BackendTypes};
use rekindle_base::write_atomically;
use rekindle_data::chat::{ChatEncoder, EncodeOptions};
use rekindle_nn::TuneAutodiff;
use rekindle_weights::{GgmlType, ToWrite, WeightError, write_gguf};
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

/// What an export wrote.
#[derive(Debug, Clone)]
pub struct Exported {
    /// The GGUF file.
    pub file: PathBuf,
    /// Its length in bytes.
    pub bytes: u64,
    /// How Ollama makes a model of it.
    pub modelfile: PathBuf,
    /// Texts at which an answer ends.
    pub stop: Vec<String>,
}

/// The types that matrices may have in the file, by name.
pub const EXPORT_TYPES: [&str; 5] = ["f16", "f32", "bf16", "q8_0", "q4_0"];

/// The files beside the weights that become metadata.
const TOKENIZER_FILES: [&str; 4] = [
    "tokenizer.json",
    "tokenizer_config.json",
    "generation_config.json",
    "chat_template.jinja",
];

/// Writes a language model (a run, a model or adapter directory, a GGUF file or a hub name) as a GGUF file. `dtype` is one of
/// [`EXPORT_TYPES`]. Without `output` the file is `gguf/NAME-DTYPE.gguf` in the run's directory, or in `NAME-gguf` here. What is
/// there is replaced only if `replace`.
///
/// # Errors
/// For a model that does not write, an architecture, tokenizer or setting that GGUF has no place for, files that are there
/// already, and what cannot be read or written.
pub fn export(
    path: &Path,
    dtype: &str,
    output: Option<&Path>,
    replace: bool,
    observer: &dyn Observer,
) -> Result<Exported, Error> {
    let kind = GgmlType::ALL
        .into_iter()
        .find(|kind| EXPORT_TYPES.contains(&dtype) && kind.to_string().to_lowercase() == dtype);
    let kind = kind.ok_or_else(|| Error::Setting {
        reason: format!(
            "the type is \"{dtype}\", expected one of {}",
            EXPORT_TYPES.join(", ")
        ),
        hint: "f16 is half as large as f32 and nearly the same; q8_0 a quarter, q4_0 an eighth"
            .into(),
    })?;
    let located = locate(path, observer)?;
    if located.task.kind() != Kind::Generation {
        return Err(Error::Setting {
            reason: format!(
                "this model was tuned for the task \"{}\"; only language models are written as GGUF",
                located.task
            ),
            hint: "use final/ as it is: transformers and timm load it".into(),
        });
    }
    let file = match output {
        Some(file) => file.to_owned(),
        None => default_output(path, dtype),
    };
    let folder = match file.parent() {
        Some(folder) if folder != Path::new("") => folder.to_owned(),
        _ => PathBuf::from("."),
    };
    let modelfile = modelfile_beside(&file, &folder);
    if located.is_made_of(&file) {
        return Err(Error::ModelDir {
            path: file,
            reason: "it is a file of the model that is exported".into(),
            hint: "name another file with --output: the model stays as it is".into(),
        });
    }
    for written in [&file, &modelfile] {
        if written.exists() && !written.is_file() {
            return Err(Error::ModelDir {
                path: written.clone(),
                reason: "it is no regular file".into(),
                hint: "name a file with --output".into(),
            });
        }
        if written.exists() && !replace {
            return Err(Error::ModelDir {
                path: written.clone(),
                reason: "it exists already".into(),
                hint: "name another file with --output, or replace it with --force".into(),
            });
        }
    }
    fs::create_dir_all(&folder).map_err(Error::io(&folder))?;
    let encoder = ChatEncoder::from_dir(&located.tokenizer, EncodeOptions::default())?;
    observer.note(match located.adapter {
        Some(_) => "loading the model and merging its adapter",
        None => "loading the model",
    });
    on_device(
        Device::Cpu,
        Export {
            located: &located,
            encoder: &encoder,
            kind,
            file: &file,
            observer,
        },
    )?;
    let stop: Vec<String> = encoder
        .stop_ids()
        .iter()
        .filter_map(|&id| encoder.token(id))
        .collect();
    let text = modelfile_of(&file, &stop);
    write_atomically(&modelfile, text.as_bytes()).map_err(Error::io(&modelfile))?;
    let name = |path: &Path| {
        let name = path.file_name().unwrap_or_default();
        name.to_string_lossy().into_owned()
    };
    let (file_name, modelfile_name) = (name(&file), name(&modelfile));
    let made = Made::Gguf {
        file: &file_name,
        dtype,
        modelfile: &modelfile_name,
    };
    let from = located.adapter.as_deref();
    let from = from.unwrap_or(located.pretrained.dir());
    let base = located.base.as_ref();
    let title = file.file_stem().unwrap_or_default().to_string_lossy();
    let written = whole::write(&folder, &title, located.task, base, &made, from)?;
    if !written {
        observer.note(&format!(
            "{} stays as it is: it is no model card of ours",
            folder.join(model_card::FILE).display()
        ));
    }
    let bytes = fs::metadata(&file).map_err(Error::io(&file))?.len();
    Ok(Exported {
        file,
        bytes,
        modelfile,
        stop,
    })
}

/// `Modelfile`, or where that is another GGUF file's, one named after this file.
fn modelfile_beside(file: &Path, folder: &Path) -> PathBuf {
    let usual = folder.join("Modelfile");
    let others = fs::read_to_string(&usual)
        .is_ok_and(|text| !text.lines().any(|line| line == from_line(file)));
    match others {
        true => file.with_extension("Modelfile"),
        false => usual,
    }
}

fn default_output(path: &Path, dtype: &str) -> PathBuf {
    let is_run = path.join("config.toml").is_file();
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let name = match path.is_file() {
        true => absolute.file_stem(),
        false => absolute.file_name(),
    };
    let name = name.unwrap_or_default().to_string_lossy().into_owned();
    let folder = match is_run {
        true => path.join("gguf"),
        false => PathBuf::from(format!("{name}-gguf")),
    };
    folder.join(format!("{name}-{dtype}.gguf"))
}

/// Writes a model with its adapter merged.
struct Export<'a> {
    located: &'a Located,
    encoder: &'a ChatEncoder,
    kind: GgmlType,
    file: &'a Path,
    observer: &'a dyn Observer,
}

impl OnBackend for Export<'_> {
    type Output = ();

    fn run<B: TuneAutodiff>(self, device: &<B as BackendTypes>::Device) -> Result<(), Error> {
        let Self { located, file, .. } = self;
        let model = located.load::<<B as AutodiffBackend>::InnerBackend>(device)?;
        let model = rekindle_peft::merge(model);
        let config = located.pretrained.config();
        let texts = self.side_texts(model.config_json(config, &located.head()))?;
        let tensors: BTreeMap<String, ToWrite<'_>> = model.published(config).into_iter().collect();
        let shapes: Vec<(String, Vec<usize>)> = tensors
            .iter()
            .map(|(name, tensor)| (name.clone(), tensor.shape().to_vec()))
            .collect();
        let read = |name: &str| {
            let missing = || io::Error::other(format!("no tensor `{name}`"));
            let values = tensors.get(name).ok_or_else(missing);
            let io = |source| WeightError::Io {
                path: file.to_owned(),
                source,
            };
            values.and_then(ToWrite::read).map_err(io)
        };
        self.observer.note(&format!("writing {}", file.display()));
        Ok(write_gguf(file, &texts, &shapes, self.kind, read)?)
    }
}

impl Export<'_> {
    /// The files of the model directory that become metadata, by name.
    fn side_texts(&self, config: Value) -> Result<Vec<(String, String)>, Error> {
        let mut texts = vec![("config.json".to_owned(), config.to_string())];
        for name in TOKENIZER_FILES {
            let path = self.located.tokenizer.join(name);
            if path.is_file() {
                let text = fs::read_to_string(&path).map_err(Error::io(&path))?;
                texts.push((name.to_owned(), text));
            }
        }
        // Where the model has no template of its own, the one that it was tuned with.
        if let Some(template) = self.encoder.template().text() {
            texts.retain(|(name, _)| name != "chat_template.jinja");
            texts.push(("chat_template.jinja".to_owned(), template.to_owned()));
        }
        // Every token that ends an answer, also one that the template alone knows.
        let generation = texts
            .iter()
            .position(|(name, _)| name == "generation_config.json");
        let generation = generation.map(|at| texts.remove(at).1);
        let mut generation: Value = generation
            .and_then(|text| serde_json::from_str(&text).ok())
            .filter(Value::is_object)
            .unwrap_or_else(|| json!({}));
        generation["eos_token_id"] = json!(self.encoder.stop_ids());
        texts.push(("generation_config.json".to_owned(), generation.to_string()));
        Ok(texts)
    }
}

/// How a Modelfile names its model.
fn from_line(file: &Path) -> String {
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    format!("FROM ./{name}")
}

/// Ollama's recipe. The template is inside the GGUF file.
fn modelfile_of(file: &Path, stop: &[String]) -> String {
    let mut text = format!("# ollama create NAME -f THIS_FILE\n{}\n", from_line(file));
    for token in stop {
        let quotes = match token.contains('"') {
            true => "\"\"\"",
            false => "\"",
        };
        text += &format!("PARAMETER stop {quotes}{token}{quotes}\n");
    }
    text
}
