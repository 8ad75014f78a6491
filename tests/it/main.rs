//! The one integration-test binary of the workspace; a module a subject.

#[cfg(feature = "cpu")]
mod bert;
#[cfg(feature = "cpu")]
mod choices;
#[cfg(feature = "cpu")]
mod constrained;
#[cfg(feature = "cpu")]
mod decoders;
#[cfg(feature = "cpu")]
mod embeddings;
#[cfg(feature = "cpu")]
mod families;
#[cfg(all(feature = "cpu", any(feature = "wgpu", feature = "cuda")))]
mod gpu;
#[cfg(all(feature = "cpu", any(feature = "wgpu", feature = "cuda")))]
mod gpu_cost;
#[cfg(feature = "cpu")]
mod laws;
#[cfg(feature = "cpu")]
mod losses;
#[cfg(feature = "cpu")]
mod pictures;
#[cfg(feature = "cpu")]
mod questions;
#[cfg(feature = "cpu")]
mod short_runs;
#[cfg(feature = "cpu")]
mod smollm2;
#[cfg(feature = "cpu")]
mod support;
#[cfg(feature = "cpu")]
mod tagging;
#[cfg(feature = "cpu")]
mod tasks;
#[cfg(feature = "cpu")]
mod tiny;
#[cfg(feature = "cpu")]
mod tokens;
#[cfg(feature = "cpu")]
mod vision;

mod workspace;
