//! Sums along axes, and the scalars that every step reports about a flat buffer.

use crate::backend::{Memory, Write};

/// Sums over a flat buffer, taken in one pass.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Moments {
    /// `sum x^2`.
    pub sum_sq: f64,
    /// `sum |x|`.
    pub sum_abs: f64,
    /// How many elements are infinite or NaN. The sums are then not finite either.
    pub nonfinite: u64,
}

/// Reductions.
pub trait ReduceOps: Memory {
    /// Sums over the middle extent: `x` is `outer x len x inner`, `out` is `outer x inner`.
    fn sum_axis(
        &self,
        x: Self::View<'_>,
        outer: usize,
        len: usize,
        inner: usize,
        write: Write,
        out: Self::ViewMut<'_>,
    );

    /// The greatest along the middle extent; a NaN gives NaN.
    fn max_axis(&self, x: Self::View<'_>, outer: usize, len: usize, inner: usize, out: Self::ViewMut<'_>);

    /// Sums of squares and magnitudes of a flat buffer.
    ///
    /// # Numerics
    /// Elements are widened to `f64` before they are squared. Blocks of 4096 are summed in sixteen lanes, blocks are
    /// added in order: the same bits for every vector width.
    fn moments(&self, x: Self::View<'_>) -> Moments;

    /// `sum x y`, in the arithmetic of [`ReduceOps::moments`].
    fn dot(&self, x: Self::View<'_>, y: Self::View<'_>) -> f64;
}
