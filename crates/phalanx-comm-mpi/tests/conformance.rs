//! The conformance suite on ranks as processes: in one node's memory, between nodes, and both.

use phalanx_comm::{CommError, Communicator, Rank, RankFailure, WorldError};
use phalanx_comm_mpi::{MpiOptions, MpiWorld, Nodes};
use phalanx_testkit::conform::{Trouble, communicator, disagreements};
use phalanx_testkit::mpi::on_ranks;
use std::sync::Arc;
use std::time::{Duration, Instant};

fn options(nodes: Nodes, timeout: Duration) -> MpiOptions {
    MpiOptions { timeout, nodes, ..MpiOptions::default() }
}

/// All that a communicator must do, on one rank of a world that `mpirun` has started.
fn conforms(nodes: Nodes) {
    let patient = options(nodes, Duration::from_secs(60));
    let mut world = MpiWorld::init(&patient).expect("MPI starts");
    let passed = world.run(|comm| communicator(&comm));
    assert!(passed.is_ok(), "{passed:?}");
    if world.size().get() > 1 {
        for case in disagreements() {
            world.renew(&patient).expect("MPI lives");
            let last = Rank(world.size().get() - 1);
            let ended = world.run(|comm| {
                let error = (case.run)(&comm).expect_err(case.name);
                assert_eq!(comm.barrier().as_ref(), Err(&error), "after {}", case.name);
                Err::<(), _>(error)
            });
            let error = failure(ended.expect_err(case.name));
            assert!((case.says)(&error, last), "{}: {error}", case.name);
        }
        for trouble in Trouble::all(Duration::from_secs(4)) {
            in_trouble(&mut world, trouble, nodes);
        }
        world.renew(&patient).expect("MPI lives");
    }
    assert_eq!(world.end(0), 0);
}

fn failure(error: WorldError<CommError>) -> CommError {
    match error.into_failure() {
        RankFailure::Failed { error, .. } | RankFailure::Comm(error) => error,
        other => panic!("{other:?}"),
    }
}

fn in_trouble(world: &mut MpiWorld, trouble: Trouble, nodes: Nodes) {
    let patience = if let Trouble::Stall(_) = trouble { 1000 } else { 30_000 };
    world.renew(&options(nodes, Duration::from_millis(patience))).expect("MPI lives");
    // without shared memory, nobody sees a rank leave: the others wait out their patience
    let is_seen_to_leave = matches!(nodes, Nodes::Hosts);
    if trouble == Trouble::Leave && !is_seen_to_leave {
        world.renew(&options(nodes, Duration::from_secs(1))).expect("MPI lives");
    }
    let (begun, last) = (Instant::now(), Rank(world.size().get() - 1));
    let ended = world.run(|comm: Arc<dyn Communicator>| trouble.run(&comm));
    let is_last = world.rank() == last;
    if is_last && trouble == Trouble::Leave {
        assert!(ended.is_ok(), "{ended:?}");
        return;
    }
    let ended = ended.expect_err("trouble");
    assert_eq!(ended.flights().len(), 1);
    let named = match (trouble, failure(ended)) {
        (Trouble::Panic, CommError::Panicked { rank, message, during }) => {
            rank == last && &*message == "the last rank is broken" && during.is_some()
        }
        (Trouble::Fail | Trouble::Abort, CommError::Aborted { by, cause }) => {
            by == last && &*cause == "the disk is full"
        }
        (Trouble::Leave, CommError::Left { rank, .. }) => rank == last && is_seen_to_leave,
        (Trouble::Leave, CommError::Timeout { missing, .. }) => {
            missing.iter().any(|missing| missing.rank == last) && !is_seen_to_leave
        }
        (Trouble::Stall(_), CommError::Timeout { missing, .. }) => {
            missing.len() == 1 && missing[0].rank == last && missing[0].last.is_some()
        }
        (_, other) => panic!("{trouble:?}: {other}"),
    };
    assert!(named, "{trouble:?} names another rank");
    assert!(begun.elapsed() < Duration::from_secs(15), "{trouble:?} took {:?}", begun.elapsed());
}

#[test]
fn one_rank_conforms() {
    on_ranks("one_rank_conforms", 1, || conforms(Nodes::Hosts));
}

#[test]
fn two_ranks_of_a_node_conform() {
    on_ranks("two_ranks_of_a_node_conform", 2, || conforms(Nodes::Hosts));
}

#[test]
fn three_ranks_of_a_node_conform() {
    on_ranks("three_ranks_of_a_node_conform", 3, || conforms(Nodes::Hosts));
}

#[test]
fn four_ranks_of_a_node_conform() {
    on_ranks("four_ranks_of_a_node_conform", 4, || conforms(Nodes::Hosts));
}

#[test]
fn two_nodes_of_a_rank_conform() {
    on_ranks("two_nodes_of_a_rank_conform", 2, || conforms(Nodes::AtMost(1)));
}

#[test]
fn three_nodes_of_a_rank_conform() {
    on_ranks("three_nodes_of_a_rank_conform", 3, || conforms(Nodes::AtMost(1)));
}

#[test]
fn a_node_of_two_ranks_and_one_of_one_conform() {
    on_ranks("a_node_of_two_ranks_and_one_of_one_conform", 3, || conforms(Nodes::AtMost(2)));
}

#[test]
fn two_nodes_of_two_ranks_conform() {
    on_ranks("two_nodes_of_two_ranks_conform", 4, || conforms(Nodes::AtMost(2)));
}
