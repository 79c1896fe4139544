//! The first steps in full, as gradients that change fast compress badly.

use crate::compressor::{BucketLayout, Compressor, Traffic};
use crate::error::CompressError;
use phalanx_comm::{CommError, Communicator, Pending, ReduceOp, Region};
use phalanx_grad::StateTensor;
use std::sync::Arc;

/// Sends gradients as they are for some steps, then by another compressor.
#[derive(Debug)]
pub struct Delayed<C> {
    inner: C,
    start_step: u64,
    comm: Option<Arc<dyn Communicator>>,
    pending: Vec<Pending>,
    /// Bytes sent in full in the last step; none once the other compressor sends.
    in_full: Option<u64>,
}

impl<C: Compressor> Delayed<C> {
    /// `inner`, after `start_step` steps in full.
    pub const fn new(inner: C, start_step: u64) -> Self {
        Self { inner, start_step, comm: None, pending: Vec::new(), in_full: None }
    }
}

impl<C: Compressor> Compressor for Delayed<C> {
    fn name(&self) -> &'static str {
        self.inner.name()
    }

    fn prepare(&mut self, comm: &Arc<dyn Communicator>, buckets: &[BucketLayout]) -> Result<(), CommError> {
        self.comm = Some(Arc::clone(comm));
        self.inner.prepare(comm, buckets)
    }

    fn start(&mut self, step: u64, bucket: usize, part: Region<f32>) -> Result<(), CommError> {
        let Some(comm) = self.comm.as_ref().filter(|_| step <= self.start_step) else {
            self.in_full = None;
            return self.inner.start(step, bucket, part);
        };
        let before = if bucket == 0 { 0 } else { self.in_full.unwrap_or_default() };
        self.in_full = Some(before + size_of_val(&*part) as u64);
        self.pending.push(comm.start_all_reduce(part, ReduceOp::Sum)?);
        Ok(())
    }

    fn finish(&mut self, parts: &mut [Region<f32>]) -> Result<(), CommError> {
        if self.in_full.is_none() {
            return self.inner.finish(parts);
        }
        for (pending, part) in self.pending.drain(..).zip(parts) {
            *part = pending.wait()?;
        }
        Ok(())
    }

    fn sent_bytes(&self) -> u64 {
        self.in_full.unwrap_or_else(|| self.inner.sent_bytes())
    }

    fn traffic(&self, bucket: &BucketLayout) -> Traffic {
        self.inner.traffic(bucket)
    }

    fn memory(&self) -> &[f32] {
        self.inner.memory()
    }

    fn memory_mut(&mut self) -> &mut [f32] {
        self.inner.memory_mut()
    }

    fn state(&self) -> Vec<StateTensor> {
        self.inner.state()
    }

    fn restore(&mut self, state: &[StateTensor]) -> Result<(), CompressError> {
        self.inner.restore(state)
    }

    fn forget(&mut self) {
        self.inner.forget();
    }
}
