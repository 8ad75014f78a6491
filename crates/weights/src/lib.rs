//! Files of weights: safetensors and PyTorch's pickle (`.bin`, `.pth`, `.pt`, `.th`, `.ckpt`), single or in shards, read by
//! memory map, and safetensors written whole or not at all. A pickle is read by a parser that can only make tensors.
//!
//! This crate knows no parameter names, no model and no tensor library.
//!
//! ```
//! use rekindle_base::HostTensor;
//! use rekindle_weights::{WeightFiles, write};
//!
//! # let folder = tempfile::tempdir()?;
//! let path = folder.path().join("model.safetensors");
//! let weight = HostTensor { shape: vec![2, 2], values: vec![1.0, 0.0, 0.0, 1.0] };
//! write(&path, [("fc.weight", &weight)], &[])?;
//! let files = WeightFiles::find(folder.path())?;
//! assert_eq!(files.read("fc.weight")?, Some(weight));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod error;
mod files;
mod pickle;
mod safetensors;
mod stored;

pub use error::WeightError;
pub use files::WeightFiles;
pub use safetensors::write;
pub use stored::{Dtype, StoredTensor};
