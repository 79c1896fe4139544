//! Failures: whoever is in a collective ends, and gets its buffers back before it does.

use super::{eager, lazy, on_two_ranks};
use crate::call::{Call, OpKind};
use crate::communicator::{Communicator, CommunicatorExt};
use crate::error::CommError;
use crate::rank::{Rank, WorldSize};
use crate::thread::{Options, ThreadComm, ThreadWorld};
use loom::thread;

#[test]
fn loom_an_abort_ends_a_shared_reduction_at_any_point() {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(2);
    model.check(|| {
        let world = ThreadWorld::with_patience(WorldSize(2), &Options::default(), lazy).expect("two ranks");
        let comms = world.into_comms();
        let outsider = comms[0].clone();
        let ranks = comms.into_iter().map(|comm| {
            thread::spawn(move || {
                let mut sum = [comm.rank().index() as u64 + 1; 9];
                // loom sees a rank that is still inside when this returns: taking back writes the slot it reads
                comm.all_reduce_sum(&mut sum).map(|()| sum)
            })
        });
        let ranks: Vec<_> = ranks.collect();
        outsider.abort(&std::fmt::Error);
        for rank in ranks {
            match rank.join().expect("no panic") {
                Ok(sum) => assert_eq!(sum, [3; 9]),
                Err(error) => assert!(matches!(error, CommError::Aborted { by: Rank(0), .. })),
            }
        }
    });
}

fn second_leaves(comm: &ThreadComm) -> Result<(), CommError> {
    if comm.rank() == Rank(1) {
        comm.leave();
        return Ok(());
    }
    let error = comm.barrier().expect_err("rank 1 never comes");
    assert_eq!(error, CommError::Left { rank: Rank(1), call: Call::new(OpKind::Barrier), seq: 1 });
    Ok(())
}

#[test]
fn loom_who_waits_for_one_that_left_is_told() {
    for patience in [lazy, eager] {
        on_two_ranks(patience, second_leaves, |end| assert_eq!(end, Ok(())));
    }
}

fn disagree(comm: &ThreadComm) -> Result<(), CommError> {
    let mut buf = vec![0_u64; 8 + comm.rank().index()];
    comm.all_reduce_sum(&mut buf)
}

#[test]
fn loom_a_mismatch_is_seen_by_both() {
    on_two_ranks(lazy, disagree, |end| assert!(matches!(end, Err(CommError::Mismatch { seq: 1, .. }))));
}
