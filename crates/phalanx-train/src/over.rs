//! Whose vectors a rule over ranks compares: those of ranks, or the means of nodes.

use phalanx_data::shard_range;
use phalanx_grad::Senders;
use std::ops::Range;

/// What a rule over ranks other than the mean is over.
///
/// # Examples
/// ```
/// use phalanx_train::Over;
/// let nodes = Over::Nodes { ranks_per_node: 2 };
/// assert_eq!((nodes.senders(5), nodes.sender(4), nodes.ranks_of(2, 5)), (3, 2, 4..5));
/// assert_eq!((Over::Ranks.senders(5), Over::Ranks.sender(4)), (5, 4));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Over {
    /// The gradient of each rank.
    #[default]
    Ranks,
    /// The mean over the ranks of each node, weighted by their samples.
    Nodes {
        /// Consecutive ranks that make a node, 0 as 1; the last node may have fewer.
        ranks_per_node: usize,
    },
}

impl Over {
    /// What those are called whose vectors are compared.
    #[must_use]
    pub fn called(self) -> Senders {
        match self {
            Over::Ranks => Senders::Ranks,
            Over::Nodes { .. } => Senders::Nodes,
        }
    }

    /// How many there are of `ranks` ranks.
    #[must_use]
    pub fn senders(self, ranks: usize) -> usize {
        ranks.div_ceil(self.ranks_each())
    }

    /// Which of them a rank belongs to.
    #[must_use]
    pub fn sender(self, rank: usize) -> usize {
        rank / self.ranks_each()
    }

    /// The ranks of one of them, of `ranks` in all.
    #[must_use]
    pub fn ranks_of(self, sender: usize, ranks: usize) -> Range<usize> {
        let each = self.ranks_each();
        (sender * each).min(ranks)..((sender + 1) * each).min(ranks)
    }

    /// As events and summaries name it; nothing for ranks.
    pub(crate) fn named(self) -> Option<String> {
        (self != Over::Ranks).then(|| self.called().to_string())
    }

    fn ranks_each(self) -> usize {
        match self {
            Over::Ranks => 1,
            Over::Nodes { ranks_per_node } => ranks_per_node.max(1),
        }
    }

    /// What each of `ranks` ranks holds of its sender's vector of `len` numbers before vectors are exchanged.
    pub(crate) fn slices(self, ranks: usize, len: usize) -> Vec<Range<usize>> {
        let slice = |rank: usize| {
            let node = self.ranks_of(self.sender(rank), ranks);
            shard_range(len, rank - node.start, node.len())
        };
        (0..ranks).map(slice).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slices_of_a_node_are_its_vector() {
        let nodes = Over::Nodes { ranks_per_node: 2 };
        assert_eq!(nodes.slices(5, 7), [0..4, 4..7, 0..4, 4..7, 0..7]);
        assert_eq!(Over::Ranks.slices(2, 7), [0..7, 0..7]);
        assert_eq!(Over::Nodes { ranks_per_node: 0 }.slices(2, 7), Over::Ranks.slices(2, 7));
    }
}
