//! A fixed order of summation over virtual shards, so that a sum has the same bits for any number of ranks.
//!
//! A batch is cut into `S` shards. Their gradients are the leaves of one binary tree, which depends on `S` alone; every
//! inner node is the sum of its left and its right child. A rank holds a contiguous range of shards, sums what lies
//! wholly within its range ([`TreeAccumulator`]), and passes the nodes that are left to
//! [`start_tree_reduce`](crate::Communicator::start_tree_reduce), which sums the rest.
//!
//! ```text
//!            0..6
//!        /         \           S = 6 on 2 ranks: rank 0 has shards 0..3, nodes 0..2 and 2..3;
//!      0..4        4..6        rank 1 has shards 3..6, nodes 3..4 and 4..6;
//!     /    \       /  \        left to sum: 2..4, 0..4, 0..6
//!   0..2   2..4   4    5
//!   / \    / \
//!  0   1  2   3
//! ```

mod accumulator;

pub use accumulator::TreeAccumulator;

use crate::call::{Call, OpKind, ReduceOp};
use crate::element::Dtype;
use crate::error::CommError;
use crate::rank::{Rank, WorldSize};
use crate::shared::Region;
use std::ops::Range;

/// The tree over a number of virtual shards. The left child of a node of `n > 1` shards has the largest power of two
/// below `n`, as in a Merkle tree, so that shards can be folded as they arrive.
///
/// # Examples
/// ```
/// use phalanx_comm::{Rank, ShardTree, WorldSize};
///
/// // three numbers whose sum depends on the order: the tree fixes it, whoever adds
/// let shards = [vec![1e8_f32], vec![1.0], vec![-1e8]];
/// let tree = ShardTree::new(3);
/// assert_eq!(tree.fold(&shards), [(1e8 + 1.0) - 1e8]);
/// assert_eq!(tree.shards_of(Rank(1), WorldSize(2)), 1..3);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct ShardTree {
    shards: usize,
}

/// A node of a [`ShardTree`]: the sum of consecutive shards.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct NodeId {
    start: usize,
    len: usize,
}

impl ShardTree {
    /// The tree over `shards` shards.
    ///
    /// # Panics
    /// When `shards` is 0.
    #[track_caller]
    pub const fn new(shards: usize) -> Self {
        assert!(shards > 0, "a tree needs at least one shard");
        Self { shards }
    }

    /// How many leaves it has.
    pub const fn shards(self) -> usize {
        self.shards
    }

    /// The node over all shards.
    pub const fn root(self) -> NodeId {
        NodeId { start: 0, len: self.shards }
    }

    /// The shards of `rank`: contiguous, in rank order, as even as they come, and at least one where
    /// [`check`](Self::check) passes.
    pub fn shards_of(self, rank: Rank, size: WorldSize) -> Range<usize> {
        let cut = |rank: usize| rank * self.shards / size.get();
        cut(rank.index())..cut(rank.index() + 1)
    }

    /// Whether every rank has a shard.
    ///
    /// # Errors
    /// [`CommError::Shards`] when there are more ranks than shards.
    pub const fn check(self, size: WorldSize) -> Result<(), CommError> {
        if size.get() <= self.shards { Ok(()) } else { Err(CommError::Shards { size, shards: self.shards }) }
    }

    /// The call by which `rank` of `size` has `nodes` summed, if they are those that [cover](Self::cover) its shards: what
    /// backends check before [`start_tree_reduce`](crate::Communicator::start_tree_reduce) takes memory.
    ///
    /// # Errors
    /// [`CommError::Shards`], [`CommError::Length`] and [`CommError::Node`] with other nodes, by `named`, which is `rank` in
    /// the whole world.
    pub fn reduction(
        self,
        rank: Rank,
        size: WorldSize,
        named: Rank,
        nodes: &[(NodeId, Region<f32>)],
    ) -> Result<Call, CommError> {
        let op = OpKind::TreeReduce;
        self.check(size)?;
        let cover = self.cover(self.shards_of(rank, size));
        CommError::check_len(named, op, "nodes", nodes.len(), cover.clone().count())?;
        let len = nodes.first().map_or(0, |(_, region)| region.len());
        for ((got, region), need) in nodes.iter().zip(cover) {
            CommError::check_len(named, op, "elements in a node", region.len(), len)?;
            if *got != need {
                return Err(CommError::Node { rank: named, got: got.start(), need: need.start() });
            }
        }
        Ok(Call::new(op).of(Dtype::F32, len).reducing(ReduceOp::Sum).with_counts(&[self.shards]))
    }

