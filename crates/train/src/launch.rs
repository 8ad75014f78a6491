//! Whether this process is one of several that somebody started together, as the variables of launchers say, and how they find
//! each other.

use crate::{Collective, Link, TrainError};
use std::rc::Rc;

/// Set to 1, each process trains by itself, whatever launcher started it.
const ALONE: &str = "REKINDLE_PROCESSES";

/// Who starts several processes, and the variables that say so.
struct Variables {
    by: Launcher,
    rank: &'static str,
    world: &'static str,
    /// A process's number among those of its machine.
    local: &'static str,
    /// Without it the others say nothing.
    witness: &'static str,
}

const LAUNCHERS: [Variables; 4] = [
    Variables {
        by: Launcher::Mpi,
        rank: "OMPI_COMM_WORLD_RANK",
        world: "OMPI_COMM_WORLD_SIZE",
        local: "OMPI_COMM_WORLD_LOCAL_RANK",
        witness: "OMPI_COMM_WORLD_SIZE",
    },
    Variables {
        by: Launcher::Mpi,
        rank: "PMI_RANK",
        world: "PMI_SIZE",
        local: "MPI_LOCALRANKID",
        witness: "PMI_SIZE",
    },
    // A batch script has SLURM_PROCID too; what `srun` starts has the number of tasks of its step.
    Variables {
        by: Launcher::Slurm,
        rank: "SLURM_PROCID",
        world: "SLURM_STEP_NUM_TASKS",
        local: "SLURM_LOCALID",
        witness: "SLURM_STEP_ID",
    },
    Variables {
        by: Launcher::Torchrun,
        rank: "RANK",
        world: "WORLD_SIZE",
        local: "LOCAL_RANK",
        witness: "LOCAL_RANK",
    },
];

/// Who started the processes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Launcher {
    /// `mpirun`, of Open MPI or another.
    Mpi,
    /// `srun`.
    Slurm,
    /// PyTorch's `torchrun`.
    Torchrun,
}

impl Launcher {
    fn name(self) -> &'static str {
        match self {
            Self::Mpi => "mpirun",
            Self::Slurm => "srun",
            Self::Torchrun => "torchrun",
        }
    }
}

/// One of several processes, as its launcher's variables say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Launch {
    /// Who started it.
    pub by: Launcher,
    /// Its number, from 0.
    pub rank: usize,
    /// How many there are, more than one.
    pub world: usize,
    /// Its number among those of its machine, from 0: which GPU it takes.
    pub local: usize,
}

impl Launch {
    /// What the variables of this process say; `None` for a process that is alone, or is to be.
    #[must_use]
    pub fn found() -> Option<Self> {
        Self::of(|name| std::env::var(name).ok())
    }

    fn of(variable: impl Fn(&str) -> Option<String>) -> Option<Self> {
        if variable(ALONE).is_some_and(|value| value == "1") {
            return None;
        }
        let number = |name: &str| variable(name)?.trim().parse::<usize>().ok();
        LAUNCHERS.iter().find_map(|launcher| {
            variable(launcher.witness)?;
            let (rank, world) = (number(launcher.rank)?, number(launcher.world)?);
            (world > 1 && rank < world).then(|| Self {
                by: launcher.by,
                rank,
                world,
                local: number(launcher.local).unwrap_or(0),
            })
        })
    }

    /// Joins the processes that were started together; one that is alone stays so, at no cost. `connect` finds the others, or says
    /// why it cannot.
    ///
    /// # Errors
    /// When it cannot, or finds others than the launcher started. The first process says it, the others have
    /// [`TrainError::Elsewhere`].
    pub fn join(
        connect: impl FnOnce(&Self) -> Result<Rc<dyn Link>, TrainError>,
    ) -> Result<Collective, TrainError> {
        let Some(launch) = Self::found() else {
            return Ok(Collective::alone());
        };
        let joined = connect(&launch).and_then(|link| launch.checked(link));
        joined.map_err(|error| match launch.rank {
            0 => error,
            _ => TrainError::Elsewhere { rank: 0 },
        })
    }

