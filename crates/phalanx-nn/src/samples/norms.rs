//! Squared lengths of the gradients of samples.

use crate::NnError;
use crate::observe::{ParamObserver, Parameterised};
use crate::params::{ParamId, Params};
use crate::pool::Pool;
use crate::samples::per_sample::PerSample;
use crate::samples::shared::Shared;
use crate::samples::{Coverage, rows_of};
use phalanx_tensor::op::{ConvSamples, SampleRows};
use phalanx_tensor::{Backend, Write};
use std::fmt;

/// `|g_i|^2` of each sample, parameter by parameter and in total.
///
/// # Numerics
/// Exact up to rounding; `f64` from the elements of a gradient or their inner products on. A parameter that several
/// operators use, such as a token table that is also the head, is measured whole.
///
/// # Examples
/// ```
/// use phalanx_nn::{Coverage, FlatSink, Graph, Init, NnError, ParamBuilder, SampleNorms};
/// use phalanx_tensor::{Cpu, Shape};
///
/// let mut params = ParamBuilder::new();
/// let w = params.param("w", [1, 2], Init::Constant(1.0));
/// let graph = Graph::new(Cpu::<f64>::new(), params.finish(), 1)?;
/// let x = graph.input(&[3.0, 4.0, 0.0, 2.0], Shape::from([2, 2]))?;
/// // losses y^2 / 2 with gradients y x: 7 (3, 4) and 2 (0, 2)
/// let losses = x.linear(graph.param(w), None)?.square()?.scale(0.5)?;
///
/// let mut norms = SampleNorms::new(graph.params(), &Coverage::of(&graph)?);
/// norms.begin(2);
/// // backward of the mean loss: the gradient of a sample is twice what it adds to it
/// graph.backward_observed(losses, 0.5, &mut FlatSink::new(&graph)?, &mut norms)?;
/// norms.finish(2.0)?;
/// assert_eq!(norms.total(), [49.0 * 25.0, 4.0 * 4.0]);
/// assert_eq!(norms.of(w), norms.total());
/// # Ok::<(), NnError>(())
/// ```
///
/// # Reference
/// Goodfellow, "Efficient per-example gradient computations", 2015; Li et al., "Large Language Models Can Be Strong
/// Differentially Private Learners", 2022.
///
/// # Deviation
/// Where the elements of a layer's gradient are fewer than the inner products of its rows they are computed, in
/// registers. Grouped convolutions are measured group by group, shared parameters as one.
pub struct SampleNorms<B: Backend> {
    params: Params,
    norms: PerSample,
    shared: Shared<B>,
    pool: Pool<B>,
    error: Option<NnError>,
}

impl<B: Backend> fmt::Debug for SampleNorms<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SampleNorms").field("samples", &self.norms.samples()).finish_non_exhaustive()
    }
}

impl<B: Backend> SampleNorms<B> {
    /// For a model's parameters, used as `coverage` says.
    #[must_use]
    pub fn new(params: &Params, coverage: &Coverage) -> Self {
        SampleNorms {
            params: params.clone(),
            norms: PerSample::new(coverage.params()),
            shared: Shared::new(coverage),
            pool: Pool::new(),
            error: None,
        }
    }

    /// Forgets everything for a pass over `samples`.
    pub fn begin(&mut self, samples: usize) {
        self.norms.begin(samples);
        self.shared.begin();
        self.error = None;
    }

    /// Ends the pass. `scale` is what turns a sample's part of the pass into its gradient: the number of samples where the
    /// loss was their mean.
    ///
    /// # Errors
    /// [`NnError::SampleRows`] when an operator's rows do not belong to samples, and when the device had too little
    /// memory.
    pub fn finish(&mut self, scale: f64) -> Result<(), NnError> {
        self.error.take().map_or(Ok(()), Err)?;
        self.norms.finish(scale * scale);
        Ok(())
    }

    /// Of a parameter, one number a sample.
    ///
    /// # Panics
    /// For a parameter of another model.
    #[must_use]
    pub fn of(&self, param: ParamId) -> &[f64] {
        self.norms.of(param)
    }

    /// Of all parameters, one number a sample.
    #[must_use]
    pub fn total(&self) -> &[f64] {
        self.norms.totals()
    }

    fn measure(&mut self, backend: &B, op: &Parameterised<'_, B>) -> Result<(), NnError> {
        let rows = rows_of(op, self.norms.samples())?;
        if self.shared.concerns(op) {
            let norms = &mut self.norms;
            return self.shared.take(backend, &self.params, op, rows.samples, |param, i, gradient| {
                norms.of_mut(param)[i] = backend.dot(gradient, gradient);
            });
        }
        match *op {
            Parameterised::Linear { weight, bias, x, dy, nk, .. } => {
                backend.linear_norms(rows, nk, x, dy, self.norms.of_mut(weight));
                if let Some(bias) = bias {
                    self.sums(backend, rows, nk[0], dy, bias)?;
                }
            }
            Parameterised::Conv2d { weight, bias, spec, act, x, y, argmax, dy } => {
                let (weight, bias) = self.norms.both_mut(weight, bias);
                backend.conv2d_norms(&ConvSamples { spec, act, x, y, argmax, dy }, weight, bias);
            }
            Parameterised::Embedding { table, ids, dy, d, .. } => {
                backend.gather_norms(rows, d, ids, dy, self.norms.of_mut(table));
            }
            Parameterised::Norm { gain, bias, x, stats, dy, d, .. } => {
                let len = rows.samples * d;
                let mut gains = self.pool.take(backend, len)?;
                backend.norm_gains(rows, d, x, stats, dy, backend.view_mut(&mut gains.buf, 0..len));
                let view = backend.view(&gains.buf, 0..len);
                backend.row_dots(d, view, view, self.norms.of_mut(gain));
                self.pool.give(gains);
                if let Some(bias) = bias {
                    self.sums(backend, rows, d, dy, bias)?;
                }
            }
            Parameterised::Offset { param, dy, len, .. } => self.sums(backend, rows, len, dy, param)?,
        }
        Ok(())
    }

    /// Of a parameter whose gradient is the sum of the rows.
    fn sums(
        &mut self,
        backend: &B,
        rows: SampleRows,
        d: usize,
        dy: B::View<'_>,
        param: ParamId,
    ) -> Result<(), NnError> {
        let SampleRows { samples, steps } = rows;
        if steps == 1 {
            backend.row_dots(d, dy, dy, self.norms.of_mut(param));
            return Ok(());
        }
        let len = samples * d;
        let mut sums = self.pool.take(backend, len)?;
        backend.sum_axis(dy, samples, steps, d, Write::Set, backend.view_mut(&mut sums.buf, 0..len));
        let view = backend.view(&sums.buf, 0..len);
        backend.row_dots(d, view, view, self.norms.of_mut(param));
        self.pool.give(sums);
        Ok(())
    }
}

impl<B: Backend> ParamObserver<B> for SampleNorms<B> {
    fn observe(&mut self, backend: &B, op: Parameterised<'_, B>) {
        if self.error.is_none() {
            self.error = self.measure(backend, &op).err();
        }
    }
}
