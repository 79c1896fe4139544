//! Normalisation layers.

use crate::NnError;
use crate::graph::Mode;
use crate::params::{Init, ParamBuilder, ParamId};
use crate::var::{ConvOptions, Var};
use phalanx_tensor::{Backend, Float, Write};

/// Layer normalisation over the last dim, with gain and bias.
#[derive(Clone, Copy, Debug)]
pub struct LayerNorm {
    weight: ParamId,
    bias: ParamId,
    eps: f64,
}

impl LayerNorm {
    /// Gain 1, bias 0; `PyTorch`'s `eps` is 1e-5.
    pub fn new(params: &mut ParamBuilder, width: usize, eps: f64) -> Self {
        let weight = params.param("weight", [width], Init::Constant(1.0));
        LayerNorm { weight, bias: params.param("bias", [width], Init::Constant(0.0)), eps }
    }

    /// Applies the layer.
    ///
    /// # Errors
    /// Those of [`Var::layer_norm`].
    pub fn forward<'g, B: Backend>(&self, x: Var<'g, B>) -> Result<Var<'g, B>, NnError> {
        let graph = x.graph();
        x.layer_norm(graph.param(self.weight), graph.param(self.bias), self.eps)
    }
}

/// Root-mean-square normalisation over the last dim, with gain.
#[derive(Clone, Copy, Debug)]
pub struct RmsNorm {
    weight: ParamId,
    eps: f64,
}

impl RmsNorm {
    /// Gain 1.
    pub fn new(params: &mut ParamBuilder, width: usize, eps: f64) -> Self {
        RmsNorm { weight: params.param("weight", [width], Init::Constant(1.0)), eps }
    }

    /// Applies the layer.
    ///
    /// # Errors
    /// Those of [`Var::rms_norm`].
    pub fn forward<'g, B: Backend>(&self, x: Var<'g, B>) -> Result<Var<'g, B>, NnError> {
        let graph = x.graph();
        x.rms_norm(graph.param(self.weight), self.eps)
    }
}

/// Batch normalisation of channels, with running statistics for evaluation.
///
/// # Collective
/// In training every rank, when the graph sums statistics over ranks; else each rank normalises by its own share of
/// the batch, as `PyTorch` does by default.
#[derive(Clone, Copy, Debug)]
pub struct BatchNorm2d {
    weight: ParamId,
    bias: ParamId,
    mean: ParamId,
    variance: ParamId,
    eps: f64,
    momentum: f64,
}

impl BatchNorm2d {
    /// `PyTorch`'s defaults: `eps` 1e-5, a tenth of the batch's statistics into the running ones at each step.
    pub fn new(params: &mut ParamBuilder, channels: usize) -> Self {
        BatchNorm2d {
            weight: params.param("weight", [channels], Init::Constant(1.0)),
            bias: params.param("bias", [channels], Init::Constant(0.0)),
            mean: params.statistic("running_mean", [channels], Init::Constant(0.0)),
            variance: params.statistic("running_var", [channels], Init::Constant(1.0)),
            eps: 1e-5,
            momentum: 0.1,
        }
    }

    /// Applies the layer; in training, moves the running statistics (the variance unbiased, as `PyTorch`).
    ///
    /// # Errors
    /// Those of [`Var::batch_norm`].
    pub fn forward<'g, B: Backend>(&self, x: Var<'g, B>) -> Result<Var<'g, B>, NnError> {
        let graph = x.graph();
        if graph.mode() == Mode::Eval {
            return self.forward_frozen(x);
        }
        let s = x.shape();
        let (y, mean, variance) = x.batch_norm(graph.param(self.weight), graph.param(self.bias), self.eps)?;
        #[expect(clippy::cast_precision_loss, reason = "batches are far below 2^52")]
        let count = (s.len() / s[1].max(1)) as f64;
        let unbiased = if count > 1.0 { count / (count - 1.0) } else { 1.0 };
        graph.move_statistic(self.mean, self.momentum, &mean)?;
        let variance: Vec<f64> = variance.iter().map(|v| v * unbiased).collect();
        graph.move_statistic(self.variance, self.momentum, &variance)?;
        Ok(y)
    }

    /// Applies the layer by its running statistics, which stay: what [`BatchNorm2d::forward`] does in [`Mode::Eval`],
    /// here for a layer that is kept fixed in training. Samples do not see each other in it.
    ///
    /// # Errors
    /// Those of [`Var::sub`].
    pub fn forward_frozen<'g, B: Backend>(&self, x: Var<'g, B>) -> Result<Var<'g, B>, NnError> {
        let (graph, s) = (x.graph(), x.shape());
        let channels = graph.params().spec(self.weight).shape.len();
        let column = |v: Var<'g, B>| v.reshape([channels, 1, 1]);
        let rstd = graph.param(self.variance).add_scalar(self.eps)?.rsqrt()?;
        // Gain and bias are a convolution of one tap a channel, which tells what each sample adds to their gradients.
        let cells = s.product(2.min(s.rank())..s.rank());
        let planes = x.reshape([s.len() / (channels * cells).max(1), channels, cells, 1])?;
        let normed = planes.sub(column(graph.param(self.mean))?)?.mul(column(rstd)?)?;
        if graph.mode() == Mode::Eval && graph.backend().host_view(&[]).is_none() {
            // without gradients to tell apart: a device launches kernels for each group of a convolution
            let (gain, bias) = (column(graph.param(self.weight))?, column(graph.param(self.bias))?);
            return normed.mul(gain)?.add(bias)?.reshape(s);
        }
        let gain = graph.param(self.weight).reshape([channels, 1, 1, 1])?;
        let each = ConvOptions { groups: channels, ..ConvOptions::default() };
        normed.conv2d(gain, Some(graph.param(self.bias)), each)?.reshape(s)
    }
}

impl<B: Backend> crate::Graph<B> {
    /// `running = (1 - momentum) running + momentum now`.
    fn move_statistic(&self, id: ParamId, momentum: f64, now: &[f64]) -> Result<(), NnError> {
        let mut inner = self.inner.borrow_mut();
        let inner = &mut *inner;
        let span = inner.params.span(id);
        let range = span.offset..span.offset + span.len;
        if inner.backend.host_view(&[]).is_none() {
            // where it lies: to read it is to wait for all that the device was given
            let now: Vec<B::Elem> = now.iter().map(|now| B::Elem::from_f64(*now)).collect();
            let (mut held, mut moved) = (inner.take(span.len)?, inner.take(span.len)?);
            let b = &inner.backend;
            let all = 0..span.len;
            b.upload(&now, b.view_mut(&mut moved.buf, all.clone()));
            let flat = b.view(&inner.flat, range.clone());
            b.affine(1.0, 0.0, flat, Write::Set, b.view_mut(&mut held.buf, all.clone()));
            for (share, of) in [(-momentum, &held), (momentum, &moved)] {
                let to = b.view_mut(&mut inner.flat, range.clone());
                b.affine(share, 0.0, b.view(&of.buf, all.clone()), Write::Add, to);
            }
            inner.pool.give(held);
            inner.pool.give(moved);
            return Ok(());
        }
        let mut held = vec![B::Elem::default(); span.len];
        inner.backend.download(inner.backend.view(&inner.flat, range.clone()), &mut held);
        for (held, now) in held.iter_mut().zip(now) {
            *held = B::Elem::from_f64((1.0 - momentum) * held.to_f64() + momentum * now);
        }
        inner.backend.upload(&held, inner.backend.view_mut(&mut inner.flat, range));
        Ok(())
    }
}