    /// A link between as many processes as were started.
    fn checked(&self, link: Rc<dyn Link>) -> Result<Collective, TrainError> {
        let found = link.world();
        if found == self.world {
            return Ok(Collective::over(link));
        }
        let how = match self.by {
            Launcher::Mpi => "use the `mpirun` of the MPI that this build was made with",
            Launcher::Slurm => "start them with `srun --mpi=pmix`, or with `mpirun`",
            Launcher::Torchrun => "start them with `mpirun -n`",
        };
        Err(TrainError::Launch {
            reason: format!(
                "{} started {} processes, but MPI knows of {found}",
                self.by.name(),
                self.world
            ),
            hint: format!("{how}; {ALONE}=1 lets each train by itself"),
        })
    }

    /// What is said where nothing can connect the processes.
    #[must_use]
    pub fn refused(&self) -> TrainError {
        TrainError::Launch {
            reason: format!(
                "{} started {} processes, but this build trains in one",
                self.by.name(),
                self.world
            ),
            hint: format!(
                "build with MPI: cargo build --release -p rekindle-cli --features mpi (docs/scaling.md); {ALONE}=1 lets each train by itself, in a directory of its own"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(variables: &[(&str, &str)]) -> Option<(Launcher, usize, usize)> {
        found(variables).map(|l| (l.by, l.rank, l.world))
    }

    fn found(variables: &[(&str, &str)]) -> Option<Launch> {
        let value = |name: &str| variables.iter().find(|(n, _)| *n == name);
        Launch::of(|name| Some(value(name)?.1.to_owned()))
    }

    #[test]
    fn a_process_knows_its_number_on_its_machine() {
        let mpi = [("OMPI_COMM_WORLD_RANK", "5"), ("OMPI_COMM_WORLD_SIZE", "8")];
        let hydra = [("PMI_RANK", "5"), ("PMI_SIZE", "8")];
        let slurm = [
            ("SLURM_PROCID", "5"),
            ("SLURM_STEP_NUM_TASKS", "8"),
            ("SLURM_STEP_ID", "0"),
        ];
        let torchrun = [("RANK", "5"), ("WORLD_SIZE", "8")];
        for (launcher, local) in [
            (&mpi[..], "OMPI_COMM_WORLD_LOCAL_RANK"),
            (&hydra, "MPI_LOCALRANKID"),
            (&slurm, "SLURM_LOCALID"),
            (&torchrun, "LOCAL_RANK"),
        ] {
            let launched = found(&[launcher, &[(local, "1")]].concat());
            assert_eq!(launched.map(|l| l.local), Some(1), "{local}");
        }
        assert_eq!(found(&mpi).map(|l| l.local), Some(0));
    }

    #[test]
    fn each_launcher_is_known_by_its_variables() {
        let mpi = [("OMPI_COMM_WORLD_RANK", "3"), ("OMPI_COMM_WORLD_SIZE", "4")];
        assert_eq!(of(&mpi), Some((Launcher::Mpi, 3, 4)));
        let hydra = [("PMI_RANK", "0"), ("PMI_SIZE", "2")];
        assert_eq!(of(&hydra), Some((Launcher::Mpi, 0, 2)));
        let torchrun = [("RANK", "1"), ("WORLD_SIZE", "2"), ("LOCAL_RANK", "1")];
        assert_eq!(of(&torchrun), Some((Launcher::Torchrun, 1, 2)));
        let step = [
            ("SLURM_PROCID", "1"),
            ("SLURM_STEP_NUM_TASKS", "8"),
            ("SLURM_STEP_ID", "0"),
        ];
        assert_eq!(of(&step), Some((Launcher::Slurm, 1, 8)));
        // mpirun within an allocation of Slurm.
        assert_eq!(of(&[&mpi[..], &step].concat()), Some((Launcher::Mpi, 3, 4)));
    }

    #[test]
    fn what_is_alone_is_left_alone() {
        for variables in [
            &[][..],
            &[("OMPI_COMM_WORLD_RANK", "0"), ("OMPI_COMM_WORLD_SIZE", "1")],
            // A batch script, before any `srun`.
            &[("SLURM_PROCID", "0"), ("SLURM_NTASKS", "4")],
            // Variables of these names are not torchrun's alone.
            &[("RANK", "1"), ("WORLD_SIZE", "2")],
            &[("PMI_RANK", "7"), ("PMI_SIZE", "2")],
            &[("PMI_RANK", "0"), ("PMI_SIZE", "2"), (ALONE, "1")],
        ] {
            assert_eq!(of(variables), None, "{variables:?}");
        }
    }
}
