//! Parameter-efficient fine-tuning: which parameters of a model train, and adapters put into its layers, saved and loaded
//! in the format of Hugging Face PEFT, and merged.
//!
//! This crate names no model: it finds layers by path, through [`rekindle_nn::layers::AdapterSlots`]. Adapters are read and written by
//! [`rekindle_weights`]; [`rekindle_models`](../rekindle_models/index.html) has models to put them into, but one of your own will do.
//!
//! ```
//! use burn::{backend::{Autodiff, Flex}, module::Module, tensor::{Tensor, backend::Backend}};
//! use rekindle_nn::{Pass, TuneBackend, adapter_slots, layers::Linear, params::NameMap};
//! use rekindle_peft::{LoraConfig, TargetModules, inject};
//!
//! #[derive(Module, Debug)]
//! struct TwoLayers<B: Backend> { up: Linear<B>, down: Linear<B> }
//! adapter_slots!(TwoLayers { up, down });
//!
//! impl<B: TuneBackend> TwoLayers<B> {
//!     fn forward(&self, x: Tensor<B, 2>, pass: Pass) -> Tensor<B, 2> {
//!         self.down.forward(self.up.forward(x, pass.child(0)).tanh(), pass.child(1))
//!     }
//! }
//!
//! let device = Default::default();
//! let model = TwoLayers::<Autodiff<Flex>> { up: Linear::normal(1, 8, 16, 0.1, &device), down: Linear::normal(2, 16, 3, 0.1, &device) };
//! let config = LoraConfig { r: 4, target_modules: TargetModules::Suffixes(vec!["up".into()]), ..LoraConfig::default() };
//! let (model, targets) = inject(model, &config, NameMap::default(), 42, &device)?;
//! assert_eq!(targets, ["up"]);
//! let grads = model.forward(Tensor::ones([5, 8], &device), Pass::training(42, 0)).sum().backward();
//! let frozen = model.up.weight.parameter().expect("a weight that is not packed");
//! assert!(frozen.grad(&grads).is_none(), "a frozen weight costs no gradient");
//! # Ok::<(), rekindle_peft::PeftError>(())
//! ```
#![recursion_limit = "256"]

mod config;
mod error;
mod freeze;
mod lora;
mod store;

pub use config::{LoraConfig, TargetModules};
pub use error::PeftError;
pub use freeze::{Trainable, glob_matches, set_trainable};
pub use lora::{inject, is_saved, merge, targets};
pub use store::{load, read_config, save, stored_vocabulary};
