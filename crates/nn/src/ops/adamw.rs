//! One AdamW step (Loshchilov and Hutter 2019), PyTorch's formula: decay first, then
//! `p -= lr * (m / (1 - β₁ᵗ)) / (sqrt(v / (1 - β₂ᵗ)) + ε)`.

use super::TuneBackend;
use crate::host::to_host;
use burn::tensor::{TensorData, backend::Backend, ops::FloatTensor};

/// Settings of one step for one parameter.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdamW {
    /// This step's learning rate.
    pub learning_rate: f64,
    /// β₁ in [0, 1).
    pub beta1: f64,
    /// β₂ in [0, 1).
    pub beta2: f64,
    /// ε > 0.
    pub epsilon: f64,
    /// Decoupled decay, times the learning rate.
    pub weight_decay: f64,
    /// t: 1 on the first step.
    pub step: u64,
    /// What the gradient is multiplied by first: 1, or the clipping factor of the global norm.
    pub grad_scale: f64,
}

impl AdamW {
    /// `1 - βᵗ` for both moments.
    #[must_use]
    pub fn corrections(&self) -> (f64, f64) {
        let power = |beta: f64| 1.0 - beta.powf(self.step as f64);
        (power(self.beta1), power(self.beta2))
    }
}

/// A parameter with what a step needs to change it.
#[derive(Debug)]
pub struct AdamWOperand<B: Backend> {
    /// Its values.
    pub parameter: FloatTensor<B>,
    /// Their gradient.
    pub grad: FloatTensor<B>,
    /// The first and the second moment.
    pub moments: (FloatTensor<B>, FloatTensor<B>),
    /// The step's settings for it; the factor of the gradient is that of the whole step.
    pub settings: AdamW,
}

/// What a step makes of it: the parameter, its first and its second moment.
pub type AdamWResult<B> = (FloatTensor<B>, FloatTensor<B>, FloatTensor<B>);

/// The values of a tensor; none where the device does not give them back.
fn read<B: TuneBackend>(tensor: FloatTensor<B>) -> Vec<f32> {
    to_host::<B>(tensor).map_or_else(|_| Vec::new(), |host| host.values)
}

/// The default body of [`TuneBackend::tune_clip`], which reads both.
pub fn clip<B: TuneBackend>(
    losses: FloatTensor<B>,
    squares: FloatTensor<B>,
    max_norm: f64,
) -> FloatTensor<B> {
    let device = B::float_device(&losses);
    let (losses, squares) = (read::<B>(losses), read::<B>(squares));
    let norm = squares.iter().map(|&x| f64::from(x)).sum::<f64>().sqrt();
    let whole = !losses.is_empty() && losses.iter().all(|x| x.is_finite()) && norm.is_finite();
    let factor = match whole {
        true if max_norm > 0.0 => (max_norm / (norm + 1e-6)).min(1.0) as f32,
        true => 1.0,
        false => f32::NAN,
    };
    B::float_from_data(TensorData::new(vec![factor], [1]), &device)
}

/// The default body of [`TuneBackend::tune_adamw_steps`], which reads the factor.
pub fn steps<B: TuneBackend>(
    operands: Vec<AdamWOperand<B>>,
    factor: FloatTensor<B>,
) -> Vec<AdamWResult<B>> {
    let factor = read::<B>(factor).first().copied().unwrap_or(f32::NAN);
    let step = |o: AdamWOperand<B>| {
        if !factor.is_finite() {
            return (o.parameter, o.moments.0, o.moments.1);
        }
        let settings = AdamW {
            grad_scale: f64::from(factor),
            ..o.settings
        };
        B::tune_adamw_step(o.parameter, o.grad, o.moments, settings)
    };
    operands.into_iter().map(step).collect()
}

/// The default body of [`TuneBackend::tune_adamw_step`].
pub fn step<B: TuneBackend>(
    parameter: FloatTensor<B>,
    grad: FloatTensor<B>,
    (m, v): (FloatTensor<B>, FloatTensor<B>),
    s: AdamW,
) -> (FloatTensor<B>, FloatTensor<B>, FloatTensor<B>) {
    let times = |x: FloatTensor<B>, factor: f64| B::float_mul_scalar(x, factor.into());
    let grad = if s.grad_scale == 1.0 {
        grad
    } else {
        times(grad, s.grad_scale)
    };
    let m = B::float_add(times(m, s.beta1), times(grad.clone(), 1.0 - s.beta1));
    let v = B::float_add(
        times(v, s.beta2),
        times(B::float_mul(grad.clone(), grad), 1.0 - s.beta2),
    );
    let (c1, c2) = s.corrections();
    let denominator =
        B::float_add_scalar(B::float_sqrt(times(v.clone(), 1.0 / c2)), s.epsilon.into());
    let update = times(B::float_div(m.clone(), denominator), s.learning_rate / c1);
    let decayed = if s.weight_decay == 0.0 {
        parameter
    } else {
        times(parameter, 1.0 - s.learning_rate * s.weight_decay)
    };
    (B::float_sub(decayed, update), m, v)
}
