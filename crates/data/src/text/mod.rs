//! Texts to token ids, token ids to packed batches.

mod batch;
mod encoder;
pub(crate) mod files;
mod sentencepiece;

pub use batch::TextBatch;
pub use encoder::{Encoded, EncodedSet, TextEncoder};
pub use files::model_max_length;
