//! Reductions between all ranks: each receives its slice of all buffers, reduces it, and all gather the result. As many
//! bytes travel as by a ring.

use crate::error::MpiError;
use crate::ffi::{Exchange, Handle, Layout, Placed, Request};
use phalanx_comm::backend::{fold_nodes, fold_ranks, share};
use phalanx_comm::{Element, Packing, Rank, ReduceOp, ShardTree, TreeNodes, WorldSize};
use std::ops::Range;

/// Elements that are reduced at a time: long buffers in one call are slower, and a call counts in 32 bits.
pub(crate) const CHUNK: usize = 1 << 20;

/// How one chunk is cut between ranks.
#[derive(Debug)]
struct Cut {
    /// The slice of this rank.
    mine: Range<usize>,
    /// The slices of all ranks.
    slices: Layout,
    /// This rank's slice, once for each buffer that is sent to it.
    copies: Layout,
}

impl Cut {
    /// Of `len` elements; rank `r` has `nodes(r)` buffers.
    fn new(
        me: usize,
        size: usize,
        len: usize,
        bytes: usize,
        nodes: impl Fn(usize) -> usize,
    ) -> Result<Self, MpiError> {
        let of = |rank: usize| share(rank, size, len, bytes);
        let mine = of(me);
        let slices = Layout::of((0..size).map(|rank| of(rank).len() * nodes(me)));
        let copies = Layout::of((0..size).map(|rank| mine.len() * nodes(rank)));
        let too_long = || MpiError::Memory {
            what: "a chunk for one call of MPI",
            bytes: len * bytes,
            source: std::io::ErrorKind::InvalidInput.into(),
        };
        Ok(Self { mine, slices: slices.ok_or_else(too_long)?, copies: copies.ok_or_else(too_long)? })
    }
}

/// Sums `buf` over all ranks, in rank order, and returns when it is done.
pub(crate) fn all_reduce<T: Element>(
    Among { data, me, size, .. }: Among<'_>,
    buf: &mut [T],
    op: ReduceOp,
    scratch: &mut Vec<u64>,
) -> Result<(), MpiError> {
    let bytes = size_of::<T>();
    for chunk in buf.chunks_mut(CHUNK) {
        let cut = Cut::new(me, size, chunk.len(), bytes, |_| 1)?;
        let copies = place::<T>(scratch, cut.copies.len());
        data.all_to_all(&Exchange {
            send: Placed::of(bytemuck::cast_slice(chunk), &cut.slices, bytes),
            recv: Placed::of_mut(bytemuck::cast_slice_mut(copies), &cut.copies, bytes),
            unit: bytes,
        })?;
        let n = cut.mine.len();
        fold_ranks(&mut chunk[cut.mine.clone()], size, |rank| &copies[rank * n..(rank + 1) * n], op);
        data.all_gather_in_place(
            &Placed::of_mut(bytemuck::cast_slice_mut(chunk), &cut.slices, bytes),
            bytes,
        )?;
    }
    Ok(())
}

/// The first `len` elements of scratch memory, which grows to them.
pub(crate) fn place<T: Element>(scratch: &mut Vec<u64>, len: usize) -> &mut [T] {
    let words = (len * size_of::<T>()).div_ceil(8);
    if scratch.len() < words {
        scratch.resize(words, 0);
    }
    &mut bytemuck::cast_slice_mut(scratch)[..len]
}

/// A reduction that was started: chunk after chunk, by calls that advance when they are looked at.
#[derive(Debug)]
pub(crate) struct Moving {
    kind: Kind,
    /// The chunk that is under way.
    chunk: Range<usize>,
    /// Whether results are on their way to all, and no longer slices to those that reduce them.
    is_spreading: bool,
    /// Owns the memory while MPI uses it; `None` between two calls.
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

/// What calls under way use; all of it on the heap.
#[derive(Debug)]
struct Kept {
    nodes: TreeNodes,
    cut: Cut,
    packed: Vec<f32>,
    copies: Vec<f32>,
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
    pub(crate) fn start(kind: Kind, nodes: TreeNodes, among: Among<'_>) -> Result<Self, MpiError> {
        let mut moving = Self { kind, chunk: 0..0, is_spreading: true, flight: None };
        let empty = Cut { mine: 0..0, slices: Layout::default(), copies: Layout::default() };
        moving.next_chunk(Kept { nodes, cut: empty, packed: Vec::new(), copies: Vec::new() }, among)?;
        Ok(moving)
    }

