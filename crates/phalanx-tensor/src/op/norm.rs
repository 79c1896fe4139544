//! Normalisations: fused layer norm, RMS norm and batch norm.

use crate::backend::{Memory, Write};

/// Normalisations. Rows are the leading extents, `d` the normalised one.
pub trait NormOps: Memory {
    /// `y = (x - mean) rstd gain + bias` a row; `stats` takes mean and `1/sqrt(var + eps)`, two numbers a row.
    #[expect(clippy::too_many_arguments, reason = "the operands of the formula")]
    fn layer_norm(
        &self,
        d: usize,
        eps: f64,
        x: Self::View<'_>,
        gain: Self::View<'_>,
        bias: Self::View<'_>,
        y: Self::ViewMut<'_>,
        stats: Self::ViewMut<'_>,
    );
    /// Gradients of [`NormOps::layer_norm`].
    #[expect(clippy::too_many_arguments, reason = "the operands of the formula")]
    fn layer_norm_grad(
        &self,
        d: usize,
        x: Self::View<'_>,
        gain: Self::View<'_>,
        stats: Self::View<'_>,
        dy: Self::View<'_>,
        dgain: (Write, Self::ViewMut<'_>),
        dbias: (Write, Self::ViewMut<'_>),
        dx: (Write, Self::ViewMut<'_>),
    );
    /// `y = x rstd gain` a row with `rstd = 1/sqrt(mean(x^2) + eps)`; `stats` takes it.
    fn rms_norm(
        &self,
        d: usize,
        eps: f64,
        x: Self::View<'_>,
        gain: Self::View<'_>,
        y: Self::ViewMut<'_>,
        stats: Self::ViewMut<'_>,
    );
    /// Gradients of [`NormOps::rms_norm`].
    #[expect(clippy::too_many_arguments, reason = "the operands of the formula")]
    fn rms_norm_grad(
        &self,
        d: usize,
        x: Self::View<'_>,
        gain: Self::View<'_>,
        stats: Self::View<'_>,
        dy: Self::View<'_>,
        dgain: (Write, Self::ViewMut<'_>),
        dx: (Write, Self::ViewMut<'_>),
    );
    /// Sums over images and cells of each channel: `sum x` and `sum x y`, in `f64`, into `sums` as `[c][2]`.
    /// `x` and `y` are `n x c x hw`.
    fn channel_sums(
        &self,
        n: usize,
        c: usize,
        hw: usize,
        x: Self::View<'_>,
        y: Self::View<'_>,
        sums: &mut [f64],
    );
    /// `out (+)= alpha[c] x + beta[c] y + gamma[c]` for each channel; coefficients are `[c][3]`.
    #[expect(clippy::too_many_arguments, reason = "the operands of the formula")]
    fn channel_affine(
        &self,
        n: usize,
        c: usize,
        hw: usize,
        coefficients: &[f64],
        x: Self::View<'_>,
        y: Self::View<'_>,
        write: Write,
        out: Self::ViewMut<'_>,
    );
}
