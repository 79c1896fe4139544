//! The conformance suite on ranks as processes: in one node's memory, between nodes, and both.

use phalanx_comm::cost::{Choice, Method};
use phalanx_comm::{CommError, Communicator, Rank, RankFailure, ReduceOp, WorldError};
use phalanx_comm_mpi::{MpiError, MpiOptions, MpiWorld, Nodes, Progress};
use phalanx_testkit::conform::{Trouble, communicator, disagreements};
use phalanx_testkit::exact::rough;
use phalanx_testkit::mpi::on_ranks;
use std::sync::Arc;
use std::time::{Duration, Instant};

fn options(nodes: Nodes, timeout: Duration) -> MpiOptions {
    MpiOptions { timeout, nodes, ..MpiOptions::default() }
}

/// All that a communicator must do, on one rank of a world that `mpirun` has started.
fn conforms(nodes: Nodes, progress: Progress) {
    let patient = options(nodes, Duration::from_secs(60));
    let mut world = MpiWorld::init(&patient).expect("MPI starts");
    let chosen = world.advance_by(progress).expect("no rank fails");
    let is_alone = world.size().get() == 1;
    assert_eq!(chosen, if is_alone { Progress::Calls } else { progress });
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
        let same = world.run(|comm| methods_agree(&world, &*comm, nodes));
        assert!(same.is_ok(), "{same:?}");
        world.renew(&patient).expect("MPI lives");
    }
    assert_eq!(world.end(0), 0);
}

/// Every way to reduce between nodes gives the sum that is due: node by node, in the bits of one fold, or by the library
/// with exact numbers.
#[expect(clippy::panic_in_result_fn, reason = "what does not hold is a panic, what cannot be made an error")]
fn methods_agree(world: &MpiWorld, comm: &dyn Communicator, nodes: Nodes) -> Result<(), CommError> {
    let (rank, size) = (comm.rank().index(), comm.size().get());
    let most = match nodes {
        Nodes::AtMost(most) => most,
        Nodes::Hosts => size,
    };
    let ranks: Vec<usize> = (0..size).collect();
    let by_node: Vec<&[usize]> = ranks.chunks(most).collect();
    let sum_of = |ranks: &[usize], i: usize| {
        ranks[1..].iter().fold(rough(ranks[0], i), |sum, rank| sum + rough(*rank, i))
    };
    let expected =
        |i: usize| by_node[1..].iter().fold(sum_of(by_node[0], i), |sum, node| sum + sum_of(node, i));
    for method in [Method::Flat, Method::Hierarchical, Method::Library] {
        let tuning = world.choose(Choice::Fixed(method))?;
        assert_eq!((tuning.choice, tuning.topology.nodes), (Choice::Fixed(method), by_node.len()));
        // what travels with the announcement, whole buffers of two ranks, slices that are empty on some ranks, several chunks
        for len in [60, 5003, 9001, 40_000, 2_200_000] {
            let mut region = comm.alloc(len)?;
            let is_exact = method == Method::Library;
            let number = |i: usize| if is_exact { (rank + i % 9) as f32 } else { rough(rank, i) };
            region.iter_mut().enumerate().for_each(|(i, x)| *x = number(i));
            let region = comm.start_all_reduce(region, ReduceOp::Sum)?.wait()?;
            let whole = |i: usize| (size * (i % 9) + size * (size - 1) / 2) as f32;
            let due = |i: usize| if is_exact { whole(i) } else { expected(i) };
            let wrong = region.iter().enumerate().find(|(i, x)| **x != due(*i));
            assert_eq!(wrong, None, "{method}: element and value of {len} on {:?}", tuning.topology);
        }
    }
    assert_eq!(world.ranks_per_node(), Some(most.min(size)));
    // what is measured is the same on all ranks
    let tuning = world.tune(Choice::Auto)?;
    let told = comm.all_gather_bytes(tuning.to_string().as_bytes())?;
    assert!(told.iter().all(|of| *of == told[0]), "{told:?}");
    assert_eq!(comm.tuning().is_some(), by_node.len() > 1);
    Ok(())
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
    on_ranks("one_rank_conforms", 1, || conforms(Nodes::Hosts, Progress::Calls));
}

#[test]
fn two_ranks_of_a_node_conform() {
    on_ranks("two_ranks_of_a_node_conform", 2, || conforms(Nodes::Hosts, Progress::Calls));
}

#[test]
fn three_ranks_of_a_node_conform() {
    on_ranks("three_ranks_of_a_node_conform", 3, || conforms(Nodes::Hosts, Progress::Calls));
}

#[test]
fn four_ranks_of_a_node_conform() {
    on_ranks("four_ranks_of_a_node_conform", 4, || conforms(Nodes::Hosts, Progress::Calls));
}

