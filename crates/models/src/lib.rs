//! The zoo: a directory with `config.json` and weights -> a Burn module with a head. Every checkpoint tensor and every
//! parameter is accounted for ([`LoadReport`]): loaded, newly initialised by declaration, or an error that names it.
//!
//! [`Pretrained::open`] looks into a directory and decides which family it is of; [`Model::from_pretrained`] loads it.
//! A [`Model`] is a [`Backbone`] with a [`Head`].
//!
//! This crate never sees a file of examples. It stands on [`rekindle_weights`], which reads the files, and [`rekindle_nn`], which has the
//! layers; [`rekindle_peft`](../rekindle_peft/index.html) changes what of a model trains, [`rekindle_train`](../rekindle_train/index.html)
//! trains it.
#![recursion_limit = "256"]

mod config;
mod decoder;
mod encoder;
mod error;
mod heads;
pub mod image;
mod input;
mod load;
mod model;
mod prenorm;
mod pretrained;
mod text;

pub use config::{Modality, ModelConfig, TextLimits, read_config};
pub use decoder::{
    Decoder, DecoderConfig, DecoderLayer, Decoding, KvCache, Positions, Rotary, RotaryScaling,
};
pub use encoder::{
    Activation, Embeddings, Encoder, EncoderConfig, EncoderLayer, Layer, RelativePositions,
    RelativeTable,
};
pub use error::ModelError;
pub use heads::{ExampleHead, Head, HeadSpec, NextTokenHead, NoHead, Problem, Reads};
pub use input::{Activations, Asked, Input, NextTokens, TextInput};
pub use load::LoadReport;
pub use model::{Backbone, Model};
pub use prenorm::{PreNorm, PreNormLayer};
pub use pretrained::Pretrained;
