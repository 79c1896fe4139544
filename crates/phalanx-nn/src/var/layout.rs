//! Other shapes, parts and joins, and rows by index.

use super::Var;
use crate::NnError;
use crate::graph::{Graph, Ids, Op};
use phalanx_tensor::op::Strided;
use phalanx_tensor::{Backend, MAX_DIMS, Shape, Write};

#[expect(clippy::missing_errors_doc, reason = "stated on the type")]
impl<'g, B: Backend> Var<'g, B> {
    /// Rows of this table: `[ids, d]`.
    pub fn gather(self, ids: Ids<'g>) -> Result<Self, NnError> {
        let s = self.shape();
        if s.rank() != 2 || s[0] < ids.bound {
            return Err(Self::err(
                "gather",
                "a table with a row for every index",
                &[s, Shape::from([ids.bound])],
            ));
        }
        let d = s[1];
        let shape = Shape::from([ids.len, d]);
        let mut inner = self.graph.inner.borrow_mut();
        let mut out = inner.take(shape.len())?;
        let b = &inner.backend;
        b.gather_rows(d, inner.view(self.id), inner.index(ids.at), b.view_mut(&mut out.buf, 0..shape.len()));
        let mut tangent = None;
        if inner.tangent(self.id).is_some() {
            let mut t = inner.take(shape.len())?;
            let b = &inner.backend;
            if let Some(dx) = inner.tangent(self.id) {
                b.gather_rows(d, dx, inner.index(ids.at), b.view_mut(&mut t.buf, 0..shape.len()));
            }
            tangent = Some(t);
        }
        let grad = inner.needs_grad(self.id);
        let id = inner.push(Op::Gather { table: self.id, ids: ids.at }, shape, Some(out), tangent, grad);
        drop(inner);
        Ok(self.with(id))
    }

    /// The same numbers under another shape; nothing moves.
    pub fn reshape(self, shape: impl Into<Shape>) -> Result<Self, NnError> {
        let (s, shape) = (self.shape(), shape.into());
        if s.len() != shape.len() {
            return Err(Self::err("reshape", "as many elements", &[s, shape]));
        }
        let mut inner = self.graph.inner.borrow_mut();
        let grad = inner.needs_grad(self.id);
        let id = inner.push(Op::Reshape(self.id), shape, None, None, grad);
        drop(inner);
        Ok(self.with(id))
    }

    /// All dims but the first as one.
    pub fn flatten(self) -> Result<Self, NnError> {
        let s = self.shape();
        let n = s.dims().first().copied().unwrap_or(1);
        self.reshape([n, s.len() / n.max(1)])
    }

    /// Dims in another order, moved in memory.
    pub fn permute(self, order: &[usize]) -> Result<Self, NnError> {
        let s = self.shape();
        let mut seen = [false; MAX_DIMS];
        order.iter().filter(|d| **d < MAX_DIMS).for_each(|d| seen[*d] = true);
        if order.len() != s.rank() || !seen[..s.rank()].iter().all(|s| *s) {
            return Err(Self::err(
                "permute",
                "an order that names each dim once",
                &[s, Shape::new(&order[..order.len().min(MAX_DIMS)])],
            ));
        }
        let mut held = [0_u8; MAX_DIMS];
        #[expect(clippy::cast_possible_truncation, reason = "dims are below MAX_DIMS")]
        held.iter_mut().zip(order).for_each(|(to, from)| *to = *from as u8);
        let (shape, from) = permuted(s, &held);
        let op = Op::Permute { x: self.id, order: held };
        let mut inner = self.graph.inner.borrow_mut();
        let id = inner.linear_op(op, self.id, shape, |b, x, y| {
            b.copy_strided((x, from), Write::Set, (y, Strided::dense(shape)));
        })?;
        drop(inner);
        Ok(self.with(id))
    }

    /// The last two dims swapped.
    pub fn transpose(self) -> Result<Self, NnError> {
        let rank = self.shape().rank();
        if rank < 2 {
            return Err(Self::err("transpose", "two dims", &[self.shape()]));
        }
        let mut order: [usize; MAX_DIMS] = std::array::from_fn(|i| i);
        order.swap(rank - 2, rank - 1);
        self.permute(&order[..rank])
    }

