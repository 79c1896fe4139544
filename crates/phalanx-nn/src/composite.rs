//! Fused operators composed of elementary ones, for forward mode: the definition that their kernels are tested against.

use crate::NnError;
use crate::graph::{Id, Ids, Inner, Op};
use crate::var::{ConvOptions, Var};
use phalanx_tensor::op::{Activation, ConvSpec, UnaryKind};
use phalanx_tensor::{Backend, Float, Shape, Write};

impl<'g, B: Backend> Var<'g, B> {
    pub(crate) fn composed_linear(
        self,
        w: Self,
        bias: Option<Self>,
        act: Option<UnaryKind>,
    ) -> Result<Self, NnError> {
        let s = self.shape();
        let flat = self.reshape([s.len() / s.last().max(1), s.last()])?;
        let mut y = flat.matmul_t(w)?;
        if let Some(bias) = bias {
            y = y.add(bias)?;
        }
        if let Some(act) = act {
            y = y.unary(act)?;
        }
        y.reshape(s.with_dim(s.rank() - 1, w.shape()[0]))
    }

    pub(crate) fn composed_conv2d(
        self,
        w: Self,
        bias: Option<Self>,
        options: ConvOptions,
        act: Activation,
    ) -> Result<Self, NnError> {
        let mut y = self.conv2d(w, None, options)?;
        if let Some(bias) = bias {
            y = y.add(bias.reshape([w.shape()[0], 1, 1])?)?;
        }
        match act {
            Activation::None => Ok(y),
            Activation::Relu => y.relu(),
            Activation::ReluPool2 => y.relu()?.max_pool2d([2, 2], [2, 2], [0, 0]),
        }
    }

    /// Layer norm with a bias, RMS norm without.
    pub(crate) fn composed_norm(self, gain: Self, bias: Option<Self>, eps: f64) -> Result<Self, NnError> {
        let s = self.shape();
        let last = s.rank() - 1;
        let stat = s.with_dim(last, 1);
        let x = match bias {
            Some(_) => self.sub(self.mean_axis(last)?.reshape(stat)?)?,
            None => self,
        };
        let rstd = x.square()?.mean_axis(last)?.add_scalar(eps)?.rsqrt()?.reshape(stat)?;
        let y = x.mul(rstd)?.mul(gain)?;
        bias.map_or(Ok(y), |bias| y.add(bias))
    }

    pub(crate) fn composed_batch_norm(
        self,
        gain: Self,
        bias: Self,
        eps: f64,
    ) -> Result<(Self, Vec<f64>, Vec<f64>), NnError> {
        let s = self.shape();
        let (n, c) = (s[0], s[1]);
        let hw = s.product(2..s.rank());
        let x = self.reshape([n, c, hw])?;
        let mean = x.mean_axis(2)?.mean_axis(0)?;
        let centred = x.sub(mean.reshape([c, 1])?)?;
        let variance = centred.square()?.mean_axis(2)?.mean_axis(0)?;
        let rstd = variance.add_scalar(eps)?.rsqrt()?;
        let y = centred.mul(rstd.mul(gain)?.reshape([c, 1])?)?.add(bias.reshape([c, 1])?)?;
        let host = |v: Self| v.to_vec().iter().map(|x| x.to_f64()).collect();
        Ok((y.reshape(s)?, host(mean), host(variance)))
    }

    /// `x - log(sum(e^x))`, shifted by the greatest: the shift cancels, so that it needs no derivative.
    pub(crate) fn composed_log_softmax(self) -> Result<Self, NnError> {
        let s = self.shape();
        let last = s.rank() - 1;
        let stat = s.with_dim(last, 1);
        let x = self.sub(self.max_axis_detached(last)?.reshape(stat)?)?;
        let lse = x.exp()?.sum_axis(last)?.ln()?;
        x.sub(lse.reshape(stat)?)
    }

    pub(crate) fn composed_softmax(self) -> Result<Self, NnError> {
        self.composed_log_softmax()?.exp()
    }

    pub(crate) fn composed_cross_entropy(self, labels: Ids<'g>) -> Result<Self, NnError> {
        let s = self.shape();
        let d = s.last();
        let logits = self.reshape([labels.len, d])?;
        let picked = Var::one_hot(self.graph, labels, d, -1.0)?;
        logits.log_softmax()?.mul(picked)?.sum_axis(1)
    }

    pub(crate) fn composed_attention(self, heads: usize) -> Result<Self, NnError> {
        let s = self.shape();
        let (b, t, d) = (s[0], s[1], s[2] / 3 / heads);
        let qkv = self.reshape([b, t, 3, heads, d])?.permute(&[2, 0, 3, 1, 4])?;
        let part = |i: usize| qkv.narrow(0, i, 1)?.reshape([b, heads, t, d]);
        #[expect(clippy::cast_precision_loss, reason = "heads are narrow")]
        let scores = part(0)?.matmul_t(part(1)?)?.scale(1.0 / (d as f64).sqrt())?;
        // What comes later is pushed so far down that its weight is exactly 0.
        let hidden: Vec<B::Elem> = (0..t * t)
            .map(|i| if i % t > i / t { B::Elem::from_f64(-1e30) } else { B::Elem::ZERO })
            .collect();
        let hidden = self.graph.input(&hidden, Shape::from([t, t]))?;
        let y = scores.add(hidden)?.softmax()?.matmul(part(2)?)?;
        y.permute(&[0, 2, 1, 3])?.reshape([b, t, heads * d])
    }
}

impl<B: Backend> Inner<B> {
    /// A plain convolution, linear in image and weight.
    pub(crate) fn bilinear_conv(
        &mut self,
        op: Op,
        operands: [Id; 2],
        spec: &ConvSpec,
        shape: Shape,
    ) -> Result<Id, NnError> {
        let mut part = self.take(shape.len())?;
        let scratch = std::cell::RefCell::new(&mut part.buf);
        let id = self.bilinear_op(op, operands, shape, |d, x, w, write, y| match write {
            Write::Set => d.conv2d(spec, x, w, None, Activation::None, y, None),
            Write::Add => {
                let mut scratch = scratch.borrow_mut();
                let whole = 0..shape.len();
                d.conv2d(spec, x, w, None, Activation::None, d.view_mut(&mut scratch, whole.clone()), None);
                d.affine(1.0, 0.0, d.view(&scratch, whole), Write::Add, y);
            }
        });
        self.pool.give(part);
        id
    }
}
