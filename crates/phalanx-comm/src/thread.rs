//! Ranks as threads of one process.

mod run;

pub use run::{Options, RankFailure, WorldError, run_ranks};

use crate::call::{OpKind, ReduceOp};
use crate::communicator::{Communicator, TreeNodes};
use crate::error::CommError;
use crate::event::Patience;
use crate::failure::Family;
use crate::flight::OpRecord;
use crate::packing::Packing;
use crate::pending::{Driver, Pending, Ticket};
use crate::rank::{Rank, WorldSize};
use crate::shared::{Group, Held, Lane, Region};
use crate::slice::{SliceMut, SliceRef};
use crate::stats::CommStats;
use crate::tree::ShardTree;
use std::error::Error;
use std::sync::Arc;

/// The communicators of a world whose ranks are threads, for callers that start the threads themselves.
///
/// Most callers want [`run_ranks`].
#[derive(Debug)]
pub struct ThreadWorld {
    family: Arc<Family>,
    comms: Vec<ThreadComm>,
}

impl ThreadWorld {
    /// A world of `size` ranks.
    ///
    /// # Errors
    /// [`CommError::NoRanks`] when `size` is 0.
    pub fn new(size: WorldSize, options: &Options) -> Result<Self, CommError> {
        Self::with_patience(size, options, Patience::for_ranks)
    }

    pub(crate) fn with_patience(
        size: WorldSize,
        options: &Options,
        patience: fn(usize) -> Patience,
    ) -> Result<Self, CommError> {
        if size.get() == 0 {
            return Err(CommError::NoRanks);
        }
        let family = Arc::new(Family::new(options.timeout, patience));
        let group = Arc::new(Group::new(&family, size.ranks().collect()));
        let comms = size.ranks().map(|rank| ThreadComm::new(Arc::clone(&group), rank.index())).collect();
        Ok(Self { family, comms })
    }

    /// One communicator a rank, in order.
    pub fn into_comms(self) -> Vec<ThreadComm> {
        self.comms
    }
}

/// The communicator of one rank that is a thread.
///
/// Reductions are fused: a rank reads its share of the coordinates from the buffers of all ranks and writes the result
/// to all of them, one pass over memory and no copies; up to 128 bytes the numbers travel in the exchange itself. A clone is
/// the same rank. Dropped by a rank that others still wait for, it ends their wait with [`CommError::Left`].
#[derive(Clone, Debug)]
pub struct ThreadComm {
    lane: Arc<Lane>,
}

impl ThreadComm {
    fn new(group: Arc<Group>, rank: usize) -> Self {
        Self { lane: Arc::new(Lane::new(group, rank)) }
    }

    /// Tells the others that this rank takes part in no more collectives, as dropping its last clone does: whoever waits
    /// for it gets [`CommError::Left`].
    pub fn leave(&self) {
        self.lane.leave();
    }

    /// Both slices have one type, or the world fails.
    fn check_types(&self, op: OpKind, send: SliceRef<'_>, recv: &SliceMut<'_>) -> Result<(), CommError> {
        if send.dtype() == recv.dtype() {
            return Ok(());
        }
        Err(self.lane.fail(CommError::Types { rank: self.lane.world_rank(), op }))
    }
}

/// Runs `$body` with both slices typed; `check_types` has seen to it that they have one type.
macro_rules! both {
    ($send:expr, $recv:expr, ($s:ident, $r:ident) => $body:expr) => {
        match ($send, $recv) {
            (SliceRef::F32($s), SliceMut::F32($r)) => $body,
            (SliceRef::F64($s), SliceMut::F64($r)) => $body,
            (SliceRef::F16($s), SliceMut::F16($r)) => $body,
            (SliceRef::Bf16($s), SliceMut::Bf16($r)) => $body,
            (SliceRef::U64($s), SliceMut::U64($r)) => $body,
            _ => unreachable!("checked by `check_types`"),
        }
    };
}

impl Communicator for ThreadComm {
    fn rank(&self) -> Rank {
        self.lane.rank()
    }

    fn size(&self) -> WorldSize {
        WorldSize(self.lane.group().size())
    }

    fn all_reduce_in_place(&self, buf: SliceMut<'_>, op: ReduceOp) -> Result<(), CommError> {
        match buf {
            SliceMut::F32(buf) => self.lane.all_reduce(buf, op),
            SliceMut::F64(buf) => self.lane.all_reduce(buf, op),
            SliceMut::F16(buf) => self.lane.all_reduce(buf, op),
            SliceMut::Bf16(buf) => self.lane.all_reduce(buf, op),
            SliceMut::U64(buf) => self.lane.all_reduce(buf, op),
        }
    }

    fn reduce_scatter(
        &self,
        send: SliceRef<'_>,
        counts: &[usize],
        recv: SliceMut<'_>,
        op: ReduceOp,
    ) -> Result<(), CommError> {
        self.check_types(OpKind::ReduceScatter, send, &recv)?;
        both!(send, recv, (send, recv) => self.lane.reduce_scatter(send, counts, recv, op))
    }

