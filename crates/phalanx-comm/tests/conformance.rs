//! The conformance suite on ranks as threads, and on a rank that is alone.

use phalanx_comm::{
    CommError, Communicator, Options, Rank, RankFailure, ReduceOp, SoloComm, WorldError, WorldSize, run_ranks,
};
use phalanx_testkit::conform::{Trouble, communicator, communicator_checks, disagreements};
use std::sync::Arc;
use std::time::{Duration, Instant};

fn passes(size: usize) {
    let world = run_ranks(WorldSize(size), &Options::default(), |comm| communicator(&comm));
    if let Err(error) = world {
        panic!("on {size} ranks: {error}");
    }
}

#[test]
fn one_thread_rank_conforms() {
    passes(1);
}

#[test]
fn two_thread_ranks_conform() {
    passes(2);
}

#[test]
fn three_thread_ranks_conform() {
    passes(3);
}

#[test]
fn four_thread_ranks_conform() {
    passes(4);
}

#[test]
fn more_ranks_than_cores_conform() {
    passes(11);
}

#[test]
fn a_rank_alone_conforms() {
    let comm: Arc<dyn Communicator> = Arc::new(SoloComm::new());
    communicator(&comm).unwrap();
}

#[test]
fn ranks_conform_that_are_part_of_a_larger_world() {
    let world = run_ranks(WorldSize(5), &Options::default(), |comm| {
        let rank = comm.rank().index();
        match comm.split(Some(usize::from(rank >= 2)), 0)? {
            Some(part) => communicator(&part),
            None => Ok(()),
        }
    });
    assert!(world.is_ok(), "{world:?}");
}

#[test]
fn the_checks_have_names_of_their_own() {
    let mut names: Vec<_> = communicator_checks().map(|check| check.name).collect();
    names.extend(disagreements().map(|case| case.name));
    let count = names.len();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), count);
}

#[test]
fn a_disagreement_is_the_same_error_on_every_rank() {
    let options = Options { timeout: Duration::from_secs(20), grace: Duration::from_secs(5) };
    for size in [2, 3, 4] {
        for case in disagreements() {
            // each rank hands its error out, so that they can be compared; a second collective fails alike
            let world = run_ranks(WorldSize(size), &options, move |comm| {
                let error = (case.run)(&comm).expect_err(case.name);
                assert_eq!(comm.barrier().as_ref(), Err(&error), "after {}", case.name);
                Err::<(), _>(Wrapped(error))
            });
            let error = world.expect_err(case.name);
            let RankFailure::Comm(error) = error.failure() else {
                panic!("{}: {error:?}", case.name);
            };
            assert!((case.says)(error, Rank(size - 1)), "{} on {size} ranks: {error}", case.name);
        }
    }
}

/// Hides a communicator's error, so that it reaches the others by the communicator or not at all.
#[derive(Debug, thiserror::Error)]
#[error("wrapped")]
struct Wrapped(#[source] CommError);

fn in_trouble(trouble: Trouble, size: usize) -> (WorldError<CommError>, Duration) {
    // only the stall may take its time: a panic that prints a backtrace can take a second
    let patience = if let Trouble::Stall(_) = trouble { 800 } else { 20_000 };
    let options = Options { timeout: Duration::from_millis(patience), grace: Duration::from_secs(10) };
    let start = Instant::now();
    let error = run_ranks(WorldSize(size), &options, move |comm| trouble.run(&comm)).expect_err("trouble");
    (error, start.elapsed())
}

#[test]
fn trouble_on_one_rank_ends_all_and_names_it() {
    for size in [2, 3, 5] {
        for trouble in Trouble::all(Duration::from_millis(2000)) {
            let (error, took) = in_trouble(trouble, size);
            let last = Rank(size - 1);
            let named = match (trouble, error.failure()) {
                (Trouble::Panic, RankFailure::Comm(CommError::Panicked { rank, message, during })) => {
                    *rank == last && &**message == "the last rank is broken" && during.is_some()
                }
                (Trouble::Fail, RankFailure::Failed { rank, error }) => {
                    *rank == last && error.to_string().ends_with("gave up: the disk is full")
                }
                (Trouble::Leave, RankFailure::Comm(CommError::Left { rank, .. })) => *rank == last,
                (Trouble::Abort, RankFailure::Failed { rank, error }) => {
                    *rank == last && error.to_string().ends_with("gave up: the disk is full")
                }
                (Trouble::Stall(_), RankFailure::Comm(CommError::Timeout { missing, .. })) => {
                    missing.len() == 1 && missing[0].rank == last && missing[0].last.is_some()
                }
                _ => false,
            };
            assert!(named, "{trouble:?} on {size} ranks: {error:?}");
            assert!(took < Duration::from_secs(10), "{trouble:?} took {took:?}");
            assert_eq!(error.unfinished(), []);
            assert!(error.flights().iter().all(|flight| !flight.is_empty()));
        }
    }
}

#[test]
fn a_rank_that_never_returns_is_left_behind_and_named() {
    let options = Options { timeout: Duration::from_millis(200), grace: Duration::from_millis(200) };
    let start = Instant::now();
    let error = run_ranks(WorldSize(3), &options, |comm| {
        if comm.rank() == Rank(1) {
            std::thread::sleep(Duration::from_secs(3600));
        }
        comm.barrier()
    })
    .unwrap_err();
    assert!(start.elapsed() < Duration::from_secs(5));
    assert_eq!(error.unfinished(), [Rank(1)]);
    let text = error.to_string();
    assert!(
        text.starts_with("barrier() (collective 1) waited 0.2 s for rank 1 (in no collective yet)"),
        "{text}"
    );
    assert!(text.ends_with("; rank 1 is stuck"), "{text}");
}

#[test]
fn a_rank_is_a_thread_of_its_name() {
    let name = |_| Ok::<_, CommError>(std::thread::current().name().map(str::to_owned));
    let names = run_ranks(WorldSize(2), &Options::default(), name).unwrap();
    assert_eq!(names, [Some("rank-0".to_owned()), Some("rank-1".to_owned())]);
}

#[test]
fn what_is_dropped_unwaited_at_the_end_fails_nobody() {
    let world = run_ranks(WorldSize(3), &Options::default(), |comm| {
        for len in [5, 50_000] {
            drop(comm.start_all_reduce(comm.alloc(len)?, ReduceOp::Sum)?);
        }
        Ok::<_, CommError>(())
    });
    assert!(world.is_ok(), "{world:?}");
}

#[test]
fn a_world_needs_a_rank() {
    let error = run_ranks(WorldSize(0), &Options::default(), |_| Ok::<_, CommError>(())).unwrap_err();
    assert!(matches!(error.failure(), RankFailure::Comm(CommError::NoRanks)));
}
