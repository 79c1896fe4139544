//! From a set of gradients to one: the interface of every rule over samples, ranks and tasks.

use crate::{Axis, GradError, GradSet, Gram, Rejected, StateReader, StateTensor};
use phalanx_tensor::{Backend, Cpu};
use std::fmt::Debug;

/// A rule that makes one gradient of a set.
///
/// Object-safe. The loop asks [`is_mean`](Self::is_mean) first: over ranks the mean is an all-reduce of buckets that
/// overlaps with backward, over samples it is ordinary backward, and neither forms a set.
///
/// # Shapes
/// `n x d` in, `d` out.
///
/// # Collective
/// Reads the set, which may communicate: every rank calls it with the same rule and step.
pub trait Reduce<A: Axis, B: Backend = Cpu<f32>>: Debug + Send {
    /// The name, as in a run file.
    fn name(&self) -> &'static str;

    /// Whether the result is the mean over all samples behind the set.
    fn is_mean(&self) -> bool {
        false
    }

    /// Momentum `beta` that each member of the set applies to its own gradients before it hands them over,
    /// `m = beta m + (1 - beta) g` from `m = 0`; kept by whoever makes the set, 0 for none.
    fn momentum(&self) -> f64 {
        0.0
    }

    /// Writes the one gradient to `out_d`.
    ///
    /// `step` counts from 1; what is random depends on it and not on the number of calls.
    ///
    /// # Errors
    /// [`GradError::TooFew`] when the rule is not defined for so few gradients; what reading the set may bring.
    fn reduce(
        &mut self,
        step: u64,
        set: &dyn GradSet<A, B>,
        out_d: B::ViewMut<'_>,
        scratch: &mut Scratch,
    ) -> Result<(), GradError>;

    /// Whose gradients had no part in the last result, and why, in the order of names.
    fn rejected(&self) -> &[Rejected] {
        &[]
    }

    /// Everything that later steps depend on, the same on every rank.
    fn state(&self) -> Vec<StateTensor> {
        Vec::new()
    }

    /// What later steps depend on beside [`state`](Self::state), of which each rank has the coordinates that the last set's
    /// [shard](crate::Shard) held; under the same names on every rank.
    fn state_in_parts(&self) -> Vec<StateTensor> {
        Vec::new()
    }

    /// Takes back what [`state`](Self::state) gave, and the parts of [`state_in_parts`](Self::state_in_parts) joined: all
    /// coordinates, on every rank.
    ///
    /// # Errors
    /// [`GradError::StateUnknown`], [`GradError::StateMissing`] and their like for the state of another rule.
    fn restore(&mut self, state: &[StateTensor]) -> Result<(), GradError> {
        StateReader::new(self.name(), state).finish()
    }
}

/// Memory that rules use and leave behind, so that a warmed-up step allocates nothing.
///
/// What a rule finds in it has no meaning.
#[derive(Clone, Debug, Default)]
pub struct Scratch {
    pub(crate) gram: Gram,
    pub(crate) weights: Vec<f64>,
    values: Vec<f64>,
}

impl Scratch {
    /// Nothing yet: it grows with what is asked of it.
    #[must_use]
    pub fn new() -> Self {
        Scratch::default()
    }

    /// `len` numbers of any value.
    #[must_use]
    pub fn values(&mut self, len: usize) -> &mut [f64] {
        grown(&mut self.values, len)
    }
}

/// The first `len` elements of a vector that has at least so many afterwards.
pub(crate) fn grown(held: &mut Vec<f64>, len: usize) -> &mut [f64] {
    if held.len() < len {
        held.resize(len, 0.0);
    }
    &mut held[..len]
}

/// A boxed rule is a rule.
impl<A: Axis, B: Backend> Reduce<A, B> for Box<dyn Reduce<A, B>> {
    fn name(&self) -> &'static str {
        (**self).name()
    }
    fn is_mean(&self) -> bool {
        (**self).is_mean()
    }
    fn momentum(&self) -> f64 {
        (**self).momentum()
    }
    fn reduce(
        &mut self,
        step: u64,
        set: &dyn GradSet<A, B>,
        out_d: B::ViewMut<'_>,
        scratch: &mut Scratch,
    ) -> Result<(), GradError> {
        (**self).reduce(step, set, out_d, scratch)
    }
    fn rejected(&self) -> &[Rejected] {
        (**self).rejected()
    }
    fn state(&self) -> Vec<StateTensor> {
        (**self).state()
    }
    fn state_in_parts(&self) -> Vec<StateTensor> {
        (**self).state_in_parts()
    }
    fn restore(&mut self, state: &[StateTensor]) -> Result<(), GradError> {
        (**self).restore(state)
    }
}
