//! The training loop: schedules, AdamW with decay groups, gradient accumulation with the right mean, clipping by the
//! global norm, evaluation, checkpoints that a run resumes from to the bit, and events for whoever shows them.
//!
//! This crate knows no model, no task and no file of data: a [`Job`] brings them, as [`rekindle`](../rekindle/index.html) does for its
//! tasks. Parameters are handled by [`rekindle_nn::params`], written by [`rekindle_weights`] and judged by [`rekindle_metrics`].
#![recursion_limit = "256"]

mod average;
mod checkpoint;
mod checksums;
mod collective;
mod error;
mod events;
mod flat;
mod job;
mod launch;
mod number;
mod optimizer;
mod run_dir;
mod schedule;
mod sharded;
mod shards;
mod state;
mod step;
mod trainer;

pub use average::Average;
pub use checkpoint::{Checkpoint, restore, restore_best};
pub use collective::{Collective, Link, Traffic};
pub use error::TrainError;
pub use events::{Event, Metrics, Sink, read_metrics, truncate_metrics};
pub use job::{BatchStream, Evaluation, Job};
pub use launch::{Launch, Launcher};
pub use optimizer::{Gradients, Optimizer, OptimizerConfig};
pub use run_dir::RunDir;
pub use schedule::{Schedule, Warmup};
pub use shards::Shards;
pub use state::{Best, TrainState};
pub use step::{Stepped, step};
pub use trainer::{
    BestMetric, BestModel, Between, Choose, EarlyStopping, Every, Outcome, Stopped, TrainConfig,
    train,
};
