//! The training loop on a tiny classifier: what its files hold, what it calls best, how it resumes.
#![allow(clippy::unwrap_used)]

mod best;
mod checkpoints;
mod events;
mod processes;
mod resume;
mod support;
mod threads;
