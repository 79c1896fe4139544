//! The axes along which gradients form sets, as types: a rule over ranks cannot be given samples.

use std::fmt::Debug;

mod sealed {
    pub trait Sealed {}
    impl Sealed for super::Samples {}
    impl Sealed for super::Ranks {}
    impl Sealed for super::Tasks {}
}

/// What the members of a set of gradients are: samples, ranks or tasks.
///
/// Time is no axis of sets: its gradients come one after the other, to a [`Transform`](crate::Transform).
///
/// # Examples
/// ```compile_fail
/// use phalanx_grad::{GradSet, Ranks, RowSet, Samples};
/// let samples = RowSet::<Samples>::from_slices(&[&[1.0]]).unwrap();
/// let ranks: &dyn GradSet<Ranks> = &samples;
/// ```
pub trait Axis: sealed::Sealed + Copy + Debug + Send + Sync + 'static {
    /// The name in messages, in the plural.
    const NAME: &'static str;
}

/// Gradients of single samples, or of chunks of a batch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Samples;

/// Gradients of ranks, or of clients.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ranks;

/// Gradients of the losses of several tasks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tasks;

impl Axis for Samples {
    const NAME: &'static str = "samples";
}

impl Axis for Ranks {
    const NAME: &'static str = "ranks";
}

impl Axis for Tasks {
    const NAME: &'static str = "tasks";
}
