//! Sums, means and maxima along a dimension.

use super::Var;
use crate::NnError;
use crate::graph::Op;
use phalanx_tensor::{Backend, MAX_DIMS, Shape, Write};

#[expect(clippy::missing_errors_doc, reason = "stated on the type")]
impl<'g, B: Backend> Var<'g, B> {
    /// The sum along one dim, which disappears.
    pub fn sum_axis(self, dim: usize) -> Result<Self, NnError> {
        let s = self.shape();
        if dim >= s.rank() {
            return Err(Self::err("sum_axis", "a dim of the tensor", &[s]));
        }
        let (outer, len, inner_len) = (s.product(0..dim), s[dim], s.product(dim + 1..s.rank()));
        let shape = without(s, dim);
        let mut inner = self.graph.inner.borrow_mut();
        let op = Op::SumAxis { x: self.id, outer, len, inner: inner_len };
        let id = inner
            .linear_op(op, self.id, shape, |b, x, y| b.sum_axis(x, outer, len, inner_len, Write::Set, y))?;
        drop(inner);
        Ok(self.with(id))
    }

    /// The mean along one dim, which disappears.
    pub fn mean_axis(self, dim: usize) -> Result<Self, NnError> {
        let n = self.shape().dims().get(dim).copied().unwrap_or(1).max(1);
        #[expect(clippy::cast_precision_loss, reason = "extents are far below 2^52")]
        self.sum_axis(dim)?.scale(1.0 / n as f64)
    }

    /// The sum of all elements, a scalar.
    pub fn sum(self) -> Result<Self, NnError> {
        let n = self.shape().len();
        self.reshape([n])?.sum_axis(0)
    }

    /// The mean of all elements, a scalar.
    pub fn mean(self) -> Result<Self, NnError> {
        let n = self.shape().len();
        self.reshape([n])?.mean_axis(0)
    }

    /// The greatest along one dim, which disappears; the gradient flows to the first of equals.
    pub fn max_axis(self, dim: usize) -> Result<Self, NnError> {
        let s = self.shape();
        if dim >= s.rank() || s.is_empty() {
            return Err(Self::err("max_axis", "a dim of the tensor, not empty", &[s]));
        }
        let rest = s.product(dim + 1..s.rank());
        let columns = self.reshape([s.product(0..dim), 1, s[dim], rest])?;
        columns.max_pool2d([s[dim], 1], [1, 1], [0, 0])?.reshape(without(s, dim))
    }

    /// The greatest along one dim, which disappears; through it flows no gradient.
    pub fn max_axis_detached(self, dim: usize) -> Result<Self, NnError> {
        let s = self.shape();
        if dim >= s.rank() || s.is_empty() {
            return Err(Self::err("max_axis_detached", "a dim of the tensor, not empty", &[s]));
        }
        let shape = without(s, dim);
        let mut inner = self.graph.inner.borrow_mut();
        let mut out = inner.take(shape.len())?;
        let b = &inner.backend;
        let (outer, len, rest) = (s.product(0..dim), s[dim], s.product(dim + 1..s.rank()));
        b.max_axis(inner.view(self.id), outer, len, rest, b.view_mut(&mut out.buf, 0..shape.len()));
        let id = inner.push(Op::Input, shape, Some(out), None, false);
        drop(inner);
        Ok(self.with(id))
    }
}

/// The shape without one of its dims.
fn without(s: Shape, dim: usize) -> Shape {
    let mut dims = [0; MAX_DIMS];
    let kept = s.iter().enumerate().filter(|(i, _)| *i != dim).map(|(_, d)| *d);
    dims.iter_mut().zip(kept).for_each(|(to, from)| *to = from);
    Shape::new(&dims[..s.rank() - 1])
}
