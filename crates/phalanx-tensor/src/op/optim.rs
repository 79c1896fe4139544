//! Optimizer updates over the flat parameter buffer, each one pass over memory.

use crate::backend::Memory;

/// Numbers of an SGD update.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SgdStep {
    /// Learning rate.
    pub lr: f64,
    /// Factor of the velocity, 0 for none.
    pub momentum: f64,
    /// Whether the step looks ahead along the velocity.
    pub nesterov: bool,
    /// Decoupled weight decay: parameters shrink by `lr * weight_decay`.
    pub weight_decay: f64,
    /// Factor on the gradient: 1, or less where its norm is clipped.
    pub grad_scale: f64,
}

/// Numbers of an `AdamW` update.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamWStep {
    /// Learning rate.
    pub lr: f64,
    /// Decay of the first moment.
    pub beta1: f64,
    /// Decay of the second moment.
    pub beta2: f64,
    /// Added to the root of the second moment.
    pub eps: f64,
    /// Decoupled weight decay: parameters shrink by `lr * weight_decay`.
    pub weight_decay: f64,
    /// Updates done, this one included, for the bias corrections.
    pub step: u64,
    /// Factor on the gradient: 1, or less where its norm is clipped.
    pub grad_scale: f64,
}

/// Numbers of an `AdaGrad` update.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdaGradStep {
    /// Learning rate.
    pub lr: f64,
    /// Added to the root of the accumulator.
    pub eps: f64,
    /// Decoupled weight decay: parameters shrink by `lr * weight_decay`.
    pub weight_decay: f64,
    /// Factor on the gradient: 1, or less where its norm is clipped.
    pub grad_scale: f64,
}

/// Updates of parameters from gradients; all buffers have one length.
///
/// The order within an element is that of `torch.optim`: decay of the parameter first, then the step.
pub trait OptimOps: Memory {
    /// `v = momentum v + g; p = p (1 - lr wd) - lr (nesterov ? g + momentum v : v)`, with `g` scaled first.
    ///
    /// With `momentum` 0 the velocity is neither read nor written and may be empty.
    fn sgd(
        &self,
        step: &SgdStep,
        params: Self::ViewMut<'_>,
        grads: Self::View<'_>,
        velocity: Self::ViewMut<'_>,
    );

    /// `m, v` decaying means of `g, g^2`; `p = p (1 - lr wd) - lr mhat / (sqrt(vhat) + eps)`.
    fn adamw(
        &self,
        step: &AdamWStep,
        params: Self::ViewMut<'_>,
        grads: Self::View<'_>,
        first: Self::ViewMut<'_>,
        second: Self::ViewMut<'_>,
    );

    /// `v += g^2; p = p (1 - lr wd) - lr g / (sqrt(v) + eps)`.
    fn adagrad(
        &self,
        step: &AdaGradStep,
        params: Self::ViewMut<'_>,
        grads: Self::View<'_>,
        sum: Self::ViewMut<'_>,
    );
}
