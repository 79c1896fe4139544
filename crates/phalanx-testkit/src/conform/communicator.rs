//! What every communicator must do: on its own, when ranks disagree, and when one of them is in trouble.

mod agreement;
mod blocking;
mod disagree;
mod started;
mod trouble;

pub use disagree::{Disagreement, disagreements};
pub use trouble::Trouble;

use phalanx_comm::{CommError, Communicator};
use std::sync::Arc;

/// One thing that every communicator does, for any number of ranks up to 16.
#[derive(Clone, Copy, Debug)]
pub struct Check {
    /// What holds, in words.
    pub name: &'static str,
    /// Runs it: on every rank at once; panics where it does not hold.
    pub run: fn(&Arc<dyn Communicator>) -> Result<(), CommError>,
}

/// Runs all [`communicator_checks`] on a rank of a world, whose other ranks do the same.
///
/// # Collective
/// Every rank, once; blocks.
///
/// # Errors
/// The first failure of the world, where none is due.
///
/// # Panics
/// Where a check does not hold.
pub fn communicator(comm: &Arc<dyn Communicator>) -> Result<(), CommError> {
    communicator_checks().try_for_each(|check| (check.run)(comm))
}

/// The checks that hold between ranks which do everything right, in the order in which they may share one world.
pub fn communicator_checks() -> impl Iterator<Item = Check> {
    [blocking::CHECKS, agreement::CHECKS, started::CHECKS].into_iter().flatten().copied()
}
