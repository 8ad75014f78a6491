//! The files by which sentence-transformers describes a model of embeddings: how the vectors of tokens become one, whether that
//! gets the length 1, how long texts may be, and what is put before them.

use crate::Error;
use rekindle_base::write_atomically;
use rekindle_models::Reads;
use serde_json::{Map, Value, json};
use std::{fs, path::Path};

const MODULES: &str = "modules.json";
const POOLING: &str = "1_Pooling";
const LENGTH: &str = "sentence_bert_config.json";
const SETTINGS: &str = "config_sentence_transformers.json";

/// What a directory says of its embeddings.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct SentenceFiles {
    /// How the vectors of a text's tokens become one.
    pub reads: Reads,
    /// Whether embeddings get the length 1.
    pub normalizes: bool,
    /// Texts are cut to this many tokens.
    pub max_length: Option<usize>,
    /// The settings as they stand: prompts, the way of comparing.
    settings: Map<String, Value>,
}

/// A file that holds a JSON value; `None` where there is none.
fn json_of(path: &Path) -> Result<Option<Value>, Error> {
    let text = match fs::read_to_string(path) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        other => other.map_err(Error::io(path))?,
    };
    serde_json::from_str(&text)
        .map(Some)
        .map_err(|e| Error::ModelDir {
            path: path.to_owned(),
            reason: format!("not valid JSON: {e}"),
            hint: "copy the file from the model's repository again".into(),
        })
}

impl SentenceFiles {
    /// What a directory says; the mean of the tokens, as it is, where it says nothing.
    ///
    /// # Errors
    /// For another pooling than the first token's vector or the mean, for a layer behind it, and for files that cannot be read.
    pub(crate) fn read(dir: &Path) -> Result<Self, Error> {
        let refused = |file: &Path, reason: String| Error::ModelDir {
            path: file.to_owned(),
            reason,
            hint:
                "name a model that reads the mean of its tokens, or the first one, such as minilm"
                    .into(),
        };
        let (mut pooling, mut normalizes) = (POOLING.to_owned(), false);
        let path = dir.join(MODULES);
        let modules = json_of(&path)?;
        for module in modules
            .as_ref()
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
        {
            let kind = module["type"].as_str().unwrap_or_default();
            match kind.rsplit('.').next().unwrap_or_default() {
                "Transformer" => {}
                "Pooling" => {
                    pooling = module["path"].as_str().unwrap_or(POOLING).to_owned();
                }
                "Normalize" => normalizes = true,
                other => {
                    let reason = format!("it names a layer `{other}`, which is not computed here");
                    return Err(refused(&path, reason));
                }
            }
        }
        let path = dir.join(pooling).join("config.json");
        let reads = match json_of(&path)? {
            None => Reads::Mean,
            Some(pooling) => match modes(&pooling).as_slice() {
                [] => Reads::Mean,
                [only] if only == "mean" => Reads::Mean,
                [only] if only == "cls" => Reads::First,
                modes => {
                    let reason = format!("it pools by {}", modes.join(" and "));
                    return Err(refused(&path, reason));
                }
            },
        };
        let length = json_of(&dir.join(LENGTH))?;
        let length = length.and_then(|length| length["max_seq_length"].as_u64());
        let settings = match json_of(&dir.join(SETTINGS))? {
            Some(Value::Object(settings)) => settings,
            _ => Map::new(),
        };
        Ok(Self {
            reads,
            normalizes,
            max_length: length.map(|length| length as usize),
            settings,
        })
    }

    /// Whether a directory has such files.
    pub(crate) fn are_in(dir: &Path) -> bool {
        dir.join(MODULES).is_file()
    }

    /// What stands before every text, where nobody names another prompt.
    pub(crate) fn prompt(&self) -> &str {
        let name = self
            .settings
            .get("default_prompt_name")
            .and_then(Value::as_str);
        let prompts = self.settings.get("prompts");
        let prompt = name.and_then(|name| prompts?.get(name)?.as_str());
        prompt.unwrap_or_default()
    }

    /// The same for a model that was tuned to read so, on texts of at most so many tokens.
    pub(crate) fn with(mut self, reads: Reads, max_length: usize) -> Self {
        (self.reads, self.max_length) = (reads, Some(max_length));
        self
    }

