//! Files to examples, to encoded examples, to batches of packed tokens.
//!
//! The way of the data, one module a step:
//!
//! | step | module |
//! |---|---|
//! | CSV, TSV, JSONL or Parquet file -> [`Example`]s with their place in the file | [`tables`] |
//! | labels as written -> class ids, sets of labels, numbers | [`targets`] |
//! | one set -> train, validation, test; a limit | [`split()`], [`limit()`] |
//! | text or text pair -> token ids | [`text::TextEncoder`] |
//! | order of the examples in an epoch | [`Sampler`] |
//! | encoded examples -> one packed row of tokens | [`text::TextBatch`] |
//! | conversations -> token ids and those that count -> packed rows | [`chat`] |
//! | texts with labelled words or spans -> windows of tokens with labels, and back | [`tokens`] |
//! | texts that belong together, by pairs, numbers or labels | [`related`] |
//! | questions about texts -> windows of tokens with an answer, and back | [`questions`] |
//! | questions with choices -> a sequence of tokens for each choice | [`choices`] |
//! | pictures by folder or table, decoded, transformed, in batches | [`image`] |
//! | batches made ahead of the training thread | [`prefetch`] |
//!
//! The crate knows no network, no model and no tensor library. Its neighbours: [`rekindle_hub`](../rekindle_hub/index.html) finds its
//! files, [`rekindle_train`](../rekindle_train/index.html) learns from its batches, which [`rekindle`](../rekindle/index.html) brings
//! there. Everything that looks random is a pure function of
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

mod bad_rows;
pub mod chat;
pub mod choices;
mod error;
mod example;
mod guard;
pub mod image;
mod loader;
pub mod questions;
pub mod related;
mod sampler;
mod split;
pub mod tables;
pub mod targets;
pub mod text;
pub mod tokens;

pub use error::{BadReason, DataError};
pub use example::{Example, Place, RawTarget, RawValue};
pub use loader::{Prefetch, prefetch};
pub use sampler::Sampler;
pub use split::{Examples, Fractions, Limit, Split, limit, split};
pub use tables::{
    Column, Format, OnBad, ReadOptions, ReadOutcome, ResolvedColumn, ResolvedColumns, Role,
    Skipped, Sniffed, UsualColumns, holds_tables, is_label_name, may_be_labelled, read_examples,
    read_text, sniff,
};
pub use targets::{
    Input, LabelMap, LabelSet, Part, RealTargets, Related, TargetEncoder, TargetHint, TargetKind,
    TargetRow, Targets,
};
pub use text::{Encoded, EncodedSet, TextBatch, TextEncoder, model_max_length};
