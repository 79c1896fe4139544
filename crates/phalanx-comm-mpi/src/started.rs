//! Started collectives: a queue a rank, worked off in order by whatever call comes along.

use crate::announce::{Announcement, Heard, PAYLOAD_WORDS};
use crate::board::DEPTH;
use crate::hierarchical::{self, Hierarchical, Job};
use crate::lane::{Announced, Lane, Local, tag};
use crate::library::Library;
use crate::segment::Token;
use crate::slices::{self, Kind, Moving};
use phalanx_comm::backend::{self, fold_nodes};
use phalanx_comm::cost::Method;
use phalanx_comm::{
    Call, CommError, NodeId, OpKind, Packing, Rank, ReduceOp, Region, ShardTree, TreeNodes, WorldSize,
};
use std::collections::VecDeque;

/// The memory that a started collective owns until it is complete.
#[derive(Debug)]
pub(crate) enum Held {
    Region(Region<f32>),
    Nodes(TreeNodes),
}

#[derive(Debug)]
pub(crate) struct Op {
    seq: u64,
    call: Call,
    /// Nanoseconds since the world began.
    started: u64,
    kind: Kind,
    nodes: TreeNodes,
    stage: Stage,
    /// Whether other ranks of this node work on its memory.
    is_shared: bool,
    /// Whether nobody waits for the result.
    is_forgotten: bool,
}

/// The large ones are boxed: a collective moves from list to list.
#[derive(Debug)]
enum Stage {
    Queued,
    /// And perhaps on its way: what arrives is not looked at before all have announced the same.
    Announced(Announced, Option<Box<Moving>>),
    /// Between all ranks.
    Moving(Box<Moving>),
    /// Inside nodes, and between them.
    Hierarchical(Box<Hierarchical>),
    /// In the hands of the library.
    Library(Library),
    /// This rank's share is done.
    Worked,
}

/// Started and not yet collected.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    ops: VecDeque<Op>,
    done: Vec<Done>,
    starts: Vec<*mut f32>,
    firsts: Vec<usize>,
    merges: Vec<(usize, usize)>,
    rooms: Rooms,
}

/// The memory that reductions between nodes leave to the next.
#[derive(Debug, Default)]
struct Rooms {
    moving: Vec<slices::Room>,
    hierarchical: Vec<hierarchical::Room>,
}

// SAFETY: the addresses in `starts` are followed only in the call that wrote them
#[expect(unsafe_code, reason = "scratch memory for addresses")]
unsafe impl Send for Queue {}

/// Complete, and not yet collected.
#[derive(Debug)]
struct Done {
    seq: u64,
    held: Held,
    /// Nanoseconds since the world began.
    finished: u64,
}

/// Lists that are made anew for each reduction, and kept so that none allocates.
struct Scratch<'a> {
    starts: &'a mut Vec<*mut f32>,
    firsts: &'a mut Vec<usize>,
    merges: &'a mut Vec<(usize, usize)>,
    rooms: &'a mut Rooms,
}

impl Queue {
    pub(crate) fn is_empty(&self) -> bool {
        self.ops.is_empty()
    }

    fn take(&mut self, seq: u64) -> Option<Done> {
        let at = self.done.iter().position(|done| done.seq == seq)?;
        Some(self.done.swap_remove(at))
    }

    fn is_done(&self, seq: u64) -> bool {
        self.done.iter().any(|done| done.seq == seq)
    }
}

impl Op {
    fn bytes(&self) -> usize {
        self.nodes.iter().map(|(_, region)| region.len() * size_of::<f32>()).sum()
    }

    /// Whether its numbers travel in an announcement of `most` bytes: those of 16 bits go the general way.
    fn is_inline(&self, most: usize) -> bool {
        matches!(self.kind, Kind::Ranks(_, Packing::F32)) && self.call.len * size_of::<f32>() <= most
    }

