//! One optimizer step: gradients of a window of micro-batches, clipped and applied.

use crate::{Gradients, Job, Optimizer, TrainConfig, TrainError, optimizer::norm_of};
use burn::tensor::{Tensor, TensorPrimitive, backend::Backend};
use rekindle_nn::{Pass, TuneAutodiff, TuneBackend, host};
use std::sync::{Mutex, PoisonError};

/// Calls `pass`, a forward and a backward pass, while no other run of the process is in one. Burn 0.21 keeps the graphs of all
/// threads in one table, and clears a graph away that another thread has entered there and not yet filled: its gradients would
/// be missing.
pub(crate) fn alone<T>(pass: impl FnOnce() -> T) -> T {
    static TURN: Mutex<()> = Mutex::new(());
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    pass()
}

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
    /// A step on nothing.
    fn nothing(examples: usize) -> Self {
        Self {
            loss: 0.0,
            grad_norm: 0.0,
            examples,
        }
    }

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
    let mut losses = Vec::with_capacity(window.len());
    for (batch, forward) in window.iter().zip(first_pass..) {
        let pass = Pass::training(config.seed, forward);
        losses.push(alone(|| {
            job.backward(&model, batch, pass, examples.max(1), &mut grads)
        })?);
    }
    let Some(losses) = joined(losses) else {
        return Ok((model, Stepped::nothing(examples)));
    };
    // Clipped and applied on the device. A loss or a norm that is not finite changes nothing.
    let squares: Tensor<B::InnerBackend, 1> = match grads.square_sums() {
        Some(squares) => Tensor::from_primitive(TensorPrimitive::Float(squares)),
        None => Tensor::zeros([1], &losses.device()),
    };
    let primitive = |x: &Tensor<B::InnerBackend, 1>| x.clone().into_primitive().tensor();
    let factor = B::InnerBackend::tune_clip(
        primitive(&losses),
        primitive(&squares),
        config.max_grad_norm,
    );
    let rate = |name: &str| job.rate(name);
    let model = optimizer.step_by(
        model,
        grads,
        learning_rate,
        factor.clone(),
        &rate,
        job.names(),
    );
    // The one transfer of a step, at its end.
    let factor = Tensor::from_primitive(TensorPrimitive::Float(factor));
    let found = host::values(Tensor::cat(vec![losses, squares, factor], 0))?;
    let (losses, rest) = found.split_at(window.len().min(found.len()));
    let Some((factor, squares)) = rest.split_last() else {
        return Ok((model, Stepped::nothing(examples)));
    };
    let mut stepped = Stepped {
        loss: losses.iter().map(|&loss| f64::from(loss)).sum(),
        grad_norm: norm_of(squares),
        examples,
    };
    if stepped.fault().is_none() && !factor.is_finite() {
        // The device's own sum of all squares was too large for an f32.
        stepped.grad_norm = f64::INFINITY;
    }
    Ok((model, stepped))
}

/// Losses `[1]` one after the other; `None` where there are none.
pub(crate) fn joined<B: Backend>(mut losses: Vec<Tensor<B, 1>>) -> Option<Tensor<B, 1>> {
    match losses.len() {
        0 | 1 => losses.pop(),
        _ => Some(Tensor::cat(losses, 0)),
    }
}

/// What gradients of this norm are multiplied by.
pub(crate) fn clipping(config: &TrainConfig, grad_norm: f64) -> f64 {
    match config.max_grad_norm > 0.0 {
        true => (config.max_grad_norm / (grad_norm + 1e-6)).min(1.0),
        false => 1.0,
    }
}
