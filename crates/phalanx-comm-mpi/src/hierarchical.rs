//! A reduction in two levels: each rank sums its slice of the buffers of its node, where they lie; exchanges these sums with
//! the ranks of the other nodes that have the same slice; and writes the total into all buffers of its node.
//!
//! A node sends each number once, however many ranks it has. Sums between nodes travel in single precision and are rounded
//! once, at the end.

use crate::error::MpiError;
use crate::ffi::{Handle, Message, Request};
use crate::nodes::NodeMap;
use crate::segment::Token;
use crate::slices::{STEP, grow};
use phalanx_comm::backend::{fold_sums, share, spread, sum_buffers};
use phalanx_comm::{Packing, ReduceOp};
use std::ops::Range;

/// What is reduced, and how.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Job {
    pub(crate) packing: Packing,
    pub(crate) op: ReduceOp,
    /// Words of a buffer.
    pub(crate) len: usize,
    /// That of its messages.
    pub(crate) tag: i32,
}

/// A reduction that was started: chunk after chunk of this rank's slice. While the total of a chunk travels to all nodes, the sums
/// of the next travel to those that join them.
#[derive(Debug)]
pub(crate) struct Hierarchical {
    job: Job,
    /// Where the buffers of this node's ranks are, in their order.
    pub(crate) tokens: Vec<Token>,
    column: Option<Handle>,
    nodes: usize,
    node: usize,
    /// The words that this rank sees to.
    slice: Range<usize>,
    /// The chunks whose totals and whose sums are on their way.
    joined: Range<usize>,
    gathered: Range<usize>,
    /// Owns the memory while MPI uses it; `None` between two stages.
    flight: Option<Request<Room>>,
    /// The memory between two stages.
    room: Room,
}

/// What messages under way use, all of it on the heap, and one reduction leaves to the next.
#[derive(Debug, Default)]
pub(crate) struct Room {
    /// Of this node: for the whole chunk.
    sums: Vec<f32>,
    /// Of all nodes but this: for this rank's part of the chunk.
    copies: Vec<f32>,
    /// Totals, in words.
    words: Vec<f32>,
    messages: Vec<Planned>,
}

/// A message of a stage: where its numbers are.
#[derive(Clone, Debug)]
struct Planned {
    node: usize,
    place: Place,
    range: Range<usize>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Place {
    /// Sent: the sums that another joins.
    Sums,
    /// Sent: this rank's part of the total.
    Total,
    /// Received: what this rank joins.
    Copies,
    /// Received: a part of the total.
    Words,
}

impl Room {
    fn message(&mut self, i: usize) -> Message<'_> {
        let Planned { node, place, range } = self.messages[i].clone();
        match place {
            Place::Sums => Message::To(node, bytemuck::cast_slice(&self.sums[range])),
            Place::Total => Message::To(node, bytemuck::cast_slice(&self.words[range])),
            Place::Copies => Message::From(node, bytemuck::cast_slice_mut(&mut self.copies[range])),
            Place::Words => Message::From(node, bytemuck::cast_slice_mut(&mut self.words[range])),
        }
    }

    fn plan(&mut self, node: usize, place: Place, range: Range<usize>) {
        if !range.is_empty() {
            self.messages.push(Planned { node, place, range });
        }
    }
}

impl Hierarchical {
    pub(crate) fn new(
        job: Job,
        tokens: Vec<Token>,
        map: &NodeMap,
        column: Option<Handle>,
        room: Room,
    ) -> Self {
        let slice = match column {
            Some(_) => share(map.place, map.slices(), job.len, size_of::<f32>()),
            None => 0..0,
        };
        Self {
            job,
            tokens,
            column,
            nodes: map.nodes.len(),
            node: map.node,
            joined: slice.start..slice.start,
            gathered: slice.start..slice.start,
            slice,
            flight: None,
            room,
        }
    }

    /// The memory of a reduction that is over.
    pub(crate) fn into_room(self) -> Room {
        self.room
    }

    /// Whether [`step`](Self::step) has something to do; advances MPI.
    pub(crate) fn is_due(&mut self) -> Result<bool, MpiError> {
        self.flight.as_mut().map_or(Ok(true), Request::test)
    }

    /// Does what is [due](Self::is_due); whether this rank's slice is done.
    ///
    /// # Safety
    /// `buffers` are those of all ranks of this node, in their order, of `len` words each; nobody touches this rank's slice of
    /// them before it is done.
    #[expect(unsafe_code, reason = "the fused reductions of phalanx-comm, on mapped memory")]
    pub(crate) unsafe fn step(&mut self, buffers: &[*mut f32]) -> Result<bool, MpiError> {
        let done = self.flight.take().and_then(Request::take);
        let mut room = done.unwrap_or_else(|| std::mem::take(&mut self.room));
        let Some(column) = self.column else { return Ok(true) };
        if !self.joined.is_empty() {
            // SAFETY: this rank's slice of the buffers (contract)
            unsafe { spread(buffers, self.joined.clone(), &room.words[..self.joined.len()]) };
        }
        self.joined = self.gathered.clone();
        self.join(&mut room);
        let start = self.gathered.end;
        self.gathered = start..(start + STEP).min(self.slice.end);
        if self.joined.is_empty() && self.gathered.is_empty() {
            self.room = room;
            return Ok(true);
        }
        let Job { packing, op, .. } = self.job;
        let numbers = self.gathered.len() * packing.per_word();
        grow(&mut room.sums, numbers);
        // SAFETY: as above
        unsafe { sum_buffers(buffers, self.gathered.clone(), packing, op, &mut room.sums[..numbers]) };
        self.send(room, column)?;
        Ok(false)
    }

    /// The words of a chunk of `len`, or the numbers in them, that the rank on `node` joins.
    fn part(&self, node: usize, len: usize) -> Range<usize> {
        share(node, self.nodes, len, size_of::<f32>())
    }

    fn numbers(&self, node: usize, len: usize) -> Range<usize> {
        let words = self.part(node, len);
        words.start * self.job.packing.per_word()..words.end * self.job.packing.per_word()
    }

    /// Sends the total of the chunk that is joined to all nodes, and each node the sums of the next chunk that it joins.
    fn send(&mut self, mut room: Room, column: Handle) -> Result<(), MpiError> {
        room.messages.clear();
        let (joined, gathered) = (self.joined.len(), self.gathered.len());
        let own = self.numbers(self.node, gathered).len();
        grow(&mut room.copies, own * self.nodes);
        for node in (0..self.nodes).filter(|node| *node != self.node) {
            room.plan(node, Place::Words, self.part(node, joined));
            room.plan(node, Place::Total, self.part(self.node, joined));
            room.plan(node, Place::Copies, node * own..(node + 1) * own);
            room.plan(node, Place::Sums, self.numbers(node, gathered));
        }
        let messages = room.messages.len();
        self.flight = Some(column.start_messages(room, self.job.tag, messages, Room::message)?);
        Ok(())
    }

    /// Joins the sums of all nodes that have arrived.
    fn join(&self, room: &mut Room) {
        let Job { packing, op, .. } = self.job;
        let (own, numbers) =
            (self.part(self.node, self.joined.len()), self.numbers(self.node, self.joined.len()));
        let n = numbers.len();
        grow(&mut room.words, self.joined.len());
        let (copies, sums) = (&room.copies, &room.sums[numbers]);
        let part = |node| if node == self.node { sums } else { &copies[node * n..(node + 1) * n] };
        fold_sums(&mut room.words[own], self.nodes, part, packing, op);
    }
}
