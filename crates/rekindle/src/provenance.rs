//! What a run was made of: the files of its model and its data, told by hashes, and the machine that it ran on.

use crate::{Error, RunConfig, backend::cpu_name, task::Modality};
use rekindle_data::image::find_pictures;
use rekindle_hub::{Resolved, sha256, sha256_of_bytes};
use rekindle_models::Pretrained;
use serde::Serialize;
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

/// Where a run came from.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Provenance {
    pub model: ModelFiles,
    /// The data files, the training file first.
    pub data: Vec<DataFile>,
    pub machine: Machine,
}

/// The pretrained model.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct ModelFiles {
    /// Its name.
    pub name: String,
    /// The hub's commit, or a package's revision, where it came from there.
    pub revision: Option<String>,
    /// Without a revision: the sha256 of each file of weights.
    pub sha256: BTreeMap<String, String>,
}

/// A file that examples were read from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct DataFile {
    /// `train`, `validation` or `test`.
    pub split: &'static str,
    pub path: PathBuf,
    /// Of its bytes; of a folder, of the list of its files with their sizes. `None` for what can be read once only, such
    /// as a pipe.
    pub sha256: Option<String>,
}

/// What computed.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Machine {
    /// The processor's name, where the system tells.
    pub cpu: Option<String>,
    /// Those of its instructions that kernels choose by, where the system tells.
    pub cpu_features: Vec<&'static str>,
    pub device: String,
    pub precision: String,
    pub threads: usize,
}

impl Provenance {
    /// Of a run, before its first step.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub(crate) fn of(
        config: &RunConfig,
        base: &Resolved,
        pretrained: &Pretrained,
        name: &str,
        files: &[(&'static str, PathBuf)],
    ) -> Result<Self, Error> {
        let sha256 = match base.revision {
            Some(_) => BTreeMap::new(),
            None => weights(pretrained)?,
        };
        Ok(Self {
            model: ModelFiles {
                name: name.to_owned(),
                revision: base.revision.clone(),
                sha256,
            },
            data: data_files(files, config.task.modality() == Modality::Images)?,
            machine: Machine::of(config),
        })
    }
}

impl ModelFiles {
    /// The revision, or the beginning of the hash of the weights, as people read it.
    pub(crate) fn short(&self) -> String {
        const DIGITS: usize = 12;
        let short = |text: &str| text.chars().take(DIGITS).collect::<String>();
        match (&self.revision, self.sha256.values().next()) {
            (Some(revision), _) => short(revision),
            (None, Some(hash)) => format!("sha256 {}", short(hash)),
            (None, None) => "unknown".to_owned(),
        }
    }
}

/// The sha256 of each file of weights, by its name.
fn weights(pretrained: &Pretrained) -> Result<BTreeMap<String, String>, Error> {
    let files = pretrained.files();
    let paths: BTreeSet<&Path> = files
        .names()
        .filter_map(|name| files.file_of(name))
        .collect();
    let hashed = |path: &Path| {
        let name = path.file_name().unwrap_or_default();
        Ok::<_, Error>((name.to_string_lossy().into_owned(), sha256(path)?))
    };
    paths.into_iter().map(hashed).collect()
}

/// The files of each part, with their hashes.
fn data_files(files: &[(&'static str, PathBuf)], images: bool) -> Result<Vec<DataFile>, Error> {
    let hashed = |(split, path): &(&'static str, PathBuf)| {
        Ok::<_, Error>(DataFile {
            split,
            sha256: hash_of(path, images)?,
            path: path.clone(),
        })
    };
    files.iter().map(hashed).collect()
}

fn hash_of(path: &Path, images: bool) -> Result<Option<String>, Error> {
    if path.is_file() {
        return Ok(Some(sha256(path)?));
    }
    if !path.is_dir() {
        return Ok(None);
    }
    let mut files = match images {
        true => find_pictures(path)?,
        false => {
            let entries = fs::read_dir(path).map_err(Error::io(path))?;
            let files = entries.filter_map(|entry| Some(entry.ok()?.path()));
            files.filter(|file| file.is_file()).collect()
        }
    };
    files.sort();
    let line = |file: &PathBuf| {
        let size = fs::metadata(file).map_or(0, |about| about.len());
        let name = file.strip_prefix(path).unwrap_or(file);
        format!("{size} {}\n", name.to_string_lossy().replace('\\', "/"))
    };
    let list: String = files.iter().map(line).collect();
    Ok(Some(sha256_of_bytes(list.as_bytes())))
}

/// Instructions that kernels choose by, as Linux calls them on x86-64 and ARM.
const FEATURES: [&str; 14] = [
    "avx2",
    "fma",
    "avx512f",
    "avx512bw",
    "avx512_vnni",
    "avx512_bf16",
    "amx_tile",
    "amx_bf16",
    "amx_int8",
    "asimd",
    "asimddp",
    "bf16",
    "i8mm",
    "sve",
];

impl Machine {
    fn of(config: &RunConfig) -> Self {
        let about = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let flags = about
            .lines()
            .filter_map(|line| line.split_once(':'))
            .find(|(key, _)| matches!(key.trim(), "flags" | "Features"));
        let flags: BTreeSet<&str> = flags
            .map(|(_, flags)| flags.split_whitespace().collect())
            .unwrap_or_default();
        Self {
            cpu: cpu_name(),
            cpu_features: (FEATURES.into_iter())
                .filter(|feature| flags.contains(feature))
                .collect(),
            device: config.device.to_string(),
            precision: config.train.precision.to_string(),
            threads: std::thread::available_parallelism().map_or(1, usize::from),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_folder_is_told_by_its_files_and_their_sizes() {
        let folder = tempfile::tempdir().unwrap();
        let hash = || hash_of(folder.path(), false).unwrap().unwrap();
        fs::write(folder.path().join("b.parquet"), "12").unwrap();
        let one = hash();
        assert_eq!(one, sha256_of_bytes(b"2 b.parquet\n"));
        fs::write(folder.path().join("a.parquet"), "1").unwrap();
        let two = hash();
        assert_eq!(two, sha256_of_bytes(b"1 a.parquet\n2 b.parquet\n"));
        fs::write(folder.path().join("a.parquet"), "123").unwrap();
        assert_ne!(hash(), two);
        assert_eq!(hash_of(&folder.path().join("gone"), false).unwrap(), None);
        let file = folder.path().join("b.parquet");
        assert_eq!(hash_of(&file, false).unwrap(), Some(sha256_of_bytes(b"12")));
    }

    #[test]
    fn a_revision_goes_before_a_hash() {
        let mut model = ModelFiles {
            name: "model".into(),
            revision: None,
            sha256: BTreeMap::from([("model.safetensors".into(), "0123456789abcdef".into())]),
        };
        assert_eq!(model.short(), "sha256 0123456789ab");
        model.revision = Some("fedcba9876543210".into());
        assert_eq!(model.short(), "fedcba987654");
    }
}
