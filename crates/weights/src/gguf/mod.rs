//! GGUF, the file format of llama.cpp: versions 2 and 3, read by memory map, presented under Hugging Face's names and
//! layouts. The format is described in ggml's `docs/gguf.md`.
//!
//! A file is not trusted. Every count, length, offset and product is held against the file's size before anything is
//! allocated for it, and nothing but the metadata that is asked for is copied out of the map.

mod blocks;
mod names;
mod side_files;
#[cfg(test)]
mod tests;
mod write;

pub use blocks::GgmlType;
pub use side_files::side_files;
pub use write::write_gguf;

use crate::{
    Dtype, StoredTensor, WeightError,
    safetensors::{map_file, release},
};
use memmap2::Mmap;
use names::{Architecture, Layout, reorder_rope, transpose};
use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
    ops::Range,
    path::{Path, PathBuf},
};

/// What to do about a file that is not whole.
const DAMAGED: &str = "the file was cut off or damaged: fetch or make it again";
/// What to do about a file that we do not read.
const OTHER_FILE: &str =
    "make the file again with llama.cpp's convert_hf_to_gguf.py, or use the original weights";
/// Where the data begin, if the file does not say: at a multiple of so many bytes.
const ALIGNMENT: u64 = 32;
/// The magic number of a file.
const MAGIC: &[u8; 4] = b"GGUF";
/// The types of metadata that have a use here by name.
const STRING: u32 = 8;
const ARRAY: u32 = 9;
/// The largest rank of a tensor in ggml.
const MAX_RANK: u32 = 4;

/// An open GGUF file; no tensor is read until it is asked for.
#[derive(Debug)]
pub struct GgufFile {
    path: PathBuf,
    map: Mmap,
    architecture: Architecture,
    metadata: BTreeMap<String, Value>,
    /// By Hugging Face's name; one that the architecture does not have keeps GGUF's.
    tensors: BTreeMap<String, Entry>,
    /// By GGUF's name: tables that belong to `config.json`.
    tables: BTreeMap<String, Entry>,
    /// The same, with what they are.
    ignored: Vec<(String, String)>,
}

/// A tensor of the file.
#[derive(Debug)]
struct Entry {
    kind: GgmlType,
    /// As Hugging Face has it.
    shape: Vec<usize>,
    layout: Layout,
    /// Heads to reorder, where the layout does.
    heads: usize,
    /// Its bytes in the file.
    place: Range<usize>,
}

impl Entry {
    fn dtype(&self) -> Dtype {
        match self.layout {
            Layout::Transposed | Layout::PlusOne => Dtype::F32,
            _ => self.kind.dtype(),
        }
    }
}

/// A value of the metadata.
#[derive(Debug)]
enum Value {
    Unsigned(u64),
    Signed(i64),
    F32(f32),
    F64(f64),
    Bool(bool),
    String(String),
    Array(Array),
}

/// An array of the metadata, checked but not copied.
#[derive(Debug)]
struct Array {
    kind: u32,
    count: usize,
    place: Range<usize>,
}

/// Why a file is not read, and what to do about it.
struct Fault {
    reason: String,
    hint: &'static str,
}

impl Fault {
    fn damaged(reason: impl Into<String>) -> Self {
        let reason = reason.into();
        let hint = DAMAGED;
        Self { reason, hint }
    }

    fn other(reason: impl Into<String>) -> Self {
        let reason = reason.into();
        let hint = OTHER_FILE;
        Self { reason, hint }
    }

    fn at(self, path: &Path) -> WeightError {
        WeightError::Gguf {
            path: path.to_owned(),
            reason: self.reason,
            hint: self.hint,
        }
    }
}

