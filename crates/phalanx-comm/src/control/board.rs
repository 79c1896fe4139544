//! What the ranks of this process are doing, written by the training loop and read by whoever reports.

use crate::call::OpKind;
use crate::flight::OpRecord;
use crate::rank::{Rank, WorldSize};
use std::fmt;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

/// A part of the training loop.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Phase {
    /// Before the first step.
    Start,
    /// Reading samples.
    Data,
    /// Forward pass.
    Forward,
    /// Backward pass; buckets leave while it runs.
    Backward,
    /// Waiting for the gradient of all ranks.
    Reduce,
    /// The optimizer's update.
    Update,
    /// Scoring a data set.
    Evaluate,
    /// Writing or reading a checkpoint.
    Checkpoint,
    /// After the last step.
    Finish,
}

impl Phase {
    /// All of them, in the order of a run.
    pub const ALL: [Self; 9] = [
        Self::Start,
        Self::Data,
        Self::Forward,
        Self::Backward,
        Self::Reduce,
        Self::Update,
        Self::Evaluate,
        Self::Checkpoint,
        Self::Finish,
    ];

    /// The name, as run files and reports write it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Data => "data",
            Self::Forward => "forward",
            Self::Backward => "backward",
            Self::Reduce => "reduce",
            Self::Update => "update",
            Self::Evaluate => "evaluate",
            Self::Checkpoint => "checkpoint",
            Self::Finish => "finish",
        }
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The latest collective of a rank.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Collective {
    /// Its number, from 1.
    pub seq: u64,
    /// Which operation.
    pub op: OpKind,
    /// Whether the rank is still in it.
    pub is_open: bool,
}

impl From<OpRecord> for Collective {
    fn from(record: OpRecord) -> Self {
        Self { seq: record.seq, op: record.op, is_open: record.finished.is_none() }
    }
}

/// Where a rank was when it was last heard of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Status {
    /// The step, from 1; 0 before the first.
    pub step: u64,
    /// The part of the step.
    pub phase: Phase,
    /// Grows with every piece of work that is done.
    pub ticks: u64,
    /// The latest collective, if there was one.
    pub collective: Option<Collective>,
}

impl Status {
    /// Before anything has happened.
    pub const START: Self = Self { step: 0, phase: Phase::Start, ticks: 0, collective: None };

    /// How far the rank is: collectives entered, then the step and its phase.
    pub(crate) fn progress(&self) -> (u64, u64, Phase) {
        (self.collective.map_or(0, |collective| collective.seq), self.step, self.phase)
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "step {}, {}", self.step, self.phase)?;
        match self.collective {
            Some(Collective { seq, op, is_open: true }) => write!(f, ", in collective {seq} ({op})"),
            Some(Collective { seq, op, is_open: false }) => write!(f, ", after collective {seq} ({op})"),
            None => f.write_str(", before the first collective"),
        }
    }
}

/// What is called when a rank enters a phase: for faults that are injected there.
type Hook = Box<dyn Fn(Rank, u64, Phase) + Send + Sync>;

/// The step and phase of every rank of this process, at a few nanoseconds an entry. The default has no ranks and
/// keeps nothing.
///
/// # Examples
/// ```
/// use phalanx_comm::control::{Board, Phase};
/// use phalanx_comm::{Rank, WorldSize};
///
/// let board = Board::new(WorldSize(2));
/// board.enter(Rank(1), 41, Phase::Backward);
/// assert_eq!(board.of(Rank(1)).to_string(), "step 41, backward, before the first collective");
/// assert_eq!(board.of(Rank(0)).step, 0);
/// ```
#[derive(Default)]
pub struct Board {
    ranks: Vec<Entry>,
    hook: Option<Hook>,
}

#[derive(Debug, Default)]
struct Entry {
    step: AtomicU64,
    phase: AtomicU8,
    ticks: AtomicU64,
}

impl Board {
    /// A board of a world, all ranks at the start.
    pub fn new(size: WorldSize) -> Self {
        Self { ranks: size.ranks().map(|_| Entry::default()).collect(), hook: None }
    }

    /// Calls `hook` with every phase that a rank enters, on that rank's thread.
    #[must_use]
    pub fn on_enter(mut self, hook: impl Fn(Rank, u64, Phase) + Send + Sync + 'static) -> Self {
        self.hook = Some(Box::new(hook));
        self
    }

    /// Notes that `rank` begins a phase of a step. A rank that is not of this world is ignored.
    pub fn enter(&self, rank: Rank, step: u64, phase: Phase) {
        if let Some(entry) = self.ranks.get(rank.index()) {
            entry.step.store(step, Ordering::Relaxed);
            entry.phase.store(phase as u8, Ordering::Relaxed);
            entry.ticks.fetch_add(1, Ordering::Relaxed);
        }
        if let Some(hook) = &self.hook {
            hook(rank, step, phase);
        }
    }

    /// Notes that `rank` has done a piece of work in its phase.
    pub fn tick(&self, rank: Rank) {
        if let Some(entry) = self.ranks.get(rank.index()) {
            entry.ticks.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Where `rank` is; its collectives are not known here.
    pub fn of(&self, rank: Rank) -> Status {
        let Some(entry) = self.ranks.get(rank.index()) else { return Status::START };
        let phase = Phase::ALL.get(usize::from(entry.phase.load(Ordering::Relaxed)));
        Status {
            step: entry.step.load(Ordering::Relaxed),
            phase: phase.copied().unwrap_or(Phase::Start),
            ticks: entry.ticks.load(Ordering::Relaxed),
            collective: None,
        }
    }
}

impl fmt::Debug for Board {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Board").field("ranks", &self.ranks).finish_non_exhaustive()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};

    #[test]
    fn a_status_reads_as_a_place_in_the_run() {
        let mut status = Status { step: 3, phase: Phase::Reduce, ..Status::START };
        assert_eq!(status.to_string(), "step 3, reduce, before the first collective");
        status.collective = Some(Collective { seq: 9, op: OpKind::AllReduce, is_open: true });
        assert_eq!(status.to_string(), "step 3, reduce, in collective 9 (all_reduce)");
    }

    #[test]
    fn the_hook_sees_every_phase_and_ticks_grow() {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&seen);
        let board = Board::new(WorldSize(1))
            .on_enter(move |rank, step, phase| kept.lock().unwrap().push((rank, step, phase)));
        board.enter(Rank(0), 1, Phase::Forward);
        board.tick(Rank(0));
        assert_eq!(*seen.lock().unwrap(), [(Rank(0), 1, Phase::Forward)]);
        assert_eq!((board.of(Rank(0)).ticks, board.of(Rank(5))), (2, Status::START));
    }
}
