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
/// Endings of the names of indices, beside which the shards lie that they name.
const INDEX: &str = ".index.json";
/// What the weights of a model are called, by preference: the names that `rekindle_weights::WeightFiles::find` knows.
const WEIGHTS: [&str; 4] = [
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
];
/// Extensions of weights of any other name, of which a model has one file. One of GGUF brings its own configuration.
const EXTENSIONS: [&str; 6] = [".safetensors", ".bin", ".pth", ".pt", ".th", GGUF];
const GGUF: &str = ".gguf";

/// The file of weights among a folder's files, or the index of its shards.
fn weights_among<'a>(names: impl Iterator<Item = &'a str> + Clone) -> Option<&'a str> {
    let named = WEIGHTS
        .iter()
        .find_map(|known| names.clone().find(|name| name == known));
    let mut others = names.filter(|name| {
        let weights = EXTENSIONS.iter().any(|end| name.ends_with(end));
        weights && !name.contains('/') && !name.starts_with("adapter")
    });
    named.or_else(|| match (others.next(), others.next()) {
        (Some(only), None) => Some(only),
        _ => None,
    })
}

/// What a directory lacks to be a model that can be loaded; empty for a complete one.
pub(crate) fn missing_model_files(dir: &Path) -> Vec<String> {
    let has = |file: &str| dir.join(file).is_file();
    let names: Vec<String> = fs::read_dir(dir)
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| has(name))
        .collect();
    let weights = weights_among(names.iter().map(String::as_str));
    let mut missing = Vec::new();
    if !has(CONFIG) && !weights.is_some_and(|name| name.ends_with(GGUF)) {
        missing.push(CONFIG.to_string());
    }
    let shards = match weights {
        Some(index) if index.ends_with(INDEX) => shards(&dir.join(index)),
        Some(_) => Some(BTreeSet::new()),
        None => None,
    };
    match shards {
        Some(shards) => missing.extend(shards.into_iter().filter(|shard| !has(shard))),
        None => missing.push(format!(
            "weights ({}, with the shards that an index names; or one other file of weights)",
            WEIGHTS.join(", ")
        )),
    }
    missing
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
        "spm.model",
        "modules.json",
        "sentence_bert_config.json",
        "config_sentence_transformers.json",
    ];
    let has = |file: &str| listing.iter().any(|listed| listed == file);
    let is_pooling =
        |file: &str| file.ends_with("_Pooling/config.json") && file.matches('/').count() == 1;
    let weights = weights_among(listing.iter().map(String::as_str));
    // `model-00001-of-00002.safetensors` beside `model.safetensors.index.json`.
    let shards = weights.and_then(|index| index.strip_suffix(INDEX)?.rsplit_once('.'));
    let is_weights = |file: &str| {
        let is_shard = |(stem, extension): (&str, &str)| {
            let numbered = file
                .strip_prefix(stem)
                .is_some_and(|rest| rest.starts_with('-'));
            numbered && file.ends_with(&format!(".{extension}")) && !file.contains('/')
        };
        Some(file) == weights || shards.is_some_and(is_shard)
    };
    let mut missing = Vec::new();
    if !has(CONFIG) && !weights.is_some_and(|name| name.ends_with(GGUF)) {
        missing.push(CONFIG.to_string());
    }
    if weights.is_none() {
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
            (
                &[
                    "config.json",
                    "pytorch_model.bin.index.json",
                    "pytorch_model-00001-of-00002.bin",
                    "pytorch_model-00002-of-00002.bin",
                    "training_args.bin",
                ],
                Ok(&[
                    "config.json",
                    "pytorch_model.bin.index.json",
                    "pytorch_model-00001-of-00002.bin",
                    "pytorch_model-00002-of-00002.bin",
                ]),
            ),
            (
                &["config.json", "resnet18.pth", "adapter_model.safetensors"],
                Ok(&["config.json", "resnet18.pth"]),
            ),
            (&["tiny.Q8_0.gguf"], Ok(&["tiny.Q8_0.gguf"])),
            (&["config.json", "a.pth", "b.pth"], Err(&["weights"])),
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
        for extension in ["safetensors", "bin"] {
            let dir = tempfile::tempdir().unwrap();
            let write = |file: &str, text: &str| fs::write(dir.path().join(file), text).unwrap();
            write("config.json", "{}");
            assert_eq!(missing_model_files(dir.path()).len(), 1);
            let stem = if extension == "bin" {
                "pytorch_model"
            } else {
                "model"
            };
            let [one, two] = [1, 2].map(|i| format!("{stem}-{i}.{extension}"));
            write(
                &format!("{stem}.{extension}.index.json"),
                &format!(
                    r#"{{"metadata":{{}},"weight_map":{{"a":"{one}","b":"{two}","c":"{one}"}}}}"#
                ),
            );
            write(&one, "");
            assert_eq!(missing_model_files(dir.path()), std::slice::from_ref(&two));
            write(&two, "");
            assert!(missing_model_files(dir.path()).is_empty());
        }
    }

    /// Regression: what `predict` and `inspect` load was refused as a base model.
    #[test]
    fn one_other_file_of_weights_is_enough() {
        let dir = tempfile::tempdir().unwrap();
        let write = |file: &str| fs::write(dir.path().join(file), "").unwrap();
        write("tiny.gguf");
        assert!(missing_model_files(dir.path()).is_empty());
        fs::remove_file(dir.path().join("tiny.gguf")).unwrap();
        write("weights.pth");
        assert_eq!(missing_model_files(dir.path()), ["config.json"]);
        write("config.json");
        assert!(missing_model_files(dir.path()).is_empty());
        write("others.pth");
        assert_eq!(missing_model_files(dir.path()).len(), 1);
    }
}
