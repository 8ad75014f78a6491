//! AdamW over a module's trainable parameters, its state kept by published name so that it outlives the process.

use crate::checkpoint::{Tensors, to_write};
use burn::{
    module::Module,
    tensor::{
        Tensor, TensorMetadata,
        backend::AutodiffBackend,
        ops::{FloatTensor, FloatTensorOps},
    },
};
use rekindle_base::HostTensor;
use rekindle_nn::{
    TuneAutodiff, TuneBackend,
    host::{ReadError, from_host, to_host},
    ops::{AdamW, AdamWOperand},
    params::{self, Mapped, NameMap, ParamRef},
};
use rekindle_weights::ToWrite;
use std::collections::BTreeMap;

/// Settings that stay the same over a run.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct OptimizerConfig {
    /// β₁ in [0, 1).
    pub beta1: f64,
    /// β₂ in [0, 1).
    pub beta2: f64,
    /// ε > 0.
    pub epsilon: f64,
    /// Decoupled decay of matrices; vectors (biases, norms) have none, as in transformers' `Trainer`.
    pub weight_decay: f64,
}

impl Default for OptimizerConfig {
    fn default() -> Self {
        Self {
            beta1: 0.9,
            beta2: 0.999,
            epsilon: 1e-8,
            weight_decay: 0.01,
        }
    }
}

/// Gradients of trainable parameters by published name, summed over micro-batches.
pub struct Gradients<B: TuneAutodiff> {
    by_name: BTreeMap<String, FloatTensor<B::InnerBackend>>,
}

impl<B: TuneAutodiff> Default for Gradients<B> {
    fn default() -> Self {
        Self {
            by_name: BTreeMap::new(),
        }
    }
}

impl<B: TuneAutodiff> Gradients<B> {
    /// Runs the backward pass of `loss` and adds its gradients.
    pub fn backward<M: Module<B>>(&mut self, loss: &Tensor<B, 1>, model: &M, names: NameMap) {
        self.add(&mut loss.backward(), model, names);
    }

    /// Adds the gradients that a backward pass left for the model's parameters.
    pub fn add<M: Module<B>>(
        &mut self,
        grads: &mut <B as AutodiffBackend>::Gradients,
        model: &M,
        names: NameMap,
    ) {
        params::visit(model, &mut |param: ParamRef<'_, B>| {
            if let Some(grad) = <B as AutodiffBackend>::grad_remove(&param.value, grads) {
                self.add_one(names.published(param.path), grad);
            }
        });
    }

    /// Adds other gradients.
    pub fn merge(&mut self, other: Self) {
        for (name, grad) in other.by_name {
            self.add_one(name, grad);
        }
    }

    fn add_one(&mut self, name: String, grad: FloatTensor<B::InnerBackend>) {
        let sum = match self.by_name.remove(&name) {
            Some(old) => B::InnerBackend::float_add(old, grad),
            None => grad,
        };
        self.by_name.insert(name, sum);
    }

    /// The 2-norm over all gradients together.
    ///
    /// # Errors
    /// When the device does not give it back.
    pub fn norm(&self) -> Result<f64, ReadError> {
        match self.square_sums() {
            Some(sums) => Ok(norm_of(&to_host::<B::InnerBackend>(sums)?.values)),
            None => Ok(0.0),
        }
    }

    /// The sum of squares of each gradient, `[n]`; `None` where there are none.
    pub(crate) fn square_sums(&self) -> Option<FloatTensor<B::InnerBackend>> {
        let grads: Vec<_> = self.by_name.values().cloned().collect();
        (!grads.is_empty()).then(|| B::InnerBackend::tune_square_sums(grads))
    }

    /// A gradient by published name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&FloatTensor<B::InnerBackend>> {
        self.by_name.get(name)
    }
}

/// The norm over all from the sums of squares, added up in f64.
pub(crate) fn norm_of(square_sums: &[f32]) -> f64 {
    square_sums
        .iter()
        .map(|&v| f64::from(v))
        .sum::<f64>()
        .sqrt()
}

/// A factor of gradients as a tensor `[1]`.
pub(crate) fn factor_of<B: TuneAutodiff>(
    factor: f64,
    device: &B::Device,
) -> FloatTensor<B::InnerBackend> {
    let host = HostTensor {
        shape: vec![1],
        values: vec![factor as f32],
    };
    from_host::<B::InnerBackend>(host, device)
}

/// AdamW with its moments.
pub struct Optimizer<B: TuneAutodiff> {
    config: OptimizerConfig,
    steps: u64,
    moments: BTreeMap<String, Moments<B>>,
    /// Steps done before a parameter joined, where it was not there from the start.
    joined: BTreeMap<String, u64>,
}

/// Running means of a parameter's gradient and of its square.
pub(crate) type Moments<B> = (
    FloatTensor<<B as AutodiffBackend>::InnerBackend>,
    FloatTensor<<B as AutodiffBackend>::InnerBackend>,
);

