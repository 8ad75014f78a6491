//! Who watches a run.

use crate::Plan;
use rekindle_hub::{NoProgress, Progress};
use rekindle_train::{Event, Sink};

/// Is told what happens, in order; every method does nothing by default.
pub trait Observer: Sync {
    /// A stage of the work, or something worth knowing, in a line.
    fn note(&self, _line: &str) {}
    /// What is worth knowing only to who asks: what was found where, what was read, how long it took.
    fn detail(&self, _line: &str) {}
    /// The plan, before the first step.
    fn plan(&self, _plan: &Plan) {}
    /// An event of the training loop.
    fn event(&self, _event: &Event) {}
    /// Whether the run should stop after the current step, with a checkpoint.
    fn stop(&self) -> bool {
        false
    }
    /// Who watches downloads.
    fn downloads(&self) -> &dyn Progress {
        &NoProgress
    }
}

/// Watches nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl Observer for Silent {}

/// An observer as one of the loop's sinks.
pub(crate) struct Watching<'a>(pub &'a dyn Observer);

impl Sink for Watching<'_> {
    fn event(&mut self, event: &Event) {
        self.0.event(event);
    }
}
