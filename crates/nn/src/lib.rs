//! Fused training operations over Burn's `Backend` trait ([`ops`]), layers with adapter slots built on them
//! ([`layers`]), and what every crate above needs to handle a module's parameters by name ([`params`]) and to move
//! them to the host and back ([`host`]).
//!
//! This crate knows no checkpoint names, no model family and no training loop: [`rekindle_models`](../rekindle_models/index.html) builds
//! models of its layers, [`rekindle_peft`](../rekindle_peft/index.html) fills their slots, [`rekindle_train`](../rekindle_train/index.html)
//! trains them.
//!
//! One legend for shapes, used in the whole project: T tokens of a packed batch, B sequences (or examples) in it,
//! D model width, H heads, K head width, V vocabulary, C classes.
#![recursion_limit = "256"]

pub mod host;
pub mod init;
pub mod layers;
pub mod ops;
pub mod params;
#[cfg(feature = "cpu")]
mod self_test;

pub use ops::{Pass, Sequences, TuneAutodiff, TuneBackend};
#[cfg(feature = "cpu")]
pub use self_test::self_test;
