//! What can go wrong with files of weights.

use crate::stored::MAX_EXACT;
use std::{io, path::PathBuf};

/// What can go wrong with a file of tensors.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WeightError {
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
    /// Two shards hold a tensor of the same name.
    #[error("tensor `{tensor}` lies in two files: {} and {}\nhint: keep one of them, or fetch the model again", other.display(), path.display())]
    Twice {
        /// The tensor.
        tensor: String,
        /// The second file that holds it.
        path: PathBuf,
        /// The first.
        other: PathBuf,
    },
    /// A tensor of a type that training cannot use.
    #[error("{}: tensor `{tensor}` has type {dtype}, expected {expected}\nhint: quantised checkpoints cannot be tuned; use the original weights", path.display())]
    Type {
        /// The file.
        path: PathBuf,
        /// The tensor.
        tensor: String,
        /// Its type.
        dtype: String,
        /// The types that can be read.
        expected: &'static str,
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
    /// The file is another kind of file.
    #[error("{}: not a PyTorch checkpoint; expected a zip archive or a pickle stream of torch.save, found {found}\nhint: {hint}", path.display())]
    Kind {
        /// The file.
        path: PathBuf,
        /// What it is.
        found: String,
        /// What to do.
        hint: &'static str,
    },
    /// The bytes are not what `torch.save` writes, or stop too early.
    #[error("{}: damaged PyTorch checkpoint at byte {offset} of {bytes}: {reason}\nhint: the download or copy was probably cut off; fetch the file again", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where, in bytes from its start.
        offset: u64,
        /// The file's length.
        bytes: u64,
        /// What was expected, what was found.
        reason: String,
    },
    /// Loading the file in Python would call something that no tensor needs.
    #[error("{}: this file would run `{global}` (byte {offset}); refused\nhint: only tensors are read; if you trust the file, load it in Python and save its weights alone: torch.save(model.state_dict(), path), or as safetensors", path.display())]
    Refused {
        /// The file.
        path: PathBuf,
        /// Where it is named, in bytes from the start of the file.
        offset: u64,
        /// The global, with its module.
        global: String,
    },
    /// The file holds something else than a dictionary of tensors.
    #[error("{}: expected a dictionary of tensors, found {found}\nhint: save the weights as torch.save(model.state_dict(), path)", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What it holds.
        found: String,
    },
    /// An integer too large for f32.
    #[error("{}: tensor `{tensor}` holds {value} at flat index {index}, which f32 cannot hold exactly\nhint: integers are read up to a magnitude of {}", path.display(), MAX_EXACT)]
    Inexact {
        /// The file.
        path: PathBuf,
        /// The tensor.
        tensor: String,
        /// The value found.
        value: i64,
        /// Where in the tensor, in row-major order.
        index: usize,
    },
    /// A GGUF file that is broken, that we do not read, or that cannot be written.
    #[error("{}: {reason}\nhint: {hint}", path.display())]
    Gguf {
        /// The file.
        path: PathBuf,
        /// What is wrong with it, and with which tensor or key.
        reason: String,
        /// What to do.
        hint: &'static str,
    },
    /// The directory holds no weights we can read.
    #[error("{}: no weights found; expected model.safetensors, pytorch_model.bin, an index of either (*.index.json) or one .gguf, found {found}\nhint: {hint}", path.display())]
    NoWeights {
        /// The directory.
        path: PathBuf,
        /// What lies there.
        found: String,
        /// What to do.
        hint: String,
    },
}
