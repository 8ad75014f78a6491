//! What can go wrong with adapters.

use rekindle_nn::host::ReadError;
use rekindle_weights::WeightError;
use std::path::PathBuf;

/// Errors of this crate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PeftError {
    /// A setting outside its range.
    #[error("{key} is {found}\nhint: expected {expected}")]
    Setting {
        /// The setting.
        key: &'static str,
        /// Its value.
        found: String,
        /// Its range.
        expected: &'static str,
    },
    /// A rank far beyond the layers it is for.
    #[error(
        "r is {r}, but the largest layer with an adapter is {inputs} x {outputs}\nhint: a rank above the smaller of the two adds nothing; 8 to 64 is usual"
    )]
    Rank {
        /// The rank.
        r: usize,
        /// Inputs of the largest layer.
        inputs: usize,
        /// Its outputs.
        outputs: usize,
    },
    /// A pattern that is not a regular expression.
    #[error(
        "target_modules: `{pattern}` is not a regular expression: {reason}\nhint: write `\\(` for a bracket and `\\.` for a dot that stand for themselves; for layers by name give a list"
    )]
    Regex {
        /// The pattern.
        pattern: String,
        /// What the parser says.
        reason: String,
    },
    /// A pattern that matches nothing.
    #[error(
        "{key}: `{pattern}` matches no {what} of this model{}\nhint: {}",
        near(nearest),
        known(examples)
    )]
    NoMatch {
        /// The setting.
        key: &'static str,
        /// The pattern.
        pattern: String,
        /// Layer or parameter.
        what: &'static str,
        /// The closest name there is.
        nearest: Option<String>,
        /// Names that there are.
        examples: Vec<String>,
    },
    /// Nothing would train.
    #[error(
        "no parameter is left to train\nhint: loosen `freeze`, or name parameters in `unfreeze`"
    )]
    NothingTrains,
    /// A file of the adapter could not be read or written.
    #[error("{}: {source}\nhint: check that the path is right, the disk has room and the folder may be written", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// The tensors' file is broken.
    #[error(transparent)]
    Tensors(#[from] WeightError),
    /// A tensor could not be read back from the device.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// `adapter_config.json` is not what was expected.
    #[error("{}: {reason}\nhint: LoRA adapters as PEFT saves them can be read; merge any other into its model with PEFT's merge_and_unload first", path.display())]
    Config {
        /// The file.
        path: PathBuf,
        /// What was expected, what was found.
        reason: String,
    },
    /// Tensors and model do not fit.
    #[error("{}: {reason}\nhint: the adapter was made for another base model or another configuration", path.display())]
    Mismatch {
        /// The file of tensors.
        path: PathBuf,
        /// Which tensor, expected and found.
        reason: String,
    },
}

fn near(nearest: &Option<String>) -> String {
    nearest
        .as_ref()
        .map(|name| format!("; did you mean `{name}`?"))
        .unwrap_or_default()
}

fn known(examples: &[String]) -> String {
    format!(
        "it has {}",
        examples
            .iter()
            .map(|e| format!("`{e}`"))
            .collect::<Vec<_>>()
            .join(", ")
    )
}
