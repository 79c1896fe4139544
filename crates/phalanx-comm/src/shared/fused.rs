//! The fused reductions: one rank's share of the coordinates, on the buffers of all ranks, in one pass over memory.
//!
//! Thread ranks and ranks that map each other's memory run the same code, hence the same bits.

use super::simd;
use crate::arithmetic::{Arithmetic, BLOCK};
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

/// Reduces the words `mine` of all buffers, in the order given, into `sums`, in single precision whatever the packing. The
/// buffers stay as they are: this is what a node does before [`fold_sums`] joins the nodes.
///
/// # Panics
/// When `sums` has not one element for each number.
///
/// # Safety
/// Each of the buffers, at least one, holds at least `mine.end` words, and nobody writes `mine` of any.
pub unsafe fn sum_buffers(
    buffers: &(impl Addresses<f32> + ?Sized),
    mine: Range<usize>,
    packing: Packing,
    op: ReduceOp,
    sums: &mut [f32],
) {
    let mine = mine.start * packing.per_word()..mine.end * packing.per_word();
    assert_eq!(sums.len(), mine.len(), "sums of the numbers {mine:?}");
    // SAFETY: the contract is the same, in words; 16-bit floats need no more alignment than a word, and all bits are valid
    packed!(packing, T => unsafe { accumulate::<T>(&Cast(buffers), mine, op, sums) });
}

/// # Safety
/// Each of the buffers, at least one, holds at least `mine.end` elements, and nobody writes `mine` of any.
unsafe fn accumulate<T: Element + Arithmetic<Acc = f32>>(
    buffers: &impl Addresses<T>,
    mine: Range<usize>,
    op: ReduceOp,
    sums: &mut [f32],
) {
    for (block, sums) in blocks(mine).zip(sums.chunks_mut(BLOCK)) {
        // SAFETY: within the buffer, and nobody writes there (contract)
        let part = |rank: usize| unsafe {
            std::slice::from_raw_parts(buffers.start(rank).add(block.start).cast_const(), block.len())
        };
        T::load(sums, part(0));
        for rank in 1..buffers.count() {
            T::fold(sums, part(rank), op);
        }
    }
}

/// Copies `words` to the words `mine` of all buffers.
///
/// # Panics
/// When there is another number of them.
///
/// # Safety
/// Each buffer holds at least `mine.end` words, any two are apart, and nobody else touches `mine` of any.
pub unsafe fn spread(buffers: &(impl Addresses<f32> + ?Sized), mine: Range<usize>, words: &[f32]) {
    assert_eq!(words.len(), mine.len(), "words for {mine:?}");
    for rank in 0..buffers.count() {
        // SAFETY: by contract nobody else touches `mine`; each buffer is asked for once at a time
        unsafe { slice_mut(buffers.start(rank), mine.clone()) }.copy_from_slice(words);
    }
}

/// Joins what [`sum_buffers`] left on each of several nodes, in the order given, and rounds the total into the words of
/// `dst`, which hold numbers as `packing` says.
///
/// # Panics
/// When the sums of a node are fewer than the numbers.
pub fn fold_sums<'a>(
    dst: &mut [f32],
    nodes: usize,
    sums: impl Fn(usize) -> &'a [f32],
    packing: Packing,
    op: ReduceOp,
) {
    packed!(packing, T => join::<T>(bytemuck::cast_slice_mut(dst), nodes, sums, op));
}

fn join<'a, T: Element + Arithmetic<Acc = f32>>(
    dst: &mut [T],
    nodes: usize,
    sums: impl Fn(usize) -> &'a [f32],
    op: ReduceOp,
) {
    let mut total = [0.0; BLOCK];
    for block in blocks(0..dst.len()) {
        let total = &mut total[..block.len()];
        total.copy_from_slice(&sums(0)[block.clone()]);
        for node in 1..nodes {
            f32::fold(total, &sums(node)[block.clone()], op);
        }
        T::store(&mut dst[block], total);
    }
}

