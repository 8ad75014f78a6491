//! Named tensors on disk: safetensors files, single or sharded, read by memory map and written whole or not at all.

use crate::{Dtype, StoredTensor, WeightError};
use memmap2::Mmap;
use rekindle_base::{HostTensor, write_atomically_with};
use safetensors::{
    SafeTensors,
    tensor::{Metadata, TensorInfo},
};
use std::{
    borrow::Cow,
    collections::BTreeMap,
    fs::File,
    io::{self, Write},
    ops::Range,
    path::{Path, PathBuf},
    rc::Rc,
};

/// The tensors of a checkpoint, in one file or in shards, by memory map: nothing is read until it is asked for.
pub(crate) struct Safetensors {
    files: Vec<(PathBuf, Mmap)>,
    /// name -> (file, place)
    tensors: BTreeMap<String, Entry>,
}

struct Entry {
    file: usize,
    dtype: Dtype,
    shape: Vec<usize>,
    /// Its bytes in the file.
    place: Range<usize>,
}

impl Safetensors {
    /// Opens one `.safetensors` file, or a `.safetensors.index.json` with its shards.
    ///
    /// # Errors
    /// See [`WeightError`].
    pub(crate) fn open(path: &Path) -> Result<Self, WeightError> {
        let mut open = Self {
            files: Vec::new(),
            tensors: BTreeMap::new(),
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

    fn add(&mut self, path: &Path) -> Result<(), WeightError> {
        let io = |source| WeightError::Io {
            path: path.to_owned(),
            source,
        };
        let map = map_file(path).map_err(io)?;
        let bytes = map.len() as u64;
        let malformed = |reason: String| WeightError::Malformed {
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
        let base = 8 + header_length;
        for (name, info) in metadata.tensors() {
            let (start, end) = info.data_offsets;
            let entry = Entry {
                file: self.files.len(),
                dtype: dtype_of(info.dtype),
                shape: info.shape.clone(),
                place: base + start..base + end,
            };
            if let Some(other) = self.tensors.insert(name.clone(), entry) {
                return Err(WeightError::Twice {
                    tensor: name,
                    path: path.to_owned(),
                    other: self.files[other.file].0.clone(),
                });
            }
        }
        self.files.push((path.to_owned(), map));
        Ok(())
    }

    /// All names, sorted.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// A tensor's dimensions.
    #[must_use]
    pub(crate) fn shape(&self, name: &str) -> Option<&[usize]> {
        self.tensors.get(name).map(|entry| entry.shape.as_slice())
    }

    /// A tensor's type as safetensors names it.
    #[must_use]
    pub(crate) fn dtype(&self, name: &str) -> Option<Dtype> {
        self.tensors.get(name).map(|entry| entry.dtype)
    }

    /// The file that holds a tensor.
    #[must_use]
    pub(crate) fn file_of(&self, name: &str) -> Option<&Path> {
        self.tensors
            .get(name)
            .map(|entry| self.files[entry.file].0.as_path())
    }

    /// A tensor as it lies in the file; `None` where there is none of that name.
    pub(crate) fn stored(&self, name: &str) -> Option<StoredTensor<'_>> {
        let (name, entry) = self.tensors.get_key_value(name)?;
        let (path, map) = &self.files[entry.file];
        Some(StoredTensor {
            file: path,
            name,
            dtype: entry.dtype,
            shape: &entry.shape,
            bytes: Cow::Borrowed(&map[entry.place.clone()]),
        })
    }

    /// Gives back the memory of a tensor's part of the mapped file.
    pub(crate) fn release(&self, name: &str) {
        if let Some(entry) = self.tensors.get(name) {
            release(&self.files[entry.file].1, entry.place.clone());
        }
    }
}

/// Our name of a type of safetensors.
fn dtype_of(dtype: safetensors::Dtype) -> Dtype {
    use safetensors::Dtype as Theirs;
    let other = |name| Dtype::Other {
        name,
        size: dtype.bitsize() / 8,
    };
    match dtype {
        Theirs::F64 => Dtype::F64,
        Theirs::F32 => Dtype::F32,
        Theirs::F16 => Dtype::F16,
        Theirs::BF16 => Dtype::BF16,
        Theirs::I64 => Dtype::I64,
        Theirs::I32 => Dtype::I32,
        Theirs::I16 => Dtype::I16,
        Theirs::I8 => Dtype::I8,
        Theirs::U8 => Dtype::U8,
        Theirs::BOOL => Dtype::Bool,
        Theirs::U16 => other("U16"),
        Theirs::U32 => other("U32"),
        Theirs::U64 => other("U64"),
        Theirs::C64 => other("C64"),
        Theirs::F8_E4M3 => other("F8_E4M3"),
        Theirs::F8_E5M2 => other("F8_E5M2"),
        Theirs::F8_E8M0 => other("F8_E8M0"),
        _ => other("of fewer than 8 bits"),
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

/// Gives back the memory of a part of a mapped file whose values have been copied: a whole model would else be held twice
/// while it is loaded.
#[allow(unsafe_code)]
pub(crate) fn release(map: &Mmap, part: Range<usize>) {
    // Advice that is not taken costs memory and nothing else.
    #[cfg(unix)]
    // SAFETY: the map is read-only and backed by a file, so a page that is dropped here is read again from the file.
    let _ = unsafe {
        map.unchecked_advise_range(memmap2::UncheckedAdvice::DontNeed, part.start, part.len())
    };
    #[cfg(not(unix))]
    let _ = (map, part);
}

/// The shard files that an index (`*.index.json`) names, each once.
///
/// # Errors
/// When the index is broken, or a shard is not beside it.
pub(crate) fn shards(index: &Path) -> Result<Vec<PathBuf>, WeightError> {
    let broken = |reason: String| WeightError::Index {
        path: index.to_owned(),
        reason,
    };
    let text = std::fs::read_to_string(index).map_err(|source| WeightError::Io {
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

/// A tensor that is read when its turn comes to be written, so that a file's tensors are never all in memory a second time.
#[derive(Clone)]
pub struct ToWrite<'a> {
    shape: Vec<usize>,
    read: Rc<dyn Fn() -> io::Result<HostTensor> + 'a>,
}

impl<'a> ToWrite<'a> {
    /// A tensor of this shape, by what reads it.
    pub fn new<E: Into<Box<dyn std::error::Error + Send + Sync>>>(
        shape: Vec<usize>,
        read: impl Fn() -> Result<HostTensor, E> + 'a,
    ) -> Self {
        let read = Rc::new(move || read().map_err(io::Error::other));
        Self { shape, read }
    }

    /// Its shape.
    #[must_use]
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// Its values now.
    ///
    /// # Errors
    /// Those of what reads it.
    pub fn read(&self) -> io::Result<HostTensor> {
        (self.read)()
    }
}

impl<'a> From<&'a HostTensor> for ToWrite<'a> {
    fn from(tensor: &'a HostTensor) -> Self {
        Self::new(tensor.shape.clone(), || Ok::<_, io::Error>(tensor.clone()))
    }
}

/// Writes tensors as one safetensors file with `format: pt`: beside the target first, fsynced, then renamed.
///
/// # Errors
/// [`WeightError::Io`] when the file cannot be written or a tensor not be read; the target is then as it was.
pub fn write<'a>(
    path: &Path,
    tensors: impl IntoIterator<Item = (impl Into<String>, ToWrite<'a>)>,
    metadata: &[(&str, String)],
) -> Result<(), WeightError> {
    let io = |source| WeightError::Io {
        path: path.to_owned(),
        source,
    };
    let mut tensors: Vec<(String, ToWrite<'_>)> = tensors
        .into_iter()
        .map(|(name, tensor)| (name.into(), tensor))
        .collect();
    tensors.sort_by(|(a, _), (b, _)| a.cmp(b));
    let header = header(&tensors, metadata).map_err(io)?;
    write_atomically_with(path, |file| {
        file.write_all(&(header.len() as u64).to_le_bytes())?;
        file.write_all(&header)?;
        tensors.iter().try_for_each(|(name, tensor)| {
            let read = tensor.read()?;
            if read.shape != tensor.shape {
                let (found, shape) = (read.shape, &tensor.shape);
                let reason = format!("tensor `{name}` has shape {found:?}, expected {shape:?}");
                return Err(io::Error::other(reason));
            }
            file.write_all(bytemuck::cast_slice(&read.values))
        })
    })
    .map_err(io)
}

/// Names, shapes and places of tensors that lie one after the other, as JSON; padded so that they begin at a multiple of 8.
fn header(tensors: &[(String, ToWrite<'_>)], metadata: &[(&str, String)]) -> io::Result<Vec<u8>> {
    let mut end = 0;
    let infos = tensors.iter().map(|(name, tensor)| {
        let begin = end;
        end += 4 * tensor.shape.iter().product::<usize>();
        let info = TensorInfo {
            dtype: safetensors::Dtype::F32,
            shape: tensor.shape.clone(),
            data_offsets: (begin, end),
        };
        (name.clone(), info)
    });
    let pairs = metadata.iter().map(|(k, v)| ((*k).to_owned(), v.clone()));
    let pairs = pairs.chain([("format".into(), "pt".into())]).collect();
    let header = Metadata::new(Some(pairs), infos.collect()).map_err(io::Error::other)?;
    let mut header = serde_json::to_vec(&header)?;
    header.resize(header.len().next_multiple_of(8), b' ');
    Ok(header)
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
        write(
            &path,
            [("x.weight", (&tensor).into())],
            &[("k", "v".into())],
        )
        .unwrap();
        let files = crate::WeightFiles::open(&path).unwrap();
        assert_eq!(files.names().collect::<Vec<_>>(), ["x.weight"]);
        assert_eq!(files.read("x.weight").unwrap(), Some(tensor));
        assert_eq!(files.read("y").unwrap(), None);
        // transformers refuses a file that does not say so.
        let header = String::from_utf8_lossy(&std::fs::read(&path).unwrap()).into_owned();
        assert!(header.contains(r#""format":"pt""#), "{header}");
    }

    #[test]
    fn a_cut_file_and_nan_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.safetensors");
        let tensor = HostTensor {
            shape: vec![3],
            values: vec![1.0, f32::NAN, 3.5],
        };
        write(&path, [("x", (&tensor).into())], &[]).unwrap();
        let message = crate::WeightFiles::open(&path)
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
        let message = Safetensors::open(&path)
            .map(|_| ())
            .unwrap_err()
            .to_string();
        assert!(
            message.contains("not a complete safetensors file"),
            "{message}"
        );
    }
}
