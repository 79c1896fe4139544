//! One rank's end of a communicator: its collectives in order, blocking ones in `blocking`, started ones in `started`.

use crate::alarm::Family;
use crate::announce::{Announcement, Gathered, HEAD_WORDS, Heard, PAYLOAD_BYTES, WORDS};
use crate::blocking;
use crate::board::{Board, DEPTH};
use crate::error::MpiError;
use crate::ffi::{Handle, Message, Request, SentAndReceived};
use crate::nodes::{NodeMap, TwoLevels, all_agree, share_words};
use crate::progress::Bell;
use crate::segment::{SharedWords, Stages};
use crate::started::{Op, Queue};
use crate::wait::Patience;
use phalanx_comm::backend::StatsCell;
use phalanx_comm::cost::Tuning;
use phalanx_comm::{Call, CommError, FlightRecorder, OpKind, OpRecord, Rank};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

/// One rank's end of a communicator.
#[derive(Debug)]
pub(crate) struct Lane {
    pub(crate) family: Arc<Family>,
    /// The number of the communicator in its world, the same on all its ranks.
    pub(crate) id: u64,
    pub(crate) me: usize,
    /// The world rank of each member.
    pub(crate) members: Vec<Rank>,
    /// Where announcements are gathered if there is no board. Apart from `data`, as both are in use at once and
    /// their calls must come in one order on all ranks.
    announce: Handle,
    /// Where numbers travel.
    pub(crate) data: Handle,
    /// Bytes of numbers that an announcement may carry, where each rank sends its own to each other.
    direct: Option<usize>,
    /// Memory for announcements that arrive so.
    spare: Mutex<Vec<Box<[u64]>>>,
    /// Where all members share a node.
    pub(crate) board: Option<Board>,
    /// Where they stage buffers that are not shared.
    pub(crate) stages: Option<Stages>,
    /// On which nodes the members are.
    pub(crate) map: NodeMap,
    /// Where they are on several nodes, and on some in numbers.
    pub(crate) levels: Option<TwoLevels>,
    pub(crate) patience: Patience,
    pub(crate) flight: FlightRecorder,
    pub(crate) stats: StatsCell,
    announced: Arc<AtomicU64>,
    /// The last announcements that were gathered, for reports.
    heard: Mutex<Vec<u64>>,
    local: Mutex<Local>,
    inbox: Mutex<Inbox>,
    /// The thread that advances what was started, where there is one.
    bell: RwLock<Option<Arc<Bell>>>,
    /// Threads of this rank that wait for `local`, before which that thread stands back.
    waiting: AtomicUsize,
}

/// Numbers of collectives, and those that were started and not looked at yet: apart from [`Local`], so that to start one waits
/// for no other.
#[derive(Debug, Default)]
pub(crate) struct Inbox {
    /// Number of the last collective begun.
    pub(crate) last: u64,
    pub(crate) ops: Vec<Op>,
}

impl Inbox {
    /// The number of a collective that begins.
    pub(crate) fn next_seq(&mut self) -> u64 {
        self.last += 1;
        self.last
    }
}

/// What only this rank knows.
#[derive(Debug, Default)]
pub(crate) struct Local {
    splits: u64,
    /// The last point of staged reductions that this rank has come to.
    pub(crate) stage: u64,
    pub(crate) queue: Queue,
    pub(crate) room: blocking::Room,
}

/// An announcement that is on its way to the others.
#[derive(Debug)]
pub(crate) enum Announced {
    /// By the board.
    Posted,
    /// By messages, or by `MPI_Iallgather`.
    Gathering(Request<SentAndReceived>),
}

/// The most ranks that announce by messages to each other: of more, the library gathers in fewer steps.
const MOST_DIRECT: usize = 8;
/// The most bytes of numbers that a rank sends to all others together with an announcement.
const DIRECT_BYTES: usize = 32 * 1024;

/// Bytes of one rank's staging memory: two of them stay in a second-level cache.
const STAGE_BYTES: usize = 256 * 1024;

/// The tag of the messages of collective `seq`: several are under way at once, far fewer than there are tags.
pub(crate) fn tag(seq: u64) -> i32 {
    i32::from((seq % (1 << 14)) as u16)
}

