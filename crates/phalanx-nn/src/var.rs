//! What a model is written in: tensors on the tape, and every operator on them.

use crate::NnError;
use crate::graph::{Graph, Id, Ids, Inner, Mode, Op};
use phalanx_tensor::op::{
    Activation, AttentionSpec, BinaryKind, ConvSpec, Mat, MatmulSpec, PoolSpec, Strided, UnaryKind,
};
use phalanx_tensor::{Backend, Float, MAX_DIMS, Shape, Write};
use std::fmt;

/// A tensor on the tape of a [`Graph`]; a copy is another name for the same tensor.
///
/// Every operator has a reverse and a forward-mode rule; fused ones ([`Var::linear`], [`Var::layer_norm`],
/// [`Var::attention`], ...) are composed of elementary ones while the graph carries a direction.
///
/// # Errors
/// Every operator returns [`NnError::Shape`] for operands that do not fit and [`NnError::Tensor`] when the device has
/// too little memory.
///
/// # Panics
/// When the numbers are read or used after the graph's backward pass, which gives their memory back.
///
/// # Examples
/// ```
/// use phalanx_nn::{Graph, NnError, ParamBuilder};
/// use phalanx_tensor::{Cpu, Shape};
///
/// let graph = Graph::new(Cpu::<f64>::new(), ParamBuilder::new().finish(), 1)?;
/// let x = graph.input(&[1.0, 2.0, 3.0, 4.0], Shape::from([2, 2]))?;
/// let scaled = x.div(x.max_axis(1)?.reshape([2, 1])?)?;
/// assert_eq!(scaled.to_vec(), [0.5, 1.0, 0.75, 1.0]);
/// assert_eq!(scaled.sum_axis(0)?.to_vec(), [1.25, 2.0]);
///
/// let error = x.matmul(scaled.reshape([1, 4])?).unwrap_err();
/// assert_eq!(error.to_string(), "matmul needs a[.., m, k] and b[.., k, n] (b transposed: [.., n, k]), got [[2, 2], [1, 4]]");
/// # Ok::<(), NnError>(())
/// ```
pub struct Var<'g, B: Backend> {
    pub(crate) graph: &'g Graph<B>,
    pub(crate) id: Id,
}

impl<B: Backend> Clone for Var<'_, B> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<B: Backend> Copy for Var<'_, B> {}

impl<B: Backend> fmt::Debug for Var<'_, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Var({:?}, {})", self.id, self.shape())
    }
}

/// Stride, padding and groups of a convolution.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConvOptions {
    /// Steps down and right.
    pub stride: [usize; 2],
    /// Zeros above and below, left and right.
    pub padding: [usize; 2],
    /// Groups of channels.
    pub groups: usize,
}

