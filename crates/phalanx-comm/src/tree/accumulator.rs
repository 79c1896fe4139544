//! Sums the shards of one rank as they arrive, with as few buffers as the tree is deep.

use super::{NodeId, ShardTree, Stack};
use crate::arithmetic::add_assign;
use crate::shared::Region;
use std::ops::Range;

/// Folds the gradients of consecutive shards into the nodes that cover them, in the order of the tree.
///
/// Each shard's gradient is written into a [`Region`] and pushed; pairs of siblings are summed in place, into the
/// left one, and the right one is free for a later shard ([`spare`](Self::spare)). At most `log2(S) + 1` regions are held.
///
/// # Examples
/// ```
/// use phalanx_comm::{Rank, Region, ShardTree, TreeAccumulator, WorldSize};
///
/// let tree = ShardTree::new(8);
/// let shards = tree.shards_of(Rank(0), WorldSize(2)); // 0..4, one node
/// let mut sum = TreeAccumulator::new(tree, shards.clone());
/// for shard in shards {
///     let mut leaf = sum.spare().unwrap_or_else(|| Region::zeroed(2));
///     leaf.fill(shard as f32);
///     sum.push(leaf);
/// }
/// let nodes = sum.finish();
/// assert_eq!(nodes.len(), 1);
/// assert_eq!(&*nodes[0].1, [6.0, 6.0]);
/// ```
#[derive(Debug)]
pub struct TreeAccumulator {
    shards: Range<usize>,
    next: usize,
    stack: Stack<Region<f32>>,
    spares: Vec<Region<f32>>,
}

impl TreeAccumulator {
    /// For the given shards of a tree: those of one rank, from [`ShardTree::shards_of`].
    pub const fn new(tree: ShardTree, shards: Range<usize>) -> Self {
        let next = shards.start;
        Self { shards, next, stack: Stack::new(tree), spares: Vec::new() }
    }

    /// The shard that is due; `None` when all have come.
    pub fn next_shard(&self) -> Option<usize> {
        (self.next < self.shards.end).then_some(self.next)
    }

    /// A region to write the next shard's gradient into, with old numbers in it; `None` when none is free yet.
    ///
    /// The one that was freed last comes first: it is still in the cache.
    pub fn spare(&mut self) -> Option<Region<f32>> {
        self.spares.pop()
    }

    /// Gives a region to [`spare`](Self::spare), for instance one that a reduction has returned.
    pub fn recycle(&mut self, region: Region<f32>) {
        self.spares.push(region);
    }

    /// Takes the gradient of the shard that is due and adds what can be added.
    ///
    /// # Panics
    /// When all shards have come, or the length differs from that of an earlier shard.
    #[track_caller]
    pub fn push(&mut self, leaf: Region<f32>) {
        assert!(self.next < self.shards.end, "all of shards {:?} have come", self.shards);
        if let Some((_, first)) = self.stack.nodes.first() {
            assert_eq!(leaf.len(), first.len(), "elements of shard {}", self.next);
        }
        let Self { stack, spares, .. } = self;
        stack.push(NodeId::leaf(self.next), leaf, |left, right| {
            add_assign(left, &right);
            spares.push(right);
        });
        self.next += 1;
    }

    /// The nodes that cover the shards, for [`start_tree_reduce`](crate::Communicator::start_tree_reduce); the
    /// accumulator is ready for the next step, and keeps its spares.
    ///
    /// # Panics
    /// When a shard has not come yet.
    #[track_caller]
    pub fn finish(&mut self) -> Vec<(NodeId, Region<f32>)> {
        let mut nodes = Vec::new();
        self.finish_into(&mut nodes);
        nodes
    }

    /// As [`finish`](Self::finish), into a vector that is reused.
    ///
    /// # Panics
    /// When a shard has not come yet.
    #[track_caller]
    pub fn finish_into(&mut self, nodes: &mut Vec<(NodeId, Region<f32>)>) {
        assert_eq!(self.next_shard(), None, "shard that is due");
        nodes.clear();
        nodes.append(&mut self.stack.nodes);
        self.next = self.shards.start;
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::rank::{Rank, WorldSize};

    #[test]
    fn any_range_ends_in_its_cover_with_few_regions() {
        for (shards, size) in [(1, 1), (6, 2), (7, 3), (16, 1), (23, 5)] {
            let tree = ShardTree::new(shards);
            for rank in WorldSize(size).ranks() {
                let range = tree.shards_of(rank, WorldSize(size));
                let mut made = 0_u32;
                let mut sum = TreeAccumulator::new(tree, range.clone());
                while let Some(shard) = sum.next_shard() {
                    let mut leaf = sum.spare().unwrap_or_else(|| {
                        made += 1;
                        Region::zeroed(1)
                    });
                    leaf[0] = (1 << shard) as f32;
                    sum.push(leaf);
                }
                let nodes = sum.finish();
                assert!(nodes.iter().map(|(id, _)| *id).eq(tree.cover(range)));
                for (id, region) in &nodes {
                    assert_eq!(region[0], ((1_u64 << id.end()) - (1 << id.start())) as f32);
                }
                // a cover has up to twice the depth; a range that starts at 0 stays within depth + 1
                assert!(made <= 2 * (shards.ilog2() + 1), "{made} regions for {shards} shards");
            }
        }
    }

    #[test]
    fn a_second_step_needs_no_new_region() {
        let tree = ShardTree::new(4);
        let mut sum = TreeAccumulator::new(tree, tree.shards_of(Rank(0), WorldSize(1)));
        let mut made = 0;
        let mut nodes = Vec::new();
        for _ in 0..2 {
            for _ in 0..4 {
                let leaf = sum.spare().unwrap_or_else(|| {
                    made += 1;
                    Region::zeroed(3)
                });
                sum.push(leaf);
            }
            sum.finish_into(&mut nodes);
            nodes.drain(..).for_each(|(_, region)| sum.recycle(region));
        }
        assert_eq!(made, 3);
    }
}
