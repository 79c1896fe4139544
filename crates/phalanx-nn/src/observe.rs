//! What per-sample gradient statistics need: the input and the output gradient of every operator with parameters.

use crate::params::ParamId;
use phalanx_tensor::Backend;
use phalanx_tensor::op::ConvSpec;

/// An operator with parameters as the backward pass meets it. Gradients are of the loss times its seed.
#[derive(Debug)]
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
    /// A parameter, or a run of its elements, added to every row: `dy` is `rows x len`.
    Offset {
        /// The parameter.
        param: ParamId,
        /// Its first element that is added.
        at: usize,
        /// The gradient of the output.
        dy: B::View<'a>,
        /// How many.
        rows: usize,
        /// Elements of a row.
        len: usize,
    },
}

// Views are copies, whether or not the device's handle is one.
impl<B: Backend> Clone for Parameterised<'_, B> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<B: Backend> Copy for Parameterised<'_, B> {}

impl<B: Backend> Parameterised<'_, B> {
    /// The name of the operator, as the method of [`Var`](crate::Var).
    #[must_use]
    pub fn operator(&self) -> &'static str {
        match self {
            Parameterised::Linear { .. } => "linear",
            Parameterised::Conv2d { .. } => "conv2d",
            Parameterised::Embedding { .. } => "gather",
            Parameterised::Norm { bias: Some(_), .. } => "layer_norm",
            Parameterised::Norm { bias: None, .. } => "rms_norm",
            Parameterised::Offset { .. } => "add",
        }
    }

    /// Its parameters: a weight, table, gain or offset, and a bias.
    pub fn params(&self) -> impl Iterator<Item = ParamId> + use<B> {
        let (first, bias) = match *self {
            Parameterised::Linear { weight, bias, .. } | Parameterised::Conv2d { weight, bias, .. } => {
                (weight, bias)
            }
            Parameterised::Norm { gain, bias, .. } => (gain, bias),
            Parameterised::Embedding { table, .. } => (table, None),
            Parameterised::Offset { param, .. } => (param, None),
        };
        std::iter::once(first).chain(bias)
    }
}

/// Sees each operator with parameters during the backward pass and changes nothing.
///
/// Parameters used in other ways (a product of two computed tensors) are not reported:
/// [`Coverage`](crate::Coverage) finds them.
pub trait ParamObserver<B: Backend> {
    /// One operator, in the order of the backward pass.
    fn observe(&mut self, backend: &B, op: Parameterised<'_, B>);
}

impl<B: Backend, O: ParamObserver<B> + ?Sized> ParamObserver<B> for &mut O {
    fn observe(&mut self, backend: &B, op: Parameterised<'_, B>) {
        (**self).observe(backend, op);
    }
}

/// Sees every operator where there is one to see.
impl<B: Backend, O: ParamObserver<B>> ParamObserver<B> for Option<O> {
    fn observe(&mut self, backend: &B, op: Parameterised<'_, B>) {
        if let Some(observer) = self {
            observer.observe(backend, op);
        }
    }
}

/// Both see every operator.
impl<B: Backend, O: ParamObserver<B>, P: ParamObserver<B>> ParamObserver<B> for (O, P) {
    fn observe(&mut self, backend: &B, op: Parameterised<'_, B>) {
        self.0.observe(backend, op);
        self.1.observe(backend, op);
    }
}
