//! The first failure of a world of ranks, which ends the collectives of all of them.

use crate::error::CommError;
use crate::event::{Event, Patience};
use crate::sync::{AtomicBool, Mutex, Ordering, fence, lock};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

/// What all communicators of one world share: its clock, its patience and its first failure.
#[derive(Debug)]
pub(crate) struct Family {
    failed: AtomicBool,
    first: Mutex<Option<CommError>>,
    events: Mutex<Vec<Weak<Event>>>,
    epoch: Instant,
    timeout: Duration,
    patience: fn(usize) -> Patience,
}

impl Family {
    pub(crate) fn new(timeout: Duration, patience: fn(usize) -> Patience) -> Self {
        Self {
            failed: AtomicBool::new(false),
            first: Mutex::new(None),
            events: Mutex::new(Vec::new()),
            epoch: Instant::now(),
            timeout,
            patience,
        }
    }

    /// An event that a failure rings.
    pub(crate) fn event(&self) -> Arc<Event> {
        let event = Arc::new(Event::new());
        let mut events = lock(&self.events);
        events.retain(|e| e.strong_count() > 0);
        events.push(Arc::downgrade(&event));
        event
    }

    pub(crate) const fn timeout(&self) -> Duration {
        self.timeout
    }

    /// How a group of `ranks` waits.
    pub(crate) fn patience(&self, ranks: usize) -> Patience {
        (self.patience)(ranks)
    }

    /// Nanoseconds since this world began.
    pub(crate) fn now(&self) -> u64 {
        u64::try_from(self.epoch.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    #[inline]
    pub(crate) fn has_failed(&self) -> bool {
        self.failed.load(Ordering::Acquire)
    }

    /// The failure as an error, if there is one.
    pub(crate) fn check(&self) -> Result<(), CommError> {
        match self.has_failed().then(|| self.failure()).flatten() {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }

    /// The failure, if there is one.
    pub(crate) fn failure(&self) -> Option<CommError> {
        lock(&self.first).clone()
    }

    /// Fails the world unless it has failed already; returns what it failed of.
    pub(crate) fn fail(&self, error: CommError) -> CommError {
        let first = lock(&self.first).get_or_insert(error).clone();
        self.failed.store(true, Ordering::Release);
        fence(Ordering::SeqCst);
        // collected first: an event that is dropped here must not be dropped under the lock
        let events: Vec<_> = lock(&self.events).iter().filter_map(Weak::upgrade).collect();
        for event in events {
            event.published(|| true);
        }
        first
    }
}
