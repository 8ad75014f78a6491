//! How the processes of a run reach each other: over MPI, if the feature `mpi` is on. It is a crate of its own so that nothing but the
//! program is built anew for it.
//!
//! On NVIDIA GPUs, NCCL would be another [`rekindle_train::Link`], made here, whose messages stay on the devices: its id would go
//! round over MPI, and nothing above would know of it.

#[cfg(feature = "mpi")]
mod link;

use rekindle_train::{Collective, Launch, TrainError};

/// Joins the processes that a launcher started with this one; a process that is alone stays so.
///
/// # Errors
/// When there are several, and this build or MPI cannot join them: see [`Launch::join`].
pub fn join() -> Result<Collective, TrainError> {
    #[cfg(feature = "mpi")]
    return Launch::join(|_| Ok(std::rc::Rc::new(link::Mpi::init()?)));
    #[cfg(not(feature = "mpi"))]
    Launch::join(|launch| Err(launch.refused()))
}