impl GgufFile {
    /// Opens a file and checks its metadata and the place of every tensor.
    ///
    /// # Errors
    /// [`WeightError::Io`] where it cannot be read; [`WeightError::Gguf`] where it is cut off or damaged, or of a version, an
    /// architecture or an element type that is not read.
    pub fn open(path: &Path) -> Result<Self, WeightError> {
        let map = map_file(path).map_err(|source| WeightError::Io {
            path: path.to_owned(),
            source,
        })?;
        Self::parse(path, map).map_err(|fault| fault.at(path))
    }

    fn parse(path: &Path, map: Mmap) -> Result<Self, Fault> {
        let Header {
            metadata,
            tensors: infos,
            data,
        } = Header::parse(&map)?;
        let architecture = architecture(&metadata)?;
        if number(&metadata, "split.count").is_some_and(|count| count > 1) {
            return Err(Fault {
                reason: "the file is one part of a model that was split".into(),
                hint: "join the parts with llama.cpp: llama-gguf-split --merge FIRST-PART OUTPUT",
            });
        }
        check_places(&infos, map.len() as u64 - data)?;
        let mut file = Self {
            path: path.to_owned(),
            map,
            architecture,
            metadata,
            tensors: BTreeMap::new(),
            tables: BTreeMap::new(),
            ignored: Vec::new(),
        };
        let is_rope = |layout| matches!(layout, Layout::RopeQueries | Layout::RopeKeys);
        let has_rope = infos
            .iter()
            .any(|info| is_rope(architecture.layout(&info.name)));
        let heads = if has_rope {
            (file.heads("attention.head_count")?, file.key_heads()?)
        } else {
            (0, 0)
        };
        for info in infos {
            file.add(info, data, heads)?;
        }
        Ok(file)
    }

    /// Adds a tensor under Hugging Face's name; `heads` are those of queries and of keys.
    fn add(&mut self, info: Info, data: u64, heads: (usize, usize)) -> Result<(), Fault> {
        let layout = self.architecture.layout(&info.name);
        let heads = match layout {
            Layout::RopeQueries => heads.0,
            Layout::RopeKeys => heads.1,
            _ => 0,
        };
        let mut shape = info.shape;
        if heads > 0 && !shape[0].is_multiple_of(2 * heads) {
            return Err(Fault::damaged(format!(
                "tensor `{}` has {} rows, expected an even number for each of {heads} heads",
                info.name, shape[0]
            )));
        }
        if heads > 0 && shape.len() == 1 && info.kind.block_len() > 1 {
            return Err(Fault::other(format!(
                "tensor `{}` has one dimension and type {}, expected a plain float",
                info.name, info.kind
            )));
        }
        if layout == Layout::Transposed {
            if shape.len() != 2 {
                return Err(Fault::damaged(format!(
                    "tensor `{}` has shape {shape:?}, expected two dimensions",
                    info.name
                )));
            }
            shape.reverse();
        }
        // Checked against the file's length, so that both fit.
        let start = (data + info.offset) as usize;
        let entry = Entry {
            kind: info.kind,
            shape,
            layout,
            heads,
            place: start..start + info.bytes as usize,
        };
        if info.name.starts_with("rope_f") {
            let what = "rope scaling, a setting of config.json";
            self.ignored.push((info.name.clone(), what.into()));
            self.tables.insert(info.name, entry);
            return Ok(());
        }
        let name = self.architecture.to_hf(&info.name);
        let name = name.unwrap_or_else(|| info.name.clone());
        if self.tensors.insert(name.clone(), entry).is_some() {
            return Err(Fault::damaged(format!(
                "tensor `{}` and another are both `{name}`",
                info.name
            )));
        }
        Ok(())
    }

