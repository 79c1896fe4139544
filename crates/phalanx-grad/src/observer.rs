//! Those who look at gradients and change nothing.

use crate::{Axis, GradSet};
use phalanx_tensor::{Backend, Cpu};
use std::fmt::Debug;

/// Sees the gradients of a step along one axis.
///
/// It gets a set to read and returns nothing, so that removing it leaves the losses of a run bit-equal. What it finds
/// it keeps, and gives to whoever made it.
///
/// # Collective
/// Reading a set may communicate. An error of that is the observer's to keep: the communicator has then failed on
/// every rank, and the loop's next collective says so.
pub trait Observer<A: Axis, B: Backend = Cpu<f32>>: Debug + Send {
    /// The name, for messages and prices.
    fn name(&self) -> &'static str;

    /// Looks at the gradients of a step, counted from 1.
    fn observe(&mut self, step: u64, set: &dyn GradSet<A, B>);
}
