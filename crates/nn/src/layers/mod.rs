//! Layers built on the fused operations: [`Linear`] with a slot for an adapter, [`Embedding`], [`LayerNorm`], and for
//! images [`Conv2d`] and [`BatchNorm`].
//!
//! [`AdapterSlots`] is how an adapter method finds the layers of a model: implement it with the macro
//! [`adapter_slots!`](crate::adapter_slots) by naming the fields that hold layers.

mod batch_norm;
mod conv2d;
mod embedding;
mod layer_norm;
mod linear;
mod rms_norm;
mod weight;

pub use batch_norm::BatchNorm;
pub use conv2d::{Conv2d, LowRankConv, Padding};
pub use embedding::Embedding;
pub use layer_norm::LayerNorm;
pub use linear::{Linear, LowRank};
pub use rms_norm::RmsNorm;
pub use weight::{Grouped, Weight};

use crate::ops::TuneBackend;
use burn::tensor::backend::Backend;

/// A layer that has a slot for an adapter.
pub enum Slot<'a, B: Backend> {
    /// A linear layer.
    Linear(&'a mut Linear<B>),
    /// A linear layer that files hold as a convolution of 1 x 1.
    Pointwise(&'a mut Linear<B>),
    /// A convolution that is not depthwise.
    Conv2d(&'a mut Conv2d<B>),
}

/// What a fresh adapter is made by.
#[derive(Debug, Clone, Copy)]
pub struct AdapterOf {
    /// The stream that A is drawn from; distinct for each adapter of a model.
    pub key: u64,
    /// r
    pub rank: usize,
    /// `alpha / r`, or `alpha / sqrt r` with rsLoRA.
    pub scale: f64,
    /// Dropout on the adapter's input, in [0, 1).
    pub dropout: f64,
}

impl<B: Backend> Slot<'_, B> {
    /// (in, out)
    pub fn dims(&self) -> (usize, usize) {
        match self {
            Self::Linear(layer) | Self::Pointwise(layer) => layer.dims(),
            Self::Conv2d(layer) => layer.dims(),
        }
    }

    /// Puts a fresh adapter in, which changes nothing yet: A Kaiming-uniform, B zero.
    pub fn adapt(self, of: AdapterOf, device: &B::Device) {
        match self {
            Self::Linear(layer) | Self::Pointwise(layer) => {
                layer.adapter = Some(LowRank::init(of, layer.dims(), device));
            }
            Self::Conv2d(layer) => layer.adapt(of, device),
        }
    }
}

impl<B: TuneBackend> Slot<'_, B> {
    /// Adds the adapter to the weight, where there is one, and empties the slot.
    pub fn merge(self) {
        match self {
            Self::Linear(layer) | Self::Pointwise(layer) => layer.merge(),
            Self::Conv2d(layer) => layer.merge(),
        }
    }
}

/// A module whose layers with adapter slots can be visited by path.
pub trait AdapterSlots<B: Backend> {
    /// Calls `visit(path, slot)` for every layer with a slot, in order of definition; `path` is the dotted path of fields.
    fn visit_slots(&mut self, path: &str, visit: &mut dyn FnMut(&str, Slot<'_, B>));
}

impl<B: Backend> AdapterSlots<B> for Linear<B> {
    fn visit_slots(&mut self, path: &str, visit: &mut dyn FnMut(&str, Slot<'_, B>)) {
        visit(path, Slot::Linear(self));
    }
}

impl<B: Backend> AdapterSlots<B> for Conv2d<B> {
    /// None where it is depthwise, or where its padding hangs on the picture's size: PEFT's adapters of it have a fixed one.
    fn visit_slots(&mut self, path: &str, visit: &mut dyn FnMut(&str, Slot<'_, B>)) {
        if self.has_slot() {
            visit(path, Slot::Conv2d(self));
        }
    }
}

impl<B: Backend, M: AdapterSlots<B>> AdapterSlots<B> for Vec<M> {
    fn visit_slots(&mut self, path: &str, visit: &mut dyn FnMut(&str, Slot<'_, B>)) {
        for (index, module) in self.iter_mut().enumerate() {
            module.visit_slots(&join(path, &index.to_string()), visit);
        }
    }
}

impl<B: Backend, M: AdapterSlots<B>> AdapterSlots<B> for Option<M> {
    fn visit_slots(&mut self, path: &str, visit: &mut dyn FnMut(&str, Slot<'_, B>)) {
        if let Some(module) = self {
            module.visit_slots(path, visit);
        }
    }
}

/// `path.name`, or `name` at the root.
#[must_use]
pub fn join(path: &str, name: &str) -> String {
    if path.is_empty() {
        name.to_owned()
    } else {
        format!("{path}.{name}")
    }
}

/// Implements [`AdapterSlots`] for a module by the fields that hold layers with slots or modules with such:
/// `adapter_slots!(MyModel { encoder, head });`
#[macro_export]
macro_rules! adapter_slots {
    ($module:ident { $($field:ident),* $(,)? }) => {
        impl<B: ::burn::tensor::backend::Backend> $crate::layers::AdapterSlots<B> for $module<B> {
            fn visit_slots(&mut self, path: &str, visit: &mut dyn FnMut(&str, $crate::layers::Slot<'_, B>)) {
                $($crate::layers::AdapterSlots::visit_slots(
                    &mut self.$field,
                    &$crate::layers::join(path, stringify!($field)),
                    visit,
                );)*
            }
        }
    };
}
