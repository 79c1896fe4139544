//! Counters of what a communicator has cost.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// What one rank's communicator has done since it was made.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct CommStats {
    /// Collectives begun.
    pub calls: u64,
    /// Bytes this rank passed to them.
    pub bytes: u64,
    /// Time inside blocking collectives and [`Pending::wait`](crate::Pending::wait): not hidden behind anything.
    pub exposed: Duration,
    /// The part of `exposed` in which this rank was idle; waits that end within the first polls (a few us) are not in it.
    pub waited: Duration,
}

/// [`CommStats`] as one rank writes them, one thread at a time, and anyone reads them.
#[derive(Debug, Default)]
pub struct StatsCell {
    calls: AtomicU64,
    bytes: AtomicU64,
    exposed: AtomicU64,
    waited: AtomicU64,
}

impl StatsCell {
    /// Counts a collective that `bytes` of this rank go to.
    pub fn called(&self, bytes: usize) {
        add(&self.calls, 1);
        add(&self.bytes, bytes as u64);
    }

    /// Counts time that nothing hid.
    pub fn exposed(&self, nanos: u64) {
        add(&self.exposed, nanos);
    }

    /// Counts idle time.
    pub fn waited(&self, time: Duration) {
        if !time.is_zero() {
            add(&self.waited, u64::try_from(time.as_nanos()).unwrap_or(u64::MAX));
        }
    }

    /// What was counted so far.
    pub fn read(&self) -> CommStats {
        CommStats {
            calls: self.calls.load(Ordering::Relaxed),
            bytes: self.bytes.load(Ordering::Relaxed),
            exposed: Duration::from_nanos(self.exposed.load(Ordering::Relaxed)),
            waited: Duration::from_nanos(self.waited.load(Ordering::Relaxed)),
        }
    }
}

/// A plain load and store: there is one writer at a time, and a locked addition would cost more than the rest.
fn add(counter: &AtomicU64, n: u64) {
    counter.store(counter.load(Ordering::Relaxed).wrapping_add(n), Ordering::Relaxed);
}
