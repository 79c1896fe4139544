//! Values that are the same on every rank, by construction.

use crate::call::OpKind;
use crate::communicator::Communicator;
use crate::communicator::CommunicatorExt;
use crate::element::Element;
use crate::error::CommError;
use crate::rank::Rank;
use crate::tree::ShardTree;
use std::ops::Deref;

/// A value that all ranks have agreed on, so that a decision made from it is the same everywhere.
///
/// Its constructors are collectives, and [`map`](Self::map) takes a plain function, which cannot capture anything
/// that belongs to one rank. Code that asks for an `Agreed` can therefore not be given a local number by mistake:
///
/// ```compile_fail
/// let local = phalanx_comm::Agreed(0.5); // error: the field is private
/// ```
/// ```compile_fail
/// # let comm = phalanx_comm::SoloComm::new();
/// let local = 0.5;
/// let agreed = phalanx_comm::agree_sum(&comm, &[1.0]).unwrap();
/// let mixed = agreed.map(|sum| sum[0] + local); // error: the closure captures `local`
/// ```
///
/// # Examples
/// ```
/// use phalanx_comm::{SoloComm, agree_sum};
///
/// let comm = SoloComm::new();
/// let noise = agree_sum(&comm, &[3.0, 4.0])?.map(|sums| sums[0] / sums[1]);
/// assert_eq!(*noise, 0.75);
/// # Ok::<_, phalanx_comm::CommError>(())
/// ```
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Agreed<T>(T);

impl<T> Agreed<T> {
    /// The value of a pure function of this one: as every rank computes it, every rank has it.
    pub fn map<U>(self, f: fn(T) -> U) -> Agreed<U> {
        Agreed(f(self.0))
    }

    /// Both values as one.
    pub fn zip<U>(self, other: Agreed<U>) -> Agreed<(T, U)> {
        Agreed((self.0, other.0))
    }

    /// The value by reference, still agreed on.
    pub const fn as_ref(&self) -> Agreed<&T> {
        Agreed(&self.0)
    }

    /// The bare value. It can no longer be passed where an agreement is asked for.
    pub fn into_inner(self) -> T {
        self.0
    }
}

impl<T> Deref for Agreed<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

/// The sum of `values` over all ranks, element by element.
///
/// # Collective
/// Every rank, same length; blocks.
///
/// # Numerics
/// Summed in rank order, in the element type.
///
/// # Errors
/// Those of [`Communicator::all_reduce_in_place`].
pub fn agree_sum<T: Element>(comm: &dyn Communicator, values: &[T]) -> Result<Agreed<Vec<T>>, CommError> {
    let mut values = values.to_vec();
    comm.all_reduce_sum(&mut values)?;
    Ok(Agreed(values))
}

/// The least of `values` over all ranks, element by element; NaN if any rank has NaN.
///
/// # Collective
/// Every rank, same length; blocks.
///
/// # Errors
/// Those of [`Communicator::all_reduce_in_place`].
pub fn agree_min<T: Element>(comm: &dyn Communicator, values: &[T]) -> Result<Agreed<Vec<T>>, CommError> {
    let mut values = values.to_vec();
    comm.all_reduce_min(&mut values)?;
    Ok(Agreed(values))
}

/// The greatest of `values` over all ranks, element by element; NaN if any rank has NaN.
///
/// # Collective
/// Every rank, same length; blocks.
///
/// # Errors
/// Those of [`Communicator::all_reduce_in_place`].
pub fn agree_max<T: Element>(comm: &dyn Communicator, values: &[T]) -> Result<Agreed<Vec<T>>, CommError> {
    let mut values = values.to_vec();
    comm.all_reduce_max(&mut values)?;
    Ok(Agreed(values))
}

/// The `values` of every rank, in rank order; their lengths may differ.
///
/// # Collective
/// Every rank; blocks.
///
/// # Errors
/// Those of [`Communicator::all_gather_bytes`], and [`CommError::Message`] when a rank sent half an element.
pub fn agree_all_gather<T: Element>(
    comm: &dyn Communicator,
    values: &[T],
) -> Result<Agreed<Vec<Vec<T>>>, CommError> {
    let gathered = comm.all_gather_bytes(bytemuck::cast_slice(values))?;
    let whole = |(rank, bytes): (usize, Vec<u8>)| match bytes.len() % size_of::<T>() {
        0 => Ok(bytes.chunks_exact(size_of::<T>()).map(bytemuck::pod_read_unaligned).collect()),
        rest => {
            let need = bytes.len() + size_of::<T>() - rest;
            Err(CommError::Message { from: Rank(rank), what: "gathered numbers", got: bytes.len(), need })
        }
    };
    Ok(Agreed(gathered.into_iter().enumerate().map(whole).collect::<Result<_, _>>()?))
}

/// The bytes of `root`; what other ranks pass is not looked at.
///
/// # Collective
/// Every rank, same root; blocks.
///
/// # Errors
/// Those of [`Communicator::broadcast_bytes`].
pub fn agree_broadcast(
    comm: &dyn Communicator,
    root: Rank,
    bytes: Vec<u8>,
) -> Result<Agreed<Vec<u8>>, CommError> {
    let mut bytes = bytes;
    comm.broadcast_bytes(root, &mut bytes)?;
    Ok(Agreed(bytes))
}