impl<B: TuneAutodiff> Optimizer<B> {
    /// With no state.
    #[must_use]
    pub fn new(config: OptimizerConfig) -> Self {
        Self {
            config,
            steps: 0,
            moments: BTreeMap::new(),
            joined: BTreeMap::new(),
        }
    }

    /// One step on every parameter that has a gradient; `grad_scale` is the clipping factor, `rate` a parameter's factor of
    /// the learning rate, by published name.
    pub fn step<M: Module<B>>(
        &mut self,
        model: M,
        grads: Gradients<B>,
        learning_rate: f64,
        grad_scale: f64,
        rate: &dyn Fn(&str) -> f64,
        names: NameMap,
    ) -> M {
        let Some(grad) = grads.by_name.values().next() else {
            self.steps += 1;
            return model;
        };
        let device = B::InnerBackend::float_device(grad);
        let factor = factor_of::<B>(grad_scale, &device);
        self.step_by(model, grads, learning_rate, factor, rate, names)
    }

    /// The same by a factor `[1]` that lies on the device: nothing is read. One that is not finite leaves the model as it is.
    pub(crate) fn step_by<M: Module<B>>(
        &mut self,
        model: M,
        mut grads: Gradients<B>,
        learning_rate: f64,
        factor: FloatTensor<B::InnerBackend>,
        rate: &dyn Fn(&str) -> f64,
        names: NameMap,
    ) -> M {
        let base = self.next_step(learning_rate);
        // The parameters with a gradient are taken out, changed all together, and put back.
        let (mut changing, mut operands) = (Vec::new(), Vec::new());
        let model = params::map(model, &mut |param| {
            let name = names.published(param.path);
            let (true, Some(grad)) = (param.trainable, grads.by_name.remove(&name)) else {
                return Mapped {
                    value: param.value,
                    trainable: param.trainable,
                };
            };
            let is_vector = param.shape.num_dims() < 2;
            let known = self.moments.remove(&name);
            if known.is_none() {
                self.note_joined(&name);
            }
            let settings = self.settings(base, &name, is_vector, rate(&name));
            let moments = known.unwrap_or_else(|| {
                let zeros = || {
                    B::InnerBackend::float_zeros(
                        grad.shape(),
                        &B::InnerBackend::float_device(&grad),
                        grad.dtype().into(),
                    )
                };
                (zeros(), zeros())
            });
            let parameter = B::inner(param.value);
            let room = B::InnerBackend::float_empty(
                vec![1; param.shape.num_dims()].into(),
                &B::InnerBackend::float_device(&grad),
                parameter.dtype().into(),
            );
            changing.push(name);
            operands.push(AdamWOperand {
                parameter,
                grad,
                moments,
                settings,
            });
            Mapped {
                value: B::from_inner(room),
                trainable: true,
            }
        });
        let mut changed = BTreeMap::new();
        let results = B::InnerBackend::tune_adamw_steps(operands, factor);
        for (name, (value, m, v)) in changing.into_iter().zip(results) {
            self.moments.insert(name.clone(), (m, v));
            changed.insert(name, value);
        }
        params::map(
            model,
            &mut |param| match changed.remove(&names.published(param.path)) {
                Some(value) => Mapped {
                    value: B::from_inner(value),
                    trainable: true,
                },
                None => Mapped {
                    value: param.value,
                    trainable: param.trainable,
                },
            },
        )
    }

    /// Begins a step: its settings but for what is a parameter's own, and the factor of gradients.
    pub(crate) fn next_step(&mut self, learning_rate: f64) -> AdamW {
        self.steps += 1;
        AdamW {
            learning_rate,
            beta1: self.config.beta1,
            beta2: self.config.beta2,
            epsilon: self.config.epsilon,
            weight_decay: self.config.weight_decay,
            step: self.steps,
            grad_scale: 1.0,
        }
    }

    /// Notes that a parameter has its first gradient in this step.
    pub(crate) fn note_joined(&mut self, name: &str) {
        if self.steps > 1 {
            self.joined.insert(name.to_owned(), self.steps - 1);
        }
    }

    /// The step's settings for a parameter; `rate` is its factor of the learning rate.
    pub(crate) fn settings(&self, base: AdamW, name: &str, is_vector: bool, rate: f64) -> AdamW {
        AdamW {
            weight_decay: if is_vector { 0.0 } else { base.weight_decay },
            learning_rate: base.learning_rate * rate,
            // Its own count corrects the bias of its moments.
            step: base.step - self.joined.get(name).copied().unwrap_or(0),
            ..base
        }
    }

    /// The moments of a parameter that had a gradient.
    pub(crate) fn moments(&self, name: &str) -> Option<&Moments<B>> {
        self.moments.get(name)
    }

    /// Takes a parameter's moments up.
    pub(crate) fn set_moments(&mut self, name: &str, moments: Moments<B>) {
        self.moments.insert(name.to_owned(), moments);
    }

