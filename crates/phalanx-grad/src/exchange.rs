//! Sums of gradients over ranks on the device that holds them.

use phalanx_comm::CommError;
use phalanx_tensor::Memory;
use std::fmt::Debug;
use std::ops::Range;

/// Adds up the flat gradients of all ranks where they lie, part by part, while the backward pass goes on.
///
/// For devices whose memory a [`Communicator`](phalanx_comm::Communicator) of the host cannot reach. The loop starts the
/// buckets of a step in one order on all ranks, goes on with the backward pass, and finishes once.
///
/// # Collective
/// [`start`](Self::start) and [`finish`](Self::finish): every rank, in the same order, with the same ranges. If one rank
/// fails, the others get an error from one of these or from [`check`](Self::check), in bounded time.
///
/// # Errors
/// Every method fails with what has become of the exchange, on this or another rank; a failed exchange stays so.
pub trait GradientExchange<M: Memory>: Debug + Send {
    /// Starts the sum over ranks of a part of `gradient`, in place, and returns at once.
    ///
    /// What the device was given before is done first. Until [`finish`](Self::finish), nothing else reads or writes the
    /// part.
    ///
    /// # Errors
    /// As all methods.
    fn start(&mut self, gradient: &mut M::Buf, part: Range<usize>) -> Result<(), CommError>;

    /// Whatever the device is given from now on comes after the sums that were started. The host need not wait.
    ///
    /// # Errors
    /// As all methods.
    fn finish(&mut self) -> Result<(), CommError>;

    /// Whether the sums that the device has done so far are good: to be asked once something was read from the device,
    /// and before it is used.
    ///
    /// # Errors
    /// As all methods.
    fn check(&self) -> Result<(), CommError>;
}
