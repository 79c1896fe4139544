//! Ranks that go on without others, which have died: over Open MPI 5, under `mpirun --with-ft ulfm`.

use phalanx_comm::{CommError, Communicator, CommunicatorExt, Rank, ReduceOp};
use phalanx_comm_mpi::{MpiError, MpiOptions, MpiWorld, Nodes};
use phalanx_testkit::conform::communicator;
use phalanx_testkit::mpi::{has_held, on_ranks_that_may_die};
use rustix::process::{Signal, getpid, kill_process};
use std::time::{Duration, Instant};

fn options(nodes: Nodes) -> MpiOptions {
    MpiOptions { nodes, ..MpiOptions::default() }
}

/// Sums until it fails; the ranks of `dying` die in the third sum.
#[expect(clippy::panic_in_result_fn, reason = "what does not hold is a panic, what cannot be made an error")]
fn sum_until(comm: &dyn Communicator, dying: &[usize]) -> Result<(), CommError> {
    for round in 0.. {
        if round == 3 && dying.contains(&comm.rank().index()) {
            kill_process(getpid(), Signal::KILL).expect("it may");
        }
        // large enough for memory that is shared, or for messages of its own
        let mut region = comm.alloc(100_000)?;
        region.fill(1.0);
        let region = comm.start_all_reduce(region, ReduceOp::Sum)?.wait()?;
        assert!(region.iter().all(|x| *x == comm.size().get() as f32));
        let mut small = [1.0_f32];
        comm.all_reduce_sum(&mut small)?;
    }
    Ok(())
}

/// Lives on when `dying` have died, with all that a communicator must do.
fn goes_on(world: &mut MpiWorld, dying: &[usize], nodes: Nodes) {
    let (before, rank) = (world.size(), world.rank().index());
    assert!(MpiWorld::can_survive() && !world.has_lost_a_rank());
    let ended = world.run(|comm| sum_until(&*comm, dying));
    assert!(ended.is_err() && world.has_lost_a_rank(), "{ended:?}");
    let begun = Instant::now();
    let survivors = world.survive(&options(nodes)).expect("enough are left");
    let took = begun.elapsed();
    assert!(took < Duration::from_secs(10), "{took:?}");
    let lost: Vec<Rank> = dying.iter().copied().map(Rank).collect();
    assert_eq!((survivors.before, &survivors.lost), (before, &lost));
    assert_eq!(world.size().get(), before.get() - dying.len());
    assert_eq!(world.rank().index(), rank - dying.iter().filter(|died| **died < rank).count());
    assert!(!world.has_lost_a_rank());
    let passed = world.run(|comm| communicator(&comm));
    assert!(passed.is_ok(), "{passed:?}");
}

#[test]
fn two_of_three_go_on() {
    on_ranks_that_may_die("two_of_three_go_on", 3, 0, || {
        let mut world = MpiWorld::init(&options(Nodes::Hosts)).expect("MPI starts");
        goes_on(&mut world, &[1], Nodes::Hosts);
        has_held();
        assert_eq!(world.end(0), 0);
    });
}

#[test]
fn the_first_of_two_goes_on_alone() {
    on_ranks_that_may_die("the_first_of_two_goes_on_alone", 2, 0, || {
        let mut world = MpiWorld::init(&options(Nodes::Hosts)).expect("MPI starts");
        goes_on(&mut world, &[1], Nodes::Hosts);
        has_held();
        assert_eq!(world.end(0), 0);
    });
}

#[test]
fn ranks_go_on_without_the_first_and_again() {
    on_ranks_that_may_die("ranks_go_on_without_the_first_and_again", 4, 0, || {
        let mut world = MpiWorld::init(&options(Nodes::AtMost(1))).expect("MPI starts");
        goes_on(&mut world, &[0], Nodes::AtMost(1));
        goes_on(&mut world, &[2], Nodes::AtMost(1));
        assert_eq!(world.size().get(), 2);
        has_held();
        assert_eq!(world.end(0), 0);
    });
}

#[test]
fn two_that_die_at_once_are_left_behind() {
    on_ranks_that_may_die("two_that_die_at_once_are_left_behind", 5, 0, || {
        let mut world = MpiWorld::init(&options(Nodes::AtMost(2))).expect("MPI starts");
        let dying = [1, 4];
        // one may be gone before the other: then the ranks that are left are fewer in two steps
        let before = world.size().get();
        while world.size().get() > before - dying.len() {
            let ranks: Vec<usize> = if world.size().get() == before { dying.to_vec() } else { Vec::new() };
            let ended = world.run(|comm| sum_until(&*comm, &ranks));
            assert!(ended.is_err() && world.has_lost_a_rank(), "{ended:?}");
            world.survive(&options(Nodes::AtMost(2))).expect("enough are left");
        }
        let passed = world.run(|comm| communicator(&comm));
        assert!(passed.is_ok(), "{passed:?}");
        has_held();
        assert_eq!(world.end(0), 0);
    });
}

#[test]
fn a_minority_does_not_go_on() {
    on_ranks_that_may_die("a_minority_does_not_go_on", 3, 3, || {
        let mut world = MpiWorld::init(&options(Nodes::Hosts)).expect("MPI starts");
        let ended = world.run(|comm| {
            comm.barrier()?;
            if comm.rank() != Rank(1) {
                kill_process(getpid(), Signal::KILL).expect("it may");
            }
            // until both are known to be gone
            std::thread::sleep(Duration::from_secs(1));
            comm.barrier()
        });
        assert!(ended.is_err() && world.has_lost_a_rank(), "{ended:?}");
        let refused = world.survive(&options(Nodes::Hosts)).expect_err("one of three");
        assert!(matches!(refused, MpiError::Quorum { left: 1, before: 3 }), "{refused}");
        world.end(3);
    });
}
