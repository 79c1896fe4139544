//! Runs one closure on every rank, and ends all of them when one fails.

use super::{ThreadComm, ThreadWorld};
use crate::communicator::Communicator;
use crate::error::CommError;
use crate::flight::OpRecord;
use crate::rank::{Rank, WorldSize};
use std::error::Error;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

/// How a world of thread ranks behaves.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Options {
    /// How long a rank waits for the others in one collective before it gives the world up. Default 60 s.
    pub timeout: Duration,
    /// How long, after a failure, [`run_ranks`] waits for the other ranks to end before it returns without them.
    /// Default 10 s.
    pub grace: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self { timeout: Duration::from_secs(60), grace: Duration::from_secs(10) }
    }
}

/// Runs `f` on `size` ranks, each a thread named `rank-N`, and returns their results in rank order.
///
/// A rank that panics, returns an error, or keeps the others waiting past the timeout ends the collectives of all
/// ranks. Threads cannot be killed: a rank that is stuck outside of a collective is left behind after
/// [`grace`](Options::grace) and named in [`WorldError::unfinished`], which is why `f` must be `'static`.
///
/// # Collective
/// Makes the world; each rank gets its own communicator.
///
/// # Errors
/// The first failure of the world, with the rank that it came from.
///
/// # Examples
/// ```
/// use phalanx_comm::{CommError, CommunicatorExt, Options, RankFailure, WorldSize, run_ranks};
///
/// let error = run_ranks(WorldSize(2), &Options::default(), |comm| {
///     assert!(comm.rank().index() == 0, "rank 1 is broken");
///     comm.all_reduce_sum(&mut [1.0_f32])
/// })
/// .unwrap_err();
/// assert!(error.to_string().starts_with("rank 1 panicked: rank 1 is broken"), "{error}");
/// assert!(error.unfinished().is_empty());
/// ```
pub fn run_ranks<R, E, F>(size: WorldSize, options: &Options, f: F) -> Result<Vec<R>, WorldError<E>>
where
    R: Send + 'static,
    E: Error + Send + 'static,
    F: Fn(Arc<dyn Communicator>) -> Result<R, E> + Send + Sync + 'static,
{
    let world = ThreadWorld::new(size, options).map_err(WorldError::before_start)?;
    let family = Arc::clone(&world.family);
    let comms = world.into_comms();
    let (f, (sender, ended)) = (Arc::new(f), mpsc::channel());
    for (rank, comm) in size.ranks().zip(&comms) {
        let (comm, f, sender) = (comm.clone(), Arc::clone(&f), sender.clone());
        let body = move || {
            // the main thread may have given up on this rank: then nobody hears it
            sender.send((rank, run_rank(&comm, &*f))).unwrap_or_default();
        };
        if let Err(source) = std::thread::Builder::new().name(format!("rank-{}", rank.index())).spawn(body) {
            family.fail(CommError::aborted(rank, &source));
            break;
        }
    }
    drop(sender);

    let mut outcomes: Vec<_> = size.ranks().map(|_| None).collect();
    let mut failed_at = None;
    while outcomes.iter().any(Option::is_none) {
        if family.has_failed() {
            failed_at.get_or_insert_with(Instant::now);
        }
        let patience = failed_at.map_or(POLL, |at: Instant| options.grace.saturating_sub(at.elapsed()));
        match ended.recv_timeout(patience) {
            Ok((rank, outcome)) => outcomes[rank.index()] = Some(outcome),
            Err(mpsc::RecvTimeoutError::Timeout) if failed_at.is_none() => {}
            Err(_) => break,
        }
    }
    match family.failure() {
        None => Ok(outcomes.into_iter().flatten().filter_map(Outcome::value).collect()),
        Some(failure) => Err(WorldError::new(failure, outcomes, &comms)),
    }
}

/// How often the main thread looks for a failure while nobody has ended.
const POLL: Duration = Duration::from_millis(20);

/// What became of one rank.
enum Outcome<R, E> {
    Done(R),
    Failed(E),
    Panicked,
}

impl<R, E> Outcome<R, E> {
    fn value(self) -> Option<R> {
        match self {
            Self::Done(value) => Some(value),
            Self::Failed(_) | Self::Panicked => None,
        }
    }
}

