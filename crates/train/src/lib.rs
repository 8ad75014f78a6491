//! The training loop: schedules, AdamW with decay groups, gradient accumulation with the right mean, clipping by the
//! global norm, evaluation, checkpoints that a run resumes from to the bit, and events for whoever shows them.
//!
//! This crate knows no model, no task and no file of data: a [`Job`] brings them, as [`rekindle`](../rekindle/index.html) does for its
//! tasks. Parameters are handled by [`rekindle_nn::params`], written by [`rekindle_weights`] and judged by [`rekindle_metrics`].
#![recursion_limit = "256"]

mod average;
mod checkpoint;
mod checksums;
mod error;
mod events;
mod job;
mod number;
mod optimizer;
mod run_dir;
mod schedule;
mod state;
mod step;
mod trainer;

pub use average::Average;
pub use checkpoint::{Checkpoint, restore, restore_best};
pub use error::TrainError;
pub use events::{Event, Metrics, Sink, read_metrics, truncate_metrics};
pub use job::{BatchStream, Evaluation, Job};
pub use optimizer::{Gradients, Optimizer, OptimizerConfig};
pub use run_dir::RunDir;
pub use schedule::{Schedule, Warmup};
pub use state::{Best, TrainState};
pub use step::{Stepped, step};
pub use trainer::{
    BestMetric, BestModel, EarlyStopping, Every, Outcome, Stopped, TrainConfig, train,
};
