//! Operators that act on elements one by one.

use super::Var;
use crate::NnError;
use crate::graph::{Mode, Op};
use phalanx_tensor::op::{BinaryKind, Strided, UnaryKind};
use phalanx_tensor::{Backend, Write};

macro_rules! unary {
    ($($(#[$doc:meta])* $name:ident = $kind:ident;)*) => {
        $($(#[$doc])*
        #[expect(clippy::missing_errors_doc, reason = "stated on the type")]
        pub fn $name(self) -> Result<Self, NnError> {
            self.unary(UnaryKind::$kind)
        })*
    };
}

#[expect(clippy::missing_errors_doc, reason = "stated on the type")]
impl<'g, B: Backend> Var<'g, B> {
    unary! {
        /// `max(x, 0)`.
        relu = Relu;
        /// `x Phi(x)`, exact.
        gelu = Gelu;
        /// GELU in its tanh form.
        gelu_tanh = GeluTanh;
        /// `x sigmoid(x)`.
        silu = Silu;
        /// `1 / (1 + e^-x)`.
        sigmoid = Sigmoid;
        /// Hyperbolic tangent.
        tanh = Tanh;
        /// `e^x`.
        exp = Exp;
        /// Natural logarithm.
        ln = Ln;
        /// Square root.
        sqrt = Sqrt;
        /// `1 / sqrt(x)`.
        rsqrt = Rsqrt;
        /// `1 / x`.
        recip = Recip;
        /// `x^2`.
        square = Square;
    }

    /// A function of each element.
    pub fn unary(self, kind: UnaryKind) -> Result<Self, NnError> {
        let mut inner = self.graph.inner.borrow_mut();
        let shape = inner.shape(self.id);
        let len = shape.len();
        let mut out = inner.take(len)?;
        let b = &inner.backend;
        b.unary(kind, inner.view(self.id), b.view_mut(&mut out.buf, 0..len));
        let mut tangent = None;
        if inner.tangent(self.id).is_some() {
            let mut t = inner.take(len)?;
            let b = &inner.backend;
            if let Some(dx) = inner.tangent(self.id) {
                b.unary_grad(kind, inner.view(self.id), dx, Write::Set, b.view_mut(&mut t.buf, 0..len));
            }
            tangent = Some(t);
        }
        let grad = inner.needs_grad(self.id);
        let id = inner.push(Op::Unary(kind, self.id), shape, Some(out), tangent, grad);
        drop(inner);
        Ok(self.with(id))
    }

    /// `alpha x + beta`.
    pub fn affine(self, alpha: f64, beta: f64) -> Result<Self, NnError> {
        let mut inner = self.graph.inner.borrow_mut();
        let shape = inner.shape(self.id);
        let len = shape.len();
        let mut out = inner.take(len)?;
        let b = &inner.backend;
        b.affine(alpha, beta, inner.view(self.id), Write::Set, b.view_mut(&mut out.buf, 0..len));
        let mut tangent = None;
        if inner.tangent(self.id).is_some() {
            let mut t = inner.take(len)?;
            let b = &inner.backend;
            if let Some(dx) = inner.tangent(self.id) {
                b.affine(alpha, 0.0, dx, Write::Set, b.view_mut(&mut t.buf, 0..len));
            }
            tangent = Some(t);
        }
        let grad = inner.needs_grad(self.id);
        let id = inner.push(Op::Affine { x: self.id, alpha }, shape, Some(out), tangent, grad);
        drop(inner);
        Ok(self.with(id))
    }

    /// `alpha x`.
    pub fn scale(self, alpha: f64) -> Result<Self, NnError> {
        self.affine(alpha, 0.0)
    }

    /// `x + beta`.
    pub fn add_scalar(self, beta: f64) -> Result<Self, NnError> {
        self.affine(1.0, beta)
    }

    /// `a + b`, broadcasting extents of 1.
    #[expect(
        clippy::should_implement_trait,
        reason = "the operators of std cannot return a Result without `?` inside"
    )]
    pub fn add(self, other: Self) -> Result<Self, NnError> {
        self.binary(BinaryKind::Add, other, "add")
    }

    /// `a - b`, broadcasting extents of 1.
    #[expect(clippy::should_implement_trait, reason = "as add")]
    pub fn sub(self, other: Self) -> Result<Self, NnError> {
        if self.forward_mode() {
            return self.add(other.scale(-1.0)?);
        }
        self.binary(BinaryKind::Sub, other, "sub")
    }

    /// `a b` element by element, broadcasting extents of 1.
    #[expect(clippy::should_implement_trait, reason = "as add")]
    pub fn mul(self, other: Self) -> Result<Self, NnError> {
        self.binary(BinaryKind::Mul, other, "mul")
    }

    /// `a / b` element by element, broadcasting extents of 1.
    #[expect(clippy::should_implement_trait, reason = "as add")]
    pub fn div(self, other: Self) -> Result<Self, NnError> {
        self.mul(other.recip()?)
    }

    fn binary(self, kind: BinaryKind, other: Self, op: &'static str) -> Result<Self, NnError> {
        let (sa, sb) = (self.shape(), other.shape());
        let need = "shapes equal but for extents of 1";
        let shape = sa.broadcast(&sb).ok_or_else(|| Self::err(op, need, &[sa, sb]))?;
        let (la, lb) = (Strided::broadcast(sa, shape), Strided::broadcast(sb, shape));
        let node = Op::Binary(kind, self.id, other.id);
        let mut inner = self.graph.inner.borrow_mut();
        let id = if kind == BinaryKind::Mul {
            inner.bilinear_op(node, [self.id, other.id], shape, |d, a, b, write, out| {
                d.binary(kind, (a, la), (b, lb), write, out);
            })?
        } else {
            let mut out = inner.take(shape.len())?;
            let d = &inner.backend;
            let whole = 0..shape.len();
            let (va, vb) = (inner.view(self.id), inner.view(other.id));
            d.binary(kind, (va, la), (vb, lb), Write::Set, d.view_mut(&mut out.buf, whole.clone()));
            let mut tangent = None;
            if inner.tangent(self.id).is_some() || inner.tangent(other.id).is_some() {
                let mut t = inner.take(shape.len())?;
                let d = &inner.backend;
                d.fill(0.0, d.view_mut(&mut t.buf, whole.clone()));
                for (id, layout) in [(self.id, la), (other.id, lb)] {
                    if let Some(dx) = inner.tangent(id) {
                        let out = (d.view_mut(&mut t.buf, whole.clone()), Strided::dense(shape));
                        d.copy_strided((dx, layout), Write::Add, out);
                    }
                }
                tangent = Some(t);
            }
            let grad = inner.needs_grad(self.id) || inner.needs_grad(other.id);
            inner.push(node, shape, Some(out), tangent, grad)
        };
        drop(inner);
        Ok(self.with(id))
    }

    /// Sets elements to 0 with probability `p` and divides the others by `1 - p`; passes in [`Mode::Eval`].
    ///
    /// # Numerics
    /// The mask is a function of (seed, step, which dropout of the step, sample, element), so that ranks and tiles do
    /// not change it; the first dim is that of samples.
    pub fn dropout(self, p: f64) -> Result<Self, NnError> {
        let s = self.shape();
        if !(0.0..1.0).contains(&p) {
            return Err(Self::err("dropout", "a probability in 0..1", &[s]));
        }
        let mut inner = self.graph.inner.borrow_mut();
        if inner.mode == Mode::Eval || p == 0.0 {
            return Ok(self);
        }
        let stream = inner.dropout_stream();
        let per_sample = s.dims().first().map_or(1, |n| s.len() / (*n).max(1));
        let first = inner.first_sample * per_sample as u64;
        let op = Op::Dropout { x: self.id, stream, first, p };
        let id = inner.linear_op(op, self.id, s, |b, x, y| b.dropout(stream, first, p, x, Write::Set, y))?;
        drop(inner);
        Ok(self.with(id))
    }
}