    /// A count of heads: a number, or the same number for every block.
    fn heads(&self, key: &str) -> Result<usize, Fault> {
        let key = format!("{}.{key}", self.architecture.name());
        let count = match self.metadata.get(&key) {
            Some(Value::Array(array)) => {
                let counts: BTreeSet<_> = self.numbers(array).collect();
                match counts.into_iter().collect::<Vec<_>>()[..] {
                    [Some(count)] => Some(count),
                    _ => {
                        return Err(Fault::other(format!(
                            "`{key}` differs between blocks, which is not read"
                        )));
                    }
                }
            }
            _ => number(&self.metadata, &key),
        };
        match count {
            Some(count) if count > 0 && count <= u64::from(u32::MAX) => Ok(count as usize),
            Some(count) => Err(Fault::damaged(format!("`{key}` is {count}"))),
            None => Err(Fault::damaged(format!(
                "the metadata have no number `{key}`"
            ))),
        }
    }

    /// Heads of keys and values: as many as of queries where the file does not say.
    fn key_heads(&self) -> Result<usize, Fault> {
        let key = "attention.head_count_kv";
        let given = self
            .metadata
            .contains_key(&format!("{}.{key}", self.architecture.name()));
        self.heads(if given { key } else { "attention.head_count" })
    }

    /// The integers of an array, flags as 0 and 1; `None` for what is neither.
    fn numbers(&self, array: &Array) -> impl Iterator<Item = Option<u64>> {
        let mut cursor = Cursor::new(&self.map[array.place.clone()]);
        (0..array.count).map(move |_| match cursor.value(array.kind) {
            Ok(Value::Unsigned(value)) => Some(value),
            Ok(Value::Signed(value)) => value.try_into().ok(),
            Ok(Value::Bool(flag)) => Some(flag.into()),
            _ => None,
        })
    }

    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What the metadata say under a key, where that is text.
    #[must_use]
    pub fn text(&self, key: &str) -> Option<&str> {
        match self.metadata.get(key) {
            Some(Value::String(text)) => Some(text),
            _ => None,
        }
    }

    /// What the file calls its kind of model: `llama`, `qwen2`.
    #[must_use]
    pub fn architecture(&self) -> &'static str {
        self.architecture.name()
    }

    /// All tensors' names in a Hugging Face checkpoint, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// A tensor's dimensions, slowest first.
    #[must_use]
    pub fn shape(&self, name: &str) -> Option<&[usize]> {
        self.tensors.get(name).map(|entry| entry.shape.as_slice())
    }

    /// A tensor's type.
    #[must_use]
    pub fn dtype(&self, name: &str) -> Option<Dtype> {
        self.tensors.get(name).map(Entry::dtype)
    }

    /// Tensors that are settings of the model, with what they are.
    pub(crate) fn ignored(&self) -> &[(String, String)] {
        &self.ignored
    }

    /// A tensor in Hugging Face's layout; `None` where there is none of that name. Blocks stay packed
    /// ([`Dtype::Packed`]), also where rows had to be reordered; a tensor that had to be transposed or shifted is F32.
    #[must_use]
    pub fn stored(&self, name: &str) -> Option<StoredTensor<'_>> {
        let (name, entry) = self.tensors.get_key_value(name)?;
        let bytes = &self.map[entry.place.clone()];
        let rows = entry.shape[0];
        let floats = |values: Vec<f32>| Cow::Owned(bytemuck::cast_slice(&values).to_vec());
        let bytes = match entry.layout {
            Layout::Same => Cow::Borrowed(bytes),
            Layout::RopeQueries | Layout::RopeKeys => {
                Cow::Owned(reorder_rope(bytes, rows, entry.heads, false))
            }
            // The shape is the transposed one.
            Layout::Transposed => floats(transpose(&entry.kind.dequantize(bytes), entry.shape[1])),
            Layout::PlusOne => {
                let values = entry.kind.dequantize(bytes);
                floats(values.into_iter().map(|v| v - 1.0).collect())
            }
        };
        Some(StoredTensor {
            file: &self.path,
            name,
            dtype: entry.dtype(),
            shape: &entry.shape,
            bytes,
        })
    }

    /// Gives back the memory of a tensor's part of the mapped file.
    pub(crate) fn release(&self, name: &str) {
        if let Some(entry) = self.tensors.get(name) {
            release(&self.map, entry.place.clone());
        }
    }

    /// The values of a table that belongs to `config.json`.
    fn table(&self, name: &str) -> Option<Vec<f32>> {
        let entry = self.tables.get(name)?;
        Some(entry.kind.dequantize(&self.map[entry.place.clone()]))
    }

    /// The strings of an array of the metadata.
    fn strings(&self, key: &str) -> Option<Vec<&str>> {
        let Some(Value::Array(array)) = self.metadata.get(key) else {
            return None;
        };
        let mut cursor = Cursor::new(&self.map[array.place.clone()]);
        (array.kind == STRING).then(|| {
            (0..array.count)
                .map_while(|_| cursor.string().ok())
                .collect()
        })
    }

    /// The numbers of an array of the metadata, as f64.
    fn floats(&self, key: &str) -> Option<Vec<f64>> {
        let Some(Value::Array(array)) = self.metadata.get(key) else {
            return None;
        };
        let mut cursor = Cursor::new(&self.map[array.place.clone()]);
        let value = |_| match cursor.value(array.kind) {
            Ok(Value::Unsigned(value)) => Some(value as f64),
            Ok(Value::Signed(value)) => Some(value as f64),
            Ok(Value::F32(value)) => Some(value.into()),
            Ok(Value::F64(value)) => Some(value),
            _ => None,
        };
        (0..array.count).map(value).collect()
    }
}

