//! Files to examples, to encoded examples, to batches of packed tokens.
//!
//! The way of the data, one module a step:
//!
//! | step | module |
//! |---|---|
//! | CSV, TSV, JSONL or Parquet file -> [`Example`]s with their place in the file | [`readers`] |
//! | label as written -> class id | [`labels`] |
//! | one set -> train, validation, test | [`split()`] |
//! | text or text pair -> token ids | [`text::TextEncoder`] |
//! | order of the examples in an epoch | [`Sampler`] |
//! | encoded examples -> one packed row of tokens | [`text::TextBatch`] |
//! | pictures by folder or table, decoded, transformed, in batches | [`image`] |
//! | batches made ahead of the training thread | [`prefetch`] |
//!
//! The crate knows no network, no model and no tensor library. Everything that looks random is a pure function of
//! its arguments through [`rekindle_base::rng`], so an epoch can be entered at any batch.
//!
//! ```
//! use rekindle_data::{LabelMap, ReadOptions, Sampler, read_examples};
//!
//! # let dir = tempfile::tempdir()?;
//! # let path = dir.path().join("train.csv");
//! # std::fs::write(&path, "text,label\nloved it,good\nleft early,bad\n")?;
//! let read = read_examples(&path, &ReadOptions { require_label: true, ..ReadOptions::default() })?;
//! let labels = LabelMap::from_examples(&read.examples)?;
//! assert_eq!(labels.names(), ["bad", "good"]);
//!
//! let sampler = Sampler { seed: 0, shuffle: true, group_by_length: false, batch_size: 2, drop_last: false };
//! assert_eq!(sampler.epoch(&[3, 4], 0).len(), 1);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod columns;
mod error;
mod example;
pub mod image;
pub mod labels;
mod loader;
pub mod readers;
mod sampler;
mod split;
pub mod text;

pub use columns::{Column, ResolvedColumn, ResolvedColumns, Role};
pub use error::{BadReason, DataError};
pub use example::{Example, Place, RawLabel};
pub use labels::LabelMap;
pub use loader::{Prefetch, prefetch};
pub use readers::{
    Format, OnBad, ReadOptions, ReadOutcome, Skipped, Sniffed, read_examples, sniff,
};
pub use sampler::Sampler;
pub use split::{Fractions, Split, split};
pub use text::{Encoded, EncodedSet, TextBatch, TextEncoder};
