//! The Hugging Face cache in its real layout, read and written so that Python's `huggingface_hub` shares it:
//! `models--org--name/{blobs/<etag>, refs/<revision>, snapshots/<commit>/<file> -> ../../blobs/<etag>}`.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::disk;
use crate::error::HubError;

/// What kind of repository; it decides folder names and addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RepoKind {
    Model,
    Dataset,
}

impl RepoKind {
    /// `models` or `datasets`, in the cache's folder names and the hub's API.
    pub(crate) fn plural(self) -> &'static str {
        match self {
            Self::Model => "models",
            Self::Dataset => "datasets",
        }
    }

    /// What stands before the id in a file's address.
    pub(crate) fn url_prefix(self) -> &'static str {
        match self {
            Self::Model => "",
            Self::Dataset => "datasets/",
        }
    }
}

/// One repository's folder in the cache.
#[derive(Debug)]
pub(crate) struct RepoCache {
    pub(crate) dir: PathBuf,
    locks: PathBuf,
}

impl RepoCache {
    pub(crate) fn new(cache: &Path, kind: RepoKind, id: &str) -> Self {
        let folder = format!("{}--{}", kind.plural(), id.replace('/', "--"));
        Self {
            locks: cache.join(".locks").join(&folder),
            dir: cache.join(folder),
        }
    }

    /// The folder of a revision and its commit, where the cache has it.
    pub(crate) fn snapshot(&self, revision: &str) -> Option<(PathBuf, String)> {
        let commit = if disk::is_hex(revision, 40) {
            revision.to_string()
        } else {
            fs::read_to_string(self.dir.join("refs").join(revision))
                .ok()?
                .trim()
                .to_string()
        };
        let dir = self.snapshot_dir(&commit);
        (disk::is_hex(&commit, 40) && dir.is_dir()).then_some((dir, commit))
    }

    pub(crate) fn snapshot_dir(&self, commit: &str) -> PathBuf {
        self.dir.join("snapshots").join(commit)
    }

    pub(crate) fn blob(&self, etag: &str) -> PathBuf {
        self.dir.join("blobs").join(etag)
    }

    /// Where a blob grows while it is downloaded.
    pub(crate) fn incomplete(&self, etag: &str) -> PathBuf {
        self.dir.join("blobs").join(format!("{etag}.incomplete"))
    }

    /// Keeps other processes, Python's too, from downloading the same blob.
    pub(crate) fn lock(&self, etag: &str) -> Result<fs::File, HubError> {
        disk::lock(&self.locks.join(format!("{etag}.lock")))
    }

    /// Make `file` of a snapshot point to a blob.
    pub(crate) fn link(&self, commit: &str, file: &str, etag: &str) -> Result<(), HubError> {
        let pointer = self.snapshot_dir(commit).join(file);
        let dir = pointer.parent().unwrap_or(&self.dir);
        disk::create_dir_all(dir)?;
        let depth = 2 + file.matches('/').count();
        let target: PathBuf = std::iter::repeat_n("..", depth)
            .chain(["blobs", etag])
            .collect();
        if fs::read_link(&pointer).is_ok_and(|now| now == target) {
            return Ok(());
        }
        // Made aside and renamed, as a link cannot be replaced in place.
        let aside = tempfile::Builder::new()
            .prefix(".link-")
            .tempdir_in(&self.dir)
            .map_err(HubError::io("create", &self.dir))?;
        let link = aside.path().join("link");
        symlink_or_copy(&target, &self.blob(etag), &link)
            .map_err(HubError::io("link", &pointer))?;
        disk::rename(&link, &pointer)
    }

    /// Record which commit a branch or tag is at, as Python does; a commit needs no record.
    pub(crate) fn write_ref(&self, revision: &str, commit: &str) -> Result<(), HubError> {
        let path = self.dir.join("refs").join(revision);
        if revision == commit || fs::read_to_string(&path).is_ok_and(|now| now.trim() == commit) {
            return Ok(());
        }
        disk::write_atomically(&path, commit)
    }
}

#[cfg(unix)]
fn symlink_or_copy(target: &Path, _blob: &Path, link: &Path) -> std::io::Result<()> {
    std::os::unix::fs::symlink(target, link)
}

/// Windows needs a privilege for links; the cache's readers accept plain files.
#[cfg(not(unix))]
fn symlink_or_copy(_target: &Path, blob: &Path, link: &Path) -> std::io::Result<()> {
    fs::hard_link(blob, link).or_else(|_| fs::copy(blob, link).map(|_| ()))
}

const CONFIG: &str = "config.json";
const SAFETENSORS: &str = "model.safetensors";
const SAFETENSORS_INDEX: &str = "model.safetensors.index.json";
const PYTORCH: &str = "pytorch_model.bin";

/// What a directory lacks to be a model that can be loaded; empty for a complete one.
pub(crate) fn missing_model_files(dir: &Path) -> Vec<String> {
    let has = |file: &str| dir.join(file).is_file();
    let mut missing = Vec::new();
    if holds_gguf(dir) {
        return missing;
    }
    if !has(CONFIG) {
        missing.push(CONFIG.to_string());
    }
    if !has(SAFETENSORS) && !has(PYTORCH) {
        match shards(&dir.join(SAFETENSORS_INDEX)) {
            Some(shards) => missing.extend(shards.into_iter().filter(|shard| !has(shard))),
            None => missing.push("weights (model.safetensors, model.safetensors.index.json with its shards, or pytorch_model.bin)".to_string()),
        }
    }
    missing
}