/// An unsigned number of the metadata.
fn number(metadata: &BTreeMap<String, Value>, key: &str) -> Option<u64> {
    match metadata.get(key)? {
        Value::Unsigned(value) => Some(*value),
        Value::Signed(value) => (*value).try_into().ok(),
        _ => None,
    }
}

/// The architecture that the metadata name.
fn architecture(metadata: &BTreeMap<String, Value>) -> Result<Architecture, Fault> {
    let Some(Value::String(name)) = metadata.get("general.architecture") else {
        return Err(Fault::damaged(
            "the metadata do not name `general.architecture`",
        ));
    };
    Architecture::from_name(name).ok_or_else(|| Fault {
        reason: format!(
            "architecture {name:?} is not read, expected one of {}",
            Architecture::all_names()
        ),
        hint: "use a model of one of these, or the original weights",
    })
}

/// What the file's first part says.
struct Header {
    metadata: BTreeMap<String, Value>,
    tensors: Vec<Info>,
    /// Where the data begin, at most the file's length.
    data: u64,
}

/// A tensor's entry in the header.
struct Info {
    name: String,
    kind: GgmlType,
    /// Slowest dimension first; never empty, none is 0.
    shape: Vec<usize>,
    /// From the start of the data.
    offset: u64,
    bytes: u64,
}

