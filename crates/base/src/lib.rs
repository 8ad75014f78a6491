//! What every crate needs and nothing more: counter-based random numbers ([`rng`]), "did you mean" ([`near`]), counted words
//! ([`words`]), commands quoted for a shell ([`shell_words`]), files written whole or not at all ([`write_atomically`]), and a tensor on the host ([`HostTensor`]).
//!
//! This crate knows no sibling and no tensor library. All others stand on it; [`rekindle`](../rekindle/index.html) has a picture.

mod files;
mod host;
pub mod near;
pub mod rng;
mod shell;
pub mod words;

pub use files::{Aside, discard_unfinished, folder_of, write_atomically, write_atomically_with};
pub use host::{HostTensor, first_not_finite};
pub use near::near_misses;
pub use shell::{shell_word, shell_words};
pub use words::{NAMED, counted, first_of, thousands};
