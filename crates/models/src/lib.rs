//! The zoo: a directory with `config.json` and weights -> a Burn module with a head. Every checkpoint tensor and every
//! parameter is accounted for ([`LoadReport`]): loaded, newly initialised by declaration, or an error that names it.
//!
//! This crate never sees a file of examples.
#![recursion_limit = "256"]

pub mod bert;
mod error;
pub mod image;
mod load;

pub use error::ModelError;
pub use load::{Checkpoint, LoadReport, Rule, Weights, read_config};
