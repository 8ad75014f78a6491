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
    #[error("{}: this directory holds a run already\nhint: continue it with `rekindle finetune --resume {}`, or name another directory with --set output_dir=...; --force replaces a run that was never finished", path.display(), path.display())]
    Exists {
        /// The run directory.
        path: PathBuf,
    },
    /// A directory that `--force` does not replace.
    #[error("{}: this directory is not replaced: {reason}\nhint: {hint}", path.display())]
    NotReplaced {
        /// The directory.
        path: PathBuf,
        /// Why.
        reason: String,
        /// What to do.
        hint: &'static str,
    },
    /// A job whose epoch has no micro-batches, or fewer than it said.
    #[error("epoch {epoch}: {}\nhint: give it training examples; a batch that cannot be made is an error in its place, not the end of the stream",
        match expected {
            0 => "the job has no batches".to_owned(),
            _ => format!("expected {expected} micro-batches, but their stream ended after {found}"),
        })]
    Batches {
        /// The epoch, from 0.
        epoch: u64,
        /// Micro-batches that the job said the epoch has.
        expected: usize,
        /// Micro-batches that came.
        found: usize,
    },
    /// The figure that is to say what is best is not among those of the evaluation.
    #[error(
        "the evaluation has no figure `{name}`; it has {}\nhint: set eval.metric to one of them",
        rekindle_base::near::quoted_list(known, 20)
    )]
    Metric {
        /// The name asked for.
        name: String,
        /// The evaluation's figures.
        known: Vec<String>,
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
    /// Another process of the run failed, and says why.
    #[error(
        "process {rank} of this run failed, and says why\nhint: its message stands beside this one"
    )]
    Elsewhere {
        /// Its number, from 0.
        rank: usize,
    },
    /// The processes of a run cannot reach each other any more.
    #[error(
        "the processes of this run lost each other: {reason}\nhint: the last checkpoint is whole; continue with `rekindle finetune --resume`, on any number of processes"
    )]
    Lost {
        /// What the network says.
        reason: String,
    },
    /// A process is one of several, and cannot train with the others.
    #[error("{reason}\nhint: {hint}")]
    Launch {
        /// Expected and found.
        reason: String,
        /// What to do.
        hint: String,
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
