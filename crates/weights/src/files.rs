//! The tensors of a checkpoint, whatever they are stored as: safetensors, PyTorch's pickle files, or GGUF.

use crate::{
    Dtype, GgufFile, StoredTensor, WeightError,
    pickle::PickleFile,
    safetensors::{Safetensors, shards},
};
use rekindle_base::{HostTensor, first_of};
use std::path::{Path, PathBuf};

/// What the weights of a model directory are called, by preference.
const NAMES: [&str; 4] = [
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
];
/// The extensions of files that `torch.save` writes.
const PICKLE: [&str; 5] = [".bin", ".pth", ".pt", ".th", ".ckpt"];

/// Open files of weights; nothing is read until it is asked for.
pub struct WeightFiles {
    path: PathBuf,
    kind: Kind,
}

enum Kind {
    Safetensors(Safetensors),
    /// One file of `torch.save`, or shards.
    Pickle(Vec<PickleFile>),
    Gguf(Box<GgufFile>),
}

impl WeightFiles {
    /// Opens a file by its extension: `.bin`, `.pth`, `.pt`, `.th` and `.ckpt` are PyTorch's, `.gguf` is
    /// llama.cpp's, others are safetensors. An index (`pytorch_model.bin.index.json`, `model.safetensors.index.json`) opens its shards.
    ///
    /// # Errors
    /// When a file cannot be read, or is broken.
    pub fn open(path: &Path) -> Result<Self, WeightError> {
        let name = path
            .file_name()
            .map_or_else(Default::default, |name| name.to_string_lossy());
        let (name, index) = match name.strip_suffix(".index.json") {
            Some(name) => (name, true),
            None => (&*name, false),
        };
        let pickle = PICKLE.iter().any(|extension| name.ends_with(extension));
        let kind = if pickle {
            let files = if index {
                shards(path)?
            } else {
                vec![path.to_owned()]
            };
            let files = files.iter().map(|file| PickleFile::open(file));
            Kind::Pickle(apart(files.collect::<Result<_, _>>()?)?)
        } else if name.to_ascii_lowercase().ends_with(".gguf") && !index {
            Kind::Gguf(Box::new(GgufFile::open(path)?))
        } else {
            Kind::Safetensors(Safetensors::open(path)?)
        };
        Ok(Self {
            path: path.to_owned(),
            kind,
        })
    }

    /// Finds and opens the weights of a model directory: `model.safetensors` or its sharded index, else
    /// `pytorch_model.bin` or its index, else the one file of weights that lies there. The path may also be that file's.
    ///
    /// # Errors
    /// When there are none, or the file is broken.
    pub fn find(dir: &Path) -> Result<Self, WeightError> {
        if dir.is_file() {
            return Self::open(dir);
        }
        if let Some(path) = NAMES
            .map(|name| dir.join(name))
            .iter()
            .find(|p| p.is_file())
        {
            return Self::open(path);
        }
        let mut found: Vec<String> = std::fs::read_dir(dir)
            .map_err(|source| WeightError::Io {
                path: dir.to_owned(),
                source,
            })?
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .collect();
        found.sort();
        let is_weights = |name: &&String| {
            let adapter = name.starts_with("adapter");
            [".safetensors", ".bin", ".pth", ".pt", ".th", ".gguf"]
                .iter()
                .any(|extension| name.ends_with(extension) && !adapter)
        };
        if let [only] = found.iter().filter(is_weights).collect::<Vec<_>>()[..] {
            return Self::open(&dir.join(only));
        }
        let found = if found.is_empty() {
            "an empty directory".into()
        } else {
            first_of(&found)
        };
        Err(WeightError::NoWeights {
            path: dir.to_owned(),
            found,
            hint: "name a directory that holds a model as transformers saves it".into(),
        })
    }

