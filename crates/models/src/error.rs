//! What can go wrong between a model directory and a module.

use rekindle_nn::host::ReadError;
use rekindle_weights::WeightError;
use std::path::PathBuf;

/// Errors of this crate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ModelError {
    /// A file of the model could not be read or written.
    #[error("{}: {source}\nhint: check that the path is right, the disk has room and the folder may be written", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// The file of weights is broken.
    #[error(transparent)]
    Weights(#[from] WeightError),
    /// A tensor could not be read back from the device.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// `config.json` is not what was expected.
    #[error("{}: {reason}{}", path.display(), advice(reason))]
    Config {
        /// The file.
        path: PathBuf,
        /// What was expected, what was found.
        reason: String,
    },
    /// A size in `config.json` that the weights do not have.
    #[error("{}: `{key}` is {value}, but the weights have {expected}: {weights}\nhint: config.json and the weights belong to different models; fetch the model again, or correct config.json", path.display())]
    Size {
        /// `config.json`.
        path: PathBuf,
        /// The key.
        key: String,
        /// Its value.
        value: usize,
        /// The size that the weights have.
        expected: usize,
        /// Where they show it.
        weights: String,
    },
    /// Two tensors of the checkpoint are the same parameter.
    #[error("{}: the tensors `{}` and `{}` are both the parameter `{parameter}`\nhint: the file mixes two checkpoints; save one model's weights alone", path.display(), tensors[0], tensors[1])]
    Twice {
        /// The file of weights.
        path: PathBuf,
        /// The parameter's published name.
        parameter: String,
        /// The tensors' names.
        tensors: [String; 2],
    },
    /// A tensor has another shape than the configuration says.
    #[error("{}: tensor `{tensor}` has shape {found:?}, expected {expected:?} by config.json\nhint: the weights and config.json belong to different models", path.display())]
    Shape {
        /// The file of weights.
        path: PathBuf,
        /// The tensor's name there.
        tensor: String,
        /// Expected dimensions.
        expected: Vec<usize>,
        /// Dimensions in the file.
        found: Vec<usize>,
    },
    /// Parameters that the checkpoint does not hold and that may not be newly initialised.
    #[error("{}: the checkpoint lacks {} of the model's parameters: {}\nhint: the file is incomplete or of another architecture than config.json names", path.display(), names.len(), list(names))]
    Missing {
        /// The file of weights.
        path: PathBuf,
        /// The parameters' names.
        names: Vec<String>,
    },
    /// Tensors of the checkpoint that the model has no place for.
    #[error("{}: the checkpoint holds {} tensors that the model has no place for: {}\nhint: config.json names another architecture than the weights have", path.display(), names.len(), list(names))]
    Unexpected {
        /// The file of weights.
        path: PathBuf,
        /// The tensors' names.
        names: Vec<String>,
    },
}

/// A hint for reasons that bring none of their own.
fn advice(reason: &str) -> &'static str {
    match reason.contains("\nhint: ") {
        true => "",
        false => {
            "\nhint: expected the config.json that came with the weights; fetch the model again, or correct it"
        }
    }
}

/// The first few of many names.
fn list(names: &[String]) -> String {
    const SHOWN: usize = 6;
    let mut text = names
        .iter()
        .take(SHOWN)
        .map(|n| format!("`{n}`"))
        .collect::<Vec<_>>()
        .join(", ");
    if names.len() > SHOWN {
        text.push_str(&format!(" and {} more", names.len() - SHOWN));
    }
    text
}