    /// The same without the moments.
    pub(crate) fn without_moments(&self) -> Self {
        Self {
            config: self.config,
            steps: self.steps,
            moments: BTreeMap::new(),
            joined: self.joined.clone(),
        }
    }

    /// The state by name: `<parameter>.m` and `<parameter>.v`, and `<parameter>.joined` where it came late. A
    /// parameter that trains but never had a gradient has `.joined` alone: it would come after all steps so far.
    pub(crate) fn state<M: Module<B>>(&self, model: &M, names: NameMap) -> Tensors<'_> {
        let mut joined = self.joined.clone();
        params::visit(model, &mut |param: ParamRef<'_, B>| {
            let name = names.published(param.path);
            if param.trainable && !self.moments.contains_key(&name) {
                joined.insert(name, self.steps);
            }
        });
        self.moments
            .iter()
            .flat_map(|(name, (m, v))| {
                [("m", m), ("v", v)].map(|(part, tensor)| {
                    let tensor = to_write::<B::InnerBackend>(tensor.clone());
                    (format!("{name}.{part}"), tensor)
                })
            })
            .chain(joined.into_iter().map(|(name, steps)| {
                let read = move || Ok::<_, ReadError>(count_to_tensor(steps));
                (format!("{name}.joined"), ToWrite::new(vec![2], read))
            }))
            .collect()
    }

    /// Takes up a saved state after `steps` steps. `model` has the parameters trainable that the last step trained.
    ///
    /// # Errors
    /// The tensor that is missing, has no parameter, or another shape.
    pub(crate) fn load_state<M: Module<B>>(
        &mut self,
        steps: u64,
        mut state: BTreeMap<String, HostTensor>,
        model: &M,
        names: NameMap,
        device: &B::Device,
    ) -> Result<(), String> {
        *self = Self::new(self.config);
        self.steps = steps;
        let mut done = Ok(());
        params::visit(model, &mut |param: ParamRef<'_, B>| {
            if done.is_ok() {
                let name = names.published(param.path);
                done = self.load_moments(name, &param, &mut state, device);
            }
        });
        done?;
        match state.keys().next() {
            Some(name) => Err(format!("tensor `{name}` belongs to no parameter")),
            None => Ok(()),
        }
    }

    /// Takes one parameter's moments out of a saved state.
    fn load_moments(
        &mut self,
        name: String,
        param: &ParamRef<'_, B>,
        state: &mut BTreeMap<String, HostTensor>,
        device: &B::Device,
    ) -> Result<(), String> {
        let mut take = |part: &str| state.remove(&format!("{name}.{part}"));
        let joined = match take("joined") {
            Some(tensor) => Some(count_of_tensor(&tensor).ok_or_else(|| {
                format!("tensor `{name}.joined` is {tensor:?}, expected a number of steps")
            })?),
            None => None,
        };
        let (m, v) = match (take("m"), take("v")) {
            (Some(m), Some(v)) => (m, v),
            // Nothing so far, and said so; or not trained.
            (None, None) if joined == Some(self.steps) => return Ok(()),
            (None, None) if joined.is_none() && !param.trainable => return Ok(()),
            (Some(_), None) => return Err(format!("tensor `{name}.v` is missing")),
            (None, _) => return Err(format!("tensor `{name}.m` is missing")),
        };
        for (part, tensor) in [("m", &m), ("v", &v)] {
            if tensor.shape != param.shape.as_slice() {
                return Err(format!(
                    "tensor `{name}.{part}` has shape {:?}, expected {:?}",
                    tensor.shape,
                    param.shape.as_slice()
                ));
            }
        }
        if let Some(joined) = joined {
            if joined >= self.steps {
                return Err(format!(
                    "tensor `{name}.joined` is {joined}, expected less than the {} steps done",
                    self.steps
                ));
            }
            self.joined.insert(name.clone(), joined);
        }
        let [m, v] = [m, v].map(|tensor| from_host::<B::InnerBackend>(tensor, device));
        self.moments.insert(name, (m, v));
        Ok(())
    }
}

/// Counts up to this are exact in an f32.
const EXACT: u64 = 1 << 24;

/// A count of steps as a tensor `[2]`: its upper and its lower part, since an f32 alone is not exact from 2^24 on.
fn count_to_tensor(count: u64) -> HostTensor {
    HostTensor {
        shape: vec![2],
        values: vec![(count / EXACT) as f32, (count % EXACT) as f32],
    }
}

/// The count, if the tensor is one.
fn count_of_tensor(tensor: &HostTensor) -> Option<u64> {
    let &[upper, lower] = tensor.values.as_slice() else {
        return None;
    };
    let whole = |v: f32| (v >= 0.0 && v < EXACT as f32 && v.fract() == 0.0).then_some(v as u64);
    Some(whole(upper)? * EXACT + whole(lower)?)
}