    /// `len` entries of one dim from `start` on.
    pub fn narrow(self, dim: usize, start: usize, len: usize) -> Result<Self, NnError> {
        let s = self.shape();
        if dim >= s.rank() || start.checked_add(len).is_none_or(|end| end > s[dim]) {
            return Err(Self::err("narrow", "a range inside the dim", &[s, Shape::from([dim, start, len])]));
        }
        let shape = s.with_dim(dim, len);
        let from = Strided { shape, offset: start * s.strides()[dim], strides: s.strides() };
        let mut inner = self.graph.inner.borrow_mut();
        let id = inner.linear_op(Op::Narrow { x: self.id, dim, start }, self.id, shape, |b, x, y| {
            b.copy_strided((x, from), Write::Set, (y, Strided::dense(shape)));
        })?;
        drop(inner);
        Ok(self.with(id))
    }

    /// Two tensors one after the other along a dim.
    pub fn concat(self, other: Self, dim: usize) -> Result<Self, NnError> {
        let (sa, sb) = (self.shape(), other.shape());
        let fits = dim < sa.rank() && sa.rank() == sb.rank() && sa.with_dim(dim, 0) == sb.with_dim(dim, 0);
        if !fits {
            return Err(Self::err("concat", "shapes equal but for the dim joined", &[sa, sb]));
        }
        let shape = sa.with_dim(dim, sa[dim] + sb[dim]);
        let mut inner = self.graph.inner.borrow_mut();
        let mut out = inner.take(shape.len())?;
        let tangents = inner.tangent(self.id).is_some() || inner.tangent(other.id).is_some();
        let mut tangent = if tangents { Some(inner.take(shape.len())?) } else { None };
        let b = &inner.backend;
        let whole = 0..shape.len();
        if let Some(t) = &mut tangent {
            b.fill(0.0, b.view_mut(&mut t.buf, whole.clone()));
        }
        for (id, part, start) in [(self.id, sa, 0), (other.id, sb, sa[dim])] {
            let to = Strided { shape: part, offset: start * shape.strides()[dim], strides: shape.strides() };
            let from = Strided::dense(part);
            b.copy_strided((inner.view(id), from), Write::Set, (b.view_mut(&mut out.buf, whole.clone()), to));
            if let (Some(t), Some(dx)) = (&mut tangent, inner.tangent(id)) {
                b.copy_strided((dx, from), Write::Set, (b.view_mut(&mut t.buf, whole.clone()), to));
            }
        }
        let grad = inner.needs_grad(self.id) || inner.needs_grad(other.id);
        let id = inner.push(Op::Concat { a: self.id, b: other.id, dim }, shape, Some(out), tangent, grad);
        drop(inner);
        Ok(self.with(id))
    }

    /// Repeats extents of 1 up to `shape`.
    pub fn expand(self, shape: impl Into<Shape>) -> Result<Self, NnError> {
        let (s, shape) = (self.shape(), shape.into());
        if s.broadcast(&shape) != Some(shape) {
            return Err(Self::err("expand", "a shape that the tensor broadcasts to", &[s, shape]));
        }
        let from = Strided::broadcast(s, shape);
        let mut inner = self.graph.inner.borrow_mut();
        let id = inner.linear_op(Op::Expand { x: self.id }, self.id, shape, |b, x, y| {
            b.copy_strided((x, from), Write::Set, (y, Strided::dense(shape)));
        })?;
        drop(inner);
        Ok(self.with(id))
    }

    /// `value` at each row's index, 0 elsewhere: `[ids, d]`.
    pub fn one_hot(graph: &'g Graph<B>, ids: Ids<'g>, d: usize, value: f64) -> Result<Self, NnError> {
        if d < ids.bound {
            return Err(Self::err("one_hot", "a column for every index", &[Shape::from([ids.bound, d])]));
        }
        let mut inner = graph.inner.borrow_mut();
        let shape = Shape::from([ids.len, d]);
        let mut out = inner.take(shape.len())?;
        let b = &inner.backend;
        b.one_hot(d, value, inner.index(ids.at), b.view_mut(&mut out.buf, 0..shape.len()));
        let id = inner.push(Op::Input, shape, Some(out), None, false);
        drop(inner);
        Ok(Var { graph, id })
    }
}

/// Shape of a permuted tensor, and how to read the original in that order.
pub(crate) fn permuted(s: Shape, order: &[u8; MAX_DIMS]) -> (Shape, Strided) {
    let (mut dims, mut strides) = ([0; MAX_DIMS], [0; MAX_DIMS]);
    let own = s.strides();
    for i in 0..s.rank() {
        dims[i] = s[usize::from(order[i])];
        strides[i] = own[usize::from(order[i])];
    }
    let shape = Shape::new(&dims[..s.rank()]);
    (shape, Strided { shape, offset: 0, strides })
}
