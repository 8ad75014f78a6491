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
pub use conv2d::{Conv2d, Padding};
pub use embedding::Embedding;
pub use layer_norm::LayerNorm;
pub use linear::{Linear, LowRank};
pub use rms_norm::RmsNorm;
pub use weight::{Grouped, Weight};

use burn::tensor::backend::Backend;

/// A module whose [`Linear`] layers can be visited by path, to read or fill their adapter slots.
pub trait AdapterSlots<B: Backend> {
    /// Calls `visit(path, layer)` for every linear layer, in order of definition; `path` is the dotted path of fields.
    fn visit_linears(&mut self, path: &str, visit: &mut dyn FnMut(&str, &mut Linear<B>));
}

impl<B: Backend> AdapterSlots<B> for Linear<B> {
    fn visit_linears(&mut self, path: &str, visit: &mut dyn FnMut(&str, &mut Linear<B>)) {
        visit(path, self);
    }
}

impl<B: Backend, M: AdapterSlots<B>> AdapterSlots<B> for Vec<M> {
    fn visit_linears(&mut self, path: &str, visit: &mut dyn FnMut(&str, &mut Linear<B>)) {
        for (index, module) in self.iter_mut().enumerate() {
            module.visit_linears(&join(path, &index.to_string()), visit);
        }
    }
}

impl<B: Backend, M: AdapterSlots<B>> AdapterSlots<B> for Option<M> {
    fn visit_linears(&mut self, path: &str, visit: &mut dyn FnMut(&str, &mut Linear<B>)) {
        if let Some(module) = self {
            module.visit_linears(path, visit);
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

/// Implements [`AdapterSlots`] for a module by the fields that hold linear layers or modules with such:
/// `adapter_slots!(MyModel { encoder, head });`
#[macro_export]
macro_rules! adapter_slots {
    ($module:ident { $($field:ident),* $(,)? }) => {
        impl<B: ::burn::tensor::backend::Backend> $crate::layers::AdapterSlots<B> for $module<B> {
            fn visit_linears(&mut self, path: &str, visit: &mut dyn FnMut(&str, &mut $crate::layers::Linear<B>)) {
                $($crate::layers::AdapterSlots::visit_linears(
                    &mut self.$field,
                    &$crate::layers::join(path, stringify!($field)),
                    visit,
                );)*
            }
        }
    };
}
