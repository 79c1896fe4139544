//! Where a rank stands among the others.

use std::fmt;

/// Where a rank stands among the others, as far as its launcher told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Placement {
    /// Who told.
    pub(crate) source: Source,
    /// Which rank this process is, from 0.
    pub(crate) rank: usize,
    /// How many ranks there are.
    pub(crate) size: usize,
    /// Which of the ranks of this host, from 0.
    pub(crate) local_rank: Option<usize>,
    /// How many ranks this host has.
    pub(crate) local_size: Option<usize>,
    /// Host of rank 0, where the launcher names it; everywhere else the ranks tell each other by MPI.
    pub(crate) first_host: Option<String>,
}

/// Who can tell a rank its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Source {
    /// `--rank` and `--world-size`.
    Flags,
    /// `RANK` and `WORLD_SIZE`, as torchrun sets them.
    Torchrun,
    /// Open MPI's mpirun.
    OpenMpi,
    /// MPICH's and Intel's mpiexec, and `srun --mpi=pmi2`.
    Pmi,
    /// A step of Slurm.
    Slurm,
}

impl Source {
    /// In which order they are believed.
    pub(crate) const ORDER: [Self; 5] = [Self::Flags, Self::Torchrun, Self::OpenMpi, Self::Pmi, Self::Slurm];

    /// The program that starts ranks this way.
    pub(crate) fn launcher(self) -> &'static str {
        match self {
            Self::Flags => "the command line",
            Self::Torchrun => "torchrun",
            Self::OpenMpi => "mpirun",
            Self::Pmi => "mpiexec",
            Self::Slurm => "srun",
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Flags => "--rank and --world-size",
            Self::Torchrun => "RANK and WORLD_SIZE",
            Self::OpenMpi => "OMPI_COMM_WORLD_*",
            Self::Pmi => "PMI_RANK and PMI_SIZE",
            Self::Slurm => "SLURM_*",
        })
    }
}

/// What the command line says about the place of this rank; it is believed before any variable.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::Args)]
pub(crate) struct Explicit {
    /// Which rank this process is, where no launcher tells it.
    #[arg(long, value_name = "N", requires = "world_size", help_heading = "Place among the ranks")]
    pub(crate) rank: Option<usize>,
    /// How many ranks there are, where no launcher tells it.
    #[arg(long, value_name = "N", requires = "rank", help_heading = "Place among the ranks")]
    pub(crate) world_size: Option<usize>,
    /// Which of the ranks of this host this process is.
    #[arg(long, value_name = "N", requires = "rank", help_heading = "Place among the ranks")]
    pub(crate) local_rank: Option<usize>,
    /// How many ranks this host has.
    #[arg(long, value_name = "N", requires = "rank", help_heading = "Place among the ranks")]
    pub(crate) local_size: Option<usize>,
}
