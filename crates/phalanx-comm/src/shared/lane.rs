//! One rank's end of a group: its collectives in order, blocking ones here, started ones in `started`.

use super::post::{Goal, Message};
use super::slot::{DEPTH, INLINE_BYTES, Part, Parts};
use super::started::Queue;
use super::work;
use crate::call::{Call, OpKind, ReduceOp};
use crate::element::Element;
use crate::error::CommError;
use crate::rank::Rank;
use crate::stats::{CommStats, StatsCell};
use crate::sync::{Mutex, MutexGuard, lock};
use std::sync::Arc;
use std::time::Duration;

pub(crate) use super::post::Group;
use super::post::View;

/// One rank's end of a [`Group`].
///
/// The lock is this rank's own: it keeps two threads of one rank apart and is never touched by another rank.
#[derive(Debug)]
pub(crate) struct Lane {
    pub(super) group: Arc<Group>,
    pub(super) me: usize,
    local: Mutex<Local>,
    pub(super) stats: StatsCell,
}

/// What only this rank knows.
#[derive(Debug, Default)]
pub(super) struct Local {
    /// Number of the last collective begun.
    pub(super) last: u64,
    /// A collective that all ranks are known to have worked on: slots up to `DEPTH` later are free.
    worked_by_all: u64,
    splits: u64,
    pub(super) queue: Queue,
}

impl Lane {
    pub(crate) fn new(group: Arc<Group>, me: usize) -> Self {
        Self { group, me, local: Mutex::new(Local::default()), stats: StatsCell::default() }
    }

    pub(crate) fn group(&self) -> &Group {
        &self.group
    }

    pub(crate) const fn rank(&self) -> Rank {
        Rank(self.me)
    }

    /// This rank in the whole world.
    pub(crate) fn world_rank(&self) -> Rank {
        self.group.world_rank(self.me)
    }

    pub(crate) fn stats(&self) -> CommStats {
        self.stats.read()
    }

    /// What the world has failed of.
    pub(crate) fn failure(&self) -> Option<CommError> {
        self.group.family.check().err()
    }

    /// Fails the world with a misuse by this rank, so that the others do not wait for it.
    #[cold]
    pub(crate) fn fail(&self, error: CommError) -> CommError {
        self.group.family.fail(error)
    }

    pub(crate) fn next_split(&self) -> u64 {
        let mut local = self.lock();
        local.splits += 1;
        local.splits
    }

    pub(crate) fn barrier(&self) -> Result<(), CommError> {
        self.inline_all_reduce::<u64>(Call::new(OpKind::Barrier), &mut [], ReduceOp::Sum)
    }

    pub(crate) fn all_reduce<T: Element>(&self, buf: &mut [T], op: ReduceOp) -> Result<(), CommError> {
        let call = Call::new(OpKind::AllReduce).of(T::DTYPE, buf.len()).reducing(op);
        if size_of_val(buf) <= INLINE_BYTES {
            return self.inline_all_reduce(call, buf, op);
        }
        let (me, len) = (self.me, buf.len());
        let parts = [Part::of_mut(buf), Part::NONE, Part::NONE];
        // SAFETY: `buf` is borrowed until `exchange` returns; all ranks passed `len` elements of `T`, as the call says
        unsafe {
            self.exchange(call, size_of_val(buf), parts, |view| {
                work::all_reduce::<T>(view, me, len, op);
                Ok(())
            })
        }
    }

    pub(crate) fn reduce_scatter<T: Element>(
        &self,
        send: &[T],
        counts: &[usize],
        recv: &mut [T],
        op: ReduceOp,
    ) -> Result<(), CommError> {
        let kind = OpKind::ReduceScatter;
        self.check_counts(kind, counts)?;
        self.check_len(kind, "elements to send", send.len(), counts.iter().sum())?;
        self.check_len(kind, "elements to receive", recv.len(), counts[self.me])?;
        let call = Call::new(kind).of(T::DTYPE, send.len()).reducing(op).with_counts(counts);
        let offset = counts[..self.me].iter().sum();
        let parts = [Part::of(send), Part::NONE, Part::NONE];
        // SAFETY: `send` is borrowed until `exchange` returns; all ranks have the same counts, as the call says
        unsafe {
            self.exchange(call, size_of_val(send), parts, |view| {
                work::reduce_scatter(view, offset, recv, op);
                Ok(())
            })
        }
    }

