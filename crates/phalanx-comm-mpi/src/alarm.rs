//! What all communicators of a process share: the first failure, and the messages by which ranks hear of it.
//!
//! A rank that fails sends the error to every other rank, on a communicator of its own. Ranks look for such messages
//! where they wait, so that no collective outlasts a failure that was told.

use crate::error::MpiError;
use crate::ffi::{Handle, Requests};
use crate::options::MpiOptions;
use crate::segment::Segments;
use phalanx_comm::cost::{Choice, Levels};
use phalanx_comm::{CommError, Rank};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

/// The tags of its messages.
const FAILURE: i32 = 1;
const ASK: i32 = 2;
const HERE: i32 = 3;

/// What the communicators of one world share in this process.
#[derive(Debug)]
pub(crate) struct Family {
    pub(crate) rank: Rank,
    pub(crate) size: usize,
    /// How long, at the end and after a failure, a rank waits for the others.
    pub(crate) grace: Duration,
    pub(crate) segments: Segments,
    /// The process of each rank, and its node.
    pub(crate) places: Vec<Place>,
    handle: Handle,
    epoch: Instant,
    /// How long a rank waits for the others in one collective, in nanoseconds.
    timeout: AtomicU64,
    has_failed: AtomicBool,
    inner: Mutex<Inner>,
    /// How reductions go between nodes: who chooses, and by what.
    tuned: Mutex<(Choice, Option<Levels>)>,
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// Where a rank runs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Place {
    pub(crate) pid: u32,
    /// The world rank of the first rank of its node.
    pub(crate) node: usize,
}

#[derive(Debug)]
struct Inner {
    first: Option<CommError>,
    sends: Requests<Box<[u8]>>,
    /// How far this rank has come on each communicator, by its number.
    progress: BTreeMap<u64, Weak<AtomicU64>>,
    /// How far others said they have come, by rank, since the last question.
    answers: BTreeMap<usize, u64>,
}

