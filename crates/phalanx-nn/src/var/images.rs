//! Convolution and pooling.

use super::Var;
use crate::NnError;
use crate::graph::{Inner, Op};
use phalanx_tensor::op::{Activation, ConvSpec, PoolSpec};
use phalanx_tensor::{Backend, Shape};

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

#[expect(clippy::missing_errors_doc, reason = "stated on the type")]
impl<'g, B: Backend> Var<'g, B> {
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
}
