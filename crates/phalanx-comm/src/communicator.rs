//! The interface that every backend implements, and its typed form.

use crate::call::ReduceOp;
use crate::cost::Tuning;
use crate::element::Element;
use crate::error::CommError;
use crate::flight::OpRecord;
use crate::packing::Packing;
use crate::pending::Pending;
use crate::rank::{Rank, WorldSize};
use crate::shared::Region;
use crate::slice::{SliceMut, SliceRef};
use crate::stats::CommStats;
use crate::tree::{NodeId, ShardTree};
use std::error::Error;
use std::fmt::Debug;
use std::sync::Arc;

/// The nodes of a reproducible sum that one rank holds, in order.
pub type TreeNodes = Vec<(NodeId, Region<f32>)>;

/// A fixed set of ranks that compute together.
///
/// # Collective
/// All methods from [`all_reduce_in_place`](Self::all_reduce_in_place) to [`split`](Self::split), and the starting
/// ones, are collective: every rank calls them in the same order with the same arguments, but for the numbers. The
/// number and kind of the call, type, length, reduction, root and counts are compared before any memory is touched: a
/// difference is [`CommError::Mismatch`] on every rank, never a hang or a wrong sum. Blocking and started
/// collectives share one order.
///
/// If one rank fails, all ranks get the same error from the collective that they are in, and from every later one.
///
/// # Numerics
/// Sums are made in rank order 0, 1, 2, ... for every element, so the same inputs on the same number of ranks give the
/// same bits in every run and on every rank. A started reduction over several nodes may sum the ranks of each node first,
/// in rank order, and then the nodes: its bits depend on where ranks are, too. For sums that don't depend on the number of
/// ranks see [`start_tree_reduce`](Self::start_tree_reduce).
///
/// # Errors
/// Every method that returns `Result` fails with any [`CommError`] of this or another rank; below, only what is
/// particular to a method is said.
///
/// # Design
/// The trait is object-safe, so that the loop does not care whether ranks are threads or MPI processes; element types
/// are run-time tags ([`SliceRef`], [`SliceMut`]), and [`CommunicatorExt`] puts the types back. Gradients are reduced in
/// place in memory that the backend chose ([`alloc`](Self::alloc)): threads read each other's, MPI puts it into a shared
/// window. A started reduction owns its [`Region`], so that safe code can go on writing the rest of the buffer.
pub trait Communicator: Send + Sync + Debug {
    /// This rank.
    fn rank(&self) -> Rank;

    /// How many ranks there are.
    fn size(&self) -> WorldSize;