impl Family {
    pub(crate) fn new(
        handle: Handle,
        rank: Rank,
        size: usize,
        options: &MpiOptions,
        places: Vec<Place>,
    ) -> Self {
        let inner = Inner {
            first: None,
            sends: Requests::new(),
            progress: BTreeMap::new(),
            answers: BTreeMap::new(),
        };
        Self {
            rank,
            size,
            grace: options.grace,
            segments: Segments::default(),
            places,
            handle,
            epoch: Instant::now(),
            timeout: AtomicU64::new(nanos(options.timeout)),
            has_failed: AtomicBool::new(false),
            inner: Mutex::new(inner),
            tuned: Mutex::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Nanoseconds since this world began.
    pub(crate) fn now(&self) -> u64 {
        nanos(self.epoch.elapsed())
    }

    pub(crate) fn timeout(&self) -> Duration {
        Duration::from_nanos(self.timeout.load(Ordering::Relaxed))
    }

    pub(crate) fn set_timeout(&self, timeout: Duration) {
        self.timeout.store(nanos(timeout), Ordering::Relaxed);
    }

    pub(crate) fn tuned(&self) -> (Choice, Option<Levels>) {
        *self.tuned.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on, reductions go between nodes as this says. The same on all ranks, between two collectives.
    pub(crate) fn set_tuned(&self, choice: Choice, levels: Option<Levels>) {
        *self.tuned.lock().unwrap_or_else(PoisonError::into_inner) = (choice, levels);
    }

    /// A counter of the collectives of communicator `id` that this rank has announced, which others may ask for.
    pub(crate) fn counter(&self, id: u64) -> Arc<AtomicU64> {
        let counter = Arc::new(AtomicU64::new(0));
        self.lock().progress.insert(id, Arc::downgrade(&counter));
        counter
    }

    pub(crate) fn failure(&self) -> Option<CommError> {
        if !self.has_failed.load(Ordering::Acquire) {
            return None;
        }
        self.lock().first.clone()
    }

    /// The failure as an error, if there is one.
    #[inline]
    pub(crate) fn check(&self) -> Result<(), CommError> {
        self.failure().map_or(Ok(()), Err)
    }

    /// Fails the world, unless it has failed already, and tells the other ranks; returns what it failed of.
    #[cold]
    pub(crate) fn fail(&self, error: CommError) -> CommError {
        let mut inner = self.lock();
        if let Some(first) = &inner.first {
            return first.clone();
        }
        let others = (0..self.size).filter(|rank| *rank != self.rank.index());
        let bytes = error.to_bytes();
        self.send(&mut inner, others, FAILURE, &bytes);
        self.keep(&mut inner, error)
    }

    /// Fails the world by something that all ranks of a communicator see, of which `teller` tells the rest.
    #[cold]
    pub(crate) fn fail_together(&self, teller: Rank, error: CommError) -> CommError {
        if teller == self.rank {
            return self.fail(error);
        }
        let mut inner = self.lock();
        self.keep(&mut inner, error)
    }

    /// Fails the world by an error of the library or the system on this rank.
    #[cold]
    pub(crate) fn broken(&self, error: &MpiError) -> CommError {
        self.fail(error.on(self.rank))
    }

    fn keep(&self, inner: &mut Inner, error: CommError) -> CommError {
        let first = inner.first.get_or_insert(error).clone();
        self.has_failed.store(true, Ordering::Release);
        first
    }

    /// Takes the messages that are there; the failure as an error, if there is one.
    pub(crate) fn listen(&self) -> Result<(), CommError> {
        let mut inner = self.lock();
        loop {
            let message = match self.handle.try_receive() {
                Ok(Some(message)) => message,
                Ok(None) => break,
                Err(error) => return Err(self.keep(&mut inner, error.on(self.rank))),
            };
            self.take(&mut inner, message);
        }
        // a send that fails has nobody left to be told
        inner.sends.advance().unwrap_or_default();
        inner.first.clone().map_or(Ok(()), Err)
    }

    fn take(&self, inner: &mut Inner, (from, tag, bytes): (usize, i32, Vec<u8>)) {
        let words: Vec<u64> = bytes.chunks_exact(8).map(bytemuck::pod_read_unaligned).collect();
        match (tag, &words[..]) {
            (ASK, [id]) => {
                let counter = inner.progress.get(id).and_then(Weak::upgrade);
                let seq = counter.map_or(0, |counter| counter.load(Ordering::Acquire));
                self.send(inner, [from], HERE, bytemuck::cast_slice(&[*id, seq]));
            }
            (HERE, [_, seq]) => {
                inner.answers.insert(from, *seq);
            }
            (FAILURE, _) => {
                let what = "failure";
                let unread = || CommError::Message { from: Rank(from), what, got: bytes.len(), need: 8 };
                let error = CommError::from_bytes(&bytes).unwrap_or_else(unread);
                self.keep(inner, error);
            }
            _ => {}
        }
    }

    fn send(&self, inner: &mut Inner, to: impl IntoIterator<Item = usize>, tag: i32, bytes: &[u8]) {
        for rank in to {
            // who cannot be told finds out by its own timeout
            if let Ok(request) = self.handle.start_send(bytes.into(), rank, tag) {
                inner.sends.push(request);
            }
        }
    }

    /// Asks `ranks` how far they have come on communicator `id`; answers come while this rank [listens](Self::listen).
    pub(crate) fn ask(&self, id: u64, ranks: impl IntoIterator<Item = usize>) {
        let mut inner = self.lock();
        inner.answers.clear();
        let others = ranks.into_iter().filter(|rank| *rank != self.rank.index());
        self.send(&mut inner, others, ASK, bytemuck::bytes_of(&id));
    }

    /// How far `rank` said that it has come; `None` while it has not answered.
    pub(crate) fn answer(&self, rank: usize) -> Option<u64> {
        self.lock().answers.get(&rank).copied()
    }
}
