//! One optimizer step: gradients of a window of micro-batches, clipped and applied.

use crate::{Gradients, Job, Optimizer, TrainConfig, TrainError};
use rekindle_nn::{Pass, TuneAutodiff};

/// What a step found.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Stepped {
    /// The mean loss over all examples of the window, whatever the sizes of its micro-batches.
    pub loss: f64,
    /// The global norm of its gradients, before clipping.
    pub grad_norm: f64,
    /// What the mean is taken over.
    pub examples: usize,
}

impl Stepped {
    /// What was not a finite number, and its value; the model is as it was then.
    #[must_use]
    pub fn fault(&self) -> Option<(&'static str, f64)> {
        let figures = [("loss", self.loss), ("gradient norm", self.grad_norm)];
        figures.into_iter().find(|(_, value)| !value.is_finite())
    }
}

/// One step on a window of micro-batches. `first_pass`: the number of the window's first forward pass in the run, of which
/// dropout is a function.
///
/// # Errors
/// When the job fails. A loss or a gradient that is not finite is none: see [`Stepped::fault`].
pub fn step<B: TuneAutodiff, J: Job<B>>(
    job: &J,
    model: J::Model,
    window: &[J::Batch],
    config: &TrainConfig,
    optimizer: &mut Optimizer<B>,
    learning_rate: f64,
    first_pass: u64,
) -> Result<(J::Model, Stepped), TrainError> {
    let examples: usize = window.iter().map(|batch| job.count(batch)).sum();
    let mut grads = Gradients::<B>::default();
    let mut stepped = Stepped {
        loss: 0.0,
        grad_norm: 0.0,
        examples,
    };
    for (batch, forward) in window.iter().zip(first_pass..) {
        let pass = Pass::training(config.seed, forward);
        stepped.loss += job.backward(&model, batch, pass, examples.max(1), &mut grads)?;
        if stepped.fault().is_some() {
            return Ok((model, stepped));
        }
    }
    stepped.grad_norm = grads.norm()?;
    if stepped.fault().is_some() {
        return Ok((model, stepped));
    }
    let clip = clipping(config, stepped.grad_norm);
    let rate = |name: &str| job.rate(name);
    let model = optimizer.step(model, grads, learning_rate, clip, &rate, job.names());
    Ok((model, stepped))
}

/// What gradients of this norm are multiplied by.
pub(crate) fn clipping(config: &TrainConfig, grad_norm: f64) -> f64 {
    match config.max_grad_norm > 0.0 {
        true => (config.max_grad_norm / (grad_norm + 1e-6)).min(1.0),
        false => 1.0,
    }
}
