//! Who started this process, and which of how many ranks it is.
//!
//! Launchers tell each process by environment variables, and some of them leave variables that are wrong for the
//! ranks they start: `mpirun` inside an allocation of Slurm gives every rank of a remote node `SLURM_PROCID=0`. So the
//! sources are asked in a fixed order, [`Source::ORDER`], and a source that is incomplete does not count.

mod binding;
mod detect;
mod nodelist;
mod placement;

pub(crate) use binding::bind;
#[cfg(not(feature = "mpi"))]
pub(crate) use detect::refuse;
pub(crate) use detect::{Detected, detect, once_only};
pub(crate) use placement::{Explicit, Placement};
