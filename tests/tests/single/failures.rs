//! Ranks that panic, fail or compute nonsense: all ranks end, in bounded time, and the message names the one.

use std::error::Error as _;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use phalanx::comm::{CommError, Communicator, Options, RankFailure, WorldError, WorldSize, run_ranks};
use phalanx::grad::{GradError, GradLayout, Progress, StateTensor, UpdateStep};
use phalanx::prelude::*;
use phalanx::train::{Job, Methods, OnNonFinite, Reduction, TrainConfig, TrainError, run_rank};
use phalanx_testkit::Faulty;
use phalanx_tests::{Device, Steps, config, job, methods, train};

/// Far below the timeout of a collective, which is 20 s: nobody waited for it.
const SOON: Duration = Duration::from_secs(10);

fn is_rank(rank: usize) -> bool {
    thread::current().name() == Some(&format!("rank-{rank}"))
}

/// A schedule that panics on rank 1 after a few steps.
#[derive(Debug)]
struct Panics;

impl Schedule for Panics {
    fn name(&self) -> &'static str {
        "panics"
    }

    fn factor(&self, progress: Progress) -> f64 {
        assert!(!is_rank(1) || progress.samples < 150, "the schedule is broken");
        1.0
    }
}

/// An optimizer that fails on rank 2.
#[derive(Debug)]
struct Fails;

impl Transform<Device> for Fails {
    fn name(&self) -> &'static str {
        "fails"
    }

    fn prepare(&mut self, _: &Device, _: &GradLayout) -> Result<(), GradError> {
        Ok(())
    }

    fn update(&mut self, _: &Device, _: &UpdateStep, _: &mut [f32], _: &[f32]) -> Result<(), GradError> {
        if is_rank(2) { Err(GradError::Unprepared { transform: "fails" }) } else { Ok(()) }
    }

    fn state(&self, _: &Device) -> Vec<StateTensor> {
        Vec::new()
    }

    fn restore(&mut self, _: &Device, _: &[StateTensor]) -> Result<(), GradError> {
        Ok(())
    }
}

fn fails(
    ranks: usize,
    config: TrainConfig,
    make: impl Fn() -> Methods<Device> + Send + Sync + 'static,
) -> WorldError<TrainError> {
    let started = Instant::now();
    let job = Job { methods: Box::new(make), ..job(ranks, config) };
    let error = train(ranks, job).expect_err("a rank fails");
    assert!(started.elapsed() < SOON, "{:?}: {error}", started.elapsed());
    assert!(error.unfinished().is_empty(), "every rank ended: {error}");
    error
}

#[test]
fn a_rank_that_panics_is_named_and_ends_the_others() {
    for reduction in [Reduction::Fast, Reduction::Reproducible { shards: 8 }] {
        let error = fails(3, TrainConfig { reduction, ..config() }, || Methods {
            schedule: Box::new(Panics),
            ..methods(0.05)
        });
        let text = error.to_string();
        assert!(text.starts_with("rank 1 panicked") && text.ends_with(": the schedule is broken"), "{text}");
    }
}

#[test]
fn a_rank_that_fails_is_named_with_its_own_error() {
    let error = fails(3, config(), || Methods { over_time: Box::new(Fails), ..methods(0.05) });
    let RankFailure::Failed { rank, error: TrainError::Grad(cause) } = error.failure() else {
        panic!("{error:?}")
    };
    assert_eq!((rank.index(), cause), (2, &GradError::Unprepared { transform: "fails" }));
    assert_eq!(error.to_string(), "rank 2 failed");
}

#[test]
fn numbers_that_are_not_finite_stop_all_ranks_before_the_update() {
    for reduction in [Reduction::Fast, Reduction::Reproducible { shards: 8 }] {
        let error = fails(2, TrainConfig { reduction, ..config() }, || methods(1e30));
        let cause = error.source().expect("the rank's own error").to_string();
        assert!(cause.contains("not finite at step 2"), "{cause}");
        let RankFailure::Failed { error: TrainError::NonFinite { rank, .. }, .. } = error.failure() else {
            panic!("{error:?}")
        };
        assert!(rank.is_some(), "{cause}");
    }
}

#[test]
fn a_step_that_is_not_finite_is_left_out_on_request() {
    let watch = Arc::new(Steps::default());
    let job = Job {
        methods: Box::new(|| methods(1e30)),
        watch: Arc::clone(&watch) as Arc<dyn Watch>,
        ..job(2, TrainConfig { on_nonfinite: OnNonFinite::Skip, ..config() })
    };
    let outcome = train(2, job).expect("no rank fails");
    assert_eq!((outcome.summary.steps, outcome.summary.skipped_steps), (12, 11), "the first update was huge");
    assert!(outcome.params.iter().all(|p| p.is_finite()), "skipped steps did not touch the model");
    assert_eq!(watch.seen().iter().filter(|step| step.skipped).count(), 11);
}

#[test]
fn every_collective_that_fails_ends_both_ranks() {
    let short = TrainConfig { limit: phalanx::train::Limit::Steps(2), ..config() };
    for reduction in [Reduction::Fast, Reduction::Reproducible { shards: 8 }] {
        let config = TrainConfig { reduction, ..short.clone() };
        let mut countdown = 0;
        while let Some(error) = fault(countdown, config.clone()) {
            assert!(error.to_string().contains("rank 1"), "collective {countdown}: {error}");
            countdown += 1;
        }
        assert!(countdown > 5, "{countdown} collectives in two steps and an evaluation");
    }
}

/// Trains with the `countdown`-th collective of rank 1 failing; nothing if there are not so many.
fn fault(countdown: u64, config: TrainConfig) -> Option<WorldError<TrainError>> {
    let (job, started) = (job(2, config), Instant::now());
    let trained = run_ranks(WorldSize(2), &Options::default(), move |comm| {
        let comm: Arc<dyn Communicator> = match comm.rank().index() {
            1 => Arc::new(Faulty::new(comm, countdown)),
            _ => comm,
        };
        run_rank(&job, &comm)
    });
    assert!(started.elapsed() < SOON, "collective {countdown}: {:?}", started.elapsed());
    let error = trained.err()?;
    let is_told =
        matches!(error.failure(), RankFailure::Failed { .. } | RankFailure::Comm(CommError::Aborted { .. }));
    assert!(is_told && error.unfinished().is_empty(), "collective {countdown}: {error:?}");
    Some(error)
}

#[test]
fn ranks_whose_jobs_differ_are_told_before_the_first_step() {
    let jobs = [job(2, config()), job(2, TrainConfig { seed: 8, ..config() })];
    let trained =
        run_ranks(WorldSize(2), &Options::default(), move |comm| run_rank(&jobs[comm.rank().index()], &comm));
    let error = trained.expect_err("the seeds differ");
    let text = format!("{error} {:?}", error.failure());
    assert!(text.contains("seed: 7") && text.contains("seed: 8"), "{text}");
}