impl Header {
    fn parse(bytes: &[u8]) -> Result<Self, Fault> {
        let mut cursor = Cursor::new(bytes);
        let magic = cursor
            .take(4)
            .map_err(|_| Fault::damaged(format!("not GGUF: the file has {} bytes", bytes.len())))?;
        if magic != MAGIC {
            return Err(Fault {
                reason: format!(
                    "not GGUF: the file begins with {:?}, expected \"GGUF\"",
                    String::from_utf8_lossy(magic)
                ),
                hint: "the file is something else, or a web page that was saved under its name: fetch it again",
            });
        }
        match cursor.u32()? {
            2 | 3 => {}
            version if version.swap_bytes() < 16 => {
                return Err(Fault::other(
                    "the file is big-endian, expected little-endian",
                ));
            }
            version => {
                return Err(Fault::other(format!(
                    "GGUF version {version}, expected 2 or 3"
                )));
            }
        }
        // The least that an entry takes: a name's length, a rank and a dimension, type, offset; a key's length, a type, a byte.
        let tensors = cursor.count("tensors", 32)?;
        let keys = cursor.count("metadata keys", 13)?;
        let mut metadata = BTreeMap::new();
        for _ in 0..keys {
            let key = cursor.string()?.to_owned();
            let kind = cursor.u32()?;
            let value = cursor
                .value(kind)
                .map_err(|fault| fault_in(fault, "key", &key))?;
            if metadata.insert(key.clone(), value).is_some() {
                return Err(Fault::damaged(format!("key `{key}` occurs twice")));
            }
        }
        let alignment = match metadata.contains_key("general.alignment") {
            false => ALIGNMENT,
            true => number(&metadata, "general.alignment").unwrap_or(0),
        };
        if !alignment.is_power_of_two() {
            return Err(Fault::damaged("`general.alignment` is no power of two"));
        }
        let mut names = BTreeSet::new();
        let mut infos = Vec::new();
        for _ in 0..tensors {
            let info = cursor.tensor(alignment)?;
            if !names.insert(info.name.clone()) {
                let name = info.name;
                return Err(Fault::damaged(format!("tensor `{name}` occurs twice")));
            }
            infos.push(info);
        }
        let data = (cursor.at as u64).checked_next_multiple_of(alignment);
        let data = data.filter(|data| *data <= bytes.len() as u64);
        // A file without tensors may end where its padding would begin.
        let data = if infos.is_empty() {
            Some(bytes.len() as u64)
        } else {
            data
        };
        Ok(Self {
            metadata,
            tensors: infos,
            data: data.ok_or_else(|| Fault::damaged("the file ends before its data"))?,
        })
    }
}

/// Checks that every tensor lies in the data, apart from all others.
fn check_places(infos: &[Info], length: u64) -> Result<(), Fault> {
    let mut ordered: Vec<&Info> = infos.iter().collect();
    ordered.sort_by_key(|info| info.offset);
    for info in &ordered {
        let end = info.offset.checked_add(info.bytes);
        if end.is_none_or(|end| end > length) {
            return Err(Fault::damaged(format!(
                "tensor `{}` takes {} bytes from byte {} of the data, which are {length} bytes long",
                info.name, info.bytes, info.offset
            )));
        }
    }
    for pair in ordered.windows(2) {
        if pair[0].offset + pair[0].bytes > pair[1].offset {
            return Err(Fault::damaged(format!(
                "tensors `{}` and `{}` overlap",
                pair[0].name, pair[1].name
            )));
        }
    }
    Ok(())
}

/// Says which entry a fault is in.
fn fault_in(fault: Fault, what: &str, name: &str) -> Fault {
    Fault {
        reason: format!("{what} `{name}`: {}", fault.reason),
        ..fault
    }
}