    /// The largest nodes that lie within `range` and together cover it, in order: at most twice the tree's depth.
    ///
    /// # Panics
    /// When `range` reaches beyond the shards.
    #[track_caller]
    pub fn cover(self, range: Range<usize>) -> impl Iterator<Item = NodeId> + Clone {
        assert!(range.end <= self.shards, "shards {range:?} of {}", self.shards);
        let largest_at = move |start: usize| {
            let mut node = self.root();
            while start < range.end && (node.start != start || node.end() > range.end) {
                let (left, right) = node.children()?;
                node = if start < right.start { left } else { right };
            }
            (start < range.end).then_some(node)
        };
        std::iter::successors(largest_at(range.start), move |node| largest_at(node.end()))
    }

    /// The node whose child `node` is; `None` for the root.
    pub fn parent(self, node: NodeId) -> Option<NodeId> {
        let mut above = self.root();
        loop {
            let (left, right) = above.children()?;
            if left == node || right == node {
                return Some(above);
            }
            above = if node.start < right.start { left } else { right };
        }
    }

    /// The additions that turn `nodes`, a cover of all shards in order, into the total in the first of them.
    ///
    /// Writes pairs `(i, j)`, "add node `j` to node `i`", in the order in which they are to be made.
    pub fn merges(self, nodes: impl IntoIterator<Item = NodeId>, merges: &mut Vec<(usize, usize)>) {
        merges.clear();
        let mut stack = Stack::new(self);
        for (i, node) in nodes.into_iter().enumerate() {
            stack.push(node, i, |left, right| {
                merges.push((*left, right));
            });
        }
    }

    /// The sum of `shards` in the order of the tree, one leaf after the other: the reference for every faster way.
    ///
    /// # Shapes
    /// `shards`: one vector a leaf, all of one length; returns that length.
    ///
    /// # Panics
    /// When there is another number of vectors than of leaves, or their lengths differ.
    #[track_caller]
    pub fn fold<T: Copy + std::ops::Add<Output = T>>(self, shards: &[impl AsRef<[T]>]) -> Vec<T> {
        assert_eq!(shards.len(), self.shards, "vectors for the leaves");
        fold_node(self.root(), shards)
    }
}

fn fold_node<T: Copy + std::ops::Add<Output = T>>(node: NodeId, shards: &[impl AsRef<[T]>]) -> Vec<T> {
    let Some((left, right)) = node.children() else {
        return shards[node.start].as_ref().to_vec();
    };
    let (left, right) = (fold_node(left, shards), fold_node(right, shards));
    assert_eq!(left.len(), right.len(), "elements of the shards under {node:?}");
    left.iter().zip(&right).map(|(&a, &b)| a + b).collect()
}

impl NodeId {
    /// The leaf of one shard.
    pub const fn leaf(shard: usize) -> Self {
        Self { start: shard, len: 1 }
    }

    /// Its first shard.
    pub const fn start(self) -> usize {
        self.start
    }

    /// One past its last shard.
    pub const fn end(self) -> usize {
        self.start + self.len
    }

    /// Its two children; `None` for a leaf.
    pub const fn children(self) -> Option<(Self, Self)> {
        if self.len == 1 {
            return None;
        }
        let left = self.len.next_power_of_two() / 2;
        let right = Self { start: self.start + left, len: self.len - left };
        Some((Self { start: self.start, len: left }, right))
    }
}