    /// Writes them for embeddings of this width.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub(crate) fn write(&self, dir: &Path, width: usize) -> Result<(), Error> {
        let write = |path: &Path, value: &Value| {
            let text = format!("{value:#}\n");
            write_atomically(path, text.as_bytes()).map_err(Error::io(path))
        };
        let module = |(idx, (path, class)): (usize, &(&str, &str))| {
            json!({
                "idx": idx,
                "name": idx.to_string(),
                "path": path,
                "type": format!("sentence_transformers.models.{class}"),
            })
        };
        let all = [
            ("", "Transformer"),
            (POOLING, "Pooling"),
            ("2_Normalize", "Normalize"),
        ];
        let modules = all.iter().take(if self.normalizes { 3 } else { 2 });
        let modules: Vec<Value> = modules.enumerate().map(module).collect();
        write(&dir.join(MODULES), &json!(modules))?;
        let folder = dir.join(POOLING);
        fs::create_dir_all(&folder).map_err(Error::io(&folder))?;
        let pooling = json!({
            "word_embedding_dimension": width,
            "pooling_mode_cls_token": self.reads == Reads::First,
            "pooling_mode_mean_tokens": self.reads == Reads::Mean,
            "pooling_mode_max_tokens": false,
            "pooling_mode_mean_sqrt_len_tokens": false,
        });
        write(&folder.join("config.json"), &pooling)?;
        let length = json!({"max_seq_length": self.max_length, "do_lower_case": false});
        write(&dir.join(LENGTH), &length)?;
        let mut settings = self.settings.clone();
        for (key, usual) in [
            ("__version__", json!({"sentence_transformers": "3.0.0"})),
            ("prompts", json!({})),
            ("default_prompt_name", Value::Null),
            ("similarity_fn_name", "cosine".into()),
        ] {
            settings.entry(key).or_insert(usual);
        }
        write(&dir.join(SETTINGS), &settings.into())
    }
}

/// How a pooling layer pools, by the names of sentence-transformers: `pooling_mode`, or the switches that it had before.
fn modes(pooling: &Value) -> Vec<String> {
    match &pooling["pooling_mode"] {
        Value::String(mode) => return vec![mode.clone()],
        Value::Array(modes) => {
            let modes = modes.iter().filter_map(Value::as_str);
            return modes.map(str::to_owned).collect();
        }
        _ => {}
    }
    let switches = pooling.as_object().into_iter().flatten();
    let on = switches.filter(|(_, on)| **on == true);
    let names = on.filter_map(|(name, _)| name.strip_prefix("pooling_mode_"));
    names
        .map(|name| {
            name.trim_end_matches("_tokens")
                .trim_end_matches("_token")
                .to_owned()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_is_written_is_read_and_the_new_form_too() {
        let dir = tempfile::tempdir().unwrap();
        let nothing = SentenceFiles::read(dir.path()).unwrap();
        assert_eq!((nothing.reads, nothing.normalizes), (Reads::Mean, false));
        assert!(!SentenceFiles::are_in(dir.path()));
        let settings = json!({"prompts": {"query": "query: "}, "default_prompt_name": "query"});
        let files = SentenceFiles {
            reads: Reads::First,
            normalizes: true,
            max_length: Some(40),
            settings: settings.as_object().unwrap().clone(),
        };
        files.write(dir.path(), 8).unwrap();
        let read = SentenceFiles::read(dir.path()).unwrap();
        assert_eq!((read.reads, read.normalizes), (Reads::First, true));
        assert_eq!((read.max_length, read.prompt()), (Some(40), "query: "));
        let pooling = dir.path().join("1_Pooling/config.json");
        for (text, expected) in [
            (r#"{"pooling_mode": "mean"}"#, Some(Reads::Mean)),
            (r#"{"pooling_mode": ["cls"]}"#, Some(Reads::First)),
            (r#"{"pooling_mode": "max"}"#, None),
            (r#"{"pooling_mode_mean_sqrt_len_tokens": true}"#, None),
        ] {
            fs::write(&pooling, text).unwrap();
            let read = SentenceFiles::read(dir.path()).ok().map(|read| read.reads);
            assert_eq!(read, expected, "{text}");
        }
        let dense = r#"[{"path": "2_Dense", "type": "sentence_transformers.models.Dense"}]"#;
        fs::write(dir.path().join(MODULES), dense).unwrap();
        let error = SentenceFiles::read(dir.path()).unwrap_err().to_string();
        assert!(error.contains("`Dense`"), "{error}");
    }
}
