//! What stands between a bucket of one rank's gradient and its sum over ranks.

use crate::error::CompressError;
use phalanx_comm::{CommError, Communicator, Region};
use phalanx_grad::StateTensor;
use std::fmt::Debug;
use std::sync::Arc;

/// A bucket of the flat gradient, as a compressor has to know it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BucketLayout {
    /// Its elements.
    pub len: usize,
    /// The matrices in it, in order and apart; what they leave is vectors.
    pub matrices: Vec<Matrix>,
}

/// A parameter of two dims or more, as the matrix `[out, rest]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Matrix {
    /// Where it begins in its bucket.
    pub offset: usize,
    /// Its first dim.
    pub rows: usize,
    /// The product of its other dims.
    pub cols: usize,
}

/// What a rank passes to collectives for one bucket, in bytes: for predictions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Reduced while the backward pass may still run.
    pub overlapped: u64,
    /// Reduced after it.
    pub afterwards: u64,
    /// Gathered of all ranks after it.
    pub gathered: u64,
}

impl Traffic {
    /// Of a bucket that travels as it is.
    #[must_use]
    pub const fn plain(len: usize) -> Self {
        Self { overlapped: 4 * len as u64, afterwards: 0, gathered: 0 }
    }

    /// All of it.
    #[must_use]
    pub const fn bytes(self) -> u64 {
        self.overlapped + self.afterwards + self.gathered
    }
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

    /// What a rank passes to collectives for such a bucket, once it compresses.
    fn traffic(&self, bucket: &BucketLayout) -> Traffic;

    /// What this rank owes to the others: the part of its gradients that it has not sent, as long as the flat gradient.
    /// Empty for compressors that remember nothing.
    fn memory(&self) -> &[f32] {
        &[]
    }

    /// As [`memory`](Self::memory), to be replaced by that of a checkpoint.
    fn memory_mut(&mut self) -> &mut [f32] {
        &mut []
    }

    /// What it keeps from step to step that is the same on every rank.
    fn state(&self) -> Vec<StateTensor> {
        Vec::new()
    }

    /// Takes back what [`state`](Self::state) gave, after [`prepare`](Self::prepare).
    ///
    /// # Errors
    /// [`CompressError::State`] for the state of other buckets.
    fn restore(&mut self, state: &[StateTensor]) -> Result<(), CompressError> {
        let _ = state;
        Ok(())
    }

    /// Forgets what it remembers, on all ranks: after a step whose numbers were not finite.
    fn forget(&mut self) {
        self.memory_mut().fill(0.0);
    }
}