    pub(crate) fn all_gather<T: Element>(
        &self,
        send: &[T],
        counts: &[usize],
        recv: &mut [T],
    ) -> Result<(), CommError> {
        let kind = OpKind::AllGather;
        self.check_counts(kind, counts)?;
        self.check_len(kind, "elements to send", send.len(), counts[self.me])?;
        self.check_len(kind, "elements to receive", recv.len(), counts.iter().sum())?;
        let call = Call::new(kind).of(T::DTYPE, recv.len()).with_counts(counts);
        let parts = [Part::of(send), Part::NONE, Part::NONE];
        // SAFETY: `send` is borrowed until `exchange` returns; all ranks have the same counts, as the call says, and
        // each checked that its buffer fits them
        unsafe {
            self.exchange(call, size_of_val(send), parts, |view| {
                work::all_gather(view, counts, recv);
                Ok(())
            })
        }
    }

    pub(crate) fn all_to_all<T: Element>(
        &self,
        send: &[T],
        send_counts: &[usize],
        recv: &mut [T],
        recv_counts: &[usize],
    ) -> Result<(), CommError> {
        let kind = OpKind::AllToAll;
        self.check_counts(kind, send_counts)?;
        self.check_counts(kind, recv_counts)?;
        self.check_len(kind, "elements to send", send.len(), send_counts.iter().sum())?;
        self.check_len(kind, "elements to receive", recv.len(), recv_counts.iter().sum())?;
        let call = Call::new(kind).of(T::DTYPE, 0);
        let parts = [Part::of(send), Part::of(send_counts), Part::of(recv_counts)];
        let me = self.me;
        // SAFETY: all three are borrowed until `exchange` returns, and each rank checked that they fit each other
        unsafe { self.exchange(call, size_of_val(send), parts, |view| work::all_to_all(view, me, recv)) }
    }

    pub(crate) fn broadcast(&self, root: Rank, buf: &mut Vec<u8>) -> Result<(), CommError> {
        let call = Call::new(OpKind::Broadcast).from_root(root);
        let is_root = root.index() == self.me;
        let parts = [if is_root { Part::of(buf) } else { Part::NONE }, Part::NONE, Part::NONE];
        let bytes = if is_root { buf.len() } else { 0 };
        // SAFETY: `buf` of the root is borrowed until `exchange` returns and not written there; the others pass nothing
        unsafe {
            self.exchange(call, bytes, parts, |view| {
                if !is_root {
                    buf.clear();
                    buf.extend_from_slice(work::bytes(view, root.index()));
                }
                Ok(())
            })
        }
    }