/// Reads the header, never beyond its end.
struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    fn left(&self) -> usize {
        self.bytes.len() - self.at
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8], Fault> {
        if count > self.left() {
            return Err(Fault::damaged(format!(
                "{count} bytes expected at byte {}, the file has {}",
                self.at,
                self.bytes.len()
            )));
        }
        let taken = &self.bytes[self.at..][..count];
        self.at += count;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Fault> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N)?);
        Ok(array)
    }

    fn u32(&mut self) -> Result<u32, Fault> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    fn u64(&mut self) -> Result<u64, Fault> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    /// A number of things that take at least so many bytes each.
    fn count(&mut self, what: &str, least: usize) -> Result<usize, Fault> {
        let at = self.at;
        let count = self.u64()?;
        let room = (self.left() / least) as u64;
        if count > room {
            return Err(Fault::damaged(format!(
                "{count} {what} at byte {at}, but the file has room for {room}"
            )));
        }
        Ok(count as usize)
    }

    fn string(&mut self) -> Result<&'a str, Fault> {
        let at = self.at;
        let length = self.count("bytes of a string", 1)?;
        std::str::from_utf8(self.take(length)?)
            .map_err(|_| Fault::damaged(format!("the string at byte {at} is not UTF-8")))
    }

    /// A value of a type of the metadata.
    fn value(&mut self, kind: u32) -> Result<Value, Fault> {
        Ok(match kind {
            0 => Value::Unsigned(u8::from_le_bytes(self.array()?).into()),
            1 => Value::Signed(i8::from_le_bytes(self.array()?).into()),
            2 => Value::Unsigned(u16::from_le_bytes(self.array()?).into()),
            3 => Value::Signed(i16::from_le_bytes(self.array()?).into()),
            4 => Value::Unsigned(self.u32()?.into()),
            5 => Value::Signed(i32::from_le_bytes(self.array()?).into()),
            6 => Value::F32(f32::from_le_bytes(self.array()?)),
            7 => Value::Bool(self.array::<1>()? != [0]),
            STRING => Value::String(self.string()?.to_owned()),
            ARRAY => Value::Array(self.values()?),
            10 => Value::Unsigned(self.u64()?),
            11 => Value::Signed(i64::from_le_bytes(self.array()?)),
            12 => Value::F64(f64::from_le_bytes(self.array()?)),
            other => {
                return Err(Fault::damaged(format!(
                    "type of value {other}, expected 0 to 12"
                )));
            }
        })
    }

    /// An array, walked through.
    fn values(&mut self) -> Result<Array, Fault> {
        let kind = self.u32()?;
        let size = match kind {
            0 | 1 | 7 => 1,
            2 | 3 => 2,
            4..=6 => 4,
            // The least that a string takes.
            STRING | 10..=12 => 8,
            ARRAY => return Err(Fault::other("an array of arrays, which is not read")),
            other => {
                return Err(Fault::damaged(format!(
                    "array of type {other}, expected 0 to 12"
                )));
            }
        };
        let count = self.count("values of an array", size)?;
        let start = self.at;
        if kind == STRING {
            for _ in 0..count {
                self.string()?;
            }
        } else {
            self.take(count * size)?;
        }
        Ok(Array {
            kind,
            count,
            place: start..self.at,
        })
    }

    /// A tensor's entry.
    fn tensor(&mut self, alignment: u64) -> Result<Info, Fault> {
        let name = self.string()?.to_owned();
        let damaged = |reason: String| Fault::damaged(format!("tensor `{name}` {reason}"));
        let rank = self.u32()?;
        if rank == 0 || rank > MAX_RANK {
            return Err(damaged(format!(
                "has {rank} dimensions, expected 1 to {MAX_RANK}"
            )));
        }
        let mut dims = Vec::new();
        for _ in 0..rank {
            dims.push(self.u64()?);
        }
        let kind = GgmlType::from_id(self.u32()?).map_err(|found| {
            let expected = GgmlType::ALL.map(|kind| kind.to_string()).join(", ");
            Fault {
                reason: format!("tensor `{name}` has type {found}, expected one of {expected}"),
                hint: "quantize the model to one of these types, or use the original weights",
            }
        })?;
        let offset = self.u64()?;
        let values = dims.iter().try_fold(1u64, |all, d| all.checked_mul(*d));
        let block = kind.block_len() as u64;
        if !dims[0].is_multiple_of(block) {
            return Err(damaged(format!(
                "of type {kind} has rows of {}, expected a multiple of {block}",
                dims[0]
            )));
        }
        let bytes = values
            .filter(|values| *values > 0)
            .and_then(|values| (values / block).checked_mul(kind.block_bytes() as u64))
            .filter(|bytes| *bytes <= self.bytes.len() as u64)
            .ok_or_else(|| {
                damaged(format!(
                    "has dimensions {dims:?} of type {kind}, which the file of {} bytes cannot hold",
                    self.bytes.len()
                ))
            })?;
        if !offset.is_multiple_of(alignment) {
            return Err(damaged(format!(
                "begins at byte {offset} of the data, expected a multiple of {alignment}"
            )));
        }
        Ok(Info {
            kind,
            // Their product is at most a small multiple of the file's length.
            shape: dims.iter().rev().map(|d| *d as usize).collect(),
            offset,
            bytes,
            name,
        })
    }
}
