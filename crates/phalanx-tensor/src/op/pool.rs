//! Pooling over windows of images, in NCHW.

use crate::backend::{Memory, Write};

/// The extents of a pooling.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolSpec {
    /// Images times channels.
    pub planes: usize,
    /// Input height and width.
    pub hw: [usize; 2],
    /// Window height and width.
    pub kernel: [usize; 2],
    /// Steps down and right.
    pub stride: [usize; 2],
    /// Cells around the input that count as minus infinity (max) or zero (average, counted in the divisor).
    pub padding: [usize; 2],
}

impl PoolSpec {
    /// Output height and width.
    #[must_use]
    pub fn out_hw(&self) -> [usize; 2] {
        [0, 1].map(|i| (self.hw[i] + 2 * self.padding[i] - self.kernel[i]) / self.stride[i] + 1)
    }
}

/// Pooling.
pub trait PoolOps: Memory {
    /// The greatest of each window, and its position in its plane; the first of equals, and a NaN wins.
    fn max_pool2d(
        &self,
        spec: &PoolSpec,
        x: Self::View<'_>,
        y: Self::ViewMut<'_>,
        argmax: Self::IndexViewMut<'_>,
    );
    /// `dx += dy` at the positions of the maxima.
    fn max_pool2d_grad(
        &self,
        spec: &PoolSpec,
        argmax: Self::IndexView<'_>,
        dy: Self::View<'_>,
        dx: Self::ViewMut<'_>,
    );
    /// `y = x` at the positions of the maxima: the forward-mode rule.
    fn max_pool2d_tangent(
        &self,
        spec: &PoolSpec,
        argmax: Self::IndexView<'_>,
        x: Self::View<'_>,
        y: Self::ViewMut<'_>,
    );
    /// The mean of each window, padding counted.
    fn avg_pool2d(&self, spec: &PoolSpec, x: Self::View<'_>, y: Self::ViewMut<'_>);
    /// Spreads `dy` over the windows.
    fn avg_pool2d_grad(&self, spec: &PoolSpec, dy: Self::View<'_>, write: Write, dx: Self::ViewMut<'_>);
}
