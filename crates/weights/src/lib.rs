//! Files of weights: safetensors and PyTorch's pickle (`.bin`, `.pth`, `.pt`, `.th`, `.ckpt`), single or in shards, and
//! GGUF (`.gguf`), read by memory map; safetensors and GGUF written whole or not at all. A pickle is read by a parser that
//! can only make tensors.
//!
//! A GGUF file is presented as the Hugging Face model directory that it was made from: its tensors under that directory's
//! names and in its layouts, and its other files by [`side_files`]. [`write_gguf`] goes the other way. But for the tables of
//! names that this takes (`gguf/names.rs`), this crate knows no parameter names, no model and no tensor library:
//! [`rekindle_models`](../rekindle_models/index.html) knows them.
//!
//! ```
//! use rekindle_base::HostTensor;
//! use rekindle_weights::{WeightFiles, write};
//!
//! # let folder = tempfile::tempdir()?;
//! let path = folder.path().join("model.safetensors");
//! let weight = HostTensor { shape: vec![2, 2], values: vec![1.0, 0.0, 0.0, 1.0] };
//! write(&path, [("fc.weight", (&weight).into())], &[])?;
//! let files = WeightFiles::find(folder.path())?;
//! assert_eq!(files.read("fc.weight")?, Some(weight));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod error;
mod files;
mod gguf;
mod pickle;
mod safetensors;
mod stored;

pub use error::WeightError;
pub use files::WeightFiles;
pub use gguf::{GgmlType, GgufFile, side_files, write_gguf};
pub use safetensors::{ToWrite, write};
pub use stored::{Dtype, GroupedTensor, StoredTensor};
