//! A communicator whose k-th collective fails, to drive every error path above it.

use phalanx_comm::cost::Tuning;
use phalanx_comm::{
    CommError, CommStats, Communicator, OpRecord, Packing, Pending, Rank, ReduceOp, Region, ShardTree,
    SliceMut, SliceRef, TreeNodes, WorldSize,
};
use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Passes everything on to `inner`, and fails one collective of this rank instead of making it.
///
/// The other ranks see [`CommError::Aborted`] by this rank. Communicators that are [split](Communicator::split) off count
/// on their own and don't fail.
///
/// # Examples
/// ```
/// use phalanx_comm::{Communicator, SoloComm};
/// use phalanx_testkit::Faulty;
/// use std::sync::Arc;
///
/// let comm = Faulty::new(Arc::new(SoloComm::new()), 1);
/// assert!(comm.barrier().is_ok());
/// assert_eq!(comm.barrier().unwrap_err().to_string(), "rank 0 gave up: fault injected into collective 1");
/// ```
#[derive(Debug)]
pub struct Faulty {
    inner: Arc<dyn Communicator>,
    countdown: u64,
    calls: AtomicU64,
}

/// What a [`Faulty`] communicator fails with.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("fault injected into collective {call}")]
struct Injected {
    call: u64,
}

impl Faulty {
    /// Lets `countdown` collectives pass and fails the next.
    pub fn new(inner: Arc<dyn Communicator>, countdown: u64) -> Self {
        Self { inner, countdown, calls: AtomicU64::new(0) }
    }

    /// Collectives begun so far: run once without a fault to learn how many there are to fail.
    pub fn calls(&self) -> u64 {
        self.calls.load(Ordering::Relaxed)
    }

    fn count(&self) -> Result<(), CommError> {
        let call = self.calls.fetch_add(1, Ordering::Relaxed);
        if call != self.countdown {
            return Ok(());
        }
        let fault = Injected { call };
        self.inner.abort(&fault);
        Err(CommError::aborted(self.inner.rank(), &fault))
    }
}

impl Communicator for Faulty {
    fn rank(&self) -> Rank {
        self.inner.rank()
    }

    fn size(&self) -> WorldSize {
        self.inner.size()
    }

    fn all_reduce_in_place(&self, buf: SliceMut<'_>, op: ReduceOp) -> Result<(), CommError> {
        self.count()?;
        self.inner.all_reduce_in_place(buf, op)
    }

    fn reduce_scatter(
        &self,
        send: SliceRef<'_>,
        counts: &[usize],
        recv: SliceMut<'_>,
        op: ReduceOp,
    ) -> Result<(), CommError> {
        self.count()?;
        self.inner.reduce_scatter(send, counts, recv, op)
    }

    fn all_gather(&self, send: SliceRef<'_>, counts: &[usize], recv: SliceMut<'_>) -> Result<(), CommError> {
        self.count()?;
        self.inner.all_gather(send, counts, recv)
    }

    fn all_to_all(
        &self,
        send: SliceRef<'_>,
        send_counts: &[usize],
        recv: SliceMut<'_>,
        recv_counts: &[usize],
    ) -> Result<(), CommError> {
        self.count()?;
        self.inner.all_to_all(send, send_counts, recv, recv_counts)
    }

    fn broadcast_bytes(&self, root: Rank, buf: &mut Vec<u8>) -> Result<(), CommError> {
        self.count()?;
        self.inner.broadcast_bytes(root, buf)
    }

    fn all_gather_bytes(&self, bytes: &[u8]) -> Result<Vec<Vec<u8>>, CommError> {
        self.count()?;
        self.inner.all_gather_bytes(bytes)
    }

    fn barrier(&self) -> Result<(), CommError> {
        self.count()?;
        self.inner.barrier()
    }

    fn split(&self, color: Option<usize>, key: usize) -> Result<Option<Arc<dyn Communicator>>, CommError> {
        self.count()?;
        self.inner.split(color, key)
    }

    fn alloc(&self, len: usize) -> Result<Region<f32>, CommError> {
        self.inner.alloc(len)
    }

    fn start_all_reduce_packed(
        &self,
        region: Region<f32>,
        packing: Packing,
        op: ReduceOp,
    ) -> Result<Pending, CommError> {
        self.count()?;
        self.inner.start_all_reduce_packed(region, packing, op)
    }

    fn start_tree_reduce(&self, tree: ShardTree, nodes: TreeNodes) -> Result<Pending<TreeNodes>, CommError> {
        self.count()?;
        self.inner.start_tree_reduce(tree, nodes)
    }

    fn progress(&self) -> Result<(), CommError> {
        self.inner.progress()
    }

    fn abort(&self, cause: &(dyn Error + 'static)) {
        self.inner.abort(cause);
    }

    fn failure(&self) -> Option<CommError> {
        self.inner.failure()
    }

    fn flight(&self) -> Vec<OpRecord> {
        self.inner.flight()
    }

    fn stats(&self) -> CommStats {
        self.inner.stats()
    }

    fn tuning(&self) -> Option<Tuning> {
        self.inner.tuning()
    }
}
