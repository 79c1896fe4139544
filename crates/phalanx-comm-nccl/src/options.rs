//! How a communicator behaves.

use std::time::Duration;

/// Settings of an [`NcclComm`](crate::NcclComm), the same on every rank.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NcclOptions {
    /// How long a communicator may take to be made, and a collective to be complete on the device after it was enqueued,
    /// before all are aborted.
    pub timeout: Duration,
    /// The first so many calls are compared over the host before NCCL sees them; a step of training makes its buckets'
    /// calls again and again, so that those of the first steps show a difference.
    pub compared_first: u64,
    /// Later, every so manyth call is compared, with a digest of all before it.
    pub compared_every: u64,
    /// Bytes of neighbouring parts of a gradient that an [`NcclExchange`](crate::NcclExchange) sends at once: what is less waits
    /// for its neighbour.
    pub send_bytes: usize,
}

impl Default for NcclOptions {
    /// Two minutes; 64 calls, then every 1024th; 16 MiB, from where on links between GPUs are busy with the numbers.
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(120),
            compared_first: 64,
            compared_every: 1024,
            send_bytes: 16 << 20,
        }
    }
}

impl NcclOptions {
    /// Whether call `seq`, from 1, is compared.
    pub(crate) const fn compares(&self, seq: u64) -> bool {
        seq <= self.compared_first || (self.compared_every > 0 && seq.is_multiple_of(self.compared_every))
    }
}
