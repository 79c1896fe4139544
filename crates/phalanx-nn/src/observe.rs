//! What per-sample gradient statistics need: the input and the output gradient of every operator with parameters.

use crate::params::ParamId;
use phalanx_tensor::Backend;
use phalanx_tensor::op::ConvSpec;

/// An operator with parameters as the backward pass meets it. Gradients are of the loss times its seed.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Parameterised<'a, B: Backend> {
    /// `y = x w^T + b`: `x` is `rows x k`, `dy` (before the activation) `rows x n`.
    Linear {
        /// The weight, `n x k`.
        weight: ParamId,
        /// The bias.
        bias: Option<ParamId>,
        /// The input.
        x: B::View<'a>,
        /// The gradient of the output.
        dy: B::View<'a>,
        /// Rows: samples, or samples times positions.
        rows: usize,
        /// Outputs and inputs.
        nk: [usize; 2],
    },
    /// A convolution: `dy` is the gradient of the output after the fused activation, with the output itself and the
    /// positions of pooled maxima beside it.
    Conv2d {
        /// The weight.
        weight: ParamId,
        /// The bias.
        bias: Option<ParamId>,
        /// The extents.
        spec: ConvSpec,
        /// What the convolution does after its sums.
        act: phalanx_tensor::op::Activation,
        /// The input.
        x: B::View<'a>,
        /// The output.
        y: B::View<'a>,
        /// Positions of maxima, with pooling.
        argmax: Option<B::IndexView<'a>>,
        /// The gradient of the output.
        dy: B::View<'a>,
    },
    /// Rows of a table: `dy` is `rows x d`.
    Embedding {
        /// The table.
        table: ParamId,
        /// Which rows.
        ids: B::IndexView<'a>,
        /// The gradient of the output.
        dy: B::View<'a>,
        /// How many.
        rows: usize,
        /// Width of a row.
        d: usize,
    },
    /// A layer or RMS normalisation: `stats` as the operator left them, 2 or 1 numbers a row.
    Norm {
        /// The gain.
        gain: ParamId,
        /// The bias, none for RMS.
        bias: Option<ParamId>,
        /// The input.
        x: B::View<'a>,
        /// Mean and inverse deviation, or the latter alone.
        stats: B::View<'a>,
        /// The gradient of the output.
        dy: B::View<'a>,
        /// How many.
        rows: usize,
        /// Width of a row.
        d: usize,
    },
}

/// Sees each operator with parameters during the backward pass and changes nothing.
///
/// Parameters used in other ways (an addition, a product of two computed tensors) are not reported.
pub trait ParamObserver<B: Backend> {
    /// One operator, in the order of the backward pass.
    fn observe(&mut self, backend: &B, op: Parameterised<'_, B>);
}
