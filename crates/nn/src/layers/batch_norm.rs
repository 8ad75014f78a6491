//! Batch norm with PyTorch's conventions: biased variance of the batch to normalise, unbiased in the running variance,
//! `running = (1 - momentum) running + momentum batch`.

use crate::ops::{self, BatchNormConfig, Pass, Rectify, TuneBackend};
use burn::{
    module::{Module, Param, RunningState},
    tensor::{Tensor, backend::Backend},
};

/// Batch norm over channels-last images, with the residual and the activation that follow it.
///
/// It trains (normalises by the batch, updates its running moments) in a training pass if its gamma or beta trains;
/// frozen, it is the fixed affine map of an evaluation.
#[derive(Module, Debug)]
pub struct BatchNorm<B: Backend> {
    /// gamma `[C]`
    pub weight: Param<Tensor<B, 1>>,
    /// beta `[C]`
    pub bias: Param<Tensor<B, 1>>,
    /// `[C]`; a buffer, see [`params::is_buffer`](crate::params::is_buffer).
    pub running_mean: RunningState<Tensor<B, 1>>,
    /// `[C]`; a buffer.
    pub running_var: RunningState<Tensor<B, 1>>,
    epsilon: f64,
    momentum: f64,
}

impl<B: Backend> BatchNorm<B> {
    /// The identity: gamma 1, beta 0, moments 0 and 1.
    pub fn new(channels: usize, epsilon: f64, device: &B::Device) -> Self {
        let (zeros, ones) = (
            || Tensor::zeros([channels], device),
            || Tensor::ones([channels], device),
        );
        Self {
            weight: Param::from_tensor(ones()),
            bias: Param::from_tensor(zeros()),
            running_mean: RunningState::new(zeros()),
            running_var: RunningState::new(ones()),
            epsilon,
            momentum: 0.1,
        }
    }

    /// Sets gamma to 0, so that a residual branch starts as nothing.
    #[must_use]
    pub fn zeroed(mut self) -> Self {
        self.weight = self.weight.map(|gamma| gamma.zeros_like());
        self
    }

    fn trains(&self) -> bool {
        self.weight.is_require_grad() || self.bias.is_require_grad()
    }
}

impl<B: TuneBackend> BatchNorm<B> {
    /// `rectify(norm(x) + residual)` of `x [N, H, W, C]`.
    ///
    /// # Panics
    /// If the residual has another shape.
    pub fn forward(
        &self,
        x: Tensor<B, 4>,
        residual: Option<Tensor<B, 4>>,
        rectify: Rectify,
        pass: Pass,
    ) -> Tensor<B, 4> {
        let shape = x.dims();
        let [images, height, width, channels] = shape;
        let rows = images * height * width;
        let flat = |x: Tensor<B, 4>| x.reshape([rows, channels]);
        let x = flat(x);
        let of_batch = pass.is_training() && self.trains();
        let moments = if of_batch {
            let moments = ops::moments(x.clone());
            self.update(moments.clone(), rows);
            moments
        } else {
            let row = |state: &RunningState<Tensor<B, 1>>| state.value().unsqueeze::<2>();
            Tensor::cat(vec![row(&self.running_mean), row(&self.running_var)], 0)
        };
        let config = BatchNormConfig {
            epsilon: self.epsilon,
            of_batch,
            rectify,
        };
        let affine = (self.weight.val(), self.bias.val());
        ops::batch_norm(x, residual.map(flat), affine, moments, config).reshape(shape)
    }

    /// Moves the running moments towards the batch's.
    fn update(&self, moments: Tensor<B, 2>, rows: usize) {
        let unbiased = rows as f64 / (rows.max(2) - 1) as f64;
        for (i, (state, scale)) in [(&self.running_mean, 1.0), (&self.running_var, unbiased)]
            .into_iter()
            .enumerate()
        {
            let batch = moments.clone().narrow(0, i, 1).squeeze_dim::<1>(0);
            let old = state.value();
            state.update(old * (1.0 - self.momentum) + batch * (self.momentum * scale));
            // Takes it up at once: one thread trains.
            state.value_sync();
        }
    }
}
