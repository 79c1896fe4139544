//! What a rank does inside a collective: its share of the coordinates, on the buffers of all ranks.
//!
//! # Safety
//! All functions here follow the addresses in a [`View`], which exists only where all ranks have posted the same call
//! and none has taken its parts back. Each says which elements it touches; they are disjoint between ranks.

use super::fused::{self, Addresses};
use super::post::View;
use super::region::Region;
use super::slot::Part;
use crate::call::{OpKind, ReduceOp};
use crate::element::Element;
use crate::error::CommError;
use crate::tree::{NodeId, ShardTree};
use std::ops::Range;

/// One of the parts of each rank.
struct PartsOf<'a>(&'a View<'a>);

impl<T> Addresses<T> for PartsOf<'_> {
    fn count(&self) -> usize {
        self.0.size()
    }

    fn start(&self, rank: usize) -> *mut T {
        self.0.parts(rank)[0].start.cast()
    }
}

impl Addresses<f32> for [(NodeId, Part)] {
    fn count(&self) -> usize {
        self.len()
    }

    fn start(&self, node: usize) -> *mut f32 {
        self[node].1.start.cast()
    }
}

/// # Safety
/// `part` holds at least `range.end` elements of `T`; nobody writes to `range` of them while the slice lives.
unsafe fn slice<'a, T>(part: Part, range: Range<usize>) -> &'a [T] {
    // SAFETY: the contract is that of `from_raw_parts`
    unsafe { std::slice::from_raw_parts(part.start.cast::<T>().add(range.start), range.len()) }
}

/// Reduces this rank's share of all buffers and writes the result to all of them: one pass, no second exchange.
///
/// # Safety
/// Part 0 of each rank is its buffer of `len` elements of `T`. Touches `share(me, ..)` of each.
pub(super) unsafe fn all_reduce<T: Element>(view: &View<'_>, me: usize, len: usize, op: ReduceOp) {
    // SAFETY: each rank's buffer is its own, and has `len` elements; nobody else has this share
    unsafe { fused::all_reduce::<T>(&PartsOf(view), fused::share(me, view.size(), len, size_of::<T>()), op) };
}

/// Reduces the segment of this rank into `recv`.
///
/// # Safety
/// Part 0 of each rank is its send buffer, which holds `offset + recv.len()` elements of `T` or more. Reads them only.
pub(super) unsafe fn reduce_scatter<T: Element>(
    view: &View<'_>,
    offset: usize,
    recv: &mut [T],
    op: ReduceOp,
) {
    let sent = offset..offset + recv.len();
    // SAFETY: within the send buffers (contract), which nobody writes during this collective
    let part = |rank: usize| unsafe { slice::<T>(view.parts(rank)[0], sent.clone()) };
    fused::fold_ranks(recv, view.size(), part, op);
}

/// Copies every rank's contribution into `recv`, in rank order.
///
/// # Safety
/// Part 0 of each rank is its send buffer of `counts[rank]` elements of `T`. Reads them only.
pub(super) unsafe fn all_gather<T: Element>(view: &View<'_>, counts: &[usize], recv: &mut [T]) {
    let mut rest = recv;
    for (rank, &count) in counts.iter().enumerate() {
        let (dst, tail) = rest.split_at_mut(count);
        // SAFETY: within the send buffers (contract), which nobody writes during this collective
        dst.copy_from_slice(unsafe { slice::<T>(view.parts(rank)[0], 0..count) });
        rest = tail;
    }
}

/// Copies what each rank has for this one into `recv`, in rank order.
///
/// # Safety
/// Parts of each rank: its send buffer of `T`, its send counts and its receive counts, one a rank; the send counts add
/// up to the length of the buffer. Reads them only.
pub(super) unsafe fn all_to_all<T: Element>(
    view: &View<'_>,
    me: usize,
    recv: &mut [T],
) -> Result<(), CommError> {
    let size = view.size();
    // SAFETY: parts 1 and 2 hold one count a rank (contract), and nobody writes them
    let counts = |rank: usize, part: usize| unsafe { slice::<usize>(view.parts(rank)[part], 0..size) };
    // every rank checks all pairs, so that all of them see the same error
    for from in 0..size {
        for to in 0..size {
            let (sent, expected) = (counts(from, 1)[to], counts(to, 2)[from]);
            if sent != expected {
                let (from, to) = (view.world_rank(from), view.world_rank(to));
                return Err(CommError::Counts { op: OpKind::AllToAll, from, to, sent, expected });
            }
        }
    }
    let mut rest = recv;
    for rank in 0..size {
        let sent = counts(rank, 1);
        let offset: usize = sent[..me].iter().sum();
        let (dst, tail) = rest.split_at_mut(sent[me]);
        // SAFETY: within the send buffer, as its counts add up to its length (contract); nobody writes it
        dst.copy_from_slice(unsafe { slice::<T>(view.parts(rank)[0], offset..offset + dst.len()) });
        rest = tail;
    }
    Ok(())
}

/// A copy of the bytes that `rank` passed.
///
/// # Safety
/// Part 0 of `rank` is a slice of bytes. Reads it only.
pub(super) unsafe fn bytes<'a>(view: &'a View<'_>, rank: usize) -> &'a [u8] {
    let part = view.parts(rank)[0];
    // SAFETY: the whole of the slice (contract), which nobody writes during this collective
    unsafe { slice::<u8>(part, 0..part.len) }
}

/// Buffers of a tree reduction, kept between calls so that none allocates.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    nodes: Vec<(NodeId, Part)>,
    firsts: Vec<usize>,
    merges: Vec<(usize, usize)>,
}

/// Sums this rank's share of all nodes in the order of `tree` and writes the total to the first node of each rank.
///
/// # Safety
/// Part 0 of each rank is its `[(NodeId, Region<f32>)]`, at least one, together the leaves' cover of `tree` in order,
/// each region of `len` elements. Touches `share(me, ..)` of each region.
pub(super) unsafe fn tree_reduce(
    view: &View<'_>,
    me: usize,
    len: usize,
    tree: ShardTree,
    scratch: &mut Scratch,
) {
    scratch.nodes.clear();
    scratch.firsts.clear();
    for rank in 0..view.size() {
        let part = view.parts(rank)[0];
        scratch.firsts.push(scratch.nodes.len());
        // SAFETY: the list of nodes (contract): read only, and only the regions' memory is written
        let nodes = unsafe { slice::<(NodeId, Region<f32>)>(part, 0..part.len) };
        scratch.nodes.extend(
            nodes.iter().map(|(id, region)| (*id, Part { start: region.raw().cast(), len: region.len() })),
        );
    }
    tree.merges(scratch.nodes.iter().map(|(id, _)| *id), &mut scratch.merges);

    let mine = fused::share(me, view.size(), len, size_of::<f32>());
    // SAFETY: each node is another region of `len` floats; nobody else has this share
    unsafe { fused::tree_reduce(&scratch.nodes[..], &scratch.merges, &scratch.firsts, mine) };
}