    /// The file that was opened: of weights, or the index of shards.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// All tensors' names, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        let mut names: Vec<&str> = match &self.kind {
            Kind::Safetensors(files) => files.names().collect(),
            Kind::Pickle(files) => files.iter().flat_map(PickleFile::names).collect(),
            Kind::Gguf(file) => file.names().collect(),
        };
        names.sort_unstable();
        names.into_iter()
    }

    /// A tensor's dimensions.
    #[must_use]
    pub fn shape(&self, name: &str) -> Option<&[usize]> {
        match &self.kind {
            Kind::Safetensors(files) => files.shape(name),
            Kind::Pickle(files) => holder(files, name)?.shape(name),
            Kind::Gguf(file) => file.shape(name),
        }
    }

    /// A tensor's type; its `Display` is safetensors' name.
    #[must_use]
    pub fn dtype(&self, name: &str) -> Option<Dtype> {
        match &self.kind {
            Kind::Safetensors(files) => files.dtype(name),
            Kind::Pickle(files) => holder(files, name)?.dtype(name),
            Kind::Gguf(file) => file.dtype(name),
        }
    }

    /// The file that holds a tensor.
    #[must_use]
    pub fn file_of(&self, name: &str) -> Option<&Path> {
        match &self.kind {
            Kind::Safetensors(files) => files.file_of(name),
            Kind::Pickle(files) => holder(files, name).map(PickleFile::path),
            Kind::Gguf(file) => file.shape(name).map(|_| file.path()),
        }
    }

    /// Entries that are no weights, with what they are: PyTorch's files may hold an epoch or an accuracy, GGUF's tables of
    /// rope scaling.
    pub fn ignored(&self) -> impl Iterator<Item = &(String, String)> {
        let (files, tables) = match &self.kind {
            Kind::Safetensors(_) => (&[][..], &[][..]),
            Kind::Pickle(files) => (&files[..], &[][..]),
            Kind::Gguf(file) => (&[][..], file.ignored()),
        };
        files.iter().flat_map(PickleFile::ignored).chain(tables)
    }

    /// The GGUF file, where that is what was opened: [`crate::side_files`] makes the rest of a model directory of it.
    #[must_use]
    pub fn gguf(&self) -> Option<&GgufFile> {
        match &self.kind {
            Kind::Gguf(file) => Some(file),
            _ => None,
        }
    }

    /// A tensor as it lies in its file; `None` where there is none of that name.
    #[must_use]
    pub fn stored(&self, name: &str) -> Option<StoredTensor<'_>> {
        match &self.kind {
            Kind::Safetensors(files) => files.stored(name),
            Kind::Pickle(files) => holder(files, name)?.stored(name),
            Kind::Gguf(file) => file.stored(name),
        }
    }

    /// Reads a tensor as f32; `None` where there is none of that name. The memory of its part of the mapped file is given
    /// back.
    ///
    /// # Errors
    /// On a type that cannot be read as f32, and on values that are not finite.
    pub fn read(&self, name: &str) -> Result<Option<HostTensor>, WeightError> {
        let Some(stored) = self.stored(name) else {
            return Ok(None);
        };
        let tensor = HostTensor {
            shape: stored.shape.to_vec(),
            values: stored.to_f32()?,
        };
        match &self.kind {
            Kind::Safetensors(files) => files.release(name),
            Kind::Pickle(files) => {
                if let Some(file) = holder(files, name) {
                    file.release(name);
                }
            }
            Kind::Gguf(file) => file.release(name),
        }
        Ok(Some(tensor))
    }
}

/// Checks that no tensor lies in two shards.
fn apart(files: Vec<PickleFile>) -> Result<Vec<PickleFile>, WeightError> {
    for (i, file) in files.iter().enumerate() {
        for name in file.names() {
            if let Some(other) = holder(&files[..i], name) {
                return Err(WeightError::Twice {
                    tensor: name.to_owned(),
                    path: file.path().to_owned(),
                    other: other.path().to_owned(),
                });
            }
        }
    }
    Ok(files)
}

