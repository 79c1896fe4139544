//! Started collectives against blocking ones, and against a rank that gives its communicator up.

use super::{eager, lazy, on_two_ranks};
use crate::call::ReduceOp;
use crate::communicator::{Communicator, CommunicatorExt};
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
        // the region is freed here: not while the other rank is in it
        comm.leave();
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

fn three_shared(comm: &ThreadComm) -> Result<f32, CommError> {
    let started = [(); 3].map(|()| comm.start_all_reduce(region(comm.rank()), ReduceOp::Sum));
    started.into_iter().try_fold(0.0, |total, pending| Ok(total + pending?.wait()?[19]))
}

#[test]
fn loom_a_slot_is_reused_after_its_parts_were_taken_back() {
    on_two_ranks(lazy, three_shared, |sum| assert_eq!(sum, Ok(9.0)));
}

/// One collective more than there are slots, started by one rank and made by the other.
fn runs_ahead(comm: &ThreadComm) -> Result<f32, CommError> {
    let mut last = 0.0;
    if comm.rank() == Rank(0) {
        for _ in 0..3 {
            let mut one = [1.0_f32];
            comm.all_reduce_sum(&mut one)?;
            last = one[0];
        }
    } else {
        let mut one = Region::zeroed(1);
        one[0] = 2.0;
        let started =
            [one, Region::zeroed(1), Region::zeroed(1)].map(|r| comm.start_all_reduce(r, ReduceOp::Sum));
        for (pending, sum) in started.into_iter().zip([3.0, 1.0, 1.0]) {
            last = pending?.wait()?[0];
            assert_eq!(last, sum);
        }
    }
    Ok(last)
}

#[test]
fn loom_no_rank_runs_further_ahead_than_there_are_slots() {
    for patience in [lazy, eager] {
        on_two_ranks(patience, runs_ahead, |last| assert_eq!(last, Ok(1.0)));
    }
}
