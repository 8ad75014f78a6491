//! What makes datasets that take more than copying. Run by `cargo xtask dataset NAME` in a clone of the repository; the CLI neither
//! contains nor needs it.
//!
//! A dataset made here has, beside its card, a `build.toml` that says what it is made of; the card's `[built]` gives the digest
//! of the result. The files go to the hub's cache, where the CLI finds them.

mod glyph;
mod images;

pub use images::make;
