//! Lengths of the gradients of single samples, operator by operator, without keeping those gradients.
//!
//! A batch is `samples` runs of `steps` rows; row `i steps + t` is step `t` of sample `i`. Every result is added to
//! one `f64` a sample on the host.

use super::{Activation, ConvSpec};
use crate::backend::Memory;

/// How the rows of an operator belong to samples.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SampleRows {
    /// Samples.
    pub samples: usize,
    /// Rows of each: positions of a sequence, or 1.
    pub steps: usize,
}

impl SampleRows {
    /// Rows of all samples.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.samples * self.steps
    }
}

/// What a convolution met in a step: see [`ConvOps::conv2d_grad`](super::ConvOps::conv2d_grad).
#[derive(Clone, Copy, Debug)]
pub struct ConvSamples<'a, B: Memory> {
    /// The extents; images are samples.
    pub spec: ConvSpec,
    /// What the convolution did after its sums.
    pub act: Activation,
    /// The input.
    pub x: B::View<'a>,
    /// The output, read only with an activation.
    pub y: B::View<'a>,
    /// Positions of maxima, with pooling.
    pub argmax: Option<B::IndexView<'a>>,
    /// The gradient of the output.
    pub dy: B::View<'a>,
}

/// Statistics over samples.
///
/// # Numerics
/// Products are summed in the element type as those of gradients are, their squares and products with other
/// gradients in `f64`.
pub trait SampleOps: Memory + Sized {
    /// Adds `sum a_i b_i` of each row of `d` elements; a `b` of one row serves all.
    fn row_dots(&self, d: usize, a: Self::View<'_>, b: Self::View<'_>, out: &mut [f64]);

    /// Adds `|sum_t dy_t x_t^T|^2`, the squared length of a linear layer's weight gradient: `x` has `k` columns, `dy`
    /// has `n`.
    ///
    /// # Numerics
    /// `|x|^2 |dy|^2` for one step; `sum_ts <x_t, x_s> <dy_t, dy_s>` where that is cheaper than the products
    /// themselves, `steps (n + k) < n k`; else the elements of the gradient, in registers.
    fn linear_norms(
        &self,
        rows: SampleRows,
        nk: [usize; 2],
        x: Self::View<'_>,
        dy: Self::View<'_>,
        out: &mut [f64],
    );

    /// Adds the squared lengths of the gradients of a convolution's weight and bias.
    fn conv2d_norms(&self, conv: &ConvSamples<'_, Self>, weight: &mut [f64], bias: Option<&mut [f64]>);

    /// Adds the inner products of the gradients of a convolution's weight and bias with `w` and `b`.
    fn conv2d_products(
        &self,
        conv: &ConvSamples<'_, Self>,
        w: (Self::View<'_>, &mut [f64]),
        b: Option<(Self::View<'_>, &mut [f64])>,
    );

    /// Adds the squared length of the gradient of a table from which rows of `d` were picked.
    fn gather_norms(
        &self,
        rows: SampleRows,
        d: usize,
        ids: Self::IndexView<'_>,
        dy: Self::View<'_>,
        out: &mut [f64],
    );

    /// The gradient of the gain of a layer or RMS normalisation for each sample, `samples x d`: `stats` has two numbers a
    /// row or one.
    fn norm_gains(
        &self,
        rows: SampleRows,
        d: usize,
        x: Self::View<'_>,
        stats: Self::View<'_>,
        dy: Self::View<'_>,
        gains: Self::ViewMut<'_>,
    );
}
