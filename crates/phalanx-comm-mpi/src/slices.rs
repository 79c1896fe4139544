//! Reductions between all ranks: each receives its slice of all buffers, reduces it, and all gather the result. As many
//! bytes travel as by a ring.

use crate::error::MpiError;
use crate::ffi::{Handle, Message, Request};
use phalanx_comm::backend::{fold_nodes, share};
use phalanx_comm::{Packing, Rank, ReduceOp, ShardTree, TreeNodes, WorldSize};
use std::ops::Range;

/// Elements of a chunk of a started reduction: 1 MiB, of which a half stays in a second-level cache until it is reduced.
pub(crate) const STEP: usize = 1 << 18;

/// Elements of a buffer that two ranks send to each other as a whole: one stage instead of two. Shorter ones are sent in halves
/// that need no handshake (of Open MPI over TCP), longer ones cost more to reduce twice than a stage takes.
const WHOLE: Range<usize> = 16 * 1024 + 1..64 * 1024 + 1;

/// Elements of a rank's own slice that are put aside while the total takes their place: a part of a first-level cache.
const OWN: usize = 2048;

/// A reduction that was started: chunk after chunk, by messages that advance when they are looked at.
///
/// While the total of a chunk travels to all ranks, the slices of the next travel to those that reduce them.
#[derive(Debug)]
pub(crate) struct Moving {
    kind: Kind,
    /// That of its messages.
    tag: i32,
    /// Whether each of two ranks gets the whole buffer of the other and reduces it: as many bytes, in one stage instead of two.
    is_whole: bool,
    /// The chunk whose slices are on their way.
    gathered: Range<usize>,
    /// Owns the memory while MPI uses it; `None` between two stages.
    flight: Option<Request<Kept>>,
}

/// What is reduced.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    /// One buffer a rank, node by node.
    Ranks(ReduceOp, Packing),
    /// The nodes of a tree, in its order.
    Tree(ShardTree),
}

impl Kind {
    /// Buffers of `rank`.
    pub(crate) fn nodes(self, rank: usize, size: usize) -> usize {
        match self {
            Self::Ranks(..) => 1,
            Self::Tree(tree) => tree.cover(tree.shards_of(Rank(rank), WorldSize(size))).count(),
        }
    }
}

/// What messages under way use; all of it on the heap.
#[derive(Debug)]
struct Kept {
    nodes: TreeNodes,
    room: Room,
}

/// Memory that one reduction leaves to the next: new memory costs more than what is done in it.
#[derive(Debug, Default)]
pub(crate) struct Room {
    /// Slices for the others, where a rank has several nodes.
    packed: Vec<f32>,
    /// What arrives: this rank's slice of all nodes of all ranks, in their order.
    copies: Vec<f32>,
    messages: Vec<Planned>,
}

/// A message of a stage: where its numbers are.
#[derive(Clone, Debug)]
struct Planned {
    rank: usize,
    place: Place,
    range: Range<usize>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Place {
    /// Sent from the first node.
    Node,
    /// Sent from the packed slices.
    Packed,
    /// Received among the copies.
    Copies,
    /// Received into the first node.
    Total,
}

impl Kept {
    fn message(&mut self, i: usize) -> Message<'_> {
        let Self { nodes, room } = self;
        let Planned { rank, place, range } = room.messages[i].clone();
        match place {
            Place::Node => Message::To(rank, bytemuck::cast_slice(&nodes[0].1[range])),
            Place::Packed => Message::To(rank, bytemuck::cast_slice(&room.packed[range])),
            Place::Copies => Message::From(rank, bytemuck::cast_slice_mut(&mut room.copies[range])),
            Place::Total => Message::From(rank, bytemuck::cast_slice_mut(&mut nodes[0].1[range])),
        }
    }
}

impl Room {
    fn plan(&mut self, rank: usize, place: Place, range: Range<usize>) {
        if !range.is_empty() {
            self.messages.push(Planned { rank, place, range });
        }
    }
}

/// Where a reduction takes place.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Among<'a> {
    pub(crate) data: Handle,
    pub(crate) me: usize,
    pub(crate) size: usize,
    /// The ranks of each node, which started reductions sum first.
    pub(crate) nodes: &'a [Vec<usize>],
}

impl Moving {
    /// Starts with `nodes`, at least one, of one length.
    pub(crate) fn start(
        kind: Kind,
        tag: i32,
        nodes: TreeNodes,
        room: Room,
        among: Among<'_>,
    ) -> Result<Self, MpiError> {
        let is_whole = among.size == 2 && matches!(kind, Kind::Ranks(..)) && WHOLE.contains(&len(&nodes));
        let mut moving = Self { kind, tag, is_whole, gathered: 0..0, flight: None };
        moving.next_stage(Kept { nodes, room }, 0..0, among)?;
        Ok(moving)
    }

    /// Does what is due without waiting; the nodes once all is done, the total in the first of them, and the memory.
    pub(crate) fn advance(&mut self, among: Among<'_>) -> Result<Option<(TreeNodes, Room)>, MpiError> {
        while let Some(flight) = &mut self.flight {
            if !flight.test()? {
                break;
            }
            let Some(mut kept) = self.flight.take().and_then(Request::take) else { break };
            let chunk = self.gathered.clone();
            if chunk.is_empty() {
                return Ok(Some((kept.nodes, kept.room)));
            }
            self.reduce(&mut kept, among);
            if self.is_whole {
                return Ok(Some((kept.nodes, kept.room)));
            }
            self.next_stage(kept, chunk, among)?;
        }
        Ok(None)
    }

