//! Products of matrices, and what is made of them: linear layers and attention.

use super::Var;
use crate::NnError;
use crate::graph::Op;
use phalanx_tensor::op::{AttentionSpec, Mat, MatmulSpec, UnaryKind};
use phalanx_tensor::{Backend, Shape};

#[expect(clippy::missing_errors_doc, reason = "stated on the type")]
impl<'g, B: Backend> Var<'g, B> {
    /// Matrix product over the last two dims; leading dims must be equal, or absent on the right.
    pub fn matmul(self, other: Self) -> Result<Self, NnError> {
        self.matmul_with(other, false)
    }

    /// Matrix product with the right side's last two dims swapped: `a b^T`.
    pub fn matmul_t(self, other: Self) -> Result<Self, NnError> {
        self.matmul_with(other, true)
    }

    fn matmul_with(self, other: Self, transposed: bool) -> Result<Self, NnError> {
        let (sa, sb) = (self.shape(), other.shape());
        let refuse =
            || Self::err("matmul", "a[.., m, k] and b[.., k, n] (b transposed: [.., n, k])", &[sa, sb]);
        if sa.rank() < 2 || sb.rank() < 2 {
            return Err(refuse());
        }
        let (ra, rb) = (sa.rank(), sb.rank());
        let (m, k) = (sa[ra - 2], sa[ra - 1]);
        let (kb, n) = if transposed { (sb[rb - 1], sb[rb - 2]) } else { (sb[rb - 2], sb[rb - 1]) };
        let shared = rb == 2;
        if k != kb || !(shared || sa[..ra - 2] == sb[..rb - 2]) {
            return Err(refuse());
        }
        let right = if transposed { Mat::dense(n, k).t() } else { Mat::dense(k, n) };
        let lead = sa.product(0..ra - 2);
        let spec = if shared {
            // One tall product instead of a batch of short ones.
            let rows = lead * m;
            MatmulSpec { batch: 1, m: rows, n, k, a: Mat::dense(rows, k), b: right, c: Mat::dense(rows, n) }
        } else {
            MatmulSpec { batch: lead, m, n, k, a: Mat::dense(m, k), b: right, c: Mat::dense(m, n) }
        };
        let shape = sa.with_dim(ra - 1, n);
        let mut inner = self.graph.inner.borrow_mut();
        let node = Op::Matmul { a: self.id, b: other.id, spec };
        let id = inner.bilinear_op(node, [self.id, other.id], shape, |d, a, b, write, out| {
            d.matmul(&spec, a, b, write, out);
        })?;
        drop(inner);
        Ok(self.with(id))
    }

    /// `x w^T + bias` over the last dim: `w` is `n x k`.
    pub fn linear(self, w: Self, bias: Option<Self>) -> Result<Self, NnError> {
        self.linear_with(w, bias, None)
    }

    /// [`Var::linear`] and an activation in one pass.
    pub fn linear_act(self, w: Self, bias: Option<Self>, act: UnaryKind) -> Result<Self, NnError> {
        self.linear_with(w, bias, Some(act))
    }

    fn linear_with(self, w: Self, bias: Option<Self>, act: Option<UnaryKind>) -> Result<Self, NnError> {
        let (sx, sw) = (self.shape(), w.shape());
        let bias_fits = bias.is_none_or(|b| b.shape().dims() == [sw.dims().first().copied().unwrap_or(0)]);
        if sx.rank() == 0 || sw.rank() != 2 || sx.last() != sw[1] || !bias_fits {
            let mut got = vec![sx, sw];
            got.extend(bias.map(Var::shape));
            return Err(Self::err("linear", "x[.., k], w[n, k], bias[n]", &got));
        }
        if self.forward_mode() {
            return self.composed_linear(w, bias, act);
        }
        let (k, n) = (sw[1], sw[0]);
        let m = sx.len() / k.max(1);
        let shape = sx.with_dim(sx.rank() - 1, n);
        let mut inner = self.graph.inner.borrow_mut();
        let mut out = inner.take(shape.len())?;
        let mut pre = match act {
            Some(kind) if kind != UnaryKind::Relu => Some(inner.take(shape.len())?),
            _ => None,
        };
        let d = &inner.backend;
        d.linear(
            m,
            n,
            k,
            inner.view(self.id),
            inner.view(w.id),
            bias.map(|b| inner.view(b.id)),
            act,
            pre.as_mut().map(|p| d.view_mut(&mut p.buf, 0..shape.len())),
            d.view_mut(&mut out.buf, 0..shape.len()),
        );
        let pre = pre.map(|p| inner.keep(shape.len(), p));
        let grad = inner.needs_grad(self.id)
            || inner.needs_grad(w.id)
            || bias.is_some_and(|b| inner.needs_grad(b.id));
        let bias = bias.map(|b| b.id);
        let id = inner.push(Op::Linear { x: self.id, w: w.id, bias, act, pre }, shape, Some(out), None, grad);
        drop(inner);
        Ok(self.with(id))
    }

    /// Causal multi-head attention: `x[b, t, 3 d]` holds queries, keys and values of `heads` heads each; gives
    /// `[b, t, d]`.
    pub fn attention(self, heads: usize) -> Result<Self, NnError> {
        let s = self.shape();
        if s.rank() != 3 || heads == 0 || !s[2].is_multiple_of(3 * heads) || s[1] * s[2] == 0 {
            return Err(Self::err("attention", "x[b, t, 3 heads head_dim]", &[s]));
        }
        if self.forward_mode() {
            return self.composed_attention(heads);
        }
        let spec = AttentionSpec { batch: s[0], time: s[1], heads, head_dim: s[2] / 3 / heads };
        let shape = Shape::from([s[0], s[1], s[2] / 3]);
        let rows = s[0] * s[1] * heads;
        let mut inner = self.graph.inner.borrow_mut();
        let (mut out, mut lse) = (inner.take(shape.len())?, inner.take(rows)?);
        let b = &inner.backend;
        b.attention(
            &spec,
            inner.view(self.id),
            b.view_mut(&mut out.buf, 0..shape.len()),
            b.view_mut(&mut lse.buf, 0..rows),
        );
        let lse = inner.keep(rows, lse);
        let grad = inner.needs_grad(self.id);
        let id = inner.push(Op::Attention { qkv: self.id, lse, spec }, shape, Some(out), None, grad);
        drop(inner);
        Ok(self.with(id))
    }
}
