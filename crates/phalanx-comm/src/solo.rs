//! The communicator of a rank that is alone: every collective is the identity.

use crate::call::{OpKind, ReduceOp};
use crate::communicator::{Communicator, TreeNodes};
use crate::error::CommError;
use crate::flight::{FlightRecorder, OpRecord};
use crate::packing::Packing;
use crate::pending::Pending;
use crate::rank::{Rank, WorldSize};
use crate::shared::Region;
use crate::slice::{SliceMut, SliceRef};
use crate::stats::{CommStats, StatsCell};
use crate::tree::ShardTree;
use std::error::Error;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

/// A world of one rank, without threads or waits.
///
/// # Examples
/// ```
/// use phalanx_comm::{Communicator, CommunicatorExt, SoloComm};
///
/// let comm = SoloComm::new();
/// let mut x = [1.0_f32, 2.0];
/// comm.all_reduce_sum(&mut x)?;
/// assert_eq!(x, [1.0, 2.0]);
/// # Ok::<_, phalanx_comm::CommError>(())
/// ```
#[derive(Debug)]
pub struct SoloComm {
    epoch: Instant,
    last: AtomicU64,
    failure: OnceLock<CommError>,
    flight: FlightRecorder,
    stats: StatsCell,
}

impl Default for SoloComm {
    fn default() -> Self {
        Self::new()
    }
}

impl SoloComm {
    /// The only rank of a world of its own.
    pub fn new() -> Self {
        Self {
            epoch: Instant::now(),
            last: AtomicU64::new(0),
            failure: OnceLock::new(),
            flight: FlightRecorder::new(),
            stats: StatsCell::default(),
        }
    }

    fn record(&self, op: OpKind, bytes: usize) -> Result<(), CommError> {
        if let Some(error) = self.failure.get() {
            return Err(error.clone());
        }
        let seq = self.last.fetch_add(1, Ordering::Relaxed) + 1;
        let now = u64::try_from(self.epoch.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.flight.begin(seq, op, bytes, now);
        self.flight.finish(seq, now);
        self.stats.called(bytes);
        Ok(())
    }

    /// Copies `send` to `recv`, which is all that is left of an exchange; both have the one count.
    fn copy(
        &self,
        op: OpKind,
        send: SliceRef<'_>,
        counts: &[usize],
        mut recv: SliceMut<'_>,
    ) -> Result<(), CommError> {
        self.record(op, send.as_bytes().len())?;
        self.check_len(op, "counts", counts.len(), 1)?;
        self.check_len(op, "elements to send", send.len(), counts[0])?;
        self.check_len(op, "elements to receive", recv.len(), counts[0])?;
        if send.dtype() != recv.dtype() {
            return Err(self.fail(CommError::Types { rank: Rank::ZERO, op }));
        }
        recv.as_bytes_mut().copy_from_slice(send.as_bytes());
        Ok(())
    }

    fn fail(&self, error: CommError) -> CommError {
        self.failure.get_or_init(|| error).clone()
    }

    fn check_len(&self, op: OpKind, what: &'static str, got: usize, need: usize) -> Result<(), CommError> {
        CommError::check_len(Rank::ZERO, op, what, got, need).map_err(|error| self.fail(error))
    }
}

impl Communicator for SoloComm {
    fn rank(&self) -> Rank {
        Rank::ZERO
    }

    fn size(&self) -> WorldSize {
        WorldSize(1)
    }

    fn all_reduce_in_place(&self, buf: SliceMut<'_>, _op: ReduceOp) -> Result<(), CommError> {
        self.record(OpKind::AllReduce, buf.as_ref().as_bytes().len())
    }

    fn reduce_scatter(
        &self,
        send: SliceRef<'_>,
        counts: &[usize],
        recv: SliceMut<'_>,
        _op: ReduceOp,
    ) -> Result<(), CommError> {
        self.copy(OpKind::ReduceScatter, send, counts, recv)
    }

    fn all_gather(&self, send: SliceRef<'_>, counts: &[usize], recv: SliceMut<'_>) -> Result<(), CommError> {
        self.copy(OpKind::AllGather, send, counts, recv)
    }

    fn all_to_all(
        &self,
        send: SliceRef<'_>,
        send_counts: &[usize],
        recv: SliceMut<'_>,
        recv_counts: &[usize],
    ) -> Result<(), CommError> {
        self.check_len(OpKind::AllToAll, "counts", recv_counts.len(), 1)?;
        self.check_len(OpKind::AllToAll, "elements to receive", recv.len(), recv_counts[0])?;
        self.copy(OpKind::AllToAll, send, send_counts, recv)
    }

    fn broadcast_bytes(&self, root: Rank, buf: &mut Vec<u8>) -> Result<(), CommError> {
        self.record(OpKind::Broadcast, buf.len())?;
        if root != Rank::ZERO {
            return Err(self.fail(CommError::Root { root, size: self.size() }));
        }
        Ok(())
    }

    fn all_gather_bytes(&self, bytes: &[u8]) -> Result<Vec<Vec<u8>>, CommError> {
        self.record(OpKind::AllGatherBytes, bytes.len())?;
        Ok(vec![bytes.to_vec()])
    }

    fn barrier(&self) -> Result<(), CommError> {
        self.record(OpKind::Barrier, 0)
    }

    fn split(&self, color: Option<usize>, _key: usize) -> Result<Option<Arc<dyn Communicator>>, CommError> {
        self.record(OpKind::AllGatherBytes, 0)?;
        Ok(color.map(|_| Arc::new(Self::new()) as Arc<dyn Communicator>))
    }

    fn alloc(&self, len: usize) -> Result<Region<f32>, CommError> {
        Ok(Region::zeroed(len))
    }

    fn start_all_reduce_packed(
        &self,
        region: Region<f32>,
        _packing: Packing,
        _op: ReduceOp,
    ) -> Result<Pending, CommError> {
        self.record(OpKind::AllReduce, size_of_val(&*region))?;
        Ok(Pending::ready(region))
    }

    fn start_tree_reduce(&self, tree: ShardTree, nodes: TreeNodes) -> Result<Pending<TreeNodes>, CommError> {
        let op = OpKind::TreeReduce;
        self.record(op, nodes.iter().map(|(_, region)| size_of_val(&**region)).sum())?;
        let call = tree.reduction(Rank::ZERO, self.size(), Rank::ZERO, &nodes);
        call.map_err(|error| self.fail(error))?;
        Ok(Pending::ready(nodes))
    }

    fn progress(&self) -> Result<(), CommError> {
        self.failure.get().map_or(Ok(()), |error| Err(error.clone()))
    }

    fn abort(&self, cause: &(dyn Error + 'static)) {
        self.failure.get_or_init(|| CommError::aborted(Rank::ZERO, cause));
    }

    fn failure(&self) -> Option<CommError> {
        self.failure.get().cloned()
    }

    fn flight(&self) -> Vec<OpRecord> {
        self.flight.records()
    }

    fn stats(&self) -> CommStats {
        self.stats.read()
    }
}