    fn held(&mut self) -> Held {
        match self.kind {
            Kind::Tree(_) => Held::Nodes(std::mem::take(&mut self.nodes)),
            Kind::Ranks(..) => Held::Region(self.nodes.pop().map(|(_, region)| region).unwrap_or_default()),
        }
    }
}

/// Reductions between nodes that are under way at once.
const AT_ONCE: usize = 3;

/// Words of a token in an announcement.
const TOKEN_WORDS: usize = 2;

impl Lane {
    /// Starts the sum of `region` over ranks, and returns its number.
    pub(crate) fn start_all_reduce(
        &self,
        region: Region<f32>,
        packing: Packing,
        op: ReduceOp,
    ) -> Result<u64, CommError> {
        let len = region.len() * packing.per_word();
        let call = Call::new(OpKind::AllReduce).of(packing.dtype(), len).reducing(op);
        self.start(call, Kind::Ranks(op, packing), vec![(NodeId::leaf(0), region)])
    }

    /// Starts the sum of `nodes` in the order of `tree`, and returns its number.
    pub(crate) fn start_tree_reduce(&self, tree: ShardTree, nodes: TreeNodes) -> Result<u64, CommError> {
        let (rank, size) = (Rank(self.me), WorldSize(self.size()));
        let call = tree.reduction(rank, size, self.world_rank(), &nodes);
        let call = call.map_err(|error| self.family.fail(error))?;
        self.start(call, Kind::Tree(tree), nodes)
    }

    fn start(&self, call: Call, kind: Kind, nodes: TreeNodes) -> Result<u64, CommError> {
        self.family.check()?;
        let started = self.family.now();
        let stage = Stage::Queued;
        let mut op = Op { seq: 0, call, started, kind, nodes, stage, is_shared: false, is_forgotten: false };
        let bytes = op.bytes();
        if !self.has_progress_thread() {
            let mut local = self.lock();
            self.take_in(&mut local);
            let seq = self.inbox().next_seq();
            op.seq = seq;
            self.note(seq, call.op, bytes, started);
            local.queue.ops.push_back(op);
            self.announce_queued(&mut local)?;
            return Ok(seq);
        }
        let mut inbox = self.inbox();
        let seq = inbox.next_seq();
        op.seq = seq;
        self.note(seq, call.op, bytes, started);
        inbox.ops.push(op);
        drop(inbox);
        if !self.ring() {
            // the thread has ended since
            let mut local = self.lock();
            self.take_in(&mut local);
            self.announce_queued(&mut local)?;
        }
        Ok(seq)
    }

    /// Takes what was started into the queue.
    pub(crate) fn take_in(&self, local: &mut Local) {
        let mut inbox = self.inbox();
        if !inbox.ops.is_empty() {
            local.queue.ops.extend(inbox.ops.drain(..));
        }
    }

    /// Does what can be done without waiting, unless another thread of this rank is at it.
    pub(crate) fn progress(&self) -> Result<(), CommError> {
        self.family.check()?;
        if self.has_progress_thread() {
            // it has a core for that, which this thread has for something else
            return Ok(());
        }
        self.try_lock().map_or(Ok(()), |mut local| self.advance(&mut local))
    }

    /// As [`progress`](Self::progress), by the thread that is there for it: the number of the collective that is next
    /// to be complete, if there is one; `None` where another thread of this rank is at it.
    pub(crate) fn try_advance(&self) -> Result<Option<Option<u64>>, CommError> {
        self.family.check()?;
        if self.is_waited_for() {
            return Ok(None);
        }
        let Some(mut local) = self.try_lock() else { return Ok(None) };
        self.advance(&mut local)?;
        Ok(Some(local.queue.ops.front().map(|op| op.seq)))
    }

    /// Whether collective `seq` is complete.
    pub(crate) fn test(&self, seq: u64) -> Result<bool, CommError> {
        let mut local = match self.has_progress_thread() {
            false => self.lock(),
            true => match self.try_lock() {
                Some(local) => local,
                // that thread works on something
                None => return Ok(false),
            },
        };
        if !local.queue.is_done(seq) {
            self.advance(&mut local)?;
        }
        Ok(local.queue.is_done(seq))
    }