/// The shard that holds a tensor.
fn holder<'a>(files: &'a [PickleFile], name: &str) -> Option<&'a PickleFile> {
    files.iter().find(|file| file.shape(name).is_some())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use std::{fs, path::PathBuf};

    fn golden() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/tiny_bert")
    }

    #[test]
    fn pickle_and_safetensors_of_one_model_are_alike() {
        let pickle =
            WeightFiles::open(&golden().join("variants/pickle/pytorch_model.bin")).unwrap();
        let safe = WeightFiles::open(&golden().join("model/model.safetensors")).unwrap();
        assert_eq!(
            pickle.names().collect::<Vec<_>>(),
            safe.names().collect::<Vec<_>>()
        );
        for name in safe.names() {
            assert_eq!(pickle.shape(name), safe.shape(name));
            assert_eq!(pickle.dtype(name), safe.dtype(name));
            assert_eq!(pickle.read(name).unwrap(), safe.read(name).unwrap());
        }
        assert!(pickle.read("no such tensor").unwrap().is_none());
    }

    #[test]
    fn shards_of_pickle_open_through_their_index() {
        let folder = tempfile::tempdir().unwrap();
        let pickles = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/pickle");
        for (from, to) in [("zip.pt", "one.bin"), ("parameters.pt", "two.bin")] {
            fs::copy(pickles.join(from), folder.path().join(to)).unwrap();
        }
        let index = folder.path().join("pytorch_model.bin.index.json");
        fs::write(
            &index,
            r#"{"weight_map": {"a.pi": "one.bin", "weight": "two.bin"}}"#,
        )
        .unwrap();
        let files = WeightFiles::open(&index).unwrap();
        assert!(files.names().is_sorted());
        assert_eq!(
            files.file_of("weight"),
            Some(&*folder.path().join("two.bin"))
        );
        assert_eq!(files.shape("weight"), Some([2, 2].as_slice()));
        assert_eq!(
            files.read("a.pi").unwrap().unwrap().values,
            [std::f32::consts::PI]
        );
        fs::remove_file(folder.path().join("two.bin")).unwrap();
        let message = WeightFiles::open(&index)
            .map(|_| ())
            .unwrap_err()
            .to_string();
        assert!(
            message.contains("the shard `two.bin` is missing"),
            "{message}"
        );
    }

    /// Regression: the tensor of the shard that was opened last was taken without a word.
    #[test]
    fn a_tensor_in_two_shards_is_an_error_that_names_both() {
        let folder = tempfile::tempdir().unwrap();
        let tensor = HostTensor {
            shape: vec![1],
            values: vec![1.0],
        };
        for shard in ["one.safetensors", "two.safetensors"] {
            crate::write(&folder.path().join(shard), [("w", (&tensor).into())], &[]).unwrap();
        }
        let index = folder.path().join("model.safetensors.index.json");
        let map = r#"{"weight_map": {"w": "one.safetensors", "v": "two.safetensors"}}"#;
        fs::write(&index, map).unwrap();
        let message = WeightFiles::open(&index)
            .map(|_| ())
            .unwrap_err()
            .to_string();
        assert!(
            message.contains("tensor `w` lies in two files"),
            "{message}"
        );
        assert!(message.contains("one.safetensors and"), "{message}");
        assert!(message.contains("two.safetensors"), "{message}");
    }

    #[test]
    fn a_type_that_is_not_read_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.safetensors");
        let header = br#"{"w":{"dtype":"F8_E4M3","shape":[2],"data_offsets":[0,2]},"n":{"dtype":"I64","shape":[1],"data_offsets":[2,10]}}"#;
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.extend_from_slice(header);
        bytes.extend_from_slice(&[0, 0]);
        bytes.extend_from_slice(&7i64.to_le_bytes());
        fs::write(&path, bytes).unwrap();
        let files = WeightFiles::open(&path).unwrap();
        let message = files.read("w").unwrap_err().to_string();
        assert!(message.contains("tensor `w` has type F8_E4M3"), "{message}");
        assert_eq!(files.read("n").unwrap().unwrap().values, [7.0]);
        assert_eq!(files.dtype("n"), Some(Dtype::I64));
        assert!(!files.dtype("n").unwrap().is_float());
    }
}