/// The sum over all shards of a few numbers a shard, with the same bits for any number of ranks.
///
/// The reproducible form of [`agree_sum`], for statistics: all numbers of all shards travel to all ranks, and each folds
/// them in the order of `tree`.
///
/// # Shapes
/// `own`: `k` numbers for each of the [shards of this rank](ShardTree::shards_of), shard by shard; returns `k`.
///
/// # Collective
/// Every rank, same tree and `k`; blocks.
///
/// # Numerics
/// Bitwise equal to [`ShardTree::fold`].
///
/// # Errors
/// [`CommError::Shards`] with more ranks than shards; those of [`Communicator::all_gather`].
pub fn tree_all_reduce_f64(
    comm: &dyn Communicator,
    tree: ShardTree,
    own: &[f64],
    k: usize,
) -> Result<Agreed<Vec<f64>>, CommError> {
    let size = comm.size();
    tree.check(size)?;
    let counts: Vec<_> = size.ranks().map(|rank| tree.shards_of(rank, size).len() * k).collect();
    let mut all = vec![0.0; tree.shards() * k];
    comm.all_gather_into(own, &counts, &mut all)?;
    if k == 0 {
        return Ok(Agreed(Vec::new()));
    }
    Ok(Agreed(tree.fold(&all.chunks_exact(k).collect::<Vec<_>>())))
}

/// The sum over all shards of many numbers a shard, with the same bits for any number of ranks.
///
/// What [`tree_all_reduce_f64`] is for a few numbers. A rank passes sums over shards of its own, and adds up its part of
/// the numbers: what travels to and from a rank is some `2 log2(S / ranks) k` numbers, however many ranks there are.
///
/// # Shapes
/// `nodes`: `k` numbers for each of the nodes that [cover](ShardTree::cover) the
/// [shards of this rank](ShardTree::shards_of), in order; a rank may have no shard. Returns `k`.
///
/// # Collective
/// Every rank, same tree and `k`; blocks.
///
/// # Numerics
/// Bitwise equal to [`ShardTree::fold`].
///
/// # Errors
/// [`CommError::Length`] with another number of nodes; those of [`Communicator::all_to_all`] and
/// [`Communicator::all_gather`].
///
/// # Examples
/// ```
/// use phalanx_comm::{CommError, NodeId, Options, ShardTree, WorldSize, run_ranks, tree_sum_f64};
///
/// // four leaves on three ranks: one, one and two
/// let leaves = [[1e16], [1.0], [-1e16], [1.0]];
/// let tree = ShardTree::new(4);
/// let sums = run_ranks(WorldSize(3), &Options::default(), move |comm| {
///     let nodes: Vec<f64> = tree
///         .cover(tree.shards_of(comm.rank(), comm.size()))
///         .map(|node| leaves[node.start()..node.end()].iter().map(|leaf| leaf[0]).sum())
///         .collect();
///     Ok::<_, CommError>(tree_sum_f64(&*comm, tree, &nodes, 1)?.into_inner())
/// })
/// .expect("no rank fails");
/// assert_eq!(sums, vec![tree.fold(&leaves); 3]);
/// ```
pub fn tree_sum_f64(
    comm: &dyn Communicator,
    tree: ShardTree,
    nodes: &[f64],
    k: usize,
) -> Result<Agreed<Vec<f64>>, CommError> {
    let (rank, size) = (comm.rank(), comm.size());
    let held = |rank: Rank| tree.cover(tree.shards_of(rank, size));
    let part = |rank: Rank| rank.index() * k / size.get()..(rank.index() + 1) * k / size.get();
    let (count, own) = (held(rank).count(), part(rank));
    if nodes.len() != count * k {
        let (what, got, need) = ("numbers of nodes", nodes.len(), count * k);
        return Err(CommError::Length { rank, op: OpKind::AllToAll, what, got, need });
    }
    let mut send = Vec::with_capacity(nodes.len());
    for to in size.ranks() {
        nodes.chunks_exact(k.max(1)).for_each(|node| send.extend_from_slice(&node[part(to)]));
    }
    let send_counts: Vec<usize> = size.ranks().map(|to| count * part(to).len()).collect();
    let recv_counts: Vec<usize> = size.ranks().map(|from| held(from).count() * own.len()).collect();
    let mut all = vec![0.0; recv_counts.iter().sum()];
    comm.all_to_all_into(&send, &send_counts, &mut all, &recv_counts)?;
    let mut merges = Vec::new();
    tree.merges(size.ranks().flat_map(held), &mut merges);
    for (left, right) in merges {
        let (head, tail) = all.split_at_mut(right * own.len());
        let sum = &mut head[left * own.len()..][..own.len()];
        sum.iter_mut().zip(&*tail).for_each(|(sum, x)| *sum += x);
    }
    let counts: Vec<usize> = size.ranks().map(|rank| part(rank).len()).collect();
    let mut total = vec![0.0; k];
    comm.all_gather_into(&all[..own.len()], &counts, &mut total)?;
    Ok(Agreed(total))
}