    pub(crate) fn all_gather_bytes(&self, send: &[u8]) -> Result<Vec<Vec<u8>>, CommError> {
        let call = Call::new(OpKind::AllGatherBytes);
        let parts = [Part::of(send), Part::NONE, Part::NONE];
        let copy = |view: &View<'_>| {
            // SAFETY: part 0 of every rank is what it sends
            Ok((0..view.size()).map(|rank| unsafe { work::bytes(view, rank) }.to_vec()).collect())
        };
        // SAFETY: `send` is borrowed until `exchange` returns
        unsafe { self.exchange(call, send.len(), parts, copy) }
    }

    /// The reduction of numbers that travel in the slots: post, wait, agree, and nobody's buffer is shared.
    fn inline_all_reduce<T: Element>(
        &self,
        call: Call,
        buf: &mut [T],
        op: ReduceOp,
    ) -> Result<(), CommError> {
        let (group, len) = (&*self.group, buf.len());
        let (local, seq) = self.begin(&call)?;
        // SAFETY: `begin` waits for a free slot
        unsafe { group.post(self.me, seq, call, &Message::Inline(bytemuck::cast_slice(buf))) };
        let begun = self.note(seq, call.op, size_of_val(buf));
        let waited = group.wait(Goal::Posted(seq), &call, seq)?;
        group.agree(seq, &call)?;
        // SAFETY: all have posted the same call, hence `len` elements of `T`; this rank has not worked on it yet
        reduce_payloads(buf, group.size(), |rank| unsafe { group.payload::<T>(rank, seq, len) }, op);
        group.worked_inline(self.me, seq);
        self.end(seq, begun, waited);
        drop(local);
        Ok(())
    }

    /// A blocking collective on buffers of all ranks. On return, also with an error, nobody touches `parts` any more.
    ///
    /// # Safety
    /// `parts` are valid as `work` uses them, and touched by nothing else, until this returns. `work` keeps to the
    /// elements that its function in [`work`] states.
    unsafe fn exchange<R>(
        &self,
        call: Call,
        bytes: usize,
        parts: Parts,
        work: impl FnOnce(&View<'_>) -> Result<R, CommError>,
    ) -> Result<R, CommError> {
        let group = &*self.group;
        let (local, seq) = self.begin(&call)?;
        // SAFETY: `begin` waits for a free slot; `posted` takes the parts back before this returns
        unsafe { group.post(self.me, seq, call, &Message::Shared(parts)) };
        let posted = Posted { group, me: self.me, seq, call };
        let begun = self.note(seq, call.op, bytes);
        let mut waited = group.wait(Goal::Posted(seq), &call, seq)?;
        group.agree(seq, &call)?;
        let result = group.inside(self.me, seq, work)?;
        waited += group.wait(Goal::Worked(seq), &call, seq)?;
        drop(posted);
        self.end(seq, begun, waited);
        drop(local);
        Ok(result)
    }

    /// Finishes what was started before, and takes the next number and its slot.
    #[inline]
    fn begin(&self, call: &Call) -> Result<(MutexGuard<'_, Local>, u64), CommError> {
        self.group.family.check()?;
        let mut local = self.lock();
        if !local.queue.is_empty() {
            self.drain(&mut local)?;
        }
        let seq = local.last + 1;
        if !local.slot_is_free(&self.group, seq) {
            let waited = self.group.wait_any(&[Goal::Worked(seq - DEPTH)], call, seq)?;
            self.stats.waited(waited);
        }
        local.last = seq;
        Ok((local, seq))
    }

    /// Notes that collective `seq` was posted, and when: after the fact, while the post is on its way to the others.
    #[inline]
    fn note(&self, seq: u64, op: OpKind, bytes: usize) -> u64 {
        let now = self.group.family.now();
        self.group.flight(self.me).begin(seq, op, bytes, now);
        self.stats.called(bytes);
        now
    }

    #[inline]
    fn end(&self, seq: u64, begun: u64, waited: Duration) {
        self.group.ring_at_end();
        let now = self.group.family.now();
        self.group.flight(self.me).finish(seq, now);
        self.stats.exposed(now.saturating_sub(begun));
        self.stats.waited(waited);
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Local> {
        lock(&self.local)
    }

    /// The lock, unless another thread of this rank is in a collective.
    pub(super) fn try_lock(&self) -> Option<MutexGuard<'_, Local>> {
        self.local.try_lock().ok()
    }

    fn check_counts(&self, op: OpKind, counts: &[usize]) -> Result<(), CommError> {
        self.check_len(op, "counts", counts.len(), self.group.size())
    }

    pub(super) fn check_len(
        &self,
        op: OpKind,
        what: &'static str,
        got: usize,
        need: usize,
    ) -> Result<(), CommError> {
        CommError::check_len(self.world_rank(), op, what, got, need).map_err(|error| self.fail(error))
    }
}

impl Local {
    #[inline]
    pub(super) fn slot_is_free(&mut self, group: &Group, seq: u64) -> bool {
        if seq > self.worked_by_all + DEPTH {
            self.worked_by_all = group.worked_by_all();
        }
        seq <= self.worked_by_all + DEPTH
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        self.leave();
    }
}

/// Buffers that other ranks may be working on; to drop it is to take them back.
struct Posted<'a> {
    group: &'a Group,
    me: usize,
    seq: u64,
    call: Call,
}

impl Drop for Posted<'_> {
    fn drop(&mut self) {
        self.group.take_back(self.me, self.seq, self.call);
    }
}

/// Combines the payloads of all ranks, in rank order, into `dst`.
#[inline]
pub(super) fn reduce_payloads<'a, T: Element>(
    dst: &mut [T],
    size: usize,
    payload: impl Fn(usize) -> &'a [T],
    op: ReduceOp,
) {
    let mut acc = [T::Acc::default(); INLINE_BYTES / 2];
    let acc = &mut acc[..dst.len()];
    T::load(acc, payload(0));
    for rank in 1..size {
        T::fold(acc, payload(rank), op);
    }
    T::store(dst, acc);
}
