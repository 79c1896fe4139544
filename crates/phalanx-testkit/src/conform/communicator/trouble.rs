//! A rank that panics, fails, leaves or stalls while the others are in a collective.

use phalanx_comm::{CommError, Communicator, CommunicatorExt, ReduceOp};
use std::sync::Arc;
use std::time::Duration;

/// What the last rank does to the others.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Trouble {
    /// Panics.
    Panic,
    /// Returns an error of its own.
    Fail,
    /// Returns as if it had finished.
    Leave,
    /// Calls [`Communicator::abort`] and goes on to the next collective.
    Abort,
    /// Comes so long after everybody's timeout.
    Stall(Duration),
}

/// What the last rank fails with by [`Trouble::Fail`] and [`Trouble::Abort`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the disk is full")]
struct DiskFull;

impl Trouble {
    /// Every kind, the stall for `stall`.
    pub const fn all(stall: Duration) -> [Self; 5] {
        [Self::Panic, Self::Fail, Self::Leave, Self::Abort, Self::Stall(stall)]
    }

    /// Runs one rank of a world that gets into trouble after some good collectives, with reductions in flight.
    ///
    /// # Collective
    /// Every rank of a world of its own, two or more; blocks until the world has ended.
    ///
    /// # Errors
    /// What this rank gets to see: an error on every rank, but on the one that [leaves](Self::Leave).
    ///
    /// # Panics
    /// On the last rank, for [`Trouble::Panic`].
    pub fn run(self, comm: &Arc<dyn Communicator>) -> Result<(), CommError> {
        let in_trouble = comm.rank().index() + 1 == comm.size().get();
        let mut flat = comm.alloc(60_000)?;
        for step in 0..6 {
            let bucket = comm.start_all_reduce(flat.split_off(30_000), ReduceOp::Sum)?;
            if step == 3 && in_trouble {
                match self {
                    Self::Panic => panic!("the last rank is broken"),
                    Self::Fail => return Err(CommError::aborted(comm.rank(), &DiskFull)),
                    Self::Leave => return Ok(()),
                    Self::Abort => comm.abort(&DiskFull),
                    Self::Stall(time) => std::thread::sleep(time),
                }
            }
            comm.all_reduce_sum(&mut flat)?;
            assert!(flat.try_unsplit(bucket.wait()?).is_ok(), "halves of one buffer");
        }
        Ok(())
    }
}
