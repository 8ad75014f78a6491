//! What a tuned model needs beside its weights to be used again: labels, lengths, where its base came from. Written as
//! `rekindle.json` beside the files that Python reads.

use crate::Error;
use rekindle_base::write_atomically;
use serde::{Deserialize, Serialize};
use std::{fs, path::Path};

/// The file's name.
pub(crate) const FILE: &str = "rekindle.json";

/// Its content.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Saved {
    /// The version that wrote it.
    pub rekindle: String,
    /// `text-classification`.
    pub task: String,
    /// Label names by id.
    pub labels: Vec<String>,
    /// Texts are cut to this many tokens.
    pub max_length: usize,
    /// `cls` or `mean`.
    pub pooling: String,
    /// For an adapter: the base model as the run named it.
    pub base_model: Option<String>,
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

/// Copies the tokenizer's files.
pub(crate) fn copy_tokenizer(from: &Path, to: &Path) -> Result<(), Error> {
    for name in [
        "tokenizer.json",
        "tokenizer_config.json",
        "special_tokens_map.json",
        "vocab.txt",
        "vocab.json",
        "merges.txt",
        "added_tokens.json",
    ] {
        let source = from.join(name);
        if source.is_file() {
            let bytes = fs::read(&source).map_err(Error::io(&source))?;
            let target = to.join(name);
            write_atomically(&target, &bytes).map_err(Error::io(target))?;
        }
    }
    Ok(())
}
