//! The axis of time: from gradient after gradient to updates of the parameters.

use crate::{GradError, GradLayout, StateTensor};
use phalanx_tensor::Backend;
use std::fmt::Debug;

/// What a transform learns about a step besides the gradient.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct UpdateStep {
    /// Updates done, this one included: the first is 1. Steps that were skipped do not count.
    pub step: u64,
    /// Samples behind this gradient.
    pub samples: u64,
    /// Learning rate of this step: the base rate times the schedule.
    pub lr: f64,
    /// Factor on the gradient before all else: 1, or less where its norm is clipped.
    pub grad_scale: f64,
    /// Squared length of the gradient, before `grad_scale`.
    pub grad_norm_sq: f64,
    /// Sum of the magnitudes of the gradient, before `grad_scale`.
    pub grad_norm_l1: f64,
}

impl UpdateStep {
    /// Squared length of the gradient as the transform sees it, after `grad_scale`.
    #[must_use]
    pub fn scaled_norm_sq(&self) -> f64 {
        self.grad_scale * self.grad_scale * self.grad_norm_sq
    }
}

/// Folds gradients over steps: an optimizer.
///
/// Every rank holds the whole state and does the same update, from the same bits to the same bits.
///
/// # Shapes
/// `params`, `grads` and every moment: flat, in the [`GradLayout`] given to [`prepare`](Self::prepare).
///
/// # Collective
/// No. What all ranks must share arrives in [`UpdateStep`].
pub trait Transform<B: Backend>: Debug + Send {
    /// The name, as in a run file.
    fn name(&self) -> &'static str;

    /// Makes the state for parameters of a layout, as before the first step.
    ///
    /// # Errors
    /// [`GradError::Tensor`] when the device has too little memory.
    fn prepare(&mut self, backend: &B, layout: &GradLayout) -> Result<(), GradError>;

    /// Updates the parameters with the gradient of a step.
    ///
    /// The gradient must be finite: it becomes part of the state.
    ///
    /// # Errors
    /// [`GradError::Unprepared`] before [`prepare`](Self::prepare). On an error nothing was changed.
    fn update(
        &mut self,
        backend: &B,
        step: &UpdateStep,
        params: B::ViewMut<'_>,
        grads: B::View<'_>,
    ) -> Result<(), GradError>;

    /// Everything that the next update depends on, copied to the host.
    fn state(&self, backend: &B) -> Vec<StateTensor>;

    /// Takes back what [`state`](Self::state) gave, after [`prepare`](Self::prepare); further updates are bitwise
    /// those that would have followed.
    ///
    /// # Errors
    /// [`GradError::StateMissing`], [`GradError::StateUnknown`], [`GradError::StateLength`] and
    /// [`GradError::StateType`] when the state is of another transform, another model or another element type.
    fn restore(&mut self, backend: &B, state: &[StateTensor]) -> Result<(), GradError>;
}