    fn all_gather(&self, send: SliceRef<'_>, counts: &[usize], recv: SliceMut<'_>) -> Result<(), CommError> {
        self.check_types(OpKind::AllGather, send, &recv)?;
        both!(send, recv, (send, recv) => self.lane.all_gather(send, counts, recv))
    }

    fn all_to_all(
        &self,
        send: SliceRef<'_>,
        send_counts: &[usize],
        recv: SliceMut<'_>,
        recv_counts: &[usize],
    ) -> Result<(), CommError> {
        self.check_types(OpKind::AllToAll, send, &recv)?;
        both!(send, recv, (send, recv) => self.lane.all_to_all(send, send_counts, recv, recv_counts))
    }

    fn broadcast_bytes(&self, root: Rank, buf: &mut Vec<u8>) -> Result<(), CommError> {
        if root.index() >= self.size().get() {
            return Err(self.lane.fail(CommError::Root { root, size: self.size() }));
        }
        self.lane.broadcast(root, buf)
    }

    fn all_gather_bytes(&self, bytes: &[u8]) -> Result<Vec<Vec<u8>>, CommError> {
        self.lane.all_gather_bytes(bytes)
    }

    fn barrier(&self) -> Result<(), CommError> {
        self.lane.barrier()
    }

    fn split(&self, color: Option<usize>, key: usize) -> Result<Option<Arc<dyn Communicator>>, CommError> {
        let me = self.rank().index();
        let word = |n: usize| n as u64;
        let choice = [u64::from(color.is_some()), word(color.unwrap_or(0)), word(key)];
        let mut all = vec![0_u64; 3 * self.size().get()];
        self.lane.all_gather(&choice, &vec![3; self.size().get()], &mut all)?;
        let split = self.lane.next_split();
        let Some(color) = color else {
            return Ok(None);
        };
        let choice_of = |rank: &usize| &all[3 * rank..3 * rank + 3];
        let mut members: Vec<_> =
            (0..self.size().get()).filter(|r| choice_of(r)[..2] == choice[..2]).collect();
        members.sort_by_key(|rank| (choice_of(rank)[2], *rank));
        let place = members.iter().position(|&rank| rank == me).unwrap_or_default();
        let group = self.lane.group().room(split, color, &members);
        Ok(Some(Arc::new(Self::new(group, place))))
    }

    fn alloc(&self, len: usize) -> Result<Region<f32>, CommError> {
        Ok(Region::zeroed(len))
    }

    fn start_all_reduce_packed(
        &self,
        region: Region<f32>,
        packing: Packing,
        op: ReduceOp,
    ) -> Result<Pending, CommError> {
        let seq = self.lane.start_all_reduce(region, packing, op)?;
        Ok(Pending::started(Arc::clone(&self.lane) as Arc<dyn Driver<Region<f32>>>, Ticket(seq)))
    }

    fn start_tree_reduce(&self, tree: ShardTree, nodes: TreeNodes) -> Result<Pending<TreeNodes>, CommError> {
        let seq = self.lane.start_tree_reduce(tree, nodes)?;
        Ok(Pending::started(Arc::clone(&self.lane) as Arc<dyn Driver<TreeNodes>>, Ticket(seq)))
    }

    fn progress(&self) -> Result<(), CommError> {
        self.lane.progress()
    }

    fn abort(&self, cause: &(dyn Error + 'static)) {
        self.lane.fail(CommError::aborted(self.lane.world_rank(), cause));
    }

    fn failure(&self) -> Option<CommError> {
        self.lane.failure()
    }

    fn flight(&self) -> Vec<OpRecord> {
        self.lane.group().flight(self.lane.rank().index()).records()
    }

    fn stats(&self) -> CommStats {
        self.lane.stats()
    }
}

impl Driver<Region<f32>> for Lane {
    fn test(&self, ticket: Ticket) -> Result<bool, CommError> {
        Self::test(self, ticket.0)
    }

    fn wait(&self, ticket: Ticket) -> Result<Region<f32>, CommError> {
        match Self::wait(self, ticket.0)? {
            Held::Region(region, _) => Ok(region),
            Held::Nodes { .. } => unreachable!("a ticket keeps the type it was given with"),
        }
    }

    fn forget(&self, ticket: Ticket) {
        Self::forget(self, ticket.0);
    }
}

impl Driver<TreeNodes> for Lane {
    fn test(&self, ticket: Ticket) -> Result<bool, CommError> {
        Self::test(self, ticket.0)
    }

    fn wait(&self, ticket: Ticket) -> Result<TreeNodes, CommError> {
        match Self::wait(self, ticket.0)? {
            Held::Nodes { nodes, .. } => Ok(nodes),
            Held::Region(..) => unreachable!("a ticket keeps the type it was given with"),
        }
    }

    fn forget(&self, ticket: Ticket) {
        Self::forget(self, ticket.0);
    }
}
