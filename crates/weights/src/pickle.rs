//! PyTorch checkpoints (`pytorch_model.bin`, `.pth`, `.pt`, `.th`), read by a parser that can only make tensors.
//!
//! Both containers of `torch/serialization.py`: the zip archive (since PyTorch 1.6) and the stream before it. A global
//! outside a closed list is an error that names it; nothing of a file is ever called. The file is memory-mapped: values
//! are read when they are asked for.

mod machine;
#[cfg(test)]
mod tests;

use crate::{
    Dtype, StoredTensor, WeightError,
    safetensors::{map_file, release},
};
use machine::{Fault, MAX_NAME, Machine, Storage, Value, View, key_text};
use memmap2::Mmap;
use std::{
    borrow::Cow,
    collections::{BTreeMap, HashMap},
    io::Cursor,
    ops::Range,
    path::{Path, PathBuf},
};
use zip::{CompressionMethod, ZipArchive};

/// The first pickle of a stream is this number, the second the version.
const STREAM_MAGIC: i128 = 0x1950_a86a_20f9_469c_fc6c;
const STREAM_VERSION: i128 = 1001;
/// Dictionaries inside one another.
const MAX_DEPTH: usize = 32;
/// Entries of all dictionaries, one that is named twice counted twice.
const MAX_ENTRIES: usize = 1 << 18;
/// Values of a tensor that repeats its storage (`expand`) may be this many even if the storage has fewer.
const MAX_EXPANDED: usize = 1 << 24;

/// An open PyTorch checkpoint.
///
/// Tensors in dictionaries inside dictionaries have dotted names: `state_dict.module.conv1.weight`.
#[derive(Debug)]
pub(crate) struct PickleFile {
    path: PathBuf,
    map: Mmap,
    tensors: BTreeMap<String, Tensor>,
    ignored: Vec<(String, String)>,
}

#[derive(Debug)]
struct Tensor {
    view: View,
    /// The bytes of its storage.
    bytes: Range<usize>,
}

impl PickleFile {
    /// Opens a file that `torch.save` wrote, of any PyTorch since 0.4.
    ///
    /// # Errors
    /// See [`WeightError`]: the file is of another kind, damaged, names something that is not needed for tensors, or
    /// holds no dictionary of tensors.
    pub(crate) fn open(path: &Path) -> Result<Self, WeightError> {
        let map = map_file(path).map_err(|source| WeightError::Io {
            path: path.to_owned(),
            source,
        })?;
        let (tensors, ignored) = parse(&map).map_err(|refusal| refusal.of(path, map.len()))?;
        Ok(Self {
            path: path.to_owned(),
            map,
            tensors,
            ignored,
        })
    }

    /// The file.
    #[must_use]
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The tensors' names, sorted.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// The entries that are no tensors, with what they are.
    #[must_use]
    pub(crate) fn ignored(&self) -> &[(String, String)] {
        &self.ignored
    }

    /// A tensor's dimensions.
    #[must_use]
    pub(crate) fn shape(&self, name: &str) -> Option<&[usize]> {
        self.tensors
            .get(name)
            .map(|tensor| tensor.view.shape.as_slice())
    }

    /// A tensor's type as safetensors names it.
    #[must_use]
    pub(crate) fn dtype(&self, name: &str) -> Option<Dtype> {
        self.tensors.get(name).map(|tensor| tensor.view.dtype)
    }

    /// A tensor, its elements in row-major order whatever its strides; `None` where there is none of that name.
    pub(crate) fn stored(&self, name: &str) -> Option<StoredTensor<'_>> {
        let (name, Tensor { view, bytes }) = self.tensors.get_key_value(name)?;
        Some(StoredTensor {
            file: &self.path,
            name,
            dtype: view.dtype,
            shape: &view.shape,
            bytes: gather(&self.map[bytes.clone()], view),
        })
    }

    /// Gives back the memory of a tensor's part of the mapped file.
    pub(crate) fn release(&self, name: &str) {
        if let Some(tensor) = self.tensors.get(name) {
            release(&self.map, tensor.bytes.clone());
        }
    }
}

/// The elements of a view in row-major order. The view lies inside the bytes: it was checked when the file was opened.
fn gather<'a>(bytes: &'a [u8], view: &View) -> Cow<'a, [u8]> {
    let size = view.dtype.size();
    if view.count == 0 {
        return Cow::Borrowed(&[]);
    }
    if view.is_contiguous() {
        return Cow::Borrowed(&bytes[view.start * size..(view.start + view.count) * size]);
    }
    let mut index = vec![0; view.shape.len()];
    let mut place = view.start;
    let mut values = Vec::with_capacity(view.count * size);
    loop {
        values.extend_from_slice(&bytes[place * size..(place + 1) * size]);
        // One further, as an odometer goes.
        let mut dim = view.shape.len();
        loop {
            if dim == 0 {
                return Cow::Owned(values);
            }
            dim -= 1;
            if index[dim] + 1 < view.shape[dim] {
                index[dim] += 1;
                place += view.stride[dim];
                break;
            }
            place -= view.stride[dim] * index[dim];
            index[dim] = 0;
        }
    }
}

