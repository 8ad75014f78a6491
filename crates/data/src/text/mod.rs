//! Texts to token ids, token ids to packed batches.

mod batch;
mod encoder;
mod files;
mod sentencepiece;

pub use batch::TextBatch;
pub use encoder::{Encoded, EncodedSet, TextEncoder};
