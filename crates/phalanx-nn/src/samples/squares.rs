//! Squares of the gradients of samples, coordinate by coordinate.

use crate::NnError;
use crate::observe::{ParamObserver, Parameterised};
use crate::params::{ParamId, Params, Span};
use crate::pool::Pool;
use crate::samples::gradient::add_sample_gradient;
use crate::samples::shared::Shared;
use crate::samples::{Coverage, rows_of};
use phalanx_tensor::op::{BinaryKind, Mat, MatmulSpec, SampleRows, Strided, UnaryKind};
use phalanx_tensor::{Backend, Float, Shape, Write};
use std::fmt;

/// `sum_i p_ij^2` for each coordinate `j`, summed over passes until it is cleared: what the variance of a coordinate over
/// samples is made of. `p_i` is what sample `i` adds to the gradient of its pass, `1 / samples` of its own gradient where
/// the loss is a mean.
///
/// # Shapes
/// Laid out as the gradient's flat buffer.
///
/// # Numerics
/// In the element type, sample after sample; for a linear layer without a sequence the product of the squares.
pub struct SampleSquares<B: Backend> {
    backend: B,
    params: Params,
    squares: B::Buf,
    samples: usize,
    shared: Shared<B>,
    pool: Pool<B>,
    error: Option<NnError>,
}

impl<B: Backend> fmt::Debug for SampleSquares<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SampleSquares").field("samples", &self.samples).finish_non_exhaustive()
    }
}

impl<B: Backend> SampleSquares<B> {
    /// Zeros for a model's parameters, used as `coverage` says.
    ///
    /// # Errors
    /// When the device has too little memory.
    pub fn new(backend: &B, params: &Params, coverage: &Coverage) -> Result<Self, NnError> {
        Ok(SampleSquares {
            squares: backend.alloc(params.grad_len())?,
            backend: backend.clone(),
            params: params.clone(),
            samples: 0,
            shared: Shared::new(coverage),
            pool: Pool::new(),
            error: None,
        })
    }

    /// Zeros again.
    pub fn clear(&mut self) {
        let whole = 0..self.params.grad_len();
        self.backend.fill(0.0, self.backend.view_mut(&mut self.squares, whole));
    }

    /// Adds the samples of the coming pass.
    pub fn begin(&mut self, samples: usize) {
        (self.samples, self.error) = (samples, None);
        self.shared.begin();
    }

    /// Ends the pass.
    ///
    /// # Errors
    /// As [`SampleNorms::finish`](crate::SampleNorms::finish).
    pub fn finish(&mut self) -> Result<(), NnError> {
        self.error.take().map_or(Ok(()), Err)
    }

    /// The sums.
    #[must_use]
    pub fn view(&self) -> B::View<'_> {
        self.backend.view(&self.squares, 0..self.params.grad_len())
    }

    /// The sums, on the host.
    #[must_use]
    pub fn to_vec(&self) -> Vec<B::Elem> {
        let mut host = vec![B::Elem::ZERO; self.params.grad_len()];
        self.backend.download(self.view(), &mut host);
        host
    }

    fn measure(&mut self, op: &Parameterised<'_, B>) -> Result<(), NnError> {
        let rows = rows_of(op, self.samples)?;
        let backend = &self.backend;
        if self.shared.concerns(op) {
            let (params, squares) = (&self.params, &mut self.squares);
            return self.shared.take(backend, params, op, rows.samples, |param, _, gradient| {
                add_squares(backend, squares, params.span(param), gradient);
            });
        }
        for param in op.params() {
            match *op {
                Parameterised::Linear { weight, x, dy, nk, .. } if param == weight && rows.steps == 1 => {
                    self.squares_of_products(rows, nk, x, dy, weight)?;
                }
                _ => self.sample_by_sample(rows, op, param)?,
            }
        }
        Ok(())
    }

    fn sample_by_sample(
        &mut self,
        rows: SampleRows,
        op: &Parameterised<'_, B>,
        param: ParamId,
    ) -> Result<(), NnError> {
        let (backend, span) = (&self.backend, self.params.span(param));
        let whole = 0..span.len;
        let mut gradient = self.pool.take(backend, span.len)?;
        for i in 0..rows.samples {
            backend.fill(0.0, backend.view_mut(&mut gradient.buf, whole.clone()));
            let out = backend.view_mut(&mut gradient.buf, whole.clone());
            add_sample_gradient(backend, &mut self.pool, op, param, (rows, i), out)?;
            let gradient = backend.view(&gradient.buf, whole.clone());
            add_squares(backend, &mut self.squares, span, gradient);
        }
        self.pool.give(gradient);
        Ok(())
    }

    /// `(dy_i x_j)^2 = dy_i^2 x_j^2`: one product for all samples.
    fn squares_of_products(
        &mut self,
        rows: SampleRows,
        [n, k]: [usize; 2],
        x: B::View<'_>,
        dy: B::View<'_>,
        weight: ParamId,
    ) -> Result<(), NnError> {
        let (backend, m, span) = (&self.backend, rows.samples, self.params.span(weight));
        let (mut x_sq, mut dy_sq) = (self.pool.take(backend, m * k)?, self.pool.take(backend, m * n)?);
        backend.unary(UnaryKind::Square, x, backend.view_mut(&mut x_sq.buf, 0..m * k));
        backend.unary(UnaryKind::Square, dy, backend.view_mut(&mut dy_sq.buf, 0..m * n));
        let (a, b) = (Mat::dense(m, n).t(), Mat::dense(m, k));
        let spec = MatmulSpec { batch: 1, m: n, n: k, k: m, a, b, c: Mat::dense(n, k) };
        let (left, right) = (backend.view(&dy_sq.buf, 0..m * n), backend.view(&x_sq.buf, 0..m * k));
        let out = backend.view_mut(&mut self.squares, span.offset..span.offset + span.len);
        backend.matmul(&spec, left, right, Write::Add, out);
        [x_sq, dy_sq].into_iter().for_each(|buf| self.pool.give(buf));
        Ok(())
    }
}

fn add_squares<B: Backend>(backend: &B, squares: &mut B::Buf, span: Span, gradient: B::View<'_>) {
    let row = Strided::dense(Shape::from([span.len]));
    let out = backend.view_mut(squares, span.offset..span.offset + span.len);
    backend.binary(BinaryKind::Mul, (gradient, row), (gradient, row), Write::Add, out);
}

impl<B: Backend> ParamObserver<B> for SampleSquares<B> {
    fn observe(&mut self, _: &B, op: Parameterised<'_, B>) {
        if self.error.is_none() {
            self.error = self.measure(&op).err();
        }
    }
}
