//! What a tuned model needs beside its weights to be used again: labels, lengths, where its base came from. Written as
//! `rekindle.json` beside the files that Python reads.

use crate::{
    Error, RunConfig,
    config::{self, Override},
    sentence::SentenceFiles,
    task::{Kind, Task},
};
use rekindle_base::write_atomically;
use rekindle_data::{UsualColumns, chat::write_added_tokens};
use rekindle_models::{HeadSpec, Model, ModelConfig, Reads};
use rekindle_nn::TuneBackend;
use rekindle_peft::LoraConfig;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::{fs, path::Path};

/// The file's name.
pub(crate) const FILE: &str = "rekindle.json";

/// Its content.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Saved {
    /// The version that wrote it.
    pub rekindle: String,
    /// Such as `text-classification`.
    pub task: String,
    /// Label names by id.
    pub labels: Vec<String>,
    /// Texts are cut to this many tokens.
    pub max_length: usize,
    /// `cls`, `mean`, or `none` where every word has an answer.
    pub pooling: String,
    /// Least probability of each label that is given, of a multi-label model.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub thresholds: Vec<f64>,
    /// For an adapter: the base model as the run named it.
    pub base_model: Option<String>,
    /// A digest of a sample of that model's weights.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base_weights: Option<String>,
    /// Settings with which it was evaluated.
    #[serde(flatten)]
    pub kept: KeptSettings,
}

fn is_false(value: &bool) -> bool {
    !value
}

/// Settings of `[data]` that a saved model keeps, so that it is evaluated as it was.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct KeptSettings {
    /// Which tokens of a conversation were learned, of a language model: those are evaluated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    loss_on: Option<String>,
    /// Tokens that windows of a long text share, where that was set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    overlap: Option<usize>,
    /// The most tokens of an answer, of a model that answers questions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    max_answer_length: Option<usize>,
    /// Whether texts are encoded word by word.
    #[serde(default, skip_serializing_if = "is_false")]
    pub by_words: bool,
    /// The day that the chat template was told, of a language model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    date: Option<String>,
    /// What was done with rows that cannot be used, where that is not to stop.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    on_bad_example: Option<String>,
    /// The columns of its training file.
    #[serde(default, skip_serializing_if = "UsualColumns::is_empty")]
    pub columns: UsualColumns,
    /// Side of the pictures of an adapter, and share of the middle that is cut out: a whole model's configuration has them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pictures: Option<(usize, f64)>,
}

impl KeptSettings {
    /// Those of a run.
    pub(crate) fn of(
        config: &RunConfig,
        by_words: bool,
        columns: UsualColumns,
        pictures: Option<(usize, f64)>,
    ) -> Self {
        let data = &config.data;
        let skips = data.on_bad_example != config::OnBadExample::Error;
        Self {
            loss_on: (config.task.kind() == Kind::Generation)
                .then(|| data.loss_on.name().to_owned()),
            overlap: data.overlap,
            max_answer_length: (config.task.kind() == Kind::Extraction)
                .then_some(data.max_answer_length),
            by_words,
            date: data.date.map(|date| date.to_string()),
            on_bad_example: skips.then(|| data.on_bad_example.name().to_owned()),
            columns,
            pictures,
        }
    }

    /// As settings over the defaults of a task; without those that say nothing to it.
    pub(crate) fn overrides(&self, task: Task, max_length: usize) -> Vec<Override> {
        let all = [
            ("data.max_length", Some(max_length.to_string())),
            ("data.loss_on", self.loss_on.clone()),
            (
                "data.overlap",
                self.overlap.map(|overlap| overlap.to_string()),
            ),
            (
                "data.max_answer_length",
                self.max_answer_length.map(|length| length.to_string()),
            ),
            ("data.date", self.date.clone()),
            ("data.on_bad_example", self.on_bad_example.clone()),
        ];
        let known = all
            .into_iter()
            .filter(|(key, _)| config::says_something_to(key, task));
        known
            .filter_map(|(key, value)| Some(Override::flag(FILE, key, &value?)))
            .collect()
    }
}

impl Saved {
    /// Reads it from a model directory; `None` where there is none.
    pub(crate) fn read(dir: &Path) -> Result<Option<Self>, Error> {
        let path = dir.join(FILE);
        let text = match fs::read_to_string(&path) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            other => other.map_err(Error::io(&path))?,
        };
        serde_json::from_str(&text)
            .map(Some)
            .map_err(|e| Error::ModelDir {
                path,
                reason: format!("not what this program writes: {e}"),
                hint: "delete the file if the directory's config.json names the labels".into(),
            })
    }

    /// Writes it.
    pub(crate) fn write(&self, dir: &Path) -> Result<(), Error> {
        let path = dir.join(FILE);
        let text =
            serde_json::to_string_pretty(self).map_err(|e| Error::Internal(e.to_string()))?;
        write_atomically(&path, text.as_bytes()).map_err(Error::io(path))
    }
}

