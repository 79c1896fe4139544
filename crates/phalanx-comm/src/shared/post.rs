//! The four steps of a collective between thread ranks: post, agree, work inside, take back.

use super::slot::{Board, Part, Parts};
use crate::call::Call;
use crate::error::{CommError, Missing};
use crate::event::{Event, Patience};
use crate::failure::Family;
use crate::flight::FlightRecorder;
use crate::rank::Rank;
use crate::sync::{AtomicBool, Mutex, Ordering, fence, yield_now};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// What the ranks of one communicator share.
#[derive(Debug)]
pub(crate) struct Group {
    boards: Vec<Board>,
    /// The world rank of each member.
    members: Vec<Rank>,
    flights: Vec<FlightRecorder>,
    event: Arc<Event>,
    patience: Patience,
    pub(super) family: Arc<Family>,
    any_gone: AtomicBool,
    /// Groups that were split off and not yet entered by all their members, by number of the split and color.
    rooms: Mutex<Rooms>,
}

type Rooms = BTreeMap<(u64, usize), Room>;

#[derive(Debug)]
struct Room {
    group: Arc<Group>,
    awaited: usize,
}

/// Something that all ranks have to have done.
#[derive(Clone, Copy, Debug)]
pub(super) enum Goal {
    Posted(u64),
    Worked(u64),
}

/// What a rank puts in its slot.
pub(super) enum Message<'a> {
    /// The numbers themselves.
    Inline(&'a [u8]),
    /// Where they are.
    Shared(Parts),
}

impl Group {
    pub(crate) fn new(family: &Arc<Family>, members: Vec<Rank>) -> Self {
        Self {
            boards: members.iter().map(|_| Board::new()).collect(),
            flights: members.iter().map(|_| FlightRecorder::new()).collect(),
            event: family.event(),
            patience: family.patience(members.len()),
            family: Arc::clone(family),
            any_gone: AtomicBool::new(false),
            rooms: Mutex::new(BTreeMap::new()),
            members,
        }
    }

    pub(crate) fn size(&self) -> usize {
        self.members.len()
    }

    pub(crate) fn world_rank(&self, rank: usize) -> Rank {
        self.members[rank]
    }

    pub(crate) fn flight(&self, rank: usize) -> &FlightRecorder {
        &self.flights[rank]
    }

    /// The group of `members` that split number `split` made for `color`; each member asks once.
    pub(crate) fn room(&self, split: u64, color: usize, members: &[usize]) -> Arc<Self> {
        let mut rooms = crate::sync::lock(&self.rooms);
        let room = rooms.entry((split, color)).or_insert_with(|| Room {
            group: Arc::new(Self::new(&self.family, members.iter().map(|&m| self.members[m]).collect())),
            awaited: members.len(),
        });
        room.awaited -= 1;
        let group = Arc::clone(&room.group);
        if room.awaited == 0 {
            rooms.remove(&(split, color));
        }
        group
    }

    #[inline]
    pub(super) fn reached(&self, goal: Goal) -> bool {
        self.boards.iter().all(|board| board.reached(goal))
    }

    /// The last collective that all ranks have worked on.
    pub(super) fn worked_by_all(&self) -> u64 {
        self.boards.iter().map(Board::last_worked).min().unwrap_or(0)
    }

    /// Step 1: lets the other ranks see what `me` passes to collective `seq`.
    ///
    /// # Safety
    /// The slot is free: all ranks have worked on collective `seq - DEPTH`. The parts stay valid, and untouched by
    /// this rank, until [`take_back`](Self::take_back).
    #[inline]
    pub(super) unsafe fn post(&self, me: usize, seq: u64, call: Call, message: &Message<'_>) {
        let slot = self.boards[me].slot(seq);
        // SAFETY: the slot is free (contract), and only its owner, this rank, writes to it
        slot.call.with_mut(|p| unsafe { *p = call });
        match message {
            Message::Inline(bytes) => slot.body.with_mut(|p| {
                debug_assert!(bytes.len() <= super::slot::INLINE_BYTES);
                // SAFETY: as above; callers send at most `INLINE_BYTES` inline
                unsafe { p.cast::<u8>().copy_from_nonoverlapping(bytes.as_ptr(), bytes.len()) }
            }),
            // SAFETY: as for the call
            Message::Shared(parts) => slot.body.with_mut(|p| unsafe { (*p).parts = *parts }),
        }
        slot.seq.store(seq, Ordering::Release);
    }

