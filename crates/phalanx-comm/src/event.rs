//! Waiting for other ranks: spin briefly, then yield, then park, with no wake-up lost.

use crate::sync::{AtomicUsize, Condvar, Mutex, Ordering, fence, lock, yield_now};
use std::time::{Duration, Instant};

/// A place where ranks sleep until another rank has published something.
///
/// The one who waits announces itself, then looks once more; the one who publishes looks for sleepers
/// afterwards. A sequentially consistent fence between the two steps on both sides means that at least one of
/// them sees the other.
#[derive(Debug)]
pub(crate) struct Event {
    sleepers: AtomicUsize,
    lock: Mutex<()>,
    bell: Condvar,
}

/// How long a rank polls before it gives its core away, and how often it does that before it sleeps.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patience {
    pub(crate) polls: u32,
    pub(crate) yields: u32,
    /// Whether a rank that has published may poll before it looks for sleepers. The look is a fence, which waits until
    /// the publication has reached the other cores: as long as a small collective takes. Polling hides it.
    pub(crate) polls_first: bool,
}

impl Patience {
    /// Long where every rank has a core of its own, short where a waiting rank keeps another from running.
    pub(crate) fn for_ranks(ranks: usize) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        if ranks <= cores {
            Self { polls: 2000, yields: 200, polls_first: true }
        } else {
            Self { polls: 20, yields: 4, polls_first: false }
        }
    }
}

/// Polls without a pause instruction: on recent Intel cores one pause costs as much as a whole small collective.
const HOT_POLLS: u32 = 200;

impl Event {
    pub(crate) fn new() -> Self {
        Self { sleepers: AtomicUsize::new(0), lock: Mutex::new(()), bell: Condvar::new() }
    }

    /// To be called after publishing: wakes the sleepers if there are any and `changed` says that they may go on.
    ///
    /// `changed` is asked after the fence, so that of two ranks that publish at once at least one sees both.
    #[inline]
    pub(crate) fn published(&self, changed: impl FnOnce() -> bool) {
        fence(Ordering::SeqCst);
        if self.sleepers.load(Ordering::Relaxed) != 0 && changed() {
            self.wake();
        }
    }

    /// Polls until `ready`; false if that takes longer than polling pays.
    #[inline]
    pub(crate) fn poll(patience: Patience, ready: impl Fn() -> bool) -> bool {
        for poll in 0..patience.polls {
            if ready() {
                return true;
            }
            if poll >= HOT_POLLS {
                std::hint::spin_loop();
            }
        }
        false
    }

    /// Yields, then sleeps, until `ready` or for `limit`; returns how long.
    #[cold]
    pub(crate) fn wait(&self, patience: Patience, limit: Duration, ready: &dyn Fn() -> bool) -> Duration {
        let start = Instant::now();
        for _ in 0..patience.yields {
            if ready() {
                return start.elapsed();
            }
            yield_now();
        }
        self.sleepers.fetch_add(1, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        let mut guard = lock(&self.lock);
        while !ready() {
            let Some(left) = limit.checked_sub(start.elapsed()).filter(|left| !left.is_zero()) else {
                break;
            };
            let woken = self.bell.wait_timeout(guard, left);
            guard = woken.unwrap_or_else(std::sync::PoisonError::into_inner).0;
        }
        drop(guard);
        self.sleepers.fetch_sub(1, Ordering::Relaxed);
        start.elapsed()
    }

    /// Wakes all sleepers. Taking the lock puts the wake-up after the check of one who is about to sleep.
    #[cold]
    fn wake(&self) {
        drop(lock(&self.lock));
        self.bell.notify_all();
    }
}
