//! Softmax and losses.

use super::Var;
use crate::NnError;
use crate::graph::{Graph, Ids, Inner, Op};
use phalanx_tensor::{Backend, Shape};
use std::fmt;

/// How many rows of logits had their greatest at the label: on the device until it is asked for, or the graph is reset.
#[derive(Clone, Copy)]
pub struct Hits<'g, B: Backend> {
    graph: &'g Graph<B>,
    at: usize,
}

impl<B: Backend> Hits<'_, B> {
    /// The number. Waits for the device.
    #[must_use]
    pub fn count(self) -> usize {
        let inner = self.graph.inner.borrow();
        let mut count = [0];
        inner.backend.download_index(inner.index(self.at), &mut count);
        count[0] as usize
    }
}

impl<B: Backend> fmt::Debug for Hits<'_, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hits").field("at", &self.at).finish_non_exhaustive()
    }
}

#[expect(clippy::missing_errors_doc, reason = "stated on the type")]
impl<'g, B: Backend> Var<'g, B> {
    /// Softmax over the last dim.
    pub fn softmax(self) -> Result<Self, NnError> {
        self.rows_op("softmax", Op::Softmax(self.id), |b, d, x, y| b.softmax(d, x, y), Self::composed_softmax)
    }

    /// Logarithm of softmax over the last dim.
    pub fn log_softmax(self) -> Result<Self, NnError> {
        let fused = |b: &B, d, x: B::View<'_>, y: B::ViewMut<'_>| b.log_softmax(d, x, y);
        self.rows_op("log_softmax", Op::LogSoftmax(self.id), fused, Self::composed_log_softmax)
    }

    fn rows_op(
        self,
        name: &'static str,
        op: Op,
        fused: impl Fn(&B, usize, B::View<'_>, B::ViewMut<'_>),
        composed: impl Fn(Self) -> Result<Self, NnError>,
    ) -> Result<Self, NnError> {
        let s = self.shape();
        if s.rank() == 0 || s.last() == 0 {
            return Err(Self::err(name, "x[.., d] with d > 0", &[s]));
        }
        if self.forward_mode() {
            return composed(self);
        }
        let mut inner = self.graph.inner.borrow_mut();
        let mut out = inner.take(s.len())?;
        fused(
            &inner.backend,
            s.last(),
            inner.view(self.id),
            inner.backend.view_mut(&mut out.buf, 0..s.len()),
        );
        let grad = inner.needs_grad(self.id);
        let id = inner.push(op, s, Some(out), None, grad);
        drop(inner);
        Ok(self.with(id))
    }

    /// Cross entropy of each row of logits, and how many rows have their greatest logit at the label.
    pub fn cross_entropy(self, labels: Ids<'g>) -> Result<(Self, Hits<'g, B>), NnError> {
        let s = self.shape();
        let d = s.last();
        let rows = s.len() / d.max(1);
        if s.rank() == 0 || rows != labels.len || d < labels.bound {
            let got = [s, Shape::from([labels.len]), Shape::from([labels.bound])];
            return Err(Self::err("cross_entropy", "x[.., d], a label below d for each row", &got));
        }
        let mut inner = self.graph.inner.borrow_mut();
        let (mut loss, mut lse) = (inner.take(rows)?, inner.take(rows)?);
        let Inner { pool, backend, .. } = &mut *inner;
        let mut hits = pool.take_index(backend, 1)?;
        let b = &inner.backend;
        b.cross_entropy(
            d,
            inner.view(self.id),
            inner.index(labels.at),
            b.view_mut(&mut loss.buf, 0..rows),
            b.view_mut(&mut lse.buf, 0..rows),
            b.index_view_mut(&mut hits.buf, 0..1),
        );
        inner.indices.push((hits, 1));
        let hits = Hits { graph: self.graph, at: inner.indices.len() - 1 };
        if inner.forward_mode {
            inner.pool.give(loss);
            inner.pool.give(lse);
            drop(inner);
            return Ok((self.composed_cross_entropy(labels)?, hits));
        }
        let lse = inner.keep(rows, lse);
        let grad = inner.needs_grad(self.id);
        let op = Op::CrossEntropy { logits: self.id, labels: labels.at, lse };
        let id = inner.push(op, Shape::from([rows]), Some(loss), None, grad);
        drop(inner);
        Ok((self.with(id), hits))
    }

    /// `(x - y)^2` summed over all but the first dim: one number a sample.
    pub fn squared_error(self, target: Self) -> Result<Self, NnError> {
        let s = self.shape();
        if s.rank() == 0 || s != target.shape() {
            return Err(Self::err("squared_error", "two tensors of one shape", &[s, target.shape()]));
        }
        let rows = s[0];
        self.sub(target)?.square()?.reshape([rows, s.len() / rows.max(1)])?.sum_axis(1)
    }
}