    /// Wakes those who sleep until all have come to `goal`, if this rank was the last. Due after each publication.
    #[inline]
    pub(super) fn ring(&self, goal: Goal) {
        self.event.published(|| self.reached(goal));
    }

    /// As [`ring`](Self::ring) for a blocking collective, which may put it off to [`wait`](Self::wait) or
    /// [`ring_at_end`](Self::ring_at_end).
    #[inline]
    fn ring_soon(&self, goal: Goal) {
        if !self.patience.polls_first {
            self.ring(goal);
        }
    }

    /// The end of a blocking collective: wakes whoever an earlier publication of this rank has not.
    #[inline]
    pub(super) fn ring_at_end(&self) {
        if self.patience.polls_first {
            self.event.published(|| true);
        }
    }

    /// Step 2, when all have posted: whether all of them made this call.
    #[inline]
    pub(super) fn agree(&self, seq: u64, call: &Call) -> Result<(), CommError> {
        if self.boards.iter().all(|board| board.call(seq) == *call) {
            Ok(())
        } else {
            Err(self.mismatch(seq))
        }
    }

    #[cold]
    fn mismatch(&self, seq: u64) -> CommError {
        let calls =
            self.boards.iter().zip(&self.members).map(|(board, &rank)| (rank, board.call(seq))).collect();
        self.family.fail(CommError::Mismatch { seq, calls })
    }