    /// The memory of collective `seq`, once it is complete.
    pub(crate) fn wait(&self, seq: u64) -> Result<Held, CommError> {
        let begun = self.family.now();
        let mut local = self.lock();
        self.advance_until(&mut local, &|local| local.queue.is_done(seq))?;
        match local.queue.take(seq) {
            Some(done) => {
                self.stats.exposed(done.finished.saturating_sub(begun));
                Ok(done.held)
            }
            None => unreachable!("a ticket is waited for once"),
        }
    }

    /// Gives the result of collective `seq` up; the collective itself goes on.
    pub(crate) fn forget(&self, seq: u64) {
        let mut local = self.lock();
        self.take_in(&mut local);
        if local.queue.take(seq).is_none()
            && let Some(op) = local.queue.ops.iter_mut().find(|op| op.seq == seq)
        {
            op.is_forgotten = true;
        }
    }

    /// Completes all that was started.
    pub(crate) fn drain(&self, local: &mut Local) -> Result<(), CommError> {
        self.advance_until(local, &|local| local.queue.is_empty())
    }

    fn advance_until(&self, local: &mut Local, is_reached: &dyn Fn(&Local) -> bool) -> Result<(), CommError> {
        self.advance(local)?;
        while !is_reached(local) {
            let Some((call, seq)) = local.queue.ops.front().map(|op| (op.call, op.seq)) else {
                return Ok(());
            };
            let is_worked = matches!(local.queue.ops[0].stage, Stage::Worked);
            let late = |rank| match is_worked {
                true => self.is_late_in_work(rank, seq),
                false => self.is_late(rank, seq),
            };
            let before = local.queue.done.len() + local.queue.ops.len();
            let mut ready = || {
                self.advance(local)?;
                let front = local.queue.ops.front().map(|op| (op.seq, matches!(op.stage, Stage::Worked)));
                let moved = front != Some((seq, is_worked));
                Ok(moved || is_reached(local) || local.queue.done.len() + local.queue.ops.len() != before)
            };
            let waited = self.wait_until(&call, seq, &mut ready, &late)?;
            self.stats.waited(waited);
        }
        Ok(())
    }

    /// Announces, works on and completes whatever is due, without waiting.
    fn advance(&self, local: &mut Local) -> Result<(), CommError> {
        self.take_in(local);
        if local.queue.is_empty() {
            return Ok(());
        }
        self.family.check()?;
        self.complete_worked(local);
        self.announce_queued(local)?;
        self.work_announced(local)?;
        self.complete_worked(local);
        Ok(())
    }

    fn announce_queued(&self, local: &mut Local) -> Result<(), CommError> {
        let Some(first) = local.queue.ops.front().map(|op| op.seq) else {
            return Ok(());
        };
        for (at, op) in local.queue.ops.iter_mut().enumerate() {
            if !matches!(op.stage, Stage::Queued) {
                continue;
            }
            if op.seq - first >= DEPTH || !self.may_announce(op.seq) {
                break;
            }
            let mut tokens = [[0; TOKEN_WORDS]; PAYLOAD_WORDS / TOKEN_WORDS];
            let bytes = op.bytes();
            let payload: &[u8] = if op.is_inline(self.inline_bytes()) {
                bytemuck::cast_slice(&op.nodes[0].1)
            } else if op.nodes.len() <= tokens.len() {
                for ((_, region), words) in op.nodes.iter_mut().zip(&mut tokens) {
                    let token = self.family.segments.token(region);
                    *words = [token.segment, token.offset];
                }
                bytemuck::cast_slice(&tokens[..op.nodes.len()])
            } else {
                &[]
            };
            let announcement = Announcement::new(op.seq, &op.call, bytes, op.started, payload);
            let announced = self.announce(&announcement)?;
            let is_early = at < self.at_once();
            let early = if is_early { self.move_early(op, &mut local.queue.rooms)? } else { None };
            op.stage = Stage::Announced(announced, early);
        }
        Ok(())
    }

