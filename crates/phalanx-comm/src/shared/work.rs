//! What a rank does inside a collective: its share of the coordinates, on the buffers of all ranks.
//!
//! # Safety
//! All functions here follow the addresses in a [`View`], which exists only where all ranks have posted the same call
//! and none has taken its parts back. Each says which elements it touches; they are disjoint between ranks.

use super::post::View;
use super::region::Region;
use super::simd;
use super::slot::Part;
use crate::arithmetic::BLOCK;
use crate::call::{OpKind, ReduceOp};
use crate::element::Element;
use crate::error::CommError;
use crate::tree::{NodeId, ShardTree};
use std::ops::Range;

/// The coordinates that `rank` of `size` works on: whole cache lines, as even as they come.
pub(crate) fn share(rank: usize, size: usize, len: usize, element_bytes: usize) -> Range<usize> {
    let per_line = (64 / element_bytes).max(1);
    let lines = len.div_ceil(per_line);
    let cut = |rank: usize| (lines * rank / size * per_line).min(len);
    cut(rank)..cut(rank + 1)
}

/// Consecutive pieces of `range`, small enough for the first-level cache.
fn blocks(range: Range<usize>) -> impl Iterator<Item = Range<usize>> {
    let end = range.end;
    range.step_by(BLOCK).map(move |start| start..(start + BLOCK).min(end))
}

/// # Safety
/// `part` holds at least `range.end` elements of `T`; nobody else touches `range` of them while the slice lives.
unsafe fn slice_mut<'a, T>(part: Part, range: Range<usize>) -> &'a mut [T] {
    // SAFETY: the contract is that of `from_raw_parts_mut`
    unsafe { std::slice::from_raw_parts_mut(part.start.cast::<T>().add(range.start), range.len()) }
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
    let mine = share(me, view.size(), len, size_of::<T>());
    // SAFETY: `mine` is within `len`, and no other rank's share; each rank's buffer is its own
    let part = |rank: usize, range| unsafe { slice_mut::<T>(view.parts(rank)[0], range) };
    match view.size() {
        1 => {}
        2 => simd::pair(part(0, mine.clone()), part(1, mine), op),
        4 => simd::quad([0, 1, 2, 3].map(|rank| part(rank, mine.clone())), op),
        size => {
            let mut acc = [T::Acc::default(); BLOCK];
            for block in blocks(mine) {
                let acc = &mut acc[..block.len()];
                T::load(acc, part(0, block.clone()));
                for rank in 1..size {
                    T::fold(acc, part(rank, block.clone()), op);
                }
                for rank in 0..size {
                    T::store(part(rank, block.clone()), acc);
                }
            }
        }
    }
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
    let mut acc = [T::Acc::default(); BLOCK];
    for block in blocks(0..recv.len()) {
        let acc = &mut acc[..block.len()];
        let sent = offset + block.start..offset + block.end;
        // SAFETY: within the send buffers (contract), which nobody writes during this collective
        let part = |rank: usize| unsafe { slice::<T>(view.parts(rank)[0], sent.clone()) };
        T::load(acc, part(0));
        for rank in 1..view.size() {
            T::fold(acc, part(rank), op);
        }
        T::store(&mut recv[block], acc);
    }
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

    let mine = share(me, view.size(), len, size_of::<f32>());
    // SAFETY: `mine` is within `len` and no other rank's share; each node is another region
    let part = |node: usize, range| unsafe { slice_mut::<f32>(scratch.nodes[node].1, range) };
    for block in blocks(mine) {
        for &(left, right) in &scratch.merges {
            simd::add_assign(part(left, block.clone()), part(right, block.clone()));
        }
        for &first in &scratch.firsts[1..] {
            part(first, block.clone()).copy_from_slice(part(0, block.clone()));
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn shares_are_disjoint_whole_lines_that_cover_everything() {
        for (size, len, bytes) in [(1, 5, 4), (2, 100, 4), (3, 0, 8), (3, 33, 8), (7, 1000, 2), (5, 3, 4)] {
            let shares: Vec<_> = (0..size).map(|rank| share(rank, size, len, bytes)).collect();
            assert_eq!((shares[0].start, shares[size - 1].end), (0, len));
            for pair in shares.windows(2) {
                assert_eq!(pair[0].end, pair[1].start);
                assert!(pair[0].end == len || pair[0].end * bytes % 64 == 0, "{shares:?}");
            }
        }
    }
}