fn run_rank<R, E: Error + 'static>(
    comm: &ThreadComm,
    f: &dyn Fn(Arc<dyn Communicator>) -> Result<R, E>,
) -> Outcome<R, E> {
    // what a panic leaves half done belongs to this rank, which is over
    let outcome = match catch_unwind(AssertUnwindSafe(|| f(Arc::new(comm.clone())))) {
        Ok(Ok(value)) => {
            // a failure here is the world's, and is reported as such
            drop(comm.lane.finish());
            Outcome::Done(value)
        }
        Ok(Err(error)) => {
            comm.abort(&error);
            Outcome::Failed(error)
        }
        Err(payload) => {
            let during = comm.flight().pop();
            let rank = comm.lane.world_rank();
            comm.lane.fail(CommError::Panicked {
                rank,
                message: CommError::panic_message(&*payload),
                during,
            });
            Outcome::Panicked
        }
    };
    comm.leave();
    outcome
}

/// Why a world ended: the first failure, and what the ranks were doing.
#[derive(Debug)]
pub struct WorldError<E> {
    failure: Box<RankFailure<E>>,
    unfinished: Vec<Rank>,
    flights: Vec<Vec<OpRecord>>,
}

/// The first failure of a world.
#[derive(Debug)]
#[non_exhaustive]
pub enum RankFailure<E> {
    /// A rank returned an error of its own.
    Failed {
        /// The rank.
        rank: Rank,
        /// What it returned.
        error: E,
    },
    /// The ranks failed together, or one panicked or stalled.
    Comm(CommError),
}

impl<E> WorldError<E> {
    fn before_start(error: CommError) -> Self {
        Self { failure: Box::new(RankFailure::Comm(error)), unfinished: Vec::new(), flights: Vec::new() }
    }

    fn new<R>(failure: CommError, mut outcomes: Vec<Option<Outcome<R, E>>>, comms: &[ThreadComm]) -> Self {
        let unfinished = (0..outcomes.len()).filter(|&i| outcomes[i].is_none()).map(Rank).collect();
        let flights = comms.iter().map(Communicator::flight).collect();
        let own = failure.culprit().and_then(|rank| Some((rank, outcomes.get_mut(rank.index())?.take()?)));
        let failure = match own {
            Some((rank, Outcome::Failed(error))) => RankFailure::Failed { rank, error },
            _ => RankFailure::Comm(failure),
        };
        Self { failure: Box::new(failure), unfinished, flights }
    }

    /// What a rank in a process of its own knows of a failure: `error` is what it ended with itself, `flight` are its
    /// last collectives.
    pub fn on_rank(rank: Rank, failure: CommError, error: Option<E>, flight: Vec<OpRecord>) -> Self {
        let failure = match error {
            Some(error) if failure.culprit() == Some(rank) => RankFailure::Failed { rank, error },
            _ => RankFailure::Comm(failure),
        };
        Self { failure: Box::new(failure), unfinished: Vec::new(), flights: vec![flight] }
    }

    /// What failed first.
    pub fn failure(&self) -> &RankFailure<E> {
        &self.failure
    }

    /// The same by value, to keep a rank's own error.
    pub fn into_failure(self) -> RankFailure<E> {
        *self.failure
    }

    /// Ranks that had not ended when the grace was over: their threads are still running.
    pub fn unfinished(&self) -> &[Rank] {
        &self.unfinished
    }

    /// The last collectives of each rank, oldest first.
    pub fn flights(&self) -> &[Vec<OpRecord>] {
        &self.flights
    }
}

impl<E: fmt::Display> fmt::Display for WorldError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.failure() {
            RankFailure::Failed { rank, .. } => write!(f, "{rank} failed")?,
            RankFailure::Comm(error) => write!(f, "{error}")?,
        }
        for rank in &self.unfinished {
            write!(f, "; {rank} is stuck")?;
        }
        Ok(())
    }
}

impl<E: Error + 'static> Error for WorldError<E> {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self.failure() {
            RankFailure::Failed { error, .. } => Some(error),
            RankFailure::Comm(error) => error.source(),
        }
    }
}
