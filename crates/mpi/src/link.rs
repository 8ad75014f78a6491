//! Messages by MPI (version 3.1 of the standard, through `rsmpi`): only those from one process to one, since MPI's own sums have an
//! order of their own.

use mpi::{
    Threading,
    environment::Universe,
    point_to_point::send_receive_into,
    topology::SimpleCommunicator,
    traits::{Communicator, Destination, Source},
};
use rekindle_train::{Link, TrainError};

/// The most bytes of one message: MPI counts in 32 bits.
const MESSAGE: usize = 1 << 30;

/// The processes of `MPI_COMM_WORLD`.
pub(crate) struct Mpi {
    world: SimpleCommunicator,
    /// MPI ends when this goes.
    _universe: Universe,
}

impl Mpi {
    /// Starts MPI.
    ///
    /// # Errors
    /// When it was started in this process before.
    pub(crate) fn init() -> Result<Self, TrainError> {
        let (universe, _) =
            mpi::initialize_with_threading(Threading::Funneled).ok_or_else(|| {
                TrainError::Launch {
                    reason: "MPI was started before in this process".into(),
                    hint: "start it once, and make all runs of the process with it".into(),
                }
            })?;
        Ok(Self {
            world: universe.world(),
            _universe: universe,
        })
    }
}

impl Link for Mpi {
    fn rank(&self) -> usize {
        self.world.rank() as usize
    }

    fn world(&self) -> usize {
        self.world.size() as usize
    }

    fn swap(&self, to: usize, sent: &[u8], from: usize, received: &mut [u8]) -> Result<(), String> {
        let to = self.world.process_at_rank(to as i32);
        let from = self.world.process_at_rank(from as i32);
        let (mut sent, mut received) = (sent.chunks(MESSAGE), received.chunks_mut(MESSAGE));
        // What is empty is no message, on either side.
        loop {
            match (sent.next(), received.next()) {
                (Some(sent), Some(room)) => {
                    send_receive_into(sent, &to, room, &from);
                }
                (Some(sent), None) => to.send(sent),
                (None, Some(room)) => {
                    from.receive_into(room);
                }
                (None, None) => return Ok(()),
            }
        }
    }

    fn abort(&self, exit_code: i32) {
        self.world.abort(exit_code);
    }
}
