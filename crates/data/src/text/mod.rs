//! Texts to token ids, token ids to packed batches.

mod batch;
mod encoder;
pub(crate) mod files;
mod pieces;
mod sentencepiece;

pub use batch::TextBatch;
pub(crate) use encoder::{CHUNK, Failed};
pub use encoder::{Encoded, EncodedSet, TextEncoder};
pub use files::model_max_length;
pub(crate) use pieces::Pieces;