/// The memory that the members of a lane share on a node.
struct Shared {
    board: Board,
    stages: Stages,
}

impl Shared {
    /// Collective over `data`, whose ranks share a node: made by the first, mapped by the others. `None` where one of them
    /// may not map another's memory, as in containers of their own.
    fn among(
        family: &Family,
        data: Handle,
        me: usize,
        pid: u32,
        size: usize,
    ) -> Result<Option<Self>, MpiError> {
        let lens = [Board::words(size), size * STAGE_BYTES / 8];
        let words = share_words(family, data, me, pid, &lens)?;
        let is_shared = all_agree(data, words.is_some())?;
        let words = words.filter(|_| is_shared).and_then(|words| <[SharedWords; 2]>::try_from(words).ok());
        Ok(words.map(|[board, stages]| Self {
            board: Board::new(board, size, me),
            stages: Stages::new(stages, size),
        }))
    }
}

impl Lane {
    /// Collective over `handle`: the lane of this rank among `members`.
    pub(crate) fn new(
        family: Arc<Family>,
        id: u64,
        handle: Handle,
        members: Vec<Rank>,
    ) -> Result<Self, MpiError> {
        let (announce, data) = (handle.duplicate()?, handle.duplicate()?);
        let (me, size) = (data.rank()?, members.len());
        let place = |rank: &Rank| family.places[rank.index()];
        let map = NodeMap::new(members.iter().map(|rank| place(rank).node), me);
        let first = place(&members[map.neighbours()[0]]).pid;
        let shared = match map.nodes.len() == 1 && size > 1 {
            true => Shared::among(&family, data, me, first, size)?,
            false => None,
        };
        let levels = match map.topology().has_levels() {
            true => TwoLevels::among(&family, data, &map, first)?,
            false => None,
        };
        let is_direct = shared.is_none() && (2..=MOST_DIRECT).contains(&size);
        let direct = is_direct.then(|| (DIRECT_BYTES / (size - 1) / 8 * 8).max(PAYLOAD_BYTES));
        let (board, stages) = shared.map(|shared| (shared.board, shared.stages)).unzip();
        let on_node = |at: &usize| family.places[*at].node == family.places[family.rank.index()].node;
        let patience = Patience::for_ranks((0..family.size).filter(on_node).count());
        let announced = family.counter(id);
        Ok(Self {
            id,
            me,
            members,
            announce,
            data,
            direct,
            spare: Mutex::default(),
            board,
            stages,
            map,
            levels,
            patience,
            flight: FlightRecorder::new(),
            stats: StatsCell::default(),
            announced,
            heard: Mutex::default(),
            local: Mutex::new(Local::default()),
            inbox: Mutex::default(),
            bell: RwLock::default(),
            waiting: AtomicUsize::new(0),
            family,
        })
    }

    pub(crate) fn size(&self) -> usize {
        self.members.len()
    }

    /// How started reductions go between the nodes of this communicator.
    pub(crate) fn tuning(&self) -> Tuning {
        let (choice, levels) = self.family.tuned();
        Tuning { choice, topology: self.map.topology(), levels }
    }

    /// Where the ranks of this node say how far they are.
    pub(crate) fn node_board(&self) -> Option<&Board> {
        self.board.as_ref().or_else(|| self.levels.as_ref()?.board.as_ref())
    }

    /// This rank in the whole world.
    pub(crate) fn world_rank(&self) -> Rank {
        self.members[self.me]
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Local> {
        if let Some(local) = self.try_lock() {
            return local;
        }
        self.waiting.fetch_add(1, Ordering::Relaxed);
        let local = self.local.lock().unwrap_or_else(PoisonError::into_inner);
        self.waiting.fetch_sub(1, Ordering::Relaxed);
        local
    }

    /// The lock, unless another thread of this rank is in a collective.
    pub(crate) fn try_lock(&self) -> Option<MutexGuard<'_, Local>> {
        self.local.try_lock().ok()
    }