    /// Starts a reduction between all ranks whose way does not hang on what the others announce.
    fn move_early(&self, op: &mut Op, rooms: &mut Rooms) -> Result<Option<Box<Moving>>, CommError> {
        let len = op.nodes.first().map_or(0, |(_, region)| region.len());
        let is_moving = self.board.is_none() && self.levels.is_none() && self.size() > 1 && len > 0;
        let is_library = self.method(op.kind, len) == Method::Library;
        if !is_moving || is_library || op.is_inline(self.inline_bytes()) {
            return Ok(None);
        }
        let (nodes, room) = (std::mem::take(&mut op.nodes), rooms.moving.pop().unwrap_or_default());
        let moving = Moving::start(op.kind, tag(op.seq), nodes, room, self.among());
        moving.map(|moving| Some(Box::new(moving))).map_err(|error| self.broken(&error))
    }

    fn work_announced(&self, local: &mut Local) -> Result<(), CommError> {
        let Queue { ops, starts, firsts, merges, rooms, .. } = &mut local.queue;
        let mut scratch = Scratch { starts, firsts, merges, rooms };
        let mut under_way = 0;
        for op in ops.iter_mut().filter(|op| !matches!(op.stage, Stage::Worked)) {
            if let Stage::Announced(announced, _) = &mut op.stage {
                if !self.is_heard(announced, op.seq)? {
                    break;
                }
                self.begin_work(op, &mut scratch)?;
            }
            if self.go_on(op, &mut scratch)? {
                if let Some(board) = self.node_board() {
                    board.done(op.seq);
                }
                continue;
            }
            under_way += 1;
            if !matches!(op.stage, Stage::Moving(_)) || under_way == self.at_once() {
                break;
            }
        }
        Ok(())
    }

    /// Reductions whose messages may be under way at once, so that a link is busy while a total is made. Ranks with a board of
    /// their node say how far they are by one number, and take one after the other.
    fn at_once(&self) -> usize {
        if self.node_board().is_some() { 1 } else { AT_ONCE }
    }

    /// Works on a collective that all have announced, as far as it needs nobody.
    fn begin_work(&self, op: &mut Op, scratch: &mut Scratch<'_>) -> Result<(), CommError> {
        let Stage::Announced(announced, early) = std::mem::replace(&mut op.stage, Stage::Worked) else {
            return Ok(());
        };
        let (is_inline, kind, call) = (op.is_inline(self.inline_bytes()), op.kind, op.call);
        let tag = tag(op.seq);
        let Op { nodes, is_shared, .. } = op;
        let len = nodes.first().map_or(0, |(_, region)| region.len());
        op.stage = self.with_heard(&announced, op.seq, &call, |heard| {
            if let Some(moving) = early {
                return Ok(Stage::Moving(moving));
            }
            // nothing to exchange
            if self.size() == 1 || call.len == 0 {
                return Ok(Stage::Worked);
            }
            if let (true, Kind::Ranks(op, packing)) = (is_inline, kind) {
                if self.board.is_some() {
                    self.reduce_inline(heard, &mut nodes[0].1, op);
                    return Ok(Stage::Worked);
                }
                let part = |rank| heard.payload_bytes(rank).map_or(&[][..], |numbers| numbers);
                let part = |rank| &bytemuck::cast_slice(part(rank))[..len];
                fold_nodes(&mut nodes[0].1, &self.map.nodes, part, packing, op);
                return Ok(Stage::Worked);
            }
            let method = self.method(kind, len);
            if method == Method::Library {
                let library = Library::start(self.data, std::mem::take(nodes));
                return library.map(Stage::Library).map_err(|error| self.broken(&error));
            }
            if self.addresses(heard, kind, len, nodes, scratch)? {
                *is_shared = true;
                self.reduce_shared(kind, len, scratch);
                return Ok(Stage::Worked);
            }
            if let (Method::Hierarchical, Kind::Ranks(op, packing)) = (method, kind)
                && let (Some(levels), Some(tokens)) = (&self.levels, self.neighbours(heard))
            {
                *is_shared = true;
                let job = Job { packing, op, len, tag };
                let room = scratch.rooms.hierarchical.pop().unwrap_or_default();
                let reduction = Hierarchical::new(job, tokens, &self.map, levels.column, room);
                return Ok(Stage::Hierarchical(Box::new(reduction)));
            }
            let room = scratch.rooms.moving.pop().unwrap_or_default();
            let moving = Moving::start(kind, tag, std::mem::take(nodes), room, self.among());
            moving.map(|moving| Stage::Moving(Box::new(moving))).map_err(|error| self.broken(&error))
        })?;
        self.recycle(announced);
        Ok(())
    }

