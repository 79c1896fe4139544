//! Inner products of the gradients of samples with one vector.

use crate::NnError;
use crate::observe::{ParamObserver, Parameterised};
use crate::params::{ParamId, Params};
use crate::pool::Pool;
use crate::samples::per_sample::PerSample;
use crate::samples::{Coverage, rows_of};
use phalanx_tensor::op::{ConvSamples, Mat, MatmulSpec, SampleRows};
use phalanx_tensor::{Backend, Write};
use std::fmt;

/// `<g_i, v>` of each sample, parameter by parameter and in total, for a vector `v` that is laid out as the gradient:
/// the mean gradient, whose inner products feed the inner-product test.
///
/// `v` is known after the backward pass that it comes from, so a [`Recording`](crate::Recording) shows the pass again.
///
/// # Numerics
/// Products with the weight are those of a forward pass, in the element type; the rest in `f64`.
///
/// # Examples
/// ```
/// use phalanx_nn::{Coverage, FlatSink, Graph, Init, NnError, ParamBuilder, Recording, SampleProducts};
/// use phalanx_tensor::{Cpu, Memory, Shape};
///
/// let mut params = ParamBuilder::new();
/// let w = params.param("w", [1, 2], Init::Constant(1.0));
/// let graph = Graph::new(Cpu::<f64>::new(), params.finish(), 1)?;
/// let x = graph.input(&[3.0, 4.0, 0.0, 2.0], Shape::from([2, 2]))?;
/// let losses = x.linear(graph.param(w), None)?;
/// let coverage = Coverage::of(&graph)?;
///
/// let (mut sink, mut recording) = (FlatSink::new(&graph)?, Recording::new());
/// graph.backward_observed(losses, 0.5, &mut sink, &mut recording)?;
/// let mean = sink.to_vec();
/// let mut products = SampleProducts::new(graph.params(), &coverage, &*mean);
/// products.begin(2);
/// recording.replay(graph.backend(), &mut products)?;
/// products.finish(2.0)?;
/// // the mean of (3, 4) and (0, 2) is (1.5, 3)
/// assert_eq!(products.total(), [16.5, 6.0]);
/// # Ok::<(), NnError>(())
/// ```
pub struct SampleProducts<'v, B: Backend> {
    params: Params,
    direction: B::View<'v>,
    products: PerSample,
    pool: Pool<B>,
    error: Option<NnError>,
}

impl<B: Backend> fmt::Debug for SampleProducts<'_, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SampleProducts").field("samples", &self.products.samples()).finish_non_exhaustive()
    }
}

impl<'v, B: Backend> SampleProducts<'v, B> {
    /// With `direction`, laid out as the gradient's flat buffer of `params`.
    #[must_use]
    pub fn new(params: &Params, coverage: &Coverage, direction: B::View<'v>) -> Self {
        SampleProducts {
            params: params.clone(),
            direction,
            products: PerSample::new(coverage.params()),
            pool: Pool::new(),
            error: None,
        }
    }

    /// Forgets everything for a pass over `samples`.
    pub fn begin(&mut self, samples: usize) {
        self.products.begin(samples);
        self.error = None;
    }

    /// Ends the pass; `scale` as in [`SampleNorms::finish`](crate::SampleNorms::finish).
    ///
    /// # Errors
    /// As there.
    pub fn finish(&mut self, scale: f64) -> Result<(), NnError> {
        self.error.take().map_or(Ok(()), Err)?;
        self.products.finish(scale);
        Ok(())
    }

    /// Of a parameter, one number a sample.
    ///
    /// # Panics
    /// For a parameter of another model.
    #[must_use]
    pub fn of(&self, param: ParamId) -> &[f64] {
        self.products.of(param)
    }

    /// Of all parameters, one number a sample.
    #[must_use]
    pub fn total(&self) -> &[f64] {
        self.products.totals()
    }

    fn measure(&mut self, backend: &B, op: &Parameterised<'_, B>) -> Result<(), NnError> {
        let rows = rows_of(op, self.products.samples())?;
        let direction = self.direction;
        let of = |param: ParamId| {
            let span = self.params.span(param);
            backend.part(&direction, span.offset..span.offset + span.len)
        };
        match *op {
            Parameterised::Linear { weight, bias, x, dy, nk: [n, k], .. } => {
                let m = rows.rows();
                let (a, b, c) = (Mat::dense(m, k), Mat::dense(n, k).t(), Mat::dense(m, n));
                let spec = MatmulSpec { batch: 1, m, n, k, a, b, c };
                let mut y = self.pool.take(backend, m * n)?;
                backend.matmul(&spec, x, of(weight), Write::Set, backend.view_mut(&mut y.buf, 0..m * n));
                let view = backend.view(&y.buf, 0..m * n);
                backend.row_dots(rows.steps * n, view, dy, self.products.of_mut(weight));
                self.pool.give(y);
                if let Some(bias) = bias {
                    let v = of(bias);
                    self.sums(backend, rows, n, dy, (bias, v))?;
                }
            }
            Parameterised::Conv2d { weight, bias, spec, act, x, y, argmax, dy } => {
                let (v_w, v_b) = (of(weight), bias.map(of));
                let (weight, bias) = self.products.both_mut(weight, bias);
                let conv = ConvSamples { spec, act, x, y, argmax, dy };
                backend.conv2d_products(&conv, (v_w, weight), v_b.zip(bias));
            }
            Parameterised::Embedding { table, ids, dy, d, .. } => {
                let len = rows.rows() * d;
                let mut picked = self.pool.take(backend, len)?;
                backend.gather_rows(d, of(table), ids, backend.view_mut(&mut picked.buf, 0..len));
                let view = backend.view(&picked.buf, 0..len);
                backend.row_dots(rows.steps * d, view, dy, self.products.of_mut(table));
                self.pool.give(picked);
            }
            Parameterised::Norm { gain, bias, x, stats, dy, d, .. } => {
                let (v_gain, v_bias) = (of(gain), bias.map(|bias| (bias, of(bias))));
                let len = rows.samples * d;
                let mut gains = self.pool.take(backend, len)?;
                backend.norm_gains(rows, d, x, stats, dy, backend.view_mut(&mut gains.buf, 0..len));
                let view = backend.view(&gains.buf, 0..len);
                backend.row_dots(d, view, v_gain, self.products.of_mut(gain));
                self.pool.give(gains);
                if let Some(bias) = v_bias {
                    self.sums(backend, rows, d, dy, bias)?;
                }
            }
            Parameterised::Offset { param, at, dy, len, .. } => {
                let v = of(param);
                let v = backend.part(&v, at..at + len);
                self.sums(backend, rows, len, dy, (param, v))?;
            }
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
        (param, v): (ParamId, B::View<'_>),
    ) -> Result<(), NnError> {
        let SampleRows { samples, steps } = rows;
        let len = samples * d;
        let mut sums = self.pool.take(backend, len)?;
        backend.sum_axis(dy, samples, steps, d, Write::Set, backend.view_mut(&mut sums.buf, 0..len));
        backend.row_dots(d, backend.view(&sums.buf, 0..len), v, self.products.of_mut(param));
        self.pool.give(sums);
        Ok(())
    }
}

impl<B: Backend> ParamObserver<B> for SampleProducts<'_, B> {
    fn observe(&mut self, backend: &B, op: Parameterised<'_, B>) {
        if self.error.is_none() {
            self.error = self.measure(backend, &op).err();
        }
    }
}
