//! The communicator of one rank that is a process.

use crate::lane::Lane;
use crate::started::Held;
use phalanx_comm::cost::{Choice, Tuning};
use phalanx_comm::{
    CommError, CommStats, Communicator, Driver, OpKind, OpRecord, Packing, Pending, Rank, ReduceOp, Region,
    ShardTree, SliceMut, SliceRef, Ticket, TreeNodes, WorldSize,
};
use std::error::Error;
use std::sync::Arc;

/// The communicator of one rank over MPI. A clone is the same rank.
///
/// # Numerics
/// Sums are in rank order, with the bits of ranks as threads; but started reductions over several nodes sum the ranks of each
/// node first, in rank order, and then the nodes, in the order of their first ranks. Numbers that fit into an announcement
/// are summed in rank order always. 16-bit floats are summed in `f32` and rounded once.
#[derive(Clone, Debug)]
pub struct MpiComm {
    pub(crate) lane: Arc<Lane>,
}

impl MpiComm {
    /// Both slices have one type, or the world fails.
    fn check_types(&self, op: OpKind, send: SliceRef<'_>, recv: &SliceMut<'_>) -> Result<(), CommError> {
        if send.dtype() == recv.dtype() {
            return Ok(());
        }
        Err(self.lane.family.fail(CommError::Types { rank: self.lane.world_rank(), op }))
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

impl Communicator for MpiComm {
    fn rank(&self) -> Rank {
        Rank(self.lane.me)
    }

    fn size(&self) -> WorldSize {
        WorldSize(self.lane.size())
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
        if root.index() >= self.lane.size() {
            return Err(self.lane.family.fail(CommError::Root { root, size: self.size() }));
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
        let lane = &self.lane;
        let word = |n: usize| n as u64;
        let choice = [u64::from(color.is_some()), word(color.unwrap_or(0)), word(key)];
        let mut all = vec![0_u64; 3 * lane.size()];
        lane.all_gather(&choice, &vec![3; lane.size()], &mut all)?;
        let split = lane.next_split();
        let choice_of = |rank: usize| &all[3 * rank..3 * rank + 3];
        // the colors of MPI are small numbers: that of the lowest rank of each group
        let first = (0..lane.size()).find(|rank| choice_of(*rank)[..2] == choice[..2]);
        let mut members: Vec<_> =
            (0..lane.size()).filter(|rank| choice_of(*rank)[..2] == choice[..2]).collect();
        members.sort_by_key(|rank| (choice_of(*rank)[2], *rank));
        let place = members.iter().position(|rank| *rank == lane.me).unwrap_or_default();
        let handle = lane.data.split(color.and(first), place).map_err(|error| lane.broken(&error))?;
        let Some(handle) = handle else {
            return Ok(None);
        };
        let id = phalanx_comm::backend::digest(&[
            usize::try_from(lane.id).unwrap_or(usize::MAX),
            usize::try_from(split).unwrap_or(usize::MAX),
            first.unwrap_or_default(),
        ]);
        let members = members.into_iter().map(|rank| lane.members[rank]).collect();
        let part = Lane::new(Arc::clone(&lane.family), id, handle, members);
        let part = part.map_err(|error| lane.broken(&error))?;
        Ok(Some(Arc::new(Self { lane: Arc::new(part) })))
    }

    /// Memory that the ranks of this node can map. Not collective here.
    fn alloc(&self, len: usize) -> Result<Region<f32>, CommError> {
        self.lane.family.segments.region(len).map_err(|error| self.lane.broken(&error))
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
        self.lane.family.fail(CommError::aborted(self.lane.world_rank(), cause));
    }

    fn failure(&self) -> Option<CommError> {
        self.lane.family.listen().err()
    }

    fn flight(&self) -> Vec<OpRecord> {
        self.lane.flight.records()
    }

    fn stats(&self) -> CommStats {
        self.lane.stats.read()
    }

    fn tuning(&self) -> Option<Tuning> {
        let tuning = self.lane.tuning();
        (tuning.topology.nodes > 1 || tuning.choice != Choice::Auto).then_some(tuning)
    }
}

impl Driver<Region<f32>> for Lane {
    fn test(&self, ticket: Ticket) -> Result<bool, CommError> {
        Self::test(self, ticket.0)
    }

    fn wait(&self, ticket: Ticket) -> Result<Region<f32>, CommError> {
        match Self::wait(self, ticket.0)? {
            Held::Region(region) => Ok(region),
            Held::Nodes(_) => unreachable!("a ticket keeps the type it was given with"),
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
            Held::Nodes(nodes) => Ok(nodes),
            Held::Region(_) => unreachable!("a ticket keeps the type it was given with"),
        }
    }

    fn forget(&self, ticket: Ticket) {
        Self::forget(self, ticket.0);
    }
}