/// Nodes that arrive in order, merged as soon as two of them are siblings.
#[derive(Debug)]
struct Stack<V> {
    tree: ShardTree,
    nodes: Vec<(NodeId, V)>,
}

impl<V> Stack<V> {
    const fn new(tree: ShardTree) -> Self {
        Self { tree, nodes: Vec::new() }
    }

    /// Pushes `node`; `merge` is called with the left and the right of each pair of siblings, and leaves the sum in the left.
    fn push(&mut self, node: NodeId, value: V, mut merge: impl FnMut(&mut V, V)) {
        let (mut node, mut value) = (node, value);
        while let Some((left, _)) = self.nodes.last() {
            let parent = self.tree.parent(node).filter(|parent| self.tree.parent(*left) == Some(*parent));
            let (Some(parent), Some((_, mut left_value))) = (parent, self.nodes.pop_if(|_| parent.is_some()))
            else {
                break;
            };
            merge(&mut left_value, value);
            (node, value) = (parent, left_value);
        }
        self.nodes.push((node, value));
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    fn nodes(tree: ShardTree, range: Range<usize>) -> Vec<Range<usize>> {
        tree.cover(range).map(|node| node.start()..node.end()).collect()
    }

    #[test]
    fn the_example_of_the_module_page() {
        let tree = ShardTree::new(6);
        assert_eq!(nodes(tree, tree.shards_of(Rank(0), WorldSize(2))), [0..2, 2..3]);
        assert_eq!(nodes(tree, tree.shards_of(Rank(1), WorldSize(2))), [3..4, 4..6]);
        let mut merges = Vec::new();
        tree.merges(tree.cover(0..3).chain(tree.cover(3..6)), &mut merges);
        // 2..3 + 3..4, then 0..2 + 2..4, then 0..4 + 4..6
        assert_eq!(merges, [(1, 2), (0, 1), (0, 3)]);
    }

    #[test]
    fn all_shards_are_the_root_and_no_shards_are_no_node() {
        for shards in 1..40 {
            let tree = ShardTree::new(shards);
            assert_eq!(tree.cover(0..shards).collect::<Vec<_>>(), [tree.root()]);
            assert_eq!(tree.cover(shards..shards).count(), 0);
        }
    }

    #[test]
    fn the_fold_is_neither_left_to_right_nor_right_to_left() {
        let shards = [[1e8_f32], [1.0], [-1e8], [1.0]];
        // (1e8 + 1) + (-1e8 + 1) = 1e8 - 99999999 rounded to -1e8 = 0; from the left it would be 1
        assert_eq!(ShardTree::new(4).fold(&shards), [0.0]);
        assert_eq!(((shards[0][0] + shards[1][0]) + shards[2][0]) + shards[3][0], 1.0);
    }

    #[test]
    fn only_the_nodes_of_a_rank_are_summed() {
        let (tree, size) = (ShardTree::new(6), WorldSize(2));
        let nodes = |lens: [usize; 2]| -> Vec<_> {
            tree.cover(0..3).zip(lens).map(|(node, len)| (node, Region::zeroed(len))).collect()
        };
        let call = |nodes: &[_]| tree.reduction(Rank(0), size, Rank(4), nodes);
        assert_eq!(call(&nodes([5, 5])).map(|call| call.len), Ok(5));
        let told = |nodes: &[_]| call(nodes).expect_err("other nodes").to_string();
        assert!(told(&nodes([5, 5])[..1]).starts_with("rank 4"), "{}", told(&nodes([5, 5])[..1]));
        assert!(told(&nodes([5, 4])).contains("elements in a node"), "{}", told(&nodes([5, 4])));
        let mut swapped = nodes([5, 5]);
        swapped.swap(0, 1);
        assert!(matches!(call(&swapped), Err(CommError::Node { rank: Rank(4), got: 2, need: 0 })));
    }

    #[test]
    fn more_ranks_than_shards_are_refused() {
        let error = ShardTree::new(2).check(WorldSize(3)).unwrap_err();
        assert_eq!(error.to_string(), "3 ranks cannot share 2 shards");
    }
}