/// Why a file is not read, without its path.
enum Refusal {
    Kind { found: String, hint: &'static str },
    Content(String),
    Fault(Fault),
}

impl From<Fault> for Refusal {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

impl Refusal {
    fn at(offset: usize, reason: impl Into<String>) -> Self {
        Self::Fault(Fault::Malformed {
            offset,
            reason: reason.into(),
        })
    }

    fn of(self, path: &Path, bytes: usize) -> WeightError {
        let path = path.to_owned();
        match self {
            Self::Kind { found, hint } => WeightError::Kind { path, found, hint },
            Self::Content(found) => WeightError::Content { path, found },
            Self::Fault(Fault::Refused { offset, global }) => WeightError::Refused {
                path,
                offset: offset as u64,
                global,
            },
            Self::Fault(Fault::Malformed { offset, reason }) => WeightError::Damaged {
                path,
                offset: offset as u64,
                bytes: bytes as u64,
                reason,
            },
        }
    }
}

/// The tensors of a file, and what else it holds.
type Parsed = (BTreeMap<String, Tensor>, Vec<(String, String)>);

fn parse(file: &[u8]) -> Result<Parsed, Refusal> {
    const SAVE_AGAIN: &str =
        "load the file in Python and save its weights: torch.save(model.state_dict(), path)";
    const FETCH: &str = "fetch the file again; with Git, run `git lfs pull`";
    let kind = |found: &str, hint| {
        Err(Refusal::Kind {
            found: found.to_owned(),
            hint,
        })
    };
    match file {
        [] => kind("an empty file", FETCH),
        [b'P', b'K', 3, 4, ..] => archive(file),
        [0x80, ..] => stream(file),
        _ if file.starts_with(b"version https://git-lfs") => kind("a pointer of Git LFS", FETCH),
        _ if file.get(257..262) == Some(b"ustar") => {
            kind("a tar archive, as PyTorch before 0.1.10 wrote", SAVE_AGAIN)
        }
        _ if file.get(8) == Some(&b'{') => kind(
            "what seems to be safetensors",
            "name it with the extension .safetensors",
        ),
        _ => kind("other bytes", "name a file that torch.save wrote"),
    }
}

/// The zip archive: `<name>/data.pkl`, and `<name>/data/<key>` for each storage, all stored without compression.
fn archive(file: &[u8]) -> Result<Parsed, Refusal> {
    let mut zip = ZipArchive::new(Cursor::new(file)).map_err(|e| {
        Refusal::at(
            file.len(),
            format!("expected a zip archive's directory at the end ({e})"),
        )
    })?;
    let mut records = HashMap::new();
    for i in 0..zip.len() {
        let broken = |reason: String| {
            Refusal::at(
                file.len(),
                format!("entry {i} of the zip archive: {reason}"),
            )
        };
        let entry = zip.by_index_raw(i).map_err(|e| broken(e.to_string()))?;
        let Some(start) = entry.data_start() else {
            return Err(broken("it has no data".into()));
        };
        let range = usize::try_from(start)
            .ok()
            .zip(usize::try_from(entry.size()).ok());
        let range = range.and_then(|(start, length)| Some(start..start.checked_add(length)?));
        let range = range
            .filter(|range| range.end <= file.len())
            .ok_or_else(|| broken("it reaches beyond the end".into()))?;
        if entry.compression() != CompressionMethod::Stored
            || entry.encrypted()
            || entry.size() != entry.compressed_size()
        {
            return Err(broken(
                "it is compressed or encrypted, which torch.save never does".into(),
            ));
        }
        // torch.save puts everything under one folder of any name.
        let name = entry.name().map_err(|e| broken(e.to_string()))?;
        if let Some((_, name)) = name.split_once('/') {
            records.insert(name.to_owned(), range);
        }
    }
    let Some(program) = records.get("data.pkl") else {
        return Err(Refusal::Kind {
            found: "a zip archive without data.pkl".into(),
            hint: "name a file that torch.save wrote",
        });
    };
    if records
        .get("byteorder")
        .is_some_and(|range| &file[range.clone()] != b"little")
    {
        return Err(Refusal::Content("numbers in big-endian order".into()));
    }
    let mut machine = Machine::new(&file[program.clone()], program.start);
    let root = machine.run()?;
    flatten(&machine, root, |storage| {
        records.get(&format!("data/{}", storage.key)).cloned()
    })
}

/// The stream: magic number, version, the writer's system, the object, the storages' names, and then each storage: its
/// number of elements (64 bits) and their bytes.
fn stream(file: &[u8]) -> Result<Parsed, Refusal> {
    let mut machine = Machine::new(file, 0);
    for (expected, what) in [(STREAM_MAGIC, "magic number"), (STREAM_VERSION, "version")] {
        if machine.run()? != Value::Int(expected) {
            return Err(machine
                .malformed(format!("expected torch.save's {what}"))
                .into());
        }
    }
    let system = machine.run()?;
    let little_endian = (Value::Str("little_endian"), Value::Bool(true));
    if !machine
        .entries(system)
        .unwrap_or_default()
        .contains(&little_endian)
    {
        return Err(machine
            .malformed("expected numbers in little-endian order")
            .into());
    }
    let root = machine.run()?;
    let keys = machine.run()?;
    let keys = machine
        .items(keys)
        .map(<[_]>::to_vec)
        .ok_or_else(|| machine.malformed("expected a list of storages"))?;
    let sizes: HashMap<String, usize> = machine
        .storages
        .iter()
        .map(|s| (s.key.clone(), s.dtype.map_or(1, Dtype::size)))
        .collect();
    let mut places = HashMap::new();
    for key in keys {
        let Some((key, size)) = key_text(key).and_then(|key| sizes.get_key_value(&key)) else {
            return Err(machine
                .malformed(format!(
                    "a storage that no tensor uses ({})",
                    machine.describe(key)
                ))
                .into());
        };
        let length = u64::from_le_bytes(machine.array()?);
        let length = usize::try_from(length)
            .ok()
            .and_then(|length| length.checked_mul(*size));
        let start = machine.position;
        let length =
            length.ok_or_else(|| Refusal::at(start, "a storage longer than any memory"))?;
        machine.take(length)?;
        places.insert(key.clone(), start..start + length);
    }
    flatten(&machine, root, |storage| places.get(&storage.key).cloned())
}

/// Names the tensors of nested dictionaries, and finds the bytes of each.
fn flatten<'a>(
    machine: &Machine<'a>,
    root: Value<'a>,
    bytes_of: impl Fn(&Storage) -> Option<Range<usize>>,
) -> Result<Parsed, Refusal> {
    let (mut tensors, mut ignored) = (BTreeMap::new(), Vec::new());
    if machine.entries(root).is_none() {
        return Err(Refusal::Content(machine.describe(root)));
    }
    let mut seen = 0;
    // Last in, first out, so each dictionary's entries go on reversed.
    let mut rest = vec![(String::new(), root, 0)];
    while let Some((name, value, depth)) = rest.pop() {
        seen += 1;
        let entries = machine.entries(value);
        if seen + rest.len() + entries.map_or(0, <[_]>::len) > MAX_ENTRIES
            || depth > MAX_DEPTH
            || name.len() > MAX_NAME
        {
            return Err(Refusal::Content(
                "dictionaries nested deeper, or of more entries, than in any model".into(),
            ));
        }
        match (value, entries) {
            (Value::Tensor(view), _) => {
                let tensor = place(&machine.views[view], &machine.storages, &bytes_of)?;
                if tensors.contains_key(&name) {
                    return Err(Refusal::Content(format!("two tensors named `{name}`")));
                }
                tensors.insert(name, tensor);
            }
            (_, Some(entries)) if !entries.is_empty() => {
                for &(key, value) in entries.iter().rev() {
                    let name = |key: &str| {
                        if depth == 0 {
                            key.to_owned()
                        } else {
                            format!("{name}.{key}")
                        }
                    };
                    match key_text(key) {
                        Some(key) => rest.push((name(&key), value, depth + 1)),
                        None => ignored.push((
                            name("?"),
                            format!("an entry named by {}", machine.describe(key)),
                        )),
                    }
                }
            }
            _ => ignored.push((name, machine.describe(value))),
        }
    }
    if tensors.is_empty() {
        return Err(Refusal::Content("a dictionary without a tensor".into()));
    }
    Ok((tensors, ignored))
}

fn place(
    view: &View,
    storages: &[Storage],
    bytes_of: impl Fn(&Storage) -> Option<Range<usize>>,
) -> Result<Tensor, Refusal> {
    let storage = &storages[view.storage];
    let size = storage.dtype.map_or(1, Dtype::size);
    let Some(bytes) = bytes_of(storage) else {
        return Err(Refusal::at(
            storage.offset,
            format!("the storage `{}` is not in the file", storage.key),
        ));
    };
    if bytes.len() / size < storage.len {
        let (expected, found) = (storage.len * size, bytes.len());
        let reason = format!(
            "the storage `{}` has {found} bytes, expected {expected}",
            storage.key
        );
        return Err(Refusal::at(bytes.start, reason));
    }
    if view.count > storage.len.max(MAX_EXPANDED) {
        let reason = format!(
            "a tensor of shape {:?} that repeats {} elements",
            view.shape, storage.len
        );
        return Err(Refusal::at(storage.offset, reason));
    }
    Ok(Tensor {
        view: view.clone(),
        bytes,
    })
}
