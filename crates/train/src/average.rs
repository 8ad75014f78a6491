//! An exponential moving average of the weights, which evaluates better than the weights of the last step.

use crate::checkpoint::{Tensors, to_write};
use burn::{
    module::{AutodiffModule, Module},
    tensor::{
        backend::AutodiffBackend,
        ops::{FloatTensor, FloatTensorOps},
    },
};
use rekindle_base::HostTensor;
use rekindle_nn::{
    TuneAutodiff,
    host::from_host,
    params::{self, Mapped, NameMap, ParamRef},
};
use std::collections::BTreeMap;

type Inner<B> = <B as AutodiffBackend>::InnerBackend;

/// The average of every parameter that trains, and of every buffer.
pub struct Average<B: TuneAutodiff> {
    decay: f64,
    values: BTreeMap<String, FloatTensor<Inner<B>>>,
}

impl<B: TuneAutodiff> Average<B> {
    /// Starts with the weights it first sees.
    #[must_use]
    pub fn new(decay: f64) -> Self {
        Self {
            decay,
            values: BTreeMap::new(),
        }
    }

    /// Takes up the weights after `step` steps. The decay grows to its value as (1 + step) / (10 + step), so that the
    /// beginning is soon forgotten.
    pub fn update<M: Module<B>>(&mut self, model: &M, step: u64, names: NameMap) {
        let decay = self.decay.min((1 + step) as f64 / (10 + step) as f64);
        params::visit(model, &mut |param: ParamRef<'_, B>| {
            if !param.trainable && !params::is_buffer(param.path) {
                return;
            }
            let name = names.published(param.path);
            let new = B::inner(param.value);
            let value = match self.values.remove(&name) {
                None => new,
                Some(old) => Inner::<B>::float_add(
                    Inner::<B>::float_mul_scalar(old, decay.into()),
                    Inner::<B>::float_mul_scalar(new, (1.0 - decay).into()),
                ),
            };
            self.values.insert(name, value);
        });
    }

    /// The model with the average in the place of its weights.
    pub fn model<M: AutodiffModule<B>>(&self, model: &M, names: NameMap) -> M::InnerModule {
        params::map(model.valid(), &mut |param| {
            let average = self.values.get(&names.published(param.path));
            Mapped {
                value: average.cloned().unwrap_or(param.value),
                trainable: param.trainable,
            }
        })
    }

    /// The averages by name.
    pub(crate) fn state(&self) -> Tensors<'_> {
        let values = self.values.iter();
        values
            .map(|(name, value)| (name.clone(), to_write::<Inner<B>>(value.clone())))
            .collect()
    }

    /// Takes up saved values. `model` has the parameters trainable that the last step trained.
    ///
    /// # Errors
    /// The tensor that is missing, has no parameter, or another shape.
    pub(crate) fn from_state<M: Module<B>>(
        decay: f64,
        mut state: BTreeMap<String, HostTensor>,
        model: &M,
        names: NameMap,
        device: &B::Device,
    ) -> Result<Self, String> {
        let mut values = BTreeMap::new();
        let mut fail = None;
        params::visit(model, &mut |param: ParamRef<'_, B>| {
            let name = names.published(param.path);
            match state.remove(&name) {
                Some(host) if host.shape == param.shape.as_slice() => {
                    values.insert(name, from_host::<Inner<B>>(host, device));
                }
                Some(host) => {
                    fail = Some(format!(
                        "tensor `{name}` has shape {:?}, expected {:?}",
                        host.shape,
                        param.shape.as_slice()
                    ));
                }
                None if param.trainable || params::is_buffer(param.path) => {
                    fail = Some(format!("the average of `{name}` is missing"));
                }
                None => {}
            }
        });
        if let Some(name) = state.keys().next() {
            fail = Some(format!("tensor `{name}` has no place in the model"));
        }
        match fail {
            Some(reason) => Err(reason),
            None => Ok(Self { decay, values }),
        }
    }
}
