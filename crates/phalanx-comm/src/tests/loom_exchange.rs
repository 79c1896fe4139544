//! Blocking collectives: no lost wake-up, no slot reused too early, no buffer touched after it was taken back.

use super::{eager, lazy, on_two_ranks};
use crate::communicator::CommunicatorExt;
use crate::thread::ThreadComm;
use crate::{CommError, Communicator};

/// One more than there are slots.
fn three_inline(comm: &ThreadComm) -> Result<u64, CommError> {
    let mut sum = [comm.rank().index() as u64 + 1];
    for _ in 0..3 {
        comm.all_reduce_sum(&mut sum)?;
    }
    Ok(sum[0])
}

#[test]
fn loom_slots_are_reused_when_all_have_read_them() {
    for patience in [lazy, eager] {
        on_two_ranks(patience, three_inline, |sum| assert_eq!(sum, Ok(12)));
    }
}

fn one_shared(comm: &ThreadComm) -> Result<[u64; 9], CommError> {
    let mut sum = [comm.rank().index() as u64 + 1; 9];
    comm.all_reduce_sum(&mut sum)?;
    Ok(sum)
}

#[test]
fn loom_buffers_are_whole_when_they_come_back() {
    for patience in [lazy, eager] {
        on_two_ranks(patience, one_shared, |sum| assert_eq!(sum, Ok([3; 9])));
    }
}

fn shared_then_inline(comm: &ThreadComm) -> Result<u64, CommError> {
    let first = one_shared(comm)?;
    let mut sum = [first[8]];
    comm.all_reduce_sum(&mut sum)?;
    Ok(sum[0])
}

#[test]
fn loom_a_small_collective_follows_a_large_one() {
    on_two_ranks(lazy, shared_then_inline, |sum| assert_eq!(sum, Ok(6)));
}
