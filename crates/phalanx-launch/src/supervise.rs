//! Starts the ranks of a job through mpirun or srun, shows what they say, and starts them again when one is lost.

mod command;
mod output;
mod restart;
mod starter;
mod stragglers;

pub(crate) use command::{Job, RankCommand, absolute, is_crowded, own_program, shown};
pub(crate) use output::{RankFilter, Show};
pub(crate) use restart::{Backoff, Ended, Supervisor, ended};
pub(crate) use starter::Starter;
pub use starter::StarterError;
