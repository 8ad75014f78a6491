//! Named tensors on disk: safetensors files, single or sharded, read by memory map and written whole or not at all.

use burn::tensor::{DType, TensorData, TensorMetadata, backend::Backend, ops::FloatTensor};
use memmap2::Mmap;
use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use std::{
    collections::{BTreeMap, HashMap},
    fs::File,
    io::{self, Write},
    path::{Path, PathBuf},
};

/// What can go wrong with a file of tensors.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TensorFileError {
    /// The file could not be read or written.
    #[error("{}: {source}\nhint: check that the path is right, the disk has room and the folder may be written", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// The bytes are not safetensors, or stop too early.
    #[error("{}: not a complete safetensors file ({reason}; {bytes} bytes long)\nhint: the file was cut off or is something else: fetch a model again; of a run, delete the checkpoint's folder to resume from the one before", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What the parser says.
        reason: String,
        /// The file's length.
        bytes: u64,
    },
    /// The index of a sharded checkpoint is broken or names a shard that is not there.
    #[error("{}: {reason}\nhint: fetch the model again; every shard that the index names must lie beside it", path.display())]
    Index {
        /// The index file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A tensor of a type that training cannot use.
    #[error("{}: tensor `{tensor}` has type {dtype}, expected F32, F16 or BF16\nhint: quantised checkpoints cannot be tuned; use the original weights", path.display())]
    Type {
        /// The file.
        path: PathBuf,
        /// The tensor.
        tensor: String,
        /// Its type.
        dtype: String,
    },
    /// A tensor holds NaN or infinity.
    #[error("{}: tensor `{tensor}` holds {value} at flat index {index}\nhint: the checkpoint is damaged or its training diverged; use another", path.display())]
    NotFinite {
        /// The file.
        path: PathBuf,
        /// The tensor.
        tensor: String,
        /// The value found.
        value: f32,
        /// Where in the tensor.
        index: usize,
    },
}

/// A float tensor on the host, as f32.
#[derive(Debug, Clone, PartialEq)]
pub struct HostTensor {
    /// Dimensions.
    pub shape: Vec<usize>,
    /// Row-major values.
    pub values: Vec<f32>,
}

impl HostTensor {
    /// Copies a backend's tensor to the host.
    pub fn from_primitive<B: Backend>(tensor: FloatTensor<B>) -> Self {
        let shape = tensor.shape().as_slice().to_vec();
        let data = burn::tensor::try_read_sync(B::float_into_data(tensor))
            .and_then(Result::ok)
            .unwrap_or_else(|| {
                TensorData::new(vec![f32::NAN; shape.iter().product()], shape.clone())
            });
        let values = data
            .convert_dtype(DType::F32)
            .into_vec::<f32>()
            .unwrap_or_default();
        Self { shape, values }
    }

    /// Moves the values to a device.
    pub fn into_primitive<B: Backend>(self, device: &B::Device) -> FloatTensor<B> {
        B::float_from_data(TensorData::new(self.values, self.shape), device)
    }

    /// The first value that is NaN or infinite.
    #[must_use]
    pub fn first_not_finite(&self) -> Option<(usize, f32)> {
        // The sum is not finite if any value is not; the search runs only then.
        let sum: f32 = self.values.iter().map(|v| v * 0.0).sum();
        if sum == 0.0 {
            None
        } else {
            self.values
                .iter()
                .copied()
                .enumerate()
                .find(|(_, v)| !v.is_finite())
        }
    }
}

/// The tensors of a checkpoint, in one file or in shards, by memory map: nothing is read until it is asked for.
pub struct TensorFiles {
    files: Vec<(PathBuf, Mmap)>,
    /// name -> (file, place)
    tensors: BTreeMap<String, Entry>,
    metadata: HashMap<String, String>,
}

#[derive(Clone)]
struct Entry {
    file: usize,
    dtype: Dtype,
    shape: Vec<usize>,
    start: usize,
    end: usize,
}

impl TensorFiles {
    /// Opens one `.safetensors` file, or a `.safetensors.index.json` with its shards.
    ///
    /// # Errors
    /// See [`TensorFileError`].
    pub fn open(path: &Path) -> Result<Self, TensorFileError> {
        let mut open = Self {
            files: Vec::new(),
            tensors: BTreeMap::new(),
            metadata: HashMap::new(),
        };
        if path.extension().is_some_and(|e| e == "json") {
            for shard in shards(path)? {
                open.add(&shard)?;
            }
        } else {
            open.add(path)?;
        }
        Ok(open)
    }

