//! What can go wrong in a run.

use rekindle_nn::host::ReadError;
use rekindle_weights::WeightError;
use std::path::PathBuf;

/// Errors of this crate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TrainError {
    /// A file of the run could not be read or written.
    #[error("{}: {source}\nhint: check that the disk has room and that the folder may be written", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// A file of tensors is broken.
    #[error(transparent)]
    Tensors(#[from] WeightError),
    /// A tensor could not be read back from the device.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// A checkpoint does not fit the model or is broken.
    #[error("{}: {reason}\nhint: {hint}", path.display())]
    Checkpoint {
        /// The checkpoint.
        path: PathBuf,
        /// Expected and found.
        reason: String,
        /// What to do.
        hint: &'static str,
    },
    /// Another process works in the run directory.
    #[error("{}: another process is training in this run directory\nhint: wait for it, stop it, or name another directory with --set output_dir=...", path.display())]
    InUse {
        /// The run directory.
        path: PathBuf,
    },
    /// A file where a folder is to be.
    #[error("{}: a file stands where a folder is needed for the run\nhint: move it away, or name another run directory with --set output_dir=...", path.display())]
    FileInTheWay {
        /// The file.
        path: PathBuf,
    },
    /// The run directory holds another run already.
    #[error("{}: this directory holds a run already\nhint: continue it with `rekindle finetune --resume {}`, or name another directory with --set output_dir=...", path.display(), path.display())]
    Exists {
        /// The run directory.
        path: PathBuf,
    },
    /// The loss or a gradient is no longer a number.
    #[error(
        "step {step}: the {what} is {value}; training stopped, checkpoints up to step {last_checkpoint} are kept\nhint: lower train.learning_rate (now {learning_rate:e}), raise train.warmup_ratio, or look for broken examples in {batch}"
    )]
    NotFinite {
        /// The optimizer step, from 1.
        step: u64,
        /// Loss or gradient norm.
        what: &'static str,
        /// NaN or infinity.
        value: f64,
        /// The step of the newest checkpoint, 0 if none.
        last_checkpoint: u64,
        /// This step's learning rate.
        learning_rate: f64,
        /// Which examples were in the batch.
        batch: String,
    },
    /// The job itself failed.
    #[error("{0}")]
    Job(Box<dyn std::error::Error + Send + Sync>),
}

impl TrainError {
    pub(crate) fn io(path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { path, source }
    }
}
