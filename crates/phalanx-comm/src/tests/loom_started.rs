//! Started collectives against blocking ones, and against a rank that gives its communicator up.

use super::{eager, lazy, on_two_ranks};
use crate::call::ReduceOp;
use crate::communicator::Communicator;
use crate::error::CommError;
use crate::rank::Rank;
use crate::shared::Region;
use crate::thread::ThreadComm;

fn region(rank: Rank) -> Region<f32> {
    let mut region = Region::zeroed(20);
    region.fill(rank.index() as f32 + 1.0);
    region
}

fn start_and_wait(comm: &ThreadComm) -> Result<f32, CommError> {
    let pending = comm.start_all_reduce(region(comm.rank()), ReduceOp::Sum)?;
    comm.progress()?;
    Ok(pending.wait()?[19])
}

#[test]
fn loom_a_started_reduction_completes() {
    for patience in [lazy, eager] {
        on_two_ranks(patience, start_and_wait, |sum| assert_eq!(sum, Ok(3.0)));
    }
}

fn start_and_block(comm: &ThreadComm) -> Result<f32, CommError> {
    let pending = comm.start_all_reduce(region(comm.rank()), ReduceOp::Sum)?;
    comm.barrier()?;
    Ok(pending.wait()?[19])
}

#[test]
fn loom_a_blocking_collective_completes_what_was_started() {
    on_two_ranks(lazy, start_and_block, |sum| assert_eq!(sum, Ok(3.0)));
}

fn second_gives_up(comm: &ThreadComm) -> Result<(), CommError> {
    let pending = comm.start_all_reduce(region(comm.rank()), ReduceOp::Sum)?;
    if comm.rank() == Rank(1) {
        // the region is freed with the communicator: not while the other rank is in it
        return Ok(());
    }
    pending.wait().map(drop)
}

#[test]
fn loom_a_region_outlives_the_ranks_that_read_it() {
    on_two_ranks(lazy, second_gives_up, |end| {
        assert!(matches!(end, Ok(()) | Err(CommError::Left { rank: Rank(1), .. })), "{end:?}");
    });
}
