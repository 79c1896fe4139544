//! How the ranks of a communicator lie on nodes, and what they share there.

use crate::alarm::Family;
use crate::board::Board;
use crate::error::MpiError;
use crate::ffi::Handle;
use crate::segment::{SharedWords, Token};
use phalanx_comm::cost::Topology;

/// The members of a communicator, node by node.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct NodeMap {
    /// The members of each node in order, nodes in the order of their first members.
    pub(crate) nodes: Vec<Vec<usize>>,
    /// The node of this rank.
    pub(crate) node: usize,
    /// The place of this rank on it.
    pub(crate) place: usize,
}

impl NodeMap {
    /// Of members whose nodes have these names; this rank is member `me`.
    pub(crate) fn new(names: impl IntoIterator<Item = usize>, me: usize) -> Self {
        let mut nodes: Vec<(usize, Vec<usize>)> = Vec::new();
        for (member, name) in names.into_iter().enumerate() {
            match nodes.iter_mut().find(|(of, _)| *of == name) {
                Some((_, members)) => members.push(member),
                None => nodes.push((name, vec![member])),
            }
        }
        let nodes: Vec<Vec<usize>> = nodes.into_iter().map(|(_, members)| members).collect();
        let own = |members: &Vec<usize>| members.contains(&me);
        let node = nodes.iter().position(own).unwrap_or_default();
        let place = nodes.get(node).and_then(|members| members.iter().position(|member| *member == me));
        Self { nodes, node, place: place.unwrap_or_default() }
    }

    /// The members of this rank's node.
    pub(crate) fn neighbours(&self) -> &[usize] {
        &self.nodes[self.node]
    }

    /// Slices into which a node cuts a buffer, one for each of its first ranks: as many as every node has ranks for.
    pub(crate) fn slices(&self) -> usize {
        self.nodes.iter().map(Vec::len).min().unwrap_or(1)
    }

    pub(crate) fn topology(&self) -> Topology {
        let sizes = || self.nodes.iter().map(Vec::len);
        Topology { ranks: sizes().sum(), nodes: self.nodes.len(), most_on_a_node: sizes().max().unwrap_or(0) }
    }
}

/// What a reduction in two levels goes over: inside nodes, and between them.
#[derive(Debug)]
pub(crate) struct TwoLevels {
    /// Where the ranks of this node say how far they are; `None` for one that has its node for itself.
    pub(crate) board: Option<Board>,
    /// The ranks with this rank's slice, one of each node, in the order of the nodes; `None` for a rank without a slice.
    pub(crate) column: Option<Handle>,
}

impl TwoLevels {
    /// Collective over `data`: the levels of the nodes of `map`. `first` is the process of this node's first rank. `None`
    /// where some rank may not map its neighbours' memory, as in containers of their own.
    pub(crate) fn among(
        family: &Family,
        data: Handle,
        map: &NodeMap,
        first: u32,
    ) -> Result<Option<Self>, MpiError> {
        let ranks = map.neighbours().len();
        let node = data.split(Some(map.node), map.place)?;
        let column = data.split((map.place < map.slices()).then_some(map.place), map.node)?;
        let shared = match node.filter(|_| ranks > 1) {
            Some(node) => share_words(family, node, map.place, first, &[Board::words(ranks)])?,
            None => Some(Vec::new()),
        };
        let is_shared = all_agree(data, shared.is_some())?;
        let board = shared.and_then(|words| words.into_iter().next());
        let board = board.map(|words| Board::new(words, ranks, map.place));
        Ok(is_shared.then_some(Self { board, column }))
    }
}

/// Collective over `handle`, whose ranks share a node: words of these lengths, made by the first rank, which is the process
/// `first`, and mapped by the others. `None` on a rank that may not map them.
pub(crate) fn share_words(
    family: &Family,
    handle: Handle,
    me: usize,
    first: u32,
    lens: &[usize],
) -> Result<Option<Vec<SharedWords>>, MpiError> {
    let (mut own, mut tokens) = (Vec::new(), vec![0_u64; lens.len()]);
    if me == 0 {
        for (len, token) in lens.iter().zip(&mut tokens) {
            let (words, at) = family.segments.words(*len)?;
            *token = at.segment;
            own.push(words);
        }
    }
    handle.broadcast(bytemuck::cast_slice_mut(&mut tokens), 0)?;
    if me == 0 {
        return Ok(Some(own));
    }
    let token = |segment: &u64| Token { segment: *segment, offset: 0 };
    let mapped = tokens.iter().zip(lens).map(|(at, len)| family.segments.words_of(first, token(at), *len));
    Ok(mapped.collect::<Result<_, _>>().ok())
}

/// Collective: whether all ranks of `handle` say yes.
pub(crate) fn all_agree(handle: Handle, yes: bool) -> Result<bool, MpiError> {
    let mut all = vec![0; handle.size()?];
    handle.all_gather(&[u64::from(yes)], &mut all)?;
    Ok(all.iter().all(|yes| *yes == 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_come_in_the_order_of_their_first_members() {
        // placed in turn on three hosts, the last of which has room for one
        let map = NodeMap::new([7, 3, 5, 7, 3, 7], 3);
        assert_eq!(map.nodes, [vec![0, 3, 5], vec![1, 4], vec![2]]);
        assert_eq!((map.node, map.place, map.slices()), (0, 1, 1));
        assert_eq!(map.neighbours(), [0, 3, 5]);
        assert_eq!(map.topology(), Topology { ranks: 6, nodes: 3, most_on_a_node: 3 });
        assert!(map.topology().has_levels());
        assert!(!NodeMap::new([1, 2, 3], 0).topology().has_levels());
        assert!(!NodeMap::new([1, 1, 1], 0).topology().has_levels());
    }
}