#[test]
fn two_nodes_of_a_rank_conform() {
    on_ranks("two_nodes_of_a_rank_conform", 2, || conforms(Nodes::AtMost(1), Progress::Calls));
}

#[test]
fn three_nodes_of_a_rank_conform() {
    on_ranks("three_nodes_of_a_rank_conform", 3, || conforms(Nodes::AtMost(1), Progress::Calls));
}

#[test]
fn a_node_of_two_ranks_and_one_of_one_conform() {
    on_ranks("a_node_of_two_ranks_and_one_of_one_conform", 3, || conforms(Nodes::AtMost(2), Progress::Calls));
}

#[test]
fn two_nodes_of_two_ranks_conform() {
    on_ranks("two_nodes_of_two_ranks_conform", 4, || conforms(Nodes::AtMost(2), Progress::Calls));
}

#[test]
fn two_ranks_of_a_node_conform_by_threads() {
    on_ranks("two_ranks_of_a_node_conform_by_threads", 2, || conforms(Nodes::Hosts, Progress::Thread));
}

#[test]
fn three_nodes_of_a_rank_conform_by_threads() {
    on_ranks("three_nodes_of_a_rank_conform_by_threads", 3, || conforms(Nodes::AtMost(1), Progress::Thread));
}

#[test]
fn two_nodes_of_two_ranks_conform_by_threads() {
    on_ranks("two_nodes_of_two_ranks_conform_by_threads", 4, || {
        conforms(Nodes::AtMost(2), Progress::Thread);
    });
}

/// Of more than eight ranks, the library gathers the announcements.
#[test]
fn nine_nodes_of_a_rank_gather_their_announcements() {
    on_ranks("nine_nodes_of_a_rank_gather_their_announcements", 9, || {
        let patient = options(Nodes::AtMost(1), Duration::from_secs(60));
        let mut world = MpiWorld::init(&patient).expect("MPI starts");
        let passed = world.run(|comm| methods_agree(&world, &*comm, Nodes::AtMost(1)));
        assert!(passed.is_ok(), "{passed:?}");
        let case = disagreements().next().expect("there are some");
        world.renew(&patient).expect("MPI lives");
        let ended = world.run(|comm| Err::<(), _>((case.run)(&comm).expect_err(case.name)));
        let error = failure(ended.expect_err(case.name));
        assert!((case.says)(&error, Rank(8)), "{}: {error}", case.name);
        world.renew(&patient).expect("MPI lives");
        assert_eq!(world.end(0), 0);
    });
}

/// Over every MPI: no rank of these was started with fault tolerance.
#[test]
fn ranks_that_cannot_outlive_each_other_say_so() {
    on_ranks("ranks_that_cannot_outlive_each_other_say_so", 2, || {
        let patient = options(Nodes::Hosts, Duration::from_secs(60));
        let mut world = MpiWorld::init(&patient).expect("MPI starts");
        assert!(!MpiWorld::can_survive());
        let refused = world.survive(&patient).expect_err("it cannot");
        assert!(matches!(refused, MpiError::CannotSurvive { .. }), "{refused}");
        // and nothing has happened
        assert_eq!((world.run(|comm| comm.barrier()).is_ok(), world.end(0)), (true, 0));
    });
}

/// Ranks that compute and call nothing: the collective is complete all the same.
#[test]
fn a_thread_completes_what_no_rank_looks_at() {
    on_ranks("a_thread_completes_what_no_rank_looks_at", 2, || {
        let patient = |nodes| options(nodes, Duration::from_secs(60));
        let mut world = MpiWorld::init(&patient(Nodes::Hosts)).expect("MPI starts");
        assert_eq!(world.advance_by(Progress::Thread), Ok(Progress::Thread));
        for nodes in [Nodes::Hosts, Nodes::AtMost(1)] {
            world.renew(&patient(nodes)).expect("MPI lives");
            let completed = world.run(|comm| {
                let pending = comm.start_all_reduce(comm.alloc(3_000_000)?, ReduceOp::Sum)?;
                // to read what is recorded advances nothing
                let begun = Instant::now();
                while comm.flight().last().is_none_or(|record| record.finished.is_none()) {
                    assert!(begun.elapsed() < Duration::from_secs(30), "{nodes:?}: nobody completes it");
                }
                pending.wait().map(drop)
            });
            assert!(completed.is_ok(), "{completed:?}");
        }
        // what is left to calls is left
        assert_eq!(world.advance_by(Progress::Calls), Ok(Progress::Calls));
        let left = world.run(|comm| {
            let pending = comm.start_all_reduce(comm.alloc(3_000_000)?, ReduceOp::Sum)?;
            std::thread::sleep(Duration::from_millis(100));
            assert!(comm.flight().last().is_some_and(|record| record.finished.is_none()));
            pending.wait().map(drop)
        });
        assert!(left.is_ok(), "{left:?}");
        assert_eq!(world.end(0), 0);
    });
}
