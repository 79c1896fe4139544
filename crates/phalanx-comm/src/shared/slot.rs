//! Where ranks leave word for each other: a ring of slots a rank, each used by one collective at a time.

use crate::call::{Call, OpKind};
use crate::sync::{AtomicBool, AtomicU64, Ordering};
use crossbeam::utils::CachePadded;
use std::{fmt, ptr};

#[cfg(not(loom))]
mod sizes {
    /// Collectives of one rank that may be under way at once; more of them wait in the rank's own queue.
    pub(crate) const DEPTH: u64 = 16;
    /// 8-byte words of a buffer that travel inside a slot: up to here one exchange is enough, instead of two.
    pub(crate) const INLINE_WORDS: usize = 16;
}
#[cfg(loom)]
mod sizes {
    pub(crate) const DEPTH: u64 = 2;
    pub(crate) const INLINE_WORDS: usize = 6;
}
pub(crate) use sizes::{DEPTH, INLINE_WORDS};

/// Buffers of at most so many bytes travel inside a slot.
pub(crate) const INLINE_BYTES: usize = INLINE_WORDS * 8;

/// Memory that the protocol, and not the compiler, keeps apart; loom checks that it does.
#[derive(Debug)]
pub(super) struct Cell<T>(#[cfg(not(loom))] std::cell::UnsafeCell<T>, #[cfg(loom)] loom::cell::UnsafeCell<T>);

#[cfg(not(loom))]
impl<T> Cell<T> {
    pub(super) const fn new(value: T) -> Self {
        Self(std::cell::UnsafeCell::new(value))
    }

    #[inline]
    pub(super) fn with<R>(&self, f: impl FnOnce(*const T) -> R) -> R {
        f(self.0.get())
    }

    #[inline]
    pub(super) fn with_mut<R>(&self, f: impl FnOnce(*mut T) -> R) -> R {
        f(self.0.get())
    }
}

#[cfg(loom)]
impl<T> Cell<T> {
    pub(super) fn new(value: T) -> Self {
        Self(loom::cell::UnsafeCell::new(value))
    }

    pub(super) fn with<R>(&self, f: impl FnOnce(*const T) -> R) -> R {
        self.0.with(f)
    }

    pub(super) fn with_mut<R>(&self, f: impl FnOnce(*mut T) -> R) -> R {
        self.0.with_mut(f)
    }
}

/// The address and length (in units of the call) of a buffer of another rank.
#[derive(Clone, Copy, Debug)]
pub(super) struct Part {
    pub(super) start: *mut u8,
    pub(super) len: usize,
}

// SAFETY: an address does nothing by itself; who follows it argues for that where it happens
unsafe impl Send for Part {}

impl Part {
    pub(super) const NONE: Self = Self { start: ptr::null_mut(), len: 0 };

    pub(super) const fn of<T>(slice: &[T]) -> Self {
        Self { start: slice.as_ptr().cast_mut().cast(), len: slice.len() }
    }

    pub(super) const fn of_mut<T>(slice: &mut [T]) -> Self {
        Self { start: slice.as_mut_ptr().cast(), len: slice.len() }
    }
}

/// Up to three buffers that one rank shares with the others during one collective.
pub(super) type Parts = [Part; 3];

/// What one rank passes to one collective. The number, the call and the first of the parts, or three words of the
/// numbers, share a cache line: one transfer is all that a small collective costs.
#[repr(C, align(128))]
#[derive(Debug)]
pub(super) struct Slot {
    /// Number of the collective whose call and body are in this slot.
    pub(super) seq: AtomicU64,
    pub(super) call: Cell<Call>,
    pub(super) body: Cell<Body>,
}

/// The numbers themselves, or where they are.
#[repr(C)]
pub(super) union Body {
    pub(super) payload: [u64; INLINE_WORDS],
    pub(super) parts: Parts,
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Body")
    }
}

impl Slot {
    fn new() -> Self {
        Self {
            seq: AtomicU64::new(0),
            call: Cell::new(Call::new(OpKind::Barrier)),
            body: Cell::new(Body { parts: [Part::NONE; 3] }),
        }
    }
}

/// All that one rank publishes on one communicator.
#[derive(Debug)]
pub(super) struct Board {
    slots: Vec<Slot>,
    /// The last collective whose work this rank has done. Collectives are worked on in order.
    worked: CachePadded<AtomicU64>,
    /// Whether this rank is working on buffers of the others.
    pub(super) inside: CachePadded<AtomicBool>,
    /// Whether this rank has left for good.
    pub(super) gone: CachePadded<AtomicBool>,
}

// SAFETY: `call` and `body` of a slot are written by the owner of the board only, before it publishes `seq`
// (release) or after all ranks have worked on that collective (acquire), and read by others only in between
unsafe impl Sync for Board {}

impl Board {
    pub(super) fn new() -> Self {
        Self {
            slots: (0..DEPTH).map(|_| Slot::new()).collect(),
            worked: CachePadded::new(AtomicU64::new(0)),
            inside: CachePadded::new(AtomicBool::new(false)),
            gone: CachePadded::new(AtomicBool::new(false)),
        }
    }

    #[inline]
    pub(super) fn slot(&self, seq: u64) -> &Slot {
        &self.slots[(seq % DEPTH) as usize]
    }

    #[inline]
    pub(super) fn has_posted(&self, seq: u64) -> bool {
        self.slot(seq).seq.load(Ordering::Acquire) >= seq
    }

    #[inline]
    pub(super) fn has_worked(&self, seq: u64) -> bool {
        self.worked.load(Ordering::Acquire) >= seq
    }

    pub(super) fn last_worked(&self) -> u64 {
        self.worked.load(Ordering::Acquire)
    }

    #[inline]
    pub(super) fn worked(&self, seq: u64) {
        self.worked.store(seq, Ordering::Release);
    }
}