    fn add(&mut self, path: &Path) -> Result<(), TensorFileError> {
        let io = |source| TensorFileError::Io {
            path: path.to_owned(),
            source,
        };
        let map = map_file(path).map_err(io)?;
        let bytes = map.len() as u64;
        let malformed = |reason: String| TensorFileError::Malformed {
            path: path.to_owned(),
            reason,
            bytes,
        };
        if bytes == 0 {
            return Err(malformed("the file is empty".into()));
        }
        let (header_length, metadata) =
            SafeTensors::read_metadata(&map).map_err(|e| malformed(e.to_string()))?;
        SafeTensors::deserialize(&map).map_err(|e| malformed(e.to_string()))?;
        if let Some(pairs) = metadata.metadata() {
            self.metadata
                .extend(pairs.iter().map(|(k, v)| (k.clone(), v.clone())));
        }
        let base = 8 + header_length;
        for (name, info) in metadata.tensors() {
            let (start, end) = info.data_offsets;
            let entry = Entry {
                file: self.files.len(),
                dtype: info.dtype,
                shape: info.shape.clone(),
                start: base + start,
                end: base + end,
            };
            self.tensors.insert(name, entry);
        }
        self.files.push((path.to_owned(), map));
        Ok(())
    }

    /// All names, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// The `__metadata__` of the file(s).
    #[must_use]
    pub fn metadata(&self) -> &HashMap<String, String> {
        &self.metadata
    }

    /// A tensor's dimensions.
    #[must_use]
    pub fn shape(&self, name: &str) -> Option<&[usize]> {
        self.tensors.get(name).map(|entry| entry.shape.as_slice())
    }

    /// A tensor's type as safetensors names it.
    #[must_use]
    pub fn dtype(&self, name: &str) -> Option<String> {
        self.tensors
            .get(name)
            .map(|entry| format!("{:?}", entry.dtype))
    }

    /// The file that holds a tensor.
    #[must_use]
    pub fn file_of(&self, name: &str) -> Option<&Path> {
        self.tensors
            .get(name)
            .map(|entry| self.files[entry.file].0.as_path())
    }

    /// Reads a tensor as f32; `None` where there is none of that name.
    ///
    /// # Errors
    /// On a type that is no float of up to 32 bits, and on values that are not finite.
    pub fn read(&self, name: &str) -> Result<Option<HostTensor>, TensorFileError> {
        let Some(entry) = self.tensors.get(name) else {
            return Ok(None);
        };
        let (path, map) = &self.files[entry.file];
        let bytes = &map[entry.start..entry.end];
        let values: Vec<f32> = match entry.dtype {
            Dtype::F32 => bytemuck::pod_collect_to_vec(bytes),
            Dtype::F16 => bytemuck::pod_collect_to_vec::<u8, half::f16>(bytes)
                .into_iter()
                .map(half::f16::to_f32)
                .collect(),
            Dtype::BF16 => bytemuck::pod_collect_to_vec::<u8, half::bf16>(bytes)
                .into_iter()
                .map(half::bf16::to_f32)
                .collect(),
            other => {
                return Err(TensorFileError::Type {
                    path: path.clone(),
                    tensor: name.to_owned(),
                    dtype: format!("{other:?}"),
                });
            }
        };
        let tensor = HostTensor {
            shape: entry.shape.clone(),
            values,
        };
        match tensor.first_not_finite() {
            Some((index, value)) => Err(TensorFileError::NotFinite {
                path: path.clone(),
                tensor: name.to_owned(),
                value,
                index,
            }),
            None => Ok(Some(tensor)),
        }
    }
}

/// Maps a file of weights for reading.
#[allow(unsafe_code)]
pub(crate) fn map_file(path: &Path) -> io::Result<Mmap> {
    let file = File::open(path)?;
    // SAFETY: the map is read-only and private to its owner; another process that truncates the file while it is
    // mapped could fault us, which is the usual contract of mapped weights.
    unsafe { Mmap::map(&file) }
}

