//! Ends a rank that is a process when the control channel says that the job is over.
//!
//! Such a rank may be stuck in a collective that will never complete, so that nobody asks it: the channel's thread
//! writes the report and ends the process.

use std::sync::Arc;
use std::time::Duration;

use phalanx_comm::control::{Board, Cause, Control, ControlError, Limits, Verdict, Watched};
use phalanx_comm::{Communicator, OpRecord, Rank};
use phalanx_train::Failure;
use phalanx_train::rundir::RunPaths;

use super::post_mortem::{write_failure, write_flight};
use crate::exit::Exit;
use crate::faults::Injector;

/// How long a rank with an error of its own has to tell it and end by itself.
const OWN_WORDS: Duration = Duration::from_secs(2);

/// Reads the last collectives of a rank.
pub type Flight = Arc<dyn Fn() -> Vec<OpRecord> + Send + Sync>;

/// What the watchdog of a rank has to know.
pub struct Guarded {
    /// Where the rank writes its phases.
    pub board: Arc<Board>,
    /// Its last collectives.
    pub flight: Flight,
    /// The files of the run.
    pub paths: RunPaths,
    /// How soon all ranks end.
    pub bound: Duration,
    /// The faults of the run, which may be of its links.
    pub injector: Arc<Injector>,
    /// Whether the others go on when the process of a rank has died.
    pub goes_on: bool,
}

impl std::fmt::Debug for Guarded {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Guarded")
            .field("board", &self.board)
            .field("paths", &self.paths)
            .finish_non_exhaustive()
    }
}

/// Watches over the ranks of `comm`, each a process, until the channel that it returns is dropped.
///
/// # Collective
/// Every rank; blocks.
///
/// # Errors
/// Those of [`Control::over`].
pub fn watch(comm: &dyn Communicator, guarded: Guarded) -> Result<Control, ControlError> {
    let Guarded { board, flight, paths, bound, injector, goes_on } = guarded;
    let (rank, latest) = (comm.rank(), Arc::clone(&flight));
    let watched = Watched { board, latest: Arc::new(move || latest().pop()) };
    let over = move |verdict: &Verdict| {
        write_flight(rank.index(), &flight(), &paths);
        if goes_on && verdict.cause == Cause::Died {
            // MPI sees it as well, and ends what this rank is in
            tracing::warn!("{verdict}");
            return;
        }
        if is_reporter(rank, verdict) {
            write_failure(&report(verdict), &paths);
        }
        tracing::error!("{verdict}");
        if verdict.culprit == Some(rank) && matches!(verdict.cause, Cause::Failed { .. }) {
            std::thread::sleep(OWN_WORDS);
        }
        end(exit(&verdict.cause));
    };
    let control = Control::over(comm, &phalanx_train::host(), watched, Limits::within(bound), over)?;
    injector.set_links(control.faults());
    Ok(control)
}

/// One rank writes the report: the lowest that is not at fault.
fn is_reporter(rank: Rank, verdict: &Verdict) -> bool {
    let reporter = if verdict.culprit == Some(Rank::ZERO) { Rank(1) } else { Rank::ZERO };
    rank == reporter
}

fn report(verdict: &Verdict) -> Failure {
    let status = verdict.status;
    Failure {
        rank: verdict.culprit.map(|rank| rank.index() as u64),
        host: verdict.host.to_string(),
        step: status.step,
        phase: status.phase.to_string(),
        operation: status
            .collective
            .map(|collective| format!("collective {} ({})", collective.seq, collective.op)),
        causes: vec![verdict.to_string(), verdict.cause.name().to_owned()],
        exit_code: exit(&verdict.cause).code(),
    }
}

fn exit(cause: &Cause) -> Exit {
    match cause {
        Cause::Failed { .. } => Exit::Failed,
        _ => Exit::RankLost,
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the other ranks have been told, and this one may never come back from its collective"
)]
fn end(exit: Exit) {
    std::process::exit(i32::from(exit.code()));
}

#[cfg(test)]
mod tests {
    use super::{is_reporter, report};
    use phalanx_comm::control::{Cause, Collective, Phase, Status, Verdict};
    use phalanx_comm::{OpKind, Rank};

    fn verdict(culprit: usize, cause: Cause) -> Verdict {
        let collective = Some(Collective { seq: 12, op: OpKind::AllReduce, is_open: true });
        let status = Status { step: 3, phase: Phase::Reduce, ticks: 1, collective };
        Verdict {
            culprit: Some(Rank(culprit)),
            host: "node2".into(),
            cause,
            status,
            by: Rank(0),
            others: None,
        }
    }

    #[test]
    fn the_report_has_what_one_asks_next() {
        let failure = report(&verdict(2, Cause::Died));
        assert_eq!((failure.rank, failure.host.as_str(), failure.step), (Some(2), "node2", 3));
        assert_eq!((failure.phase.as_str(), failure.exit_code), ("reduce", 3));
        assert_eq!(failure.operation.as_deref(), Some("collective 12 (all_reduce)"));
        assert!(
            failure.causes[0].starts_with("rank 2 on node2 died (step 3, reduce"),
            "{:?}",
            failure.causes
        );
        let failed = report(&verdict(2, Cause::Failed { message: "disk full".into() }));
        assert_eq!(failed.exit_code, 1);
    }

    #[test]
    fn exactly_one_rank_that_is_left_reports() {
        for culprit in 0..3 {
            let verdict = verdict(culprit, Cause::Died);
            let reporters: Vec<_> = (0..3).filter(|rank| is_reporter(Rank(*rank), &verdict)).collect();
            assert!(reporters.len() == 1 && reporters[0] != culprit, "{culprit}: {reporters:?}");
        }
    }
}