    /// Whether a thread of this rank waits for the lock.
    pub(crate) fn is_waited_for(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) > 0
    }

    /// To be locked after `local`, where both are.
    pub(crate) fn inbox(&self) -> MutexGuard<'_, Inbox> {
        self.inbox.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Calls the thread that advances what was started; whether there is one.
    pub(crate) fn ring(&self) -> bool {
        let bell = self.bell.read().unwrap_or_else(PoisonError::into_inner);
        bell.as_ref().map(|bell| bell.ring()).is_some()
    }

    pub(crate) fn has_progress_thread(&self) -> bool {
        self.bell.read().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    /// From now on, started collectives are advanced by the thread that hears `bell`; by calls, without.
    pub(crate) fn called_by(&self, bell: Option<Arc<Bell>>) {
        *self.bell.write().unwrap_or_else(PoisonError::into_inner) = bell;
    }

    pub(crate) fn next_split(&self) -> u64 {
        let mut local = self.lock();
        local.splits += 1;
        local.splits
    }

    /// Fails the world with an error of MPI or the system.
    pub(crate) fn broken(&self, error: &MpiError) -> CommError {
        self.family.broken(error)
    }

    /// Bytes of numbers that an announcement may carry, the same on all ranks.
    pub(crate) fn inline_bytes(&self) -> usize {
        self.direct.unwrap_or(PAYLOAD_BYTES)
    }

    /// Words between the announcements of two ranks, where messages bring them.
    fn stride(&self) -> usize {
        self.direct.map_or(WORDS, |bytes| HEAD_WORDS + bytes / 8)
    }

    /// Sends an announcement on its way. Its slot must be [free](Self::may_announce).
    #[inline]
    pub(crate) fn announce(&self, announcement: &Announcement<'_>) -> Result<Announced, CommError> {
        self.announced.store(announcement.seq(), Ordering::Release);
        if let Some(board) = &self.board {
            board.announce(announcement);
            return Ok(Announced::Posted);
        }
        if self.size() == 1 {
            // alone: what it gathers is what it sends
            return Ok(Announced::Posted);
        }
        let gathering = match self.direct {
            Some(_) => self.tell_each(announcement),
            None => {
                let all = vec![0; WORDS * self.size()].into();
                self.announce.start_all_gather(announcement.message(WORDS), all)
            }
        };
        gathering.map(Announced::Gathering).map_err(|error| self.broken(&error))
    }

    /// Sends an announcement to every other rank, and receives theirs.
    fn tell_each(&self, announcement: &Announcement<'_>) -> Result<Request<SentAndReceived>, MpiError> {
        let (me, size, stride) = (self.me, self.size(), self.stride());
        let spare = self.spare().pop();
        let all = spare.unwrap_or_else(|| vec![0; stride * size].into());
        let (kept, tag) = ((announcement.message(0), all), tag(announcement.seq()));
        self.announce.start_messages(kept, tag, 2 * (size - 1), move |(own, all), i| {
            let rank = i / 2 + usize::from(i / 2 >= me);
            match i % 2 {
                0 => Message::From(rank, bytemuck::cast_slice_mut(&mut all[rank * stride..][..stride])),
                _ => Message::To(rank, bytemuck::cast_slice(own)),
            }
        })
    }

    fn spare(&self) -> MutexGuard<'_, Vec<Box<[u64]>>> {
        self.spare.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps the memory of an announcement that nobody looks at any more.
    pub(crate) fn recycle(&self, announced: Announced) {
        if let (Announced::Gathering(request), Some(_)) = (announced, self.direct)
            && let Some((_, all)) = request.take()
        {
            self.spare().push(all);
        }
    }

    /// Whether collective `seq` may be announced.
    pub(crate) fn may_announce(&self, seq: u64) -> bool {
        self.board.as_ref().is_none_or(|board| board.is_free(seq))
    }

    /// Whether all have announced collective `seq`.
    #[inline]
    pub(crate) fn is_heard(&self, announced: &mut Announced, seq: u64) -> Result<bool, CommError> {
        match announced {
            Announced::Posted => Ok(self.board.as_ref().is_none_or(|board| board.all_announced(seq))),
            Announced::Gathering(request) => request.test().map_err(|error| self.broken(&error)),
        }
    }

    /// Looks at what all ranks announced to collective `seq`, if they all announced `call`.
    #[inline]
    pub(crate) fn with_heard<R>(
        &self,
        announced: &Announced,
        seq: u64,
        call: &Call,
        f: impl FnOnce(&dyn Heard) -> Result<R, CommError>,
    ) -> Result<R, CommError> {
        match (announced, &self.board) {
            (Announced::Gathering(request), _) => {
                let Some((own, all)) = request.kept() else { unreachable!("looked at once it is heard") };
                let heard = Gathered { me: self.me, own, all, stride: self.stride() };
                let mut last = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
                last.clear();
                for rank in 0..self.size() {
                    last.extend((0..HEAD_WORDS).map(|at| heard.word(rank, at)));
                }
                drop(last);
                self.agree(&heard, seq, call)?;
                f(&heard)
            }
            (Announced::Posted, Some(board)) => {
                self.agree(&board.heard(seq), seq, call)?;
                f(&board.heard(seq))
            }
            (Announced::Posted, None) => f(&Gathered { me: self.me, own: &[], all: &[], stride: 0 }),
        }
    }

    fn agree(&self, heard: &(impl Heard + ?Sized), seq: u64, call: &Call) -> Result<(), CommError> {
        if heard.dissenter(self.size(), call).is_none() {
            return Ok(());
        }
        let calls = self.members.iter().enumerate().map(|(rank, world)| (*world, heard.call(rank))).collect();
        Err(self.family.fail_together(self.members[0], CommError::Mismatch { seq, calls }))
    }

    /// The last collective that `rank` is known to have announced here.
    pub(crate) fn last_of(&self, rank: usize) -> Option<OpRecord> {
        if rank == self.me {
            return self.flight.last();
        }
        if let Some(board) = &self.board {
            let seq = board.last_announced(rank);
            let mut record = (seq > 0).then(|| board.heard(seq).record(rank))?;
            record.finished = board.is_done(rank, seq).then_some(record.started);
            return Some(record);
        }
        // the last that all announced
        let heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        let last = Gathered { me: self.me, own: &[], all: &heard, stride: HEAD_WORDS };
        (!heard.is_empty()).then(|| last.record(rank))
    }

    /// Notes that collective `seq` was announced.
    #[inline]
    pub(crate) fn note(&self, seq: u64, op: OpKind, bytes: usize, now: u64) {
        self.flight.begin(seq, op, bytes, now);
        self.stats.called(bytes);
    }

    /// Notes the end of a blocking collective.
    #[inline]
    pub(crate) fn end(&self, seq: u64, begun: u64, waited: Duration) {
        let now = self.family.now();
        self.flight.finish(seq, now);
        self.stats.exposed(now.saturating_sub(begun));
        self.stats.waited(waited);
    }

    /// Tells the others of the node that this rank takes part in nothing any more. After a failure they are told that.
    pub(crate) fn leave(&self) {
        if let Some(board) = self.board.as_ref().filter(|_| self.family.failure().is_none()) {
            board.leave();
        }
    }

    /// The ranks that are not done with collective `seq`.
    pub(crate) fn is_late_in_work(&self, rank: usize, seq: u64) -> bool {
        self.board.as_ref().is_some_and(|board| !board.is_done(rank, seq))
    }

    /// The ranks that have not announced collective `seq`.
    pub(crate) fn is_late(&self, rank: usize, seq: u64) -> bool {
        self.board.as_ref().is_some_and(|board| !board.has_announced(rank, seq))
    }

    /// Waits until the slot of collective `seq` is free.
    #[inline]
    pub(crate) fn wait_for_slot(&self, call: &Call, seq: u64) -> Result<(), CommError> {
        if self.may_announce(seq) {
            return Ok(());
        }
        let late = |rank| self.is_late_in_work(rank, seq - DEPTH);
        let waited = self.wait_until(call, seq, &mut || Ok(self.may_announce(seq)), &late)?;
        self.stats.waited(waited);
        Ok(())
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        self.leave();
    }
}