    /// Combines the buffers of all ranks, element by element, and leaves the result in each of them.
    ///
    /// # Shapes
    /// `buf`: the same length and type on every rank.
    ///
    /// # Errors
    /// [`CommError::Mismatch`] when the lengths, types or reductions differ.
    fn all_reduce_in_place(&self, buf: SliceMut<'_>, op: ReduceOp) -> Result<(), CommError>;

    /// Combines the buffers of all ranks and gives each rank its own segment of the result.
    ///
    /// # Shapes
    /// `counts`: one a rank, the same on every rank. `send`: their sum. `recv`: `counts[rank]`.
    ///
    /// # Errors
    /// [`CommError::Length`] when a buffer does not fit the counts, [`CommError::Types`] when the two differ in type.
    fn reduce_scatter(
        &self,
        send: SliceRef<'_>,
        counts: &[usize],
        recv: SliceMut<'_>,
        op: ReduceOp,
    ) -> Result<(), CommError>;

    /// Joins the buffers of all ranks in rank order.
    ///
    /// # Shapes
    /// `counts`: one a rank, the same on every rank. `send`: `counts[rank]`. `recv`: their sum.
    ///
    /// # Errors
    /// [`CommError::Length`] when a buffer does not fit the counts, [`CommError::Types`] when the two differ in type.
    fn all_gather(&self, send: SliceRef<'_>, counts: &[usize], recv: SliceMut<'_>) -> Result<(), CommError>;

    /// Sends a segment to every rank and receives one from each, in rank order.
    ///
    /// # Shapes
    /// `send_counts`, `recv_counts`: one a rank; what a sends to b is what b expects from a. Buffers: their sums.
    ///
    /// # Errors
    /// [`CommError::Counts`] when two ranks expect different lengths, [`CommError::Length`] when a buffer does not fit
    /// the counts, [`CommError::Types`] when the two differ in type.
    fn all_to_all(
        &self,
        send: SliceRef<'_>,
        send_counts: &[usize],
        recv: SliceMut<'_>,
        recv_counts: &[usize],
    ) -> Result<(), CommError>;

    /// Gives every rank the bytes of `root`. What other ranks had in `buf` is replaced.
    ///
    /// # Errors
    /// [`CommError::Root`] when `root` is not among the ranks.
    fn broadcast_bytes(&self, root: Rank, buf: &mut Vec<u8>) -> Result<(), CommError>;

    /// The bytes of every rank, in rank order; their lengths may differ.
    ///
    /// # Errors
    /// None of its own.
    fn all_gather_bytes(&self, bytes: &[u8]) -> Result<Vec<Vec<u8>>, CommError>;

    /// Returns when all ranks have come.
    ///
    /// # Errors
    /// None of its own.
    fn barrier(&self) -> Result<(), CommError>;

    /// Groups the ranks of equal `color` into communicators of their own, ordered by `key`, then by rank here.
    /// A rank without a color gets none.
    ///
    /// A failure on the new communicator fails this one too, and the other way round.
    ///
    /// # Errors
    /// None of its own.
    fn split(&self, color: Option<usize>, key: usize) -> Result<Option<Arc<dyn Communicator>>, CommError>;

    /// Memory that this communicator reduces without a copy. Zeroed; 64-byte aligned.
    ///
    /// # Collective
    /// With the same length on every rank, and in the same order as the collectives: a backend may have to agree.
    ///
    /// # Errors
    /// [`CommError::Mismatch`] where the backend has to agree and the lengths differ.
    fn alloc(&self, len: usize) -> Result<Region<f32>, CommError>;

    /// Starts the reduction of a region, as [`all_reduce_in_place`](Self::all_reduce_in_place) makes it, and returns at
    /// once. The result is in the region that [`Pending::wait`] returns.
    ///
    /// # Errors
    /// None of its own; a mismatch is found when the collective advances.
    fn start_all_reduce(&self, region: Region<f32>, op: ReduceOp) -> Result<Pending, CommError> {
        self.start_all_reduce_packed(region, Packing::F32, op)
    }

    /// Starts the reduction of the numbers that `packing` says are in the memory of `region`, and returns at once.
    ///
    /// # Numerics
    /// 16-bit floats are reduced in `f32`, in rank order, and rounded once.
    ///
    /// # Errors
    /// None of its own; a mismatch, of the packing too, is found when the collective advances.
    fn start_all_reduce_packed(
        &self,
        region: Region<f32>,
        packing: Packing,
        op: ReduceOp,
    ) -> Result<Pending, CommError>;

    /// Starts the sum of the nodes of all ranks in the order of `tree`, and returns at once.
    ///
    /// [`Pending::wait`] returns the same nodes: the total is in the first one on every rank; what is in the others is
    /// not specified, their memory is for reuse.
    ///
    /// # Shapes
    /// `nodes`: those that [cover](ShardTree::cover) the [shards of this rank](ShardTree::shards_of), in order, each
    /// with a region of the same length.
    ///
    /// # Numerics
    /// Bitwise equal to [`ShardTree::fold`] over all shards, for any number of ranks and any cut into regions.
    ///
    /// # Errors
    /// [`CommError::Shards`] with more ranks than shards, [`CommError::Node`] and [`CommError::Length`] with
    /// other nodes than those.
    fn start_tree_reduce(&self, tree: ShardTree, nodes: TreeNodes) -> Result<Pending<TreeNodes>, CommError>;

    /// Does this rank's share of started collectives, as far as it needs nobody to be waited for.
    ///
    /// To be called now and then between the operators of a backward pass; costs tens of nanoseconds when nothing is due.
    ///
    /// # Collective
    /// No: ranks may call it as often as they like.
    ///
    /// # Errors
    /// None of its own.
    fn progress(&self) -> Result<(), CommError>;

    /// Ends all collectives of all ranks, now and later, with [`CommError::Aborted`] by this rank because of `cause`.
    ///
    /// A `cause` that is a [`CommError`] is passed on as it is. Does nothing if the world has failed already.
    ///
    /// # Collective
    /// No: that is what it is for.
    fn abort(&self, cause: &(dyn Error + 'static));

    /// What ended the collectives of this world, as far as this rank knows. Any thread may ask, at any time.
    ///
    /// # Collective
    /// No.
    fn failure(&self) -> Option<CommError>;

    /// The last collectives of this rank on this communicator, oldest first.
    fn flight(&self) -> Vec<OpRecord>;

    /// What this communicator has cost this rank so far.
    fn stats(&self) -> CommStats;

    /// How started reductions go between nodes, the same on all ranks; `None` where there is nothing to choose.
    fn tuning(&self) -> Option<Tuning> {
        None
    }
}

/// [`Communicator`] with element types: implemented for all of them.
///
/// # Collective
/// Every rank, same order, same lengths, as the methods that these call.
///
/// # Errors
/// As the methods that these call.
///
/// # Examples
/// ```
/// use phalanx_comm::{CommError, CommunicatorExt, Options, Rank, WorldSize, run_ranks};
///
/// let sums = run_ranks(WorldSize(3), &Options::default(), |comm| {
///     let mut x = [comm.rank().index() as f32, 1.0];
///     comm.all_reduce_sum(&mut x)?;
///     Ok::<_, CommError>(x)
/// })
/// .expect("no rank fails");
/// assert_eq!(sums, [[3.0, 3.0]; 3]);
/// ```
#[expect(clippy::missing_errors_doc, reason = "said once for all of them")]
pub trait CommunicatorExt: Communicator {
    /// The sum over ranks, in place.
    fn all_reduce_sum<T: Element>(&self, buf: &mut [T]) -> Result<(), CommError> {
        self.all_reduce_in_place(buf.into(), ReduceOp::Sum)
    }

    /// The least over ranks, in place.
    fn all_reduce_min<T: Element>(&self, buf: &mut [T]) -> Result<(), CommError> {
        self.all_reduce_in_place(buf.into(), ReduceOp::Min)
    }

    /// The greatest over ranks, in place.
    fn all_reduce_max<T: Element>(&self, buf: &mut [T]) -> Result<(), CommError> {
        self.all_reduce_in_place(buf.into(), ReduceOp::Max)
    }

    /// This rank's segment of the sum over ranks. Shapes as [`Communicator::reduce_scatter`].
    fn reduce_scatter_sum<T: Element>(
        &self,
        send: &[T],
        counts: &[usize],
        recv: &mut [T],
    ) -> Result<(), CommError> {
        self.reduce_scatter(send.into(), counts, recv.into(), ReduceOp::Sum)
    }

    /// The buffers of all ranks in rank order. Shapes as [`Communicator::all_gather`].
    fn all_gather_into<T: Element>(
        &self,
        send: &[T],
        counts: &[usize],
        recv: &mut [T],
    ) -> Result<(), CommError> {
        self.all_gather(send.into(), counts, recv.into())
    }

    /// A segment to and from every rank. Shapes as [`Communicator::all_to_all`].
    fn all_to_all_into<T: Element>(
        &self,
        send: &[T],
        send_counts: &[usize],
        recv: &mut [T],
        recv_counts: &[usize],
    ) -> Result<(), CommError> {
        self.all_to_all(send.into(), send_counts, recv.into(), recv_counts)
    }
}

impl<C: Communicator + ?Sized> CommunicatorExt for C {}
