//! Where the time of each rank goes, as a Chrome trace that Perfetto and `chrome://tracing` open.
//!
//! A rank records [`Span`]s into its [`Lane`], a ring that is allocated once: recording costs two clock
//! readings and a store. At the end [`write()`] merges the lanes into one file, a lane a rank.
//!
//! # Examples
//! ```
//! use phalanx_train::trace::{Clock, Lane, Phase, write};
//!
//! let clock = Clock::start();
//! let mut lane = Lane::with_capacity(0, clock, 1024);
//! let start = lane.now();
//! // ... forward pass of step 1 ...
//! lane.record(Phase::Forward, 1, start);
//! let file = tempfile::NamedTempFile::new()?;
//! write(file.path(), "digits", &[lane])?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
use std::time::Instant;

use crate::wire::{self, Decode, Encode, WireError};

pub use self::chrome::write;

mod chrome;

/// What a rank was doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
#[non_exhaustive]
pub enum Phase {
    /// Waiting for or preparing a batch.
    Data,
    /// The forward pass.
    Forward,
    /// The backward pass.
    Backward,
    /// The all-reduce of the bucket of this number.
    Bucket(u32),
    /// The update of the parameters.
    Optimizer,
    /// Waiting for communication that nothing hides.
    Wait,
    /// An evaluation.
    Eval,
    /// Writing a checkpoint.
    Checkpoint,
}

/// A stretch of a rank's time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct Span {
    /// What it went into.
    pub phase: Phase,
    /// For which step, counted from 1.
    pub step: u64,
    /// Beginning, in nanoseconds of the [`Clock`].
    pub start_ns: u64,
    /// End, in nanoseconds of the clock.
    pub end_ns: u64,
}

/// The zero of a trace's time, shared by the ranks of a process.
///
/// Ranks in different processes start theirs right after a barrier; lanes then agree to the time that
/// ranks take to leave it.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    origin: Instant,
}

impl Clock {
    /// A clock that shows 0 now.
    pub fn start() -> Self {
        Self { origin: Instant::now() }
    }

    /// What it shows, in nanoseconds; it is good for 584 years.
    pub fn now(&self) -> u64 {
        u64::try_from(self.origin.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }
}

/// The spans of one rank, of which the newest stay.
#[derive(Debug, Clone)]
pub struct Lane {
    rank: u64,
    clock: Clock,
    spans: Vec<Span>,
    capacity: usize,
    oldest: usize,
    dropped: u64,
}

impl Lane {
    /// A lane that holds the last `capacity` spans of `rank`. All its memory is taken here.
    pub fn with_capacity(rank: u64, clock: Clock, capacity: usize) -> Self {
        Self { rank, clock, spans: Vec::with_capacity(capacity), capacity, oldest: 0, dropped: 0 }
    }

    /// The time, for the beginning of a span.
    pub fn now(&self) -> u64 {
        self.clock.now()
    }

    /// Records a span from `start_ns` to now.
    pub fn record(&mut self, phase: Phase, step: u64, start_ns: u64) {
        let end_ns = self.now();
        self.push(Span { phase, step, start_ns, end_ns });
    }

    /// Records a span that was timed elsewhere, with the same clock.
    pub fn push(&mut self, span: Span) {
        if self.spans.len() < self.capacity {
            self.spans.push(span);
            return;
        }
        self.dropped += 1;
        if let Some(oldest) = self.spans.get_mut(self.oldest) {
            *oldest = span;
            self.oldest = (self.oldest + 1) % self.capacity;
        }
    }

    /// The rank.
    pub fn rank(&self) -> u64 {
        self.rank
    }

    /// How many spans had to make room for newer ones.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    /// The spans that are held, in the order of recording.
    pub fn spans(&self) -> impl Iterator<Item = &Span> {
        let (newer, older) = self.spans.split_at(self.oldest);
        older.iter().chain(newer)
    }

    /// The lane as bytes, to bring it to the rank that writes the trace.
    ///
    /// # Errors
    /// [`WireError::TooLong`] beyond some two million spans.
    pub fn encode(&self) -> Result<Vec<u8>, WireError> {
        let spans: Vec<Span> = self.spans().copied().collect();
        wire::encode(&(self.rank, self.dropped, spans))
    }

    /// The lane that another rank encoded.
    ///
    /// # Errors
    /// [`WireError`] if `bytes` are no lane.
    pub fn decode(bytes: &[u8]) -> Result<Self, WireError> {
        let (rank, dropped, spans): (u64, u64, Vec<Span>) = wire::decode(bytes)?;
        let capacity = spans.len();
        Ok(Self { rank, clock: Clock::start(), spans, capacity, oldest: 0, dropped })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(step: u64) -> Span {
        Span { phase: Phase::Bucket(3), step, start_ns: step, end_ns: step + 1 }
    }

    fn steps(lane: &Lane) -> Vec<u64> {
        lane.spans().map(|span| span.step).collect()
    }

    #[test]
    fn a_full_ring_keeps_the_newest_and_counts_the_others() {
        let mut lane = Lane::with_capacity(1, Clock::start(), 3);
        let memory = lane.spans.as_ptr();
        for step in 1..=5 {
            lane.push(span(step));
        }
        assert_eq!((steps(&lane), lane.dropped()), (vec![3, 4, 5], 2));
        assert_eq!(lane.spans.as_ptr(), memory, "no allocation while recording");
        let there = Lane::decode(&lane.encode().unwrap()).unwrap();
        assert_eq!((there.rank(), steps(&there), there.dropped()), (1, vec![3, 4, 5], 2));
    }

    #[test]
    fn a_ring_of_no_room_drops_all() {
        let mut lane = Lane::with_capacity(0, Clock::start(), 0);
        lane.record(Phase::Data, 1, 0);
        assert_eq!((steps(&lane), lane.dropped()), (vec![], 1));
    }

    #[test]
    fn time_goes_forward() {
        let mut lane = Lane::with_capacity(0, Clock::start(), 1);
        let start = lane.now();
        lane.record(Phase::Forward, 1, start);
        let span = lane.spans().next().copied().unwrap();
        assert!(span.start_ns == start && span.end_ns >= start);
    }
}