    /// Sends this rank's total of `reduced` to all, and slices of the chunk behind it to those that reduce them.
    fn next_stage(
        &mut self,
        mut kept: Kept,
        reduced: Range<usize>,
        among: Among<'_>,
    ) -> Result<(), MpiError> {
        let Among { data, me, size, .. } = among;
        let Kept { nodes, room } = &mut kept;
        room.messages.clear();
        let others = || (0..size).filter(|rank| *rank != me);
        for rank in others() {
            room.plan(rank, Place::Total, self.slice(rank, size, &reduced));
            room.plan(rank, Place::Node, self.slice(me, size, &reduced));
        }
        let start = self.gathered.end;
        let chunk = start..(start + STEP).min(len(nodes));
        let mine = self.slice(me, size, &chunk);
        let copies: usize = (0..size).map(|rank| self.kind.nodes(rank, size) * mine.len()).sum();
        grow(&mut room.copies, copies);
        let mut at = 0;
        for rank in 0..size {
            let end = at + self.kind.nodes(rank, size) * mine.len();
            if rank != me {
                room.plan(rank, Place::Copies, at..end);
            } else if let Kind::Tree(_) = self.kind {
                // its nodes are overwritten by the total
                for ((_, node), to) in nodes.iter().zip(room.copies[at..end].chunks_mut(mine.len().max(1))) {
                    to.copy_from_slice(&node[mine.clone()]);
                }
            }
            at = end;
        }
        room.packed.clear();
        for rank in others() {
            let theirs = self.slice(rank, size, &chunk);
            if nodes.len() == 1 {
                room.plan(rank, Place::Node, theirs);
                continue;
            }
            let start = room.packed.len();
            for (_, node) in &*nodes {
                room.packed.extend_from_slice(&node[theirs.clone()]);
            }
            room.plan(rank, Place::Packed, start..room.packed.len());
        }
        self.gathered = chunk;
        let messages = room.messages.len();
        self.flight = Some(data.start_messages(kept, self.tag, messages, Kept::message)?);
        Ok(())
    }

    /// The part of `chunk` that `rank` reduces.
    fn slice(&self, rank: usize, size: usize, chunk: &Range<usize>) -> Range<usize> {
        if self.is_whole {
            return chunk.clone();
        }
        let part = share(rank, size, chunk.len(), size_of::<f32>());
        chunk.start + part.start..chunk.start + part.end
    }

    /// Reduces this rank's slice of the chunk that has arrived, where its first node has it.
    fn reduce(&self, kept: &mut Kept, among: Among<'_>) {
        let Among { me, size, nodes, .. } = among;
        let mine = self.slice(me, size, &self.gathered);
        let (n, copies) = (mine.len(), &mut kept.room.copies);
        let total = &mut kept.nodes[0].1[mine];
        match self.kind {
            Kind::Ranks(op, packing) => {
                let mut own = [0.0; OWN];
                for (start, total) in (0..n).step_by(OWN).zip(total.chunks_mut(OWN)) {
                    let own = &mut own[..total.len()];
                    own.copy_from_slice(total);
                    let part = |rank: usize| match rank == me {
                        true => &own[..],
                        false => &copies[rank * n..(rank + 1) * n][start..start + own.len()],
                    };
                    fold_nodes(total, nodes, part, packing, op);
                }
            }
            Kind::Tree(tree) => {
                fold_tree(tree, size, n, copies);
                total.copy_from_slice(&copies[..n]);
            }
        }
    }
}

/// Makes room for `len` elements; what is there stays, whatever it is.
pub(crate) fn grow(buf: &mut Vec<f32>, len: usize) {
    if buf.len() < len {
        buf.resize(len, 0.0);
    }
}

fn len(nodes: &TreeNodes) -> usize {
    nodes.first().map_or(0, |(_, region)| region.len())
}

/// Sums the nodes of all ranks, `n` elements each, in the order of `tree`, into the first.
fn fold_tree(tree: ShardTree, size: usize, n: usize, nodes: &mut [f32]) {
    let cover = |rank: Rank| tree.cover(tree.shards_of(rank, WorldSize(size)));
    let mut merges = Vec::new();
    tree.merges(WorldSize(size).ranks().flat_map(cover), &mut merges);
    for (left, right) in merges {
        // a merge adds a later node to an earlier one
        let (front, back) = nodes.split_at_mut(right * n);
        front[left * n..(left + 1) * n].iter_mut().zip(&back[..n]).for_each(|(a, b)| *a += b);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slices_of_a_tree_are_folded_as_the_tree_says() {
        for (shards, size) in [(4, 2), (7, 3), (5, 5)] {
            let tree = ShardTree::new(shards);
            let leaf = |shard: usize| vec![(shard as f32 * 1.7).exp(), 1.0 / (shard + 1) as f32];
            let leaves: Vec<_> = (0..shards).map(leaf).collect();
            // each node of each rank is the tree's own sum of its shards
            let mut nodes = Vec::new();
            for rank in WorldSize(size).ranks() {
                for node in tree.cover(tree.shards_of(rank, WorldSize(size))) {
                    nodes.extend(
                        ShardTree::new(node.end() - node.start()).fold(&leaves[node.start()..node.end()]),
                    );
                }
            }
            fold_tree(tree, size, 2, &mut nodes);
            assert_eq!(nodes[..2], tree.fold(&leaves));
        }
    }
}