    /// Goes on with a collective that is under way; whether this rank's part of it is done.
    fn go_on(&self, op: &mut Op, scratch: &mut Scratch<'_>) -> Result<bool, CommError> {
        let nodes = match &mut op.stage {
            Stage::Moving(moving) => {
                let done = moving.advance(self.among()).map_err(|error| self.broken(&error))?;
                done.map(|(nodes, room)| {
                    scratch.rooms.moving.push(room);
                    nodes
                })
            }
            Stage::Library(library) => library.advance().map_err(|error| self.broken(&error))?,
            Stage::Hierarchical(reduction) => {
                while reduction.is_due().map_err(|error| self.broken(&error))? {
                    self.neighbour_addresses(&reduction.tokens, &mut op.nodes[0].1, scratch)?;
                    if self.step(reduction, scratch)? {
                        if let Stage::Hierarchical(over) = std::mem::replace(&mut op.stage, Stage::Worked) {
                            scratch.rooms.hierarchical.push(over.into_room());
                        }
                        return Ok(true);
                    }
                }
                return Ok(false);
            }
            Stage::Worked => return Ok(true),
            Stage::Queued | Stage::Announced(..) => return Ok(false),
        };
        if let Some(nodes) = nodes {
            (op.nodes, op.stage) = (nodes, Stage::Worked);
        }
        Ok(matches!(op.stage, Stage::Worked))
    }

    /// How a reduction of buffers of `len` words goes between nodes.
    fn method(&self, kind: Kind, len: usize) -> Method {
        let Kind::Ranks(op, packing) = kind else { return Method::Flat };
        let bytes = (len * size_of::<f32>()) as u64;
        match self.tuning().method(bytes, bytes * packing.per_word() as u64) {
            // the library adds no 16-bit floats, and need not carry a NaN through a minimum
            Method::Library if (op, packing) != (ReduceOp::Sum, Packing::F32) => Method::Hierarchical,
            method => method,
        }
    }

    /// Where the buffers of this node's ranks are, if those of all ranks of all nodes can be mapped where they are.
    fn neighbours(&self, heard: &dyn Heard) -> Option<Vec<Token>> {
        let token = |rank| Token { segment: heard.payload(rank, 0), offset: heard.payload(rank, 1) };
        // every rank looks at all tokens, so that all come to the same answer
        let all_are_shared = (0..self.size()).all(|rank| !token(rank).is_nowhere());
        all_are_shared.then(|| self.map.neighbours().iter().map(|rank| token(*rank)).collect())
    }

    /// The addresses here of the buffers of this node's ranks.
    fn neighbour_addresses(
        &self,
        tokens: &[Token],
        own: &mut Region<f32>,
        scratch: &mut Scratch<'_>,
    ) -> Result<(), CommError> {
        scratch.starts.clear();
        for (rank, token) in self.map.neighbours().iter().zip(tokens) {
            let address = match *rank == self.me {
                true => own.as_mut_ptr(),
                false => self.address_of(*rank, *token, own.len())?,
            };
            scratch.starts.push(address);
        }
        Ok(())
    }