impl Default for ConvOptions {
    /// Stride 1, no padding, one group.
    fn default() -> Self {
        ConvOptions { stride: [1, 1], padding: [0, 0], groups: 1 }
    }
}

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
    /// The shape.
    #[must_use]
    pub fn shape(self) -> Shape {
        self.graph.inner.borrow().shape(self.id)
    }

    /// The graph.
    #[must_use]
    pub fn graph(self) -> &'g Graph<B> {
        self.graph
    }

    /// The numbers, on the host.
    #[must_use]
    pub fn to_vec(self) -> Vec<B::Elem> {
        let inner = self.graph.inner.borrow();
        let mut host = vec![B::Elem::default(); inner.shape(self.id).len()];
        inner.backend.download(inner.view(self.id), &mut host);
        host
    }

    /// The numbers into a slice of the caller's, which must have as many elements.
    pub fn read(self, host: &mut [B::Elem]) {
        let inner = self.graph.inner.borrow();
        inner.backend.download(inner.view(self.id), host);
    }

    /// The directional derivative, on the host; none where it is zero or the graph carries no direction.
    #[must_use]
    pub fn tangent_to_vec(self) -> Option<Vec<B::Elem>> {
        let inner = self.graph.inner.borrow();
        let view = inner.tangent(self.id)?;
        let mut host = vec![B::Elem::default(); inner.shape(self.id).len()];
        inner.backend.download(view, &mut host);
        Some(host)
    }

    fn with(self, id: Id) -> Self {
        Var { graph: self.graph, id }
    }

    pub(crate) fn err(op: &'static str, need: &'static str, got: &[Shape]) -> NnError {
        NnError::Shape { op, need, got: got.to_vec() }
    }

    pub(crate) fn forward_mode(self) -> bool {
        self.graph.inner.borrow().forward_mode
    }

    /// The same numbers, through which no gradient flows.
    pub fn detach(self) -> Result<Self, NnError> {
        let mut inner = self.graph.inner.borrow_mut();
        let shape = inner.shape(self.id);
        let mut out = inner.take(shape.len())?;
        let b = &inner.backend;
        b.affine(1.0, 0.0, inner.view(self.id), Write::Set, b.view_mut(&mut out.buf, 0..shape.len()));
        let id = inner.push(Op::Input, shape, Some(out), None, false);
        drop(inner);
        Ok(self.with(id))
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

    /// Convolution of `x[n, c, h, w]` with `w[o, c / groups, kh, kw]`.
    pub fn conv2d(self, w: Self, bias: Option<Self>, options: ConvOptions) -> Result<Self, NnError> {
        self.conv2d_with(w, bias, options, Activation::None)
    }

    /// [`Var::conv2d`] and ReLU in one pass.
    pub fn conv2d_relu(self, w: Self, bias: Option<Self>, options: ConvOptions) -> Result<Self, NnError> {
        self.conv2d_with(w, bias, options, Activation::Relu)
    }

    /// [`Var::conv2d`], ReLU and 2 x 2 max pooling in one pass; the full-size output is never written.
    pub fn conv2d_relu_pool2(
        self,
        w: Self,
        bias: Option<Self>,
        options: ConvOptions,
    ) -> Result<Self, NnError> {
        self.conv2d_with(w, bias, options, Activation::ReluPool2)
    }

    fn conv2d_with(
        self,
        w: Self,
        bias: Option<Self>,
        options: ConvOptions,
        act: Activation,
    ) -> Result<Self, NnError> {
        let (sx, sw) = (self.shape(), w.shape());
        let refuse = || Self::err("conv2d", "x[n, c, h, w], w[o, c / groups, kh, kw], bias[o]", &[sx, sw]);
        if sx.rank() != 4 || sw.rank() != 4 || bias.is_some_and(|b| b.shape().dims() != [sw[0]]) {
            return Err(refuse());
        }
        let spec = ConvSpec {
            n: sx[0],
            c: sx[1],
            hw: [sx[2], sx[3]],
            o: sw[0],
            kernel: [sw[2], sw[3]],
            stride: options.stride,
            padding: options.padding,
            groups: options.groups,
        };
        spec.validate()?;
        if sw[1] * spec.groups != spec.c {
            return Err(refuse());
        }
        let [oh, ow] = act.out_hw(spec.out_hw());
        if oh * ow == 0 {
            return Err(Self::err("conv2d", "an output of at least 2 x 2 to pool", &[sx, sw]));
        }
        if self.forward_mode() && !(act == Activation::None && bias.is_none()) {
            return self.composed_conv2d(w, bias, options, act);
        }
        let shape = Shape::from([spec.n, spec.o, oh, ow]);
        let mut inner = self.graph.inner.borrow_mut();
        if inner.forward_mode {
            let op = Op::Conv2d { x: self.id, w: w.id, bias: None, spec, act, argmax: None };
            let id = inner.bilinear_conv(op, [self.id, w.id], &spec, shape)?;
            drop(inner);
            return Ok(self.with(id));
        }
        let mut out = inner.take(shape.len())?;
        let Inner { backend, pool, .. } = &mut *inner;
        let mut argmax = match act {
            Activation::ReluPool2 => Some(pool.take_index(backend, shape.len())?),
            _ => None,
        };
        let d = &inner.backend;
        d.conv2d(
            &spec,
            inner.view(self.id),
            inner.view(w.id),
            bias.map(|b| inner.view(b.id)),
            act,
            d.view_mut(&mut out.buf, 0..shape.len()),
            argmax.as_mut().map(|a| d.index_view_mut(&mut a.buf, 0..shape.len())),
        );
        let argmax = argmax.map(|a| {
            inner.indices.push((a, shape.len()));
            inner.indices.len() - 1
        });
        let grad = inner.needs_grad(self.id)
            || inner.needs_grad(w.id)
            || bias.is_some_and(|b| inner.needs_grad(b.id));
        let bias = bias.map(|b| b.id);
        let id = inner.push(
            Op::Conv2d { x: self.id, w: w.id, bias, spec, act, argmax },
            shape,
            Some(out),
            None,
            grad,
        );
        drop(inner);
        Ok(self.with(id))
    }

    fn pool_spec(
        self,
        op: &'static str,
        kernel: [usize; 2],
        stride: [usize; 2],
        padding: [usize; 2],
    ) -> Result<PoolSpec, NnError> {
        let s = self.shape();
        let fits = s.rank() == 4
            && (0..2).all(|i| {
                let fits = s[2 + i] > 0 && s[2 + i] + 2 * padding[i] >= kernel[i];
                fits && kernel[i] > 0 && stride[i] > 0 && 2 * padding[i] <= kernel[i]
            });
        if !fits {
            return Err(Self::err(
                op,
                "x[n, c, h, w] not smaller than the window, padding at most half of it",
                &[s],
            ));
        }
        Ok(PoolSpec { planes: s[0] * s[1], hw: [s[2], s[3]], kernel, stride, padding })
    }

    /// The greatest of each window.
    pub fn max_pool2d(
        self,
        kernel: [usize; 2],
        stride: [usize; 2],
        padding: [usize; 2],
    ) -> Result<Self, NnError> {
        let spec = self.pool_spec("max_pool2d", kernel, stride, padding)?;
        let s = self.shape();
        let [oh, ow] = spec.out_hw();
        let shape = Shape::from([s[0], s[1], oh, ow]);
        let mut inner = self.graph.inner.borrow_mut();
        let mut out = inner.take(shape.len())?;
        let Inner { backend, pool, .. } = &mut *inner;
        let mut argmax = pool.take_index(backend, shape.len())?;
        let d = &inner.backend;
        let whole = 0..shape.len();
        d.max_pool2d(
            &spec,
            inner.view(self.id),
            d.view_mut(&mut out.buf, whole.clone()),
            d.index_view_mut(&mut argmax.buf, whole.clone()),
        );
        inner.indices.push((argmax, shape.len()));
        let at = inner.indices.len() - 1;
        let mut tangent = None;
        if inner.tangent(self.id).is_some() {
            let mut t = inner.take(shape.len())?;
            let d = &inner.backend;
            if let Some(dx) = inner.tangent(self.id) {
                d.max_pool2d_tangent(&spec, inner.index(at), dx, d.view_mut(&mut t.buf, whole));
            }
            tangent = Some(t);
        }
        let grad = inner.needs_grad(self.id);
        let id = inner.push(Op::MaxPool { x: self.id, spec, argmax: at }, shape, Some(out), tangent, grad);
        drop(inner);
        Ok(self.with(id))
    }

    /// The mean of each window, padding counted.
    pub fn avg_pool2d(
        self,
        kernel: [usize; 2],
        stride: [usize; 2],
        padding: [usize; 2],
    ) -> Result<Self, NnError> {
        let spec = self.pool_spec("avg_pool2d", kernel, stride, padding)?;
        let s = self.shape();
        let [oh, ow] = spec.out_hw();
        let shape = Shape::from([s[0], s[1], oh, ow]);
        let mut inner = self.graph.inner.borrow_mut();
        let id = inner.linear_op(Op::AvgPool { x: self.id, spec }, self.id, shape, |d, x, y| {
            d.avg_pool2d(&spec, x, y)
        })?;
        drop(inner);
        Ok(self.with(id))
    }

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

    /// Layer normalisation over the last dim.
    pub fn layer_norm(self, gain: Self, bias: Self, eps: f64) -> Result<Self, NnError> {
        let s = self.shape();
        let d = s.last();
        if s.rank() == 0 || d == 0 || gain.shape().dims() != [d] || bias.shape().dims() != [d] {
            return Err(Self::err(
                "layer_norm",
                "x[.., d], gain[d], bias[d]",
                &[s, gain.shape(), bias.shape()],
            ));
        }
        if self.forward_mode() {
            return self.composed_norm(gain, Some(bias), eps);
        }
        let mut inner = self.graph.inner.borrow_mut();
        let rows = s.len() / d;
        let (mut out, mut stats) = (inner.take(s.len())?, inner.take(2 * rows)?);
        let b = &inner.backend;
        b.layer_norm(
            d,
            eps,
            inner.view(self.id),
            inner.view(gain.id),
            inner.view(bias.id),
            b.view_mut(&mut out.buf, 0..s.len()),
            b.view_mut(&mut stats.buf, 0..2 * rows),
        );
        let stats = inner.keep(2 * rows, stats);
        let grad = [self.id, gain.id, bias.id].into_iter().any(|id| inner.needs_grad(id));
        let op = Op::LayerNorm { x: self.id, gain: gain.id, bias: bias.id, stats };
        let id = inner.push(op, s, Some(out), None, grad);
        drop(inner);
        Ok(self.with(id))
    }

    /// Root-mean-square normalisation over the last dim.
    pub fn rms_norm(self, gain: Self, eps: f64) -> Result<Self, NnError> {
        let s = self.shape();
        let d = s.last();
        if s.rank() == 0 || d == 0 || gain.shape().dims() != [d] {
            return Err(Self::err("rms_norm", "x[.., d], gain[d]", &[s, gain.shape()]));
        }
        if self.forward_mode() {
            return self.composed_norm(gain, None, eps);
        }
        let mut inner = self.graph.inner.borrow_mut();
        let rows = s.len() / d;
        let (mut out, mut stats) = (inner.take(s.len())?, inner.take(rows)?);
        let b = &inner.backend;
        b.rms_norm(
            d,
            eps,
            inner.view(self.id),
            inner.view(gain.id),
            b.view_mut(&mut out.buf, 0..s.len()),
            b.view_mut(&mut stats.buf, 0..rows),
        );
        let stats = inner.keep(rows, stats);
        let grad = inner.needs_grad(self.id) || inner.needs_grad(gain.id);
        let id = inner.push(Op::RmsNorm { x: self.id, gain: gain.id, stats }, s, Some(out), None, grad);
        drop(inner);
        Ok(self.with(id))
    }

    /// Batch normalisation of `x[n, c, ..]` by the batch's statistics, over all ranks where the graph has a
    /// [`crate::StatsSync`]. Returns the output and, per channel, mean and (biased) variance.
    ///
    /// # Collective
    /// Every rank, when the graph has a [`crate::StatsSync`]: once here, once in the backward pass.
    pub fn batch_norm(self, gain: Self, bias: Self, eps: f64) -> Result<(Self, Vec<f64>, Vec<f64>), NnError> {
        let s = self.shape();
        let c = s.dims().get(1).copied().unwrap_or(0);
        if s.rank() < 2 || s.is_empty() || gain.shape().dims() != [c] || bias.shape().dims() != [c] {
            return Err(Self::err(
                "batch_norm",
                "x[n, c, ..], gain[c], bias[c]",
                &[s, gain.shape(), bias.shape()],
            ));
        }
        if self.forward_mode() {
            return self.composed_batch_norm(gain, bias, eps);
        }
        let hw = s.product(2..s.rank());
        let mut inner = self.graph.inner.borrow_mut();
        let mut sums = vec![0.0; 2 * c + 1];
        let x = inner.view(self.id);
        inner.backend.channel_sums(s[0], c, hw, x, x, &mut sums[..2 * c]);
        #[expect(clippy::cast_precision_loss, reason = "batches are far below 2^52")]
        {
            sums[2 * c] = (s[0] * hw) as f64;
        }
        let mut ranks = 1;
        if let Some(sync) = &self.graph.sync {
            ranks = sync.sum(&mut sums)?;
            self.graph.sync_used.set(true);
        }
        let count = sums[2 * c];
        let mean: Vec<f64> = (0..c).map(|i| sums[2 * i] / count).collect();
        let variance: Vec<f64> =
            (0..c).map(|i| (sums[2 * i + 1] / count - mean[i] * mean[i]).max(0.0)).collect();
        let (mut g, mut b) = (vec![B::Elem::default(); c], vec![B::Elem::default(); c]);
        inner.backend.download(inner.view(gain.id), &mut g);
        inner.backend.download(inner.view(bias.id), &mut b);
        let mut coefficients = Vec::with_capacity(3 * c);
        let mut stats = Vec::with_capacity(2 * c + 1);
        for i in 0..c {
            let rstd = 1.0 / (variance[i] + eps).sqrt();
            let scale = g[i].to_f64() * rstd;
            coefficients.extend([scale, 0.0, b[i].to_f64() - mean[i] * scale]);
            stats.extend([mean[i], rstd]);
        }
        stats.push(count);
        let mut out = inner.take(s.len())?;
        let d = &inner.backend;
        let x = inner.view(self.id);
        d.channel_affine(s[0], c, hw, &coefficients, x, x, Write::Set, d.view_mut(&mut out.buf, 0..s.len()));
        inner.channel_stats.push((stats, ranks));
        let stats = inner.channel_stats.len() - 1;
        let grad = [self.id, gain.id, bias.id].into_iter().any(|id| inner.needs_grad(id));
        let op = Op::BatchNorm { x: self.id, gain: gain.id, bias: bias.id, stats };
        let id = inner.push(op, s, Some(out), None, grad);
        drop(inner);
        Ok((self.with(id), mean, variance))
    }

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
    pub fn cross_entropy(self, labels: Ids<'g>) -> Result<(Self, usize), NnError> {
        let s = self.shape();
        let d = s.last();
        let rows = s.len() / d.max(1);
        if s.rank() == 0 || rows != labels.len || d < labels.bound {
            let got = [s, Shape::from([labels.len]), Shape::from([labels.bound])];
            return Err(Self::err("cross_entropy", "x[.., d], a label below d for each row", &got));
        }
        let mut inner = self.graph.inner.borrow_mut();
        let (mut loss, mut lse) = (inner.take(rows)?, inner.take(rows)?);
        let b = &inner.backend;
        let hits = b.cross_entropy(
            d,
            inner.view(self.id),
            inner.index(labels.at),
            b.view_mut(&mut loss.buf, 0..rows),
            b.view_mut(&mut lse.buf, 0..rows),
        );
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
        inner.first_correct = hits;
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

/// The shape without one of its dims.
fn without(s: Shape, dim: usize) -> Shape {
    let mut dims = [0; MAX_DIMS];
    let kept = s.iter().enumerate().filter(|(i, _)| *i != dim).map(|(_, d)| *d);
    dims.iter_mut().zip(kept).for_each(|(to, from)| *to = from);
    Shape::new(&dims[..s.rank() - 1])
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
