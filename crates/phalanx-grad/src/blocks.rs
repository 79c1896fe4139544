//! How the coordinates of gradients are cut, so that sums over them have the same bits whoever holds which.

use phalanx_comm::{NodeId, ShardTree};
use std::ops::Range;

/// The blocks of `d` coordinates: the leaves of the tree in which sums over coordinates are added up.
///
/// # Examples
/// ```
/// use phalanx_grad::Blocks;
/// let blocks = Blocks::new(5000);
/// assert_eq!(blocks.coordinates(1..3), 2048..5000);
/// assert_eq!(blocks.tree().shards(), 3);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Blocks {
    dim: usize,
}

impl Blocks {
    /// Coordinates of a block; the last one may have fewer.
    pub const LEN: usize = 2048;

    /// The blocks of so many coordinates: one, of none, for 0.
    #[must_use]
    pub const fn new(dim: usize) -> Self {
        Blocks { dim }
    }

    /// The tree over the blocks.
    #[must_use]
    pub fn tree(self) -> ShardTree {
        ShardTree::new(self.dim.div_ceil(Self::LEN).max(1))
    }

    /// The coordinates of consecutive blocks.
    #[must_use]
    pub fn coordinates(self, blocks: Range<usize>) -> Range<usize> {
        (blocks.start * Self::LEN).min(self.dim)..(blocks.end * Self::LEN).min(self.dim)
    }

    /// The sums over consecutive blocks, for each of the nodes that cover them: `leaf` makes those of one block from its
    /// coordinates.
    pub fn fold(
        self,
        blocks: Range<usize>,
        mut leaf: impl FnMut(Range<usize>) -> Vec<f64>,
    ) -> Vec<(NodeId, Vec<f64>)> {
        let mut of_block = |block: usize| leaf(self.coordinates(block..block + 1));
        self.tree().cover(blocks).map(|node| (node, fold(node, &mut of_block))).collect()
    }
}

/// The sum of a node, each block formed when it is its turn: as many are held as the tree is deep.
fn fold(node: NodeId, leaf: &mut impl FnMut(usize) -> Vec<f64>) -> Vec<f64> {
    let Some((left, right)) = node.children() else { return leaf(node.start()) };
    let mut sum = fold(left, leaf);
    sum.iter_mut().zip(fold(right, leaf)).for_each(|(sum, x)| *sum += x);
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whoever folds which blocks, the nodes are those of one tree.
    #[test]
    fn parts_fold_to_the_nodes_of_the_whole() {
        let blocks = Blocks::new(6 * Blocks::LEN + 5);
        let leaf = |columns: Range<usize>| vec![(columns.start as f64 + 0.1).sin(), columns.len() as f64];
        let leaves: Vec<Vec<f64>> = (0..7).map(|block| leaf(blocks.coordinates(block..block + 1))).collect();
        let whole = blocks.fold(0..7, leaf);
        assert_eq!(whole, [(blocks.tree().root(), blocks.tree().fold(&leaves))]);
        let parts = [blocks.fold(0..3, leaf), blocks.fold(3..3, leaf), blocks.fold(3..7, leaf)].concat();
        let ranges: Vec<Range<usize>> = parts.iter().map(|(node, _)| node.start()..node.end()).collect();
        assert_eq!(ranges, [0..2, 2..3, 3..4, 4..7]);
        let [a, b, c, d] = [0, 1, 2, 3].map(|i| parts[i].1[0]);
        assert_eq!(whole[0].1[0], (a + (b + c)) + d);
    }

    #[test]
    fn no_coordinates_are_one_empty_block() {
        let blocks = Blocks::new(0);
        assert_eq!((blocks.tree().shards(), blocks.coordinates(0..1)), (1, 0..0));
    }
}