    /// Does what is due without waiting; the nodes once all is done, the total in the first of them.
    pub(crate) fn advance(&mut self, among: Among<'_>) -> Result<Option<TreeNodes>, MpiError> {
        while let Some(flight) = &mut self.flight {
            if !flight.test()? {
                break;
            }
            let Some(kept) = self.flight.take().and_then(Request::take) else { break };
            if !self.is_spreading {
                self.spread(kept, among)?;
            } else if self.chunk.end < len(&kept.nodes) {
                self.next_chunk(kept, among)?;
            } else {
                return Ok(Some(kept.nodes));
            }
        }
        Ok(None)
    }

    /// Sends slices of the next chunk to the ranks that reduce them.
    fn next_chunk(&mut self, mut kept: Kept, among: Among<'_>) -> Result<(), MpiError> {
        let Among { data, me, size, .. } = among;
        let start = self.chunk.end;
        let chunk = start..(start + CHUNK).min(len(&kept.nodes));
        kept.cut = Cut::new(me, size, chunk.len(), size_of::<f32>(), |rank| self.kind.nodes(rank, size))?;
        kept.copies.resize(kept.cut.copies.len(), 0.0);
        kept.packed.clear();
        if kept.nodes.len() > 1 {
            for rank in 0..size {
                let slice = share(rank, size, chunk.len(), size_of::<f32>());
                for (_, node) in &kept.nodes {
                    kept.packed.extend_from_slice(&node[chunk.clone()][slice.clone()]);
                }
            }
        }
        (self.is_spreading, self.chunk) = (false, chunk.clone());
        self.flight = Some(data.start_all_to_all(kept, move |kept| {
            let unit = size_of::<f32>();
            let send = match &kept.nodes[..] {
                [(_, only)] => &only[chunk],
                _ => &kept.packed[..],
            };
            Exchange {
                send: Placed::of(bytemuck::cast_slice(send), &kept.cut.slices, unit),
                recv: Placed::of_mut(bytemuck::cast_slice_mut(&mut kept.copies), &kept.cut.copies, unit),
                unit,
            }
        })?);
        Ok(())
    }

    /// Reduces this rank's slice and sends it to all.
    fn spread(&mut self, mut kept: Kept, among: Among<'_>) -> Result<(), MpiError> {
        let Among { data, size, nodes, .. } = among;
        let (mine, n) = (kept.cut.mine.clone(), kept.cut.mine.len());
        let total = &mut kept.nodes[0].1[self.chunk.clone()][mine];
        match self.kind {
            Kind::Ranks(op, packing) => {
                fold_nodes(total, nodes, |rank| &kept.copies[rank * n..(rank + 1) * n], packing, op);
            }
            Kind::Tree(tree) => {
                fold_tree(tree, size, n, &mut kept.copies);
                total.copy_from_slice(&kept.copies[..n]);
            }
        }
        let whole = |rank: usize| share(rank, size, self.chunk.len(), size_of::<f32>()).len();
        if let Some(slices) = Layout::of((0..size).map(whole)) {
            kept.cut.slices = slices;
        }
        self.is_spreading = true;
        let chunk = self.chunk.clone();
        self.flight = Some(data.start_all_gather_in_place(kept, size_of::<f32>(), move |kept| {
            let buf = bytemuck::cast_slice_mut(&mut kept.nodes[0].1[chunk]);
            Placed::of_mut(buf, &kept.cut.slices, size_of::<f32>())
        })?);
        Ok(())
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