/// How a head's input is called in the file.
pub(crate) fn pooling_name(reads: Reads) -> String {
    match reads {
        Reads::First => "cls".into(),
        Reads::Mean => "mean".into(),
        Reads::Each => "none".into(),
    }
}

/// What a model is saved as.
pub(crate) struct SavedModel<'a> {
    /// The base model.
    pub config: &'a ModelConfig,
    /// Its directory.
    pub dir: &'a Path,
    pub head: &'a HeadSpec,
    pub adapter: Option<&'a LoraConfig>,
    /// Side of the pictures, and share of the middle that is cut out.
    pub picture_size: Option<(usize, f64)>,
    /// Special tokens that the tokenizer gets.
    pub added_tokens: &'a [String],
    /// Whether its texts are encoded word by word.
    pub by_words: bool,
    /// Of embeddings: how they are made of tokens.
    pub sentence: Option<SentenceFiles>,
}

impl SavedModel<'_> {
    /// Writes a PEFT adapter directory, or a model directory as transformers or timm have it, with the tokenizer.
    pub(crate) fn write<B: TuneBackend>(&self, model: &Model<B>, dir: &Path) -> Result<(), Error> {
        match self.adapter {
            Some(lora) => rekindle_peft::save(model, lora, model.names(), dir)?,
            None => {
                let mut config = self.config.clone();
                if let (Some(pictures), Some((size, crop))) =
                    (&mut config.pictures, self.picture_size)
                {
                    (pictures.size, pictures.crop) = (size, crop);
                }
                model.save_pretrained(dir, &config, self.head)?;
            }
        }
        copy_tokenizer(self.dir, dir)?;
        if self.by_words {
            take_words(dir)?;
        }
        if let Some(sentence) = &self.sentence {
            sentence.write(dir, model.outputs())?;
        }
        if !self.added_tokens.is_empty() {
            write_added_tokens(self.dir, dir, self.added_tokens)?;
        }
        Ok(())
    }
}

/// Tells a tokenizer of bytes that a space stands before every word, as it was told in training: transformers then takes texts
/// that are divided into words (`is_split_into_words`), which it refuses to do otherwise.
fn take_words(dir: &Path) -> Result<(), Error> {
    let read = |path: &Path| -> Result<Option<Value>, Error> {
        match path.is_file() {
            true => {
                let text = fs::read_to_string(path).map_err(Error::io(path))?;
                // A file that is no JSON has not been read either.
                Ok(serde_json::from_str(&text).ok())
            }
            false => Ok(None),
        }
    };
    let write = |path: &Path, value: &Value| {
        let text = format!("{value:#}\n");
        write_atomically(path, text.as_bytes()).map_err(Error::io(path))
    };
    let path = dir.join("tokenizer.json");
    let mut of_bytes = dir.join("merges.txt").is_file();
    if let Some(mut tokenizer) = read(&path)? {
        let before = &mut tokenizer["pre_tokenizer"];
        of_bytes = before["type"] == "ByteLevel";
        if of_bytes {
            before["add_prefix_space"] = true.into();
            if tokenizer["post_processor"]["type"] == "RobertaProcessing" {
                tokenizer["post_processor"]["add_prefix_space"] = true.into();
            }
            write(&path, &tokenizer)?;
        }
    }
    let path = dir.join("tokenizer_config.json");
    if of_bytes {
        let mut config = read(&path)?.unwrap_or_else(|| Value::Object(Map::new()));
        config["add_prefix_space"] = true.into();
        write(&path, &config)?;
    }
    Ok(())
}

/// Copies the tokenizer's files.
fn copy_tokenizer(from: &Path, to: &Path) -> Result<(), Error> {
    for name in [
        "tokenizer.json",
        "tokenizer_config.json",
        "special_tokens_map.json",
        "vocab.txt",
        "vocab.json",
        "merges.txt",
        "added_tokens.json",
        "sentencepiece.bpe.model",
        "spm.model",
        "chat_template.jinja",
        "additional_chat_templates/tool_use.jinja",
        "generation_config.json",
    ] {
        let source = from.join(name);
        if source.is_file() {
            let bytes = fs::read(&source).map_err(Error::io(&source))?;
            let target = to.join(name);
            if let Some(folder) = target.parent() {
                fs::create_dir_all(folder).map_err(Error::io(folder))?;
            }
            write_atomically(&target, &bytes).map_err(Error::io(target))?;
        }
    }
    Ok(())
}