/// The shard files that an index (`*.index.json`) names, each once.
///
/// # Errors
/// When the index is broken, or a shard is not beside it.
pub fn shards(index: &Path) -> Result<Vec<PathBuf>, TensorFileError> {
    let broken = |reason: String| TensorFileError::Index {
        path: index.to_owned(),
        reason,
    };
    let text = std::fs::read_to_string(index).map_err(|source| TensorFileError::Io {
        path: index.to_owned(),
        source,
    })?;
    let json: serde_json::Value =
        serde_json::from_str(&text).map_err(|e| broken(format!("not valid JSON: {e}")))?;
    let map = json["weight_map"]
        .as_object()
        .ok_or_else(|| broken("expected an object `weight_map`".into()))?;
    let mut names: Vec<&str> = map.values().filter_map(|v| v.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    let folder = index.parent().unwrap_or(Path::new("."));
    names
        .into_iter()
        .map(|name| {
            // A shard lies beside its index; a name that climbs out of the folder is no shard.
            let plain = Path::new(name).file_name().is_some_and(|f| f == name);
            let shard = folder.join(name);
            match plain && shard.is_file() {
                true => Ok(shard),
                false => Err(broken(format!("the shard `{name}` is missing"))),
            }
        })
        .collect()
}

/// Writes tensors as one safetensors file with `format: pt`: beside the target first, fsynced, then renamed.
///
/// # Errors
/// [`TensorFileError::Io`] when the file cannot be written; the target is then as it was.
pub fn write<'a>(
    path: &Path,
    tensors: impl IntoIterator<Item = (&'a str, &'a HostTensor)>,
    metadata: &[(&str, String)],
) -> Result<(), TensorFileError> {
    let io = |source| TensorFileError::Io {
        path: path.to_owned(),
        source,
    };
    let views: Vec<(&str, TensorView<'_>)> = tensors
        .into_iter()
        .map(|(name, t)| {
            TensorView::new(Dtype::F32, t.shape.clone(), bytemuck::cast_slice(&t.values))
                .map(|view| (name, view))
                .map_err(|e| io(io::Error::other(e.to_string())))
        })
        .collect::<Result<_, _>>()?;
    let mut pairs: HashMap<String, String> = metadata
        .iter()
        .map(|(k, v)| ((*k).to_owned(), v.clone()))
        .collect();
    pairs.insert("format".into(), "pt".into());
    let bytes = safetensors::serialize(views, Some(pairs))
        .map_err(|e| io(io::Error::other(e.to_string())))?;
    write_atomically(path, &bytes).map_err(io)
}

/// Writes a file whole or not at all: aside, fsynced, renamed.
///
/// # Errors
/// The system's, with nothing left behind.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let folder = path
        .parent()
        .filter(|p| !p.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    file.write_all(bytes)?;
    // A temporary file is private; what we publish is readable like any other.
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        file.as_file()
            .set_permissions(std::fs::Permissions::from_mode(0o644))?;
    }
    file.as_file().sync_all()?;
    file.persist(path).map_err(|e| e.error)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.safetensors");
        let tensor = HostTensor {
            shape: vec![2, 3],
            values: vec![1.0, -2.0, 3.5, 0.0, 1e-30, 7.0],
        };
        write(&path, [("x.weight", &tensor)], &[("k", "v".into())]).unwrap();
        let files = TensorFiles::open(&path).unwrap();
        assert_eq!(files.names().collect::<Vec<_>>(), ["x.weight"]);
        assert_eq!(files.read("x.weight").unwrap(), Some(tensor));
        assert_eq!(files.read("y").unwrap(), None);
        assert_eq!(files.metadata()["format"], "pt");
    }

    #[test]
    fn a_cut_file_and_nan_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.safetensors");
        let tensor = HostTensor {
            shape: vec![3],
            values: vec![1.0, f32::NAN, 3.5],
        };
        write(&path, [("x", &tensor)], &[]).unwrap();
        let message = TensorFiles::open(&path)
            .unwrap()
            .read("x")
            .unwrap_err()
            .to_string();
        assert!(
            message.contains("tensor `x` holds NaN at flat index 1"),
            "{message}"
        );
        let bytes = std::fs::read(&path).unwrap();
        std::fs::write(&path, &bytes[..bytes.len() - 2]).unwrap();
        let message = TensorFiles::open(&path)
            .map(|_| ())
            .unwrap_err()
            .to_string();
        assert!(
            message.contains("not a complete safetensors file"),
            "{message}"
        );
    }
}
