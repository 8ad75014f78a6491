//! What can go wrong, from every crate below and from here.

use crate::{config::ConfigErrors, task::Task};
use rekindle_base::shell_word;
use std::path::PathBuf;

/// Errors of this crate: each a mistake in the user's input unless it is [`Error::Internal`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The configuration, with every mistake in it.
    #[error(transparent)]
    Config(#[from] ConfigErrors),
    /// Finding or fetching a model or dataset.
    #[error(transparent)]
    Hub(#[from] rekindle_hub::HubError),
    /// Reading examples or encoding them.
    #[error(transparent)]
    Data(#[from] rekindle_data::DataError),
    /// Loading or saving the model.
    #[error(transparent)]
    Model(#[from] rekindle_models::ModelError),
    /// Reading a file of weights.
    #[error(transparent)]
    Weights(#[from] rekindle_weights::WeightError),
    /// A tensor could not be read back from the device.
    #[error(transparent)]
    Read(#[from] rekindle_nn::host::ReadError),
    /// Adapters and freezing.
    #[error(transparent)]
    Peft(#[from] rekindle_peft::PeftError),
    /// The run itself.
    #[error(transparent)]
    Train(#[from] rekindle_train::TrainError),
    /// A file of ours could not be read or written.
    #[error("{}: {source}\nhint: check that the path is right, the disk has room and the folder may be written", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// A device that is not there.
    #[error("device `{device}`: {reason}\nhint: {hint}")]
    Device {
        /// The device asked for.
        device: String,
        /// Why it cannot be used.
        reason: String,
        /// What to do.
        hint: String,
    },
    /// A directory that holds no model we can use.
    #[error("{}: {reason}\nhint: {hint}", path.display())]
    ModelDir {
        /// The directory.
        path: PathBuf,
        /// Expected and found.
        reason: String,
        /// What to do.
        hint: String,
    },
    /// Settings that do not fit the data or the model.
    #[error("{reason}\nhint: {hint}")]
    Setting {
        /// Which setting, expected and found.
        reason: String,
        /// What to do.
        hint: String,
    },
    /// A file that cannot be read for the task, and looks like one of another.
    #[error("{source}\nhint: its rows look like those of {fits}: --task {fits}")]
    OtherTask {
        /// Why it cannot be read.
        source: Box<Error>,
        /// The task that it fits.
        fits: Task,
    },
    /// The model was saved, but not what is told of it.
    #[error("{source}\nthe model is saved in {}; what is missing is written by: rekindle finetune --resume {}", shell_word(&model.to_string_lossy()), shell_word(&run.to_string_lossy()))]
    Untold {
        /// Why.
        source: Box<Error>,
        /// The run's directory.
        run: PathBuf,
        /// The model's directory.
        model: PathBuf,
    },
    /// The run was asked to stop and did, with a checkpoint.
    #[error("stopped after step {step}; continue with: rekindle finetune --resume {}", shell_word(&dir.to_string_lossy()))]
    Interrupted {
        /// The run directory.
        dir: PathBuf,
        /// The last step.
        step: u64,
    },
    /// A fault of ours.
    #[error(
        "internal error: {0}\nhint: this is a bug; please report it with the command and this message"
    )]
    Internal(String),
}

impl Error {
    /// Whether another process of the run says what went wrong.
    #[must_use]
    pub fn is_told_elsewhere(&self) -> bool {
        matches!(
            self,
            Self::Train(rekindle_train::TrainError::Elsewhere { .. })
        )
    }

    pub(crate) fn io(path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { path, source }
    }
}
