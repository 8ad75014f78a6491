//! The tools against packages of our own making, with a script in place of pip.
#![allow(clippy::unwrap_used)]

#[cfg(unix)]
mod images;
mod real;
