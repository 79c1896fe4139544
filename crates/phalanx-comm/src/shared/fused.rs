//! The fused reductions: one rank's share of the coordinates, on the buffers of all ranks, in one pass over memory.
//!
//! Thread ranks and ranks that map each other's memory run the same code, hence the same bits.

use super::simd;
use crate::arithmetic::BLOCK;
use crate::call::ReduceOp;
use crate::element::Element;
use crate::packing::{Packing, packed};
use std::ops::Range;

/// Where the buffer of each rank, or of each node of a tree, begins.
pub trait Addresses<T> {
    /// How many there are.
    fn count(&self) -> usize;

    /// Where buffer `index` begins.
    fn start(&self, index: usize) -> *mut T;
}

impl<T> Addresses<T> for [*mut T] {
    fn count(&self) -> usize {
        self.len()
    }

    fn start(&self, index: usize) -> *mut T {
        self[index]
    }
}

/// The coordinates that `rank` of `size` works on: whole cache lines, as even as they come.
pub fn share(rank: usize, size: usize, len: usize, element_bytes: usize) -> Range<usize> {
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
/// At `start` are at least `range.end` elements; nobody else touches `range` of them while the slice lives.
unsafe fn slice_mut<'a, T>(start: *mut T, range: Range<usize>) -> &'a mut [T] {
    // SAFETY: the contract is that of `from_raw_parts_mut`
    unsafe { std::slice::from_raw_parts_mut(start.add(range.start), range.len()) }
}

/// Reduces `mine` of all buffers, in rank order, and writes the result to all of them: no second exchange.
///
/// # Safety
/// Each buffer holds at least `mine.end` elements, any two are apart, and nobody else touches `mine` of any.
pub unsafe fn all_reduce<T: Element>(
    buffers: &(impl Addresses<T> + ?Sized),
    mine: Range<usize>,
    op: ReduceOp,
) {
    // SAFETY: by contract nobody else touches `mine`; each buffer is asked for once at a time
    let part = |rank: usize, range| unsafe { slice_mut(buffers.start(rank), range) };
    match buffers.count() {
        0 | 1 => {}
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

/// The same words, as numbers of another type.
struct Cast<'a, A: ?Sized>(&'a A);

impl<T, A: Addresses<f32> + ?Sized> Addresses<T> for Cast<'_, A> {
    fn count(&self) -> usize {
        self.0.count()
    }

    fn start(&self, index: usize) -> *mut T {
        self.0.start(index).cast()
    }
}

/// [`all_reduce`] of the words `mine` of all buffers, which hold numbers as `packing` says.
///
/// # Safety
/// Each buffer holds at least `mine.end` words, any two are apart, and nobody else touches `mine` of any.
pub unsafe fn all_reduce_packed(
    buffers: &(impl Addresses<f32> + ?Sized),
    mine: Range<usize>,
    packing: Packing,
    op: ReduceOp,
) {
    let mine = mine.start * packing.per_word()..mine.end * packing.per_word();
    // SAFETY: the contract is the same, in words; 16-bit floats need no more alignment than a word, and all bits are valid
    packed!(packing, T => unsafe { all_reduce::<T>(&Cast(buffers), mine, op) });
}

/// [`fold_ranks`] of words that hold numbers as `packing` says.
///
/// # Panics
/// When a contribution is shorter than `dst`.
pub fn fold_ranks_packed<'a>(
    dst: &mut [f32],
    size: usize,
    part: impl Fn(usize) -> &'a [f32],
    packing: Packing,
    op: ReduceOp,
) {
    packed!(packing, T => fold_ranks::<T>(
        bytemuck::cast_slice_mut(dst),
        size,
        |rank| bytemuck::cast_slice(part(rank)),
        op,
    ));
}

/// Makes the additions `merges` (see [`ShardTree::merges`](crate::ShardTree::merges)) on `mine` of all nodes, and copies
/// the total from the first node to those in `firsts`.
///
/// # Safety
/// Each node holds at least `mine.end` elements, any two are apart, and nobody else touches `mine` of any.
pub unsafe fn tree_reduce(
    nodes: &(impl Addresses<f32> + ?Sized),
    merges: &[(usize, usize)],
    firsts: &[usize],
    mine: Range<usize>,
) {
    // SAFETY: by contract nobody else touches `mine`; the two nodes of an addition are different ones
    let part = |node: usize, range| unsafe { slice_mut(nodes.start(node), range) };
    for block in blocks(mine) {
        for &(left, right) in merges {
            simd::add_assign(part(left, block.clone()), part(right, block.clone()));
        }
        for &first in firsts.iter().filter(|first| **first != 0) {
            part(first, block.clone()).copy_from_slice(part(0, block.clone()));
        }
    }
}

/// Reduces the contributions of all ranks, in the order given, into `dst`.
///
/// # Shapes
/// `part(rank)`: as long as `dst`, for ranks below `size`.
///
/// # Panics
/// When a contribution is shorter.
pub fn fold_ranks<'a, T: Element>(dst: &mut [T], size: usize, part: impl Fn(usize) -> &'a [T], op: ReduceOp) {
    let mut acc = [T::Acc::default(); BLOCK];
    for block in blocks(0..dst.len()) {
        let acc = &mut acc[..block.len()];
        T::load(acc, &part(0)[block.clone()]);
        for rank in 1..size {
            T::fold(acc, &part(rank)[block.clone()], op);
        }
        T::store(&mut dst[block], acc);
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

    #[test]
    fn a_fold_is_in_rank_order_and_the_same_as_the_fused_reduction() {
        let mut ranks = [vec![1e8_f32; 1000], vec![1.0; 1000], vec![-1e8; 1000]];
        let mut folded = vec![0.0; 1000];
        fold_ranks(&mut folded, 3, |rank| &ranks[rank], ReduceOp::Sum);
        assert!(folded.iter().all(|x| *x == (1e8 + 1.0) - 1e8));
        let starts = ranks.each_mut().map(|rank| rank.as_mut_ptr());
        // SAFETY: three vectors of 1000 elements that nothing else touches
        unsafe { all_reduce(&starts[..], 0..1000, ReduceOp::Sum) };
        assert!(ranks.iter().all(|rank| *rank == folded));
    }
}
