//! What stands between a bucket of one rank's gradient and its sum over ranks.

use phalanx_comm::{CommError, Communicator, Region};
use std::fmt::Debug;
use std::sync::Arc;

/// A bucket of the flat gradient, as a compressor has to know it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BucketLayout {
    /// Its elements.
    pub len: usize,
}

/// Sums the buckets of a gradient over ranks, in fewer bytes than they have.
///
/// A step [starts](Self::start) every bucket once, in their order, while the backward pass still writes later ones, and
/// then [finishes](Self::finish) all of them. What a rank passes in is its part of the mean over the batch: the parts are
/// added, not averaged.
///
/// # Collective
/// Every rank calls the methods in the same order with the same arguments, but for the numbers. All ranks get the same
/// bits.
///
/// # Errors
/// Any [`CommError`] of this or another rank, for every method that returns one.
///
/// # Panics
/// [`start`](Self::start) for a bucket that was not [prepared](Self::prepare).
pub trait Compressor: Send + Debug {
    /// Its name in a run file.
    fn name(&self) -> &'static str;

    /// Takes memory for buckets of these shapes. Called once, before the first step.
    ///
    /// # Errors
    /// As the trait says.
    fn prepare(&mut self, comm: &Arc<dyn Communicator>, buckets: &[BucketLayout]) -> Result<(), CommError>;

    /// Takes a finished bucket of this rank and begins to send it. Waits for nobody.
    ///
    /// `step` counts from 1.
    ///
    /// # Errors
    /// As the trait says.
    fn start(&mut self, step: u64, bucket: usize, part: Region<f32>) -> Result<(), CommError>;

    /// Waits for the others and gives every bucket back, reduced, in `parts`: one a bucket, empty until then.
    ///
    /// # Errors
    /// As the trait says.
    fn finish(&mut self, parts: &mut [Region<f32>]) -> Result<(), CommError>;

    /// Bytes that this rank passed to collectives in the last step.
    fn sent_bytes(&self) -> u64;
}