/// Reduces the contributions of all ranks, node by node, into the words of `dst`: the bits of [`sum_buffers`] on each node
/// and [`fold_sums`] over them, by one who has all contributions.
///
/// # Shapes
/// `nodes`: the ranks of each node, at least one. `part(rank)`: as long as `dst`.
///
/// # Panics
/// When a contribution is shorter.
pub fn fold_nodes<'a>(
    dst: &mut [f32],
    nodes: &[Vec<usize>],
    part: impl Fn(usize) -> &'a [f32],
    packing: Packing,
    op: ReduceOp,
) {
    packed!(packing, T => fold_by_node::<T>(
        bytemuck::cast_slice_mut(dst),
        nodes,
        |rank| bytemuck::cast_slice(part(rank)),
        op,
    ));
}

fn fold_by_node<'a, T: Element + Arithmetic<Acc = f32>>(
    dst: &mut [T],
    nodes: &[Vec<usize>],
    part: impl Fn(usize) -> &'a [T],
    op: ReduceOp,
) {
    let (mut total, mut sum) = ([0.0; BLOCK], [0.0; BLOCK]);
    for block in blocks(0..dst.len()) {
        let (total, sum) = (&mut total[..block.len()], &mut sum[..block.len()]);
        for (at, node) in nodes.iter().enumerate() {
            let to = if at == 0 { &mut *total } else { &mut *sum };
            for (i, rank) in node.iter().enumerate() {
                let part = &part(*rank)[block.clone()];
                match i {
                    0 => T::load(to, part),
                    _ => T::fold(to, part, op),
                }
            }
            if at > 0 {
                f32::fold(total, sum, op);
            }
        }
        T::store(&mut dst[block], total);
    }
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
    fn nodes_are_summed_by_themselves_first_and_to_the_same_bits_either_way() {
        // from the left it would be 1; node by node it is (1e8 + 1) + (-1e8 + 1) = 0
        let mut ranks = [1e8_f32, 1.0, -1e8, 1.0].map(|x| vec![x; 1000]);
        let nodes = [vec![0, 1], vec![2, 3]];
        let mut whole = vec![9.0; 1000];
        fold_nodes(&mut whole, &nodes, |rank| &ranks[rank], Packing::F32, ReduceOp::Sum);
        assert!(whole.iter().all(|x| *x == 0.0));

        let starts = ranks.each_mut().map(|rank| rank.as_mut_ptr());
        let mut sums = [vec![0.0; 600], vec![0.0; 600]];
        for (sums, node) in sums.iter_mut().zip(&nodes) {
            // SAFETY: vectors of 1000 elements that nothing else touches
            unsafe {
                sum_buffers(&starts[node[0]..=node[1]], 100..700, Packing::F32, ReduceOp::Sum, sums);
            }
        }
        let mut total = vec![9.0; 600];
        fold_sums(&mut total, 2, |node| &sums[node], Packing::F32, ReduceOp::Sum);
        assert_eq!(total, whole[100..700]);
        // SAFETY: as above
        unsafe { spread(&starts[..2], 100..700, &total) };
        assert_eq!((ranks[0][99], ranks[0][100], ranks[1][699], ranks[1][700]), (1e8, 0.0, 0.0, 1.0));
        assert_eq!(ranks[2][100], -1e8);
    }

    #[test]
    fn halves_are_rounded_once_after_the_last_node() {
        // 2048 + 1 is no f16: rounded at the end of each node, the sum would be 2048
        let word = |x: f32| vec![bytemuck::cast::<_, f32>([half::f16::from_f32(x); 2]); 3];
        let mut ranks = [2048.0, 1.0, 1.0, 1.0].map(word);
        let mut whole = vec![0.0; 3];
        let nodes = [vec![0, 1], vec![2, 3]];
        fold_nodes(&mut whole, &nodes, |rank| &ranks[rank], Packing::F16, ReduceOp::Sum);
        assert_eq!(bytemuck::cast_slice::<f32, half::f16>(&whole)[5].to_f32(), 2052.0);
        let starts = ranks.each_mut().map(|rank| rank.as_mut_ptr());
        let mut sums = [[0.0; 4]; 2];
        for (node, sums) in sums.iter_mut().enumerate() {
            // SAFETY: vectors of three words that nothing else touches
            unsafe { sum_buffers(&starts[2 * node..2 * node + 2], 1..3, Packing::F16, ReduceOp::Sum, sums) };
        }
        let mut total = vec![0.0; 2];
        fold_sums(&mut total, 2, |node| &sums[node], Packing::F16, ReduceOp::Sum);
        assert_eq!(bytemuck::cast_slice::<f32, u16>(&total), bytemuck::cast_slice::<f32, u16>(&whole[1..]));
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