    /// The address here of `len` words of another member.
    fn address_of(&self, rank: usize, token: Token, len: usize) -> Result<*mut f32, CommError> {
        let world = self.members[rank];
        let pid = self.family.places[world.index()].pid;
        let address = self.family.segments.address(world, pid, token, len);
        address.map_err(|error| self.broken(&error))
    }

    #[expect(unsafe_code, reason = "the fused reductions of phalanx-comm, on mapped memory")]
    fn step(&self, reduction: &mut Hierarchical, scratch: &Scratch<'_>) -> Result<bool, CommError> {
        // SAFETY: all ranks of the node have announced these buffers, which their queues hold until all are done; no other
        // rank of it has this slice
        unsafe { reduction.step(scratch.starts) }.map_err(|error| self.broken(&error))
    }

    /// Where the buffers of all ranks are here; false if some are not shared, on every rank alike.
    fn addresses(
        &self,
        heard: &dyn Heard,
        kind: Kind,
        len: usize,
        own: &mut TreeNodes,
        scratch: &mut Scratch<'_>,
    ) -> Result<bool, CommError> {
        if self.board.is_none() {
            return Ok(false);
        }
        scratch.starts.clear();
        scratch.firsts.clear();
        for rank in 0..self.size() {
            scratch.firsts.push(scratch.starts.len());
            let nodes = kind.nodes(rank, self.size());
            for at in (0..nodes).map(|node| node * TOKEN_WORDS) {
                let token = match at + TOKEN_WORDS <= PAYLOAD_WORDS {
                    true => Token { segment: heard.payload(rank, at), offset: heard.payload(rank, at + 1) },
                    false => Token::NOWHERE,
                };
                // every rank looks at all tokens, so that all come to the same answer
                if nodes * TOKEN_WORDS > PAYLOAD_WORDS || token.is_nowhere() {
                    return Ok(false);
                }
                let address = match rank == self.me {
                    true => own[at / TOKEN_WORDS].1.as_mut_ptr(),
                    false => self.address_of(rank, token, len)?,
                };
                scratch.starts.push(address);
            }
        }
        Ok(true)
    }

    #[expect(unsafe_code, reason = "the fused reductions of phalanx-comm, on mapped memory")]
    fn reduce_shared(&self, kind: Kind, len: usize, scratch: &mut Scratch<'_>) {
        let Scratch { starts, firsts, merges, .. } = scratch;
        let mine = backend::share(self.me, self.size(), len, size_of::<f32>());
        match kind {
            // SAFETY: all have announced a buffer of `len` words, which their queue holds until all are done; no
            // other rank has this share
            Kind::Ranks(op, packing) => unsafe {
                backend::all_reduce_packed(&starts[..], mine, packing, op);
            },
            Kind::Tree(tree) => {
                let size = WorldSize(self.size());
                let cover = |rank: Rank| tree.cover(tree.shards_of(rank, size));
                tree.merges(size.ranks().flat_map(cover), merges);
                // SAFETY: as above
                unsafe { backend::tree_reduce(&starts[..], merges, firsts, mine) };
            }
        }
    }

    fn complete_worked(&self, local: &mut Local) {
        while let Some(op) = local.queue.ops.front_mut() {
            let is_over = !op.is_shared || self.node_board().is_none_or(|board| board.all_done(op.seq));
            if !matches!(op.stage, Stage::Worked) || !is_over {
                break;
            }
            let finished = self.family.now();
            self.flight.finish(op.seq, finished);
            let (seq, is_forgotten, held) = (op.seq, op.is_forgotten, op.held());
            local.queue.ops.pop_front();
            if !is_forgotten {
                local.queue.done.push(Done { seq, held, finished });
            }
        }
    }
}