    /// Step 3: runs `work` on this rank's share of all buffers, unless the world has failed.
    ///
    /// An error of `work` fails the world.
    pub(super) fn inside<R>(
        &self,
        me: usize,
        seq: u64,
        work: impl FnOnce(&View<'_>) -> Result<R, CommError>,
    ) -> Result<R, CommError> {
        let board = &self.boards[me];
        board.inside.store(true, Ordering::Relaxed);
        // pairs with the fence of `take_back`: either this rank sees the failure or that one sees it inside
        fence(Ordering::SeqCst);
        let guard = Inside(board);
        self.family.check()?;
        let result = work(&View { group: self, seq }).map_err(|error| self.family.fail(error))?;
        board.worked(seq);
        drop(guard);
        Ok(result)
    }

    /// Step 3 of a collective whose numbers travel in the slots: nobody else's buffer is touched.
    #[inline]
    pub(super) fn worked_inline(&self, me: usize, seq: u64) {
        self.boards[me].worked(seq);
        self.ring_soon(Goal::Worked(seq));
    }

    /// Step 4: makes sure that nobody touches the parts of `me` any more, if need be by failing the world.
    pub(super) fn take_back(&self, me: usize, seq: u64, call: Call) {
        if !self.reached(Goal::Worked(seq)) {
            self.family.fail(CommError::Left { rank: self.members[me], call, seq });
            fence(Ordering::SeqCst);
            for board in &self.boards {
                while board.inside.load(Ordering::Acquire) {
                    yield_now();
                }
            }
        }
        // SAFETY: all ranks have worked on `seq`, or none is inside and none can enter: nobody reads the parts
        self.boards[me].slot(seq).body.with_mut(|p| unsafe { (*p).parts = [Part::NONE; 3] });
    }

    /// Waits, in a blocking collective that has just published its part, until all have come to `goal`. Returns the idle
    /// time beyond the first polls.
    #[inline]
    pub(super) fn wait(&self, goal: Goal, call: &Call, seq: u64) -> Result<Duration, CommError> {
        self.ring_soon(goal);
        if Event::poll(self.patience, || self.reached(goal) || self.family.has_failed()) && self.reached(goal)
        {
            return Ok(Duration::ZERO);
        }
        if self.patience.polls_first {
            self.event.published(|| true);
        }
        self.wait_any(&[goal], call, seq)
    }

    /// Waits until all have come to one of `goals`; returns the idle time.
    #[cold]
    pub(super) fn wait_any(&self, goals: &[Goal], call: &Call, seq: u64) -> Result<Duration, CommError> {
        let ready = || goals.iter().any(|&goal| self.reached(goal));
        let waited = self.event.wait(self.patience, self.family.timeout(), &|| {
            ready() || self.family.has_failed() || self.deserter(goals).is_some()
        });
        if ready() { Ok(waited) } else { Err(self.gave_up(goals, call, seq, waited)) }
    }

    #[cold]
    fn gave_up(&self, goals: &[Goal], call: &Call, seq: u64, waited: Duration) -> CommError {
        if let Err(error) = self.family.check() {
            return error;
        }
        self.family.fail(match self.deserter(goals) {
            Some(rank) => CommError::Left { rank, call: *call, seq },
            None => CommError::Timeout { call: *call, seq, missing: self.missing(goals), waited },
        })
    }

    fn missing(&self, goals: &[Goal]) -> Vec<Missing> {
        let late = |rank: &usize| goals.iter().any(|&goal| !self.boards[*rank].reached(goal));
        let missing = |rank: usize| Missing { rank: self.members[rank], last: self.flights[rank].last() };
        (0..self.size()).filter(late).map(missing).collect()
    }

    /// A rank that left before it reached a goal.
    #[inline]
    fn deserter(&self, goals: &[Goal]) -> Option<Rank> {
        if !self.any_gone.load(Ordering::Acquire) {
            return None;
        }
        let deserted = |board: &Board| {
            // in this order: what a rank did before it left is seen once the mark is
            board.gone.load(Ordering::Acquire) && goals.iter().any(|&goal| !board.reached(goal))
        };
        self.boards.iter().position(deserted).map(|rank| self.members[rank])
    }

    /// Tells the others that `me` will take part in no more collectives.
    pub(super) fn leave(&self, me: usize) {
        self.boards[me].gone.store(true, Ordering::Release);
        self.any_gone.store(true, Ordering::Release);
        self.event.published(|| true);
    }

    /// The numbers that `rank` passed inline to collective `seq`, once all have posted.
    ///
    /// # Safety
    /// All ranks have posted `seq` with the same call, and this rank has not yet worked on it while the slice lives.
    #[inline]
    pub(super) unsafe fn payload<T: crate::element::Element>(
        &self,
        rank: usize,
        seq: u64,
        len: usize,
    ) -> &[T] {
        self.boards[rank].slot(seq).body.with(|p| {
            // SAFETY: posted (contract), so written before and not again until this rank has worked on `seq`;
            // 8-byte aligned, and any bits are a valid `T: Pod`
            unsafe { std::slice::from_raw_parts(p.cast::<T>(), len) }
        })
    }
}

impl Board {
    #[inline]
    fn reached(&self, goal: Goal) -> bool {
        match goal {
            Goal::Posted(seq) => self.has_posted(seq),
            Goal::Worked(seq) => self.has_worked(seq),
        }
    }

    #[inline]
    fn call(&self, seq: u64) -> Call {
        // SAFETY: called between the post of all ranks and the work of this one, when no slot of `seq` is written
        self.slot(seq).call.with(|p| unsafe { *p })
    }
}

/// The parts of all ranks, as long as this rank is inside.
pub(super) struct View<'a> {
    group: &'a Group,
    seq: u64,
}

impl View<'_> {
    pub(super) fn size(&self) -> usize {
        self.group.size()
    }

    pub(super) fn world_rank(&self, rank: usize) -> Rank {
        self.group.world_rank(rank)
    }

    #[inline]
    pub(super) fn parts(&self, rank: usize) -> Parts {
        // SAFETY: a view exists only inside step 3, between the post of all ranks and `take_back` of any
        self.group.boards[rank].slot(self.seq).body.with(|p| unsafe { (*p).parts })
    }
}

/// Announces, even to a panic, that this rank is done with the buffers of the others.
struct Inside<'a>(&'a Board);

impl Drop for Inside<'_> {
    fn drop(&mut self) {
        self.0.inside.store(false, Ordering::Release);
    }
}