/// Whether the one file of weights in a directory is a GGUF file, which holds its configuration and tokenizer too.
fn holds_gguf(dir: &Path) -> bool {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    names.filter(|name| name.ends_with(".gguf")).count() == 1
}

/// The files that a sharded checkpoint's index names; `None` without a readable index.
fn shards(index: &Path) -> Option<BTreeSet<String>> {
    #[derive(Deserialize)]
    struct Index {
        weight_map: std::collections::BTreeMap<String, String>,
    }
    let index: Index = serde_json::from_slice(&fs::read(index).ok()?).ok()?;
    Some(index.weight_map.into_values().collect())
}

/// Which of a repository's files fine-tuning needs: configuration, tokenizer, pooling, and the weights in one form.
///
/// # Errors
/// The names that are needed and not listed.
pub(crate) fn select_model_files(listing: &[String]) -> Result<Vec<String>, Vec<String>> {
    const SMALL: &[&str] = &[
        CONFIG,
        "generation_config.json",
        "preprocessor_config.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "chat_template.jinja",
        "special_tokens_map.json",
        "added_tokens.json",
        "vocab.txt",
        "vocab.json",
        "merges.txt",
        "tokenizer.model",
        "spiece.model",
        "sentencepiece.bpe.model",
        "modules.json",
        "sentence_bert_config.json",
        "config_sentence_transformers.json",
    ];
    let has = |file: &str| listing.iter().any(|listed| listed == file);
    let is_pooling =
        |file: &str| file.ends_with("_Pooling/config.json") && file.matches('/').count() == 1;
    let is_shard = |file: &str| {
        file.starts_with("model-") && file.ends_with(".safetensors") && !file.contains('/')
    };
    let is_weights: Box<dyn Fn(&str) -> bool> = if has(SAFETENSORS) {
        Box::new(|file| file == SAFETENSORS)
    } else if has(SAFETENSORS_INDEX) {
        Box::new(|file| file == SAFETENSORS_INDEX || is_shard(file))
    } else {
        Box::new(|file| file == PYTORCH)
    };
    let mut missing = Vec::new();
    if !has(CONFIG) {
        missing.push(CONFIG.to_string());
    }
    if ![SAFETENSORS, SAFETENSORS_INDEX, PYTORCH]
        .into_iter()
        .any(has)
    {
        missing.push("weights".to_string());
    }
    if !missing.is_empty() {
        return Err(missing);
    }
    Ok(listing
        .iter()
        .filter(|file| SMALL.contains(&file.as_str()) || is_pooling(file) || is_weights(file))
        .cloned()
        .collect())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn one_form_of_the_weights_is_chosen() {
        type Names = &'static [&'static str];
        let cases: &[(Names, Result<Names, Names>)] = &[
            (
                &[
                    "config.json",
                    "model.safetensors",
                    "pytorch_model.bin",
                    "README.md",
                    "onnx/model.onnx",
                ],
                Ok(&["config.json", "model.safetensors"]),
            ),
            (
                &[
                    "config.json",
                    "pytorch_model.bin",
                    "tf_model.h5",
                    "vocab.txt",
                ],
                Ok(&["config.json", "pytorch_model.bin", "vocab.txt"]),
            ),
            (
                &[
                    "config.json",
                    "model.safetensors.index.json",
                    "model-00001-of-00002.safetensors",
                    "model-00002-of-00002.safetensors",
                ],
                Ok(&[
                    "config.json",
                    "model.safetensors.index.json",
                    "model-00001-of-00002.safetensors",
                    "model-00002-of-00002.safetensors",
                ]),
            ),
            (
                &[
                    "config.json",
                    "1_Pooling/config.json",
                    "2_Dense/config.json",
                    "model.safetensors",
                ],
                Ok(&["config.json", "1_Pooling/config.json", "model.safetensors"]),
            ),
            (&["README.md"], Err(&["config.json", "weights"])),
            (&["model.safetensors"], Err(&["config.json"])),
        ];
        for (listing, expect) in cases {
            let listing: Vec<String> = listing.iter().map(ToString::to_string).collect();
            match (select_model_files(&listing), expect) {
                (Ok(found), Ok(expect)) => assert_eq!(found, *expect),
                (Err(found), Err(expect)) => assert_eq!(found, *expect),
                (found, expect) => panic!("{listing:?}: {found:?}, expected {expect:?}"),
            }
        }
    }

    #[test]
    fn a_sharded_model_needs_every_shard() {
        let dir = tempfile::tempdir().unwrap();
        let write = |file: &str, text: &str| fs::write(dir.path().join(file), text).unwrap();
        write("config.json", "{}");
        assert_eq!(missing_model_files(dir.path()).len(), 1);
        write(
            SAFETENSORS_INDEX,
            r#"{"metadata":{},"weight_map":{"a":"model-1.safetensors","b":"model-2.safetensors","c":"model-1.safetensors"}}"#,
        );
        write("model-1.safetensors", "");
        assert_eq!(missing_model_files(dir.path()), ["model-2.safetensors"]);
        write("model-2.safetensors", "");
        assert!(missing_model_files(dir.path()).is_empty());
    }
}
