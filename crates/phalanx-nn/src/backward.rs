//! The walk back over the tape.
//!
//! Elementary operators propagate duals: while the graph carries a direction, each rule is applied to the gradient and,
//! by the product rule, to its directional derivative, so that a backward pass yields Hessian-vector products too.
//! Fused operators never meet a direction: they were composed of elementary ones.

use crate::NnError;
use crate::graph::{Graph, Id, Inner, Mode, Op, Side};
use crate::observe::{ParamObserver, Parameterised};
use crate::params::ParamId;
use crate::pool::Pooled;
use crate::sink::GradSink;
use crate::var::{Var, permuted};
use phalanx_tensor::op::{Activation, BinaryKind, ConvSpec, Mat, MatmulSpec, Strided, UnaryKind};
use phalanx_tensor::{Backend, Float, Shape, Write};

/// A term of the product rule: which part of the incoming gradient, which part of the other operand, which part of
/// the result.
type Term = (Side, Side, Side);
const VALUE: Term = (Side::Value, Side::Value, Side::Value);
const TERMS: [Term; 3] =
    [VALUE, (Side::Tangent, Side::Value, Side::Tangent), (Side::Value, Side::Tangent, Side::Tangent)];

impl<B: Backend> Graph<B> {
    /// Sends the gradient of `seed * sum(of)` to `sink`, parameter by parameter as each is finished.
    ///
    /// The buffers of activations go back to the arena on the way; afterwards the graph holds no values and is to be
    /// [reset](Graph::reset).
    ///
    /// # Errors
    /// [`NnError::NotRecorded`] in [`Mode::Eval`], and when the device has too little memory.
    ///
    /// # Panics
    /// In a second backward pass over the same values.
    ///
    /// # Collective
    /// Every rank, with batch norm and a [`crate::StatsSync`].
    pub fn backward(&self, of: Var<'_, B>, seed: f64, sink: &mut dyn GradSink<B>) -> Result<(), NnError> {
        self.walk(of, seed, sink, None)
    }

    /// [`Graph::backward`] under the eyes of an observer.
    ///
    /// # Errors
    /// As [`Graph::backward`].
    ///
    /// # Panics
    /// As [`Graph::backward`].
    pub fn backward_observed(
        &self,
        of: Var<'_, B>,
        seed: f64,
        sink: &mut dyn GradSink<B>,
        observer: &mut dyn ParamObserver<B>,
    ) -> Result<(), NnError> {
        self.walk(of, seed, sink, Some(observer))
    }

    fn walk<'a>(
        &'a self,
        of: Var<'_, B>,
        seed: f64,
        sink: &'a mut dyn GradSink<B>,
        observer: Option<&'a mut dyn ParamObserver<B>>,
    ) -> Result<(), NnError> {
        let mut inner = self.inner.borrow_mut();
        if inner.mode == Mode::Eval {
            return Err(NnError::NotRecorded);
        }
        let count = inner.nodes.len();
        inner.grads.resize_with(count, || [None, None]);
        let len = inner.shape(of.id).len();
        let mut first = inner.take(len)?;
        let b = &inner.backend;
        b.fill(seed, b.view_mut(&mut first.buf, 0..len));
        let mut pass = Pass { inner: &mut inner, sink, observer, sync: self.sync.as_deref() };
        pass.deliver(of.id, first, len)?;
        for at in (0..count).rev() {
            #[expect(clippy::cast_possible_truncation, reason = "the tape's ids are u32")]
            pass.node(Id(at as u32))?;
            pass.sink.breathe();
        }
        Ok(())
    }
}

struct Pass<'i, 'a, B: Backend> {
    inner: &'i mut Inner<B>,
    sink: &'a mut dyn GradSink<B>,
    observer: Option<&'a mut dyn ParamObserver<B>>,
    sync: Option<&'a dyn crate::StatsSync>,
}

impl<B: Backend> Pass<'_, '_, B> {
    fn node(&mut self, id: Id) -> Result<(), NnError> {
        let op = self.inner.nodes[id.at()].op;
        if let Op::Param(param) = op {
            if self.inner.needs_grad(id) {
                self.sink.ready(param);
            }
            return Ok(());
        }
        let [value, tangent] = std::mem::take(&mut self.inner.grads[id.at()]);
        if value.is_some() || tangent.is_some() {
            let mut grads = Grads { shape: self.inner.shape(id), value, tangent };
            self.rule(id, op, &mut grads)?;
            [grads.value, grads.tangent].into_iter().flatten().for_each(|b| self.inner.pool.give(b));
        }
        let held = &mut self.inner.values[id.at()];
        let freed = [held.value.take(), held.tangent.take()];
        freed.into_iter().flatten().for_each(|b| self.inner.pool.give(b));
        Ok(())
    }

    /// Calls `f` with the place where the gradient of `to` is collected, unless none may flow there.
    fn into(
        &mut self,
        to: Id,
        side: Side,
        f: impl FnOnce(&Inner<B>, Write, B::ViewMut<'_>),
    ) -> Result<(), NnError> {
        if !self.inner.needs_grad(to) {
            return Ok(());
        }
        let home = self.inner.nodes[to.at()].home;
        if let Op::Param(param) = self.inner.nodes[home.at()].op {
            let (write, view) = match side {
                Side::Value => self.sink.target(param),
                Side::Tangent => self.sink.tangent(param),
            };
            f(self.inner, write, view);
            return Ok(());
        }
        let len = self.inner.shape(home).len();
        let which = usize::from(side == Side::Tangent);
        let (write, mut buf) = match self.inner.grads[home.at()][which].take() {
            Some(buf) => (Write::Add, buf),
            None => (Write::Set, self.inner.take(len)?),
        };
        f(self.inner, write, self.inner.backend.view_mut(&mut buf.buf, 0..len));
        self.inner.grads[home.at()][which] = Some(buf);
        Ok(())
    }

    /// A rule that is linear in the gradient and needs nothing else: both parts go the same way.
    fn linear(
        &mut self,
        to: Id,
        grads: &Grads<B>,
        f: impl Fn(&Inner<B>, B::View<'_>, Write, B::ViewMut<'_>),
    ) -> Result<(), NnError> {
        for side in [Side::Value, Side::Tangent] {
            if grads.has(side) {
                self.into(to, side, |inner, write, out| {
                    if let Some(dy) = grads.view(inner, side) {
                        f(inner, dy, write, out);
                    }
                })?;
            }
        }
        Ok(())
    }

    /// A rule that is linear in the gradient and in another operand.
    fn bilinear(
        &mut self,
        to: Id,
        grads: &Grads<B>,
        other: Id,
        f: impl Fn(&Inner<B>, B::View<'_>, B::View<'_>, Write, B::ViewMut<'_>),
    ) -> Result<(), NnError> {
        for (side_dy, side_other, side_out) in TERMS {
            if grads.has(side_dy) && self.inner.side(other, side_other).is_some() {
                self.into(to, side_out, |inner, write, out| {
                    if let (Some(dy), Some(other)) =
                        (grads.view(inner, side_dy), inner.side(other, side_other))
                    {
                        f(inner, dy, other, write, out);
                    }
                })?;
            }
        }
        Ok(())
    }

    /// A rule may keep the buffers of `grads`.
    fn rule(&mut self, id: Id, op: Op, grads: &mut Grads<B>) -> Result<(), NnError> {
        let shape = grads.shape;
        match op {
            Op::Input | Op::Param(_) | Op::Reshape(_) => Ok(()),
            Op::Unary(kind, x) => self.unary(kind, x, grads),
            Op::Affine { x, alpha } => {
                self.linear(x, grads, |inner, dy, write, dx| inner.backend.affine(alpha, 0.0, dy, write, dx))
            }
            Op::Binary(kind, a, b) => self.binary(kind, a, b, grads),
            Op::Matmul { a, b, spec } => self.matmul(a, b, &spec, grads),
            Op::Linear { x, w, bias, act, pre } => self.linear_layer(id, [x, w], bias, act, pre, grads),
            Op::Conv2d { x, w, bias, spec, act, argmax } if act != Activation::None || bias.is_some() => {
                self.fused_conv(id, [x, w], bias, &spec, act, argmax, grads)
            }
            Op::Conv2d { x, w, spec, .. } => self.plain_conv(id, x, w, &spec, grads),
            Op::MaxPool { x, spec, argmax } => self.linear(x, grads, |inner, dy, write, mut dx| {
                if write == Write::Set {
                    inner.backend.fill(0.0, B::reborrow(&mut dx));
                }
                inner.backend.max_pool2d_grad(&spec, inner.index(argmax), dy, dx);
            }),
            Op::AvgPool { x, spec } => self
                .linear(x, grads, |inner, dy, write, dx| inner.backend.avg_pool2d_grad(&spec, dy, write, dx)),
            Op::Gather { table, ids } => {
                let d = shape.last();
                if let (Some(table), true) = (self.param_of(table), grads.has(Side::Value)) {
                    self.observe(|inner| {
                        let dy = grads.view(inner, Side::Value)?;
                        let ids = inner.index(ids);
                        Some(Parameterised::Embedding { table, ids, dy, rows: shape.len() / d.max(1), d })
                    });
                }
                self.linear(table, grads, |inner, dy, write, out| {
                    inner.backend.scatter_rows(d, inner.index(ids), dy, write, out);
                })
            }
            Op::LayerNorm { x, gain, bias, stats } => self.norm(x, gain, Some(bias), stats, grads),
            Op::RmsNorm { x, gain, stats } => self.norm(x, gain, None, stats, grads),
            Op::BatchNorm { x, gain, bias, stats } => self.batch_norm(x, gain, bias, stats, grads),
            Op::Softmax(x) => self.linear(x, grads, |inner, dy, write, dx| {
                inner.backend.softmax_grad(shape.last(), inner.view(id), dy, write, dx);
            }),
            Op::LogSoftmax(x) => self.linear(x, grads, |inner, dy, write, dx| {
                inner.backend.log_softmax_grad(shape.last(), inner.view(id), dy, write, dx);
            }),
            Op::CrossEntropy { logits, labels, lse } => self.linear(logits, grads, |inner, dy, write, dx| {
                let d = inner.shape(logits).last();
                let (x, labels, lse) = (inner.view(logits), inner.index(labels), inner.view(lse));
                inner.backend.cross_entropy_grad(d, x, labels, lse, dy, write, dx);
            }),
            Op::Attention { qkv, lse, spec } => self.linear(qkv, grads, |inner, dy, write, dx| {
                let (x, y, lse) = (inner.view(qkv), inner.view(id), inner.view(lse));
                inner.backend.attention_grad(&spec, x, y, lse, dy, write, dx);
            }),
            Op::Dropout { x, stream, first, p } => self.linear(x, grads, |inner, dy, write, dx| {
                inner.backend.dropout(stream, first, p, dy, write, dx);
            }),
            Op::SumAxis { x, outer, len, inner: rest } => {
                let full = Shape::from([outer, len, rest]);
                let from = Strided { shape: full, offset: 0, strides: [rest, 0, 1, 0, 0, 0] };
                self.linear(x, grads, |inner, dy, write, dx| {
                    inner.backend.copy_strided((dy, from), write, (dx, Strided::dense(full)));
                })
            }
            Op::Expand { x } => self.sum_to(x, grads),
            Op::Permute { x, order } => {
                let (moved, to) = permuted(self.inner.shape(x), &order);
                self.linear(x, grads, |inner, dy, write, dx| {
                    inner.backend.copy_strided((dy, Strided::dense(moved)), write, (dx, to));
                })
            }
            Op::Narrow { x, dim, start } => {
                let whole = self.inner.shape(x);
                let to = Strided { shape, offset: start * whole.strides()[dim], strides: whole.strides() };
                self.linear(x, grads, |inner, dy, write, mut dx| {
                    if write == Write::Set {
                        inner.backend.fill(0.0, B::reborrow(&mut dx));
                    }
                    inner.backend.copy_strided((dy, Strided::dense(shape)), Write::Add, (dx, to));
                })
            }
            Op::Concat { a, b, dim } => {
                for (x, start) in [(a, 0), (b, self.inner.shape(a)[dim])] {
                    let part = self.inner.shape(x);
                    let from = Strided {
                        shape: part,
                        offset: start * shape.strides()[dim],
                        strides: shape.strides(),
                    };
                    self.linear(x, grads, |inner, dy, write, dx| {
                        inner.backend.copy_strided((dy, from), write, (dx, Strided::dense(part)));
                    })?;
                }
                Ok(())
            }
        }
    }

    /// `f'(x) dy`, and for the tangent `f'(x) dy' + f''(x) x' dy`.
    fn unary(&mut self, kind: UnaryKind, x: Id, grads: &Grads<B>) -> Result<(), NnError> {
        self.linear(x, grads, |inner, dy, write, dx| {
            inner.backend.unary_grad(kind, inner.view(x), dy, write, dx)
        })?;
        if self.inner.tangent(x).is_some() && grads.has(Side::Value) {
            self.into(x, Side::Tangent, |inner, write, out| {
                if let (Some(dx), Some(dy)) = (inner.tangent(x), grads.view(inner, Side::Value)) {
                    inner.backend.unary_grad2(kind, inner.view(x), dx, dy, write, out);
                }
            })?;
        }
        Ok(())
    }

    fn binary(&mut self, kind: BinaryKind, a: Id, b: Id, grads: &mut Grads<B>) -> Result<(), NnError> {
        let shape = grads.shape;
        match kind {
            BinaryKind::Add => {
                [a, b].into_iter().for_each(|operand| self.observe_offset(operand, grads));
                // the operand that was not broadcast comes last: it may keep the gradient
                let is_whole = |operand| self.inner.shape(operand).len() == shape.len();
                let [first, last] = if is_whole(b) { [a, b] } else { [b, a] };
                self.sum_to(first, grads)?;
                if self.inner.shape(last).len() != shape.len() || grads.has(Side::Tangent) {
                    return self.sum_to(last, grads);
                }
                match grads.value.take() {
                    Some(value) => self.deliver(last, value, shape.len()),
                    None => Ok(()),
                }
            }
            BinaryKind::Sub => {
                self.sum_to(a, grads)?;
                // Only met without a direction: forward mode adds the negated operand.
                let Some(minus) =
                    self.map(grads, |inner, dy, out| inner.backend.affine(-1.0, 0.0, dy, Write::Set, out))?
                else {
                    return Ok(());
                };
                self.sum_to(b, &minus)?;
                self.release(minus);
                Ok(())
            }
            _ => {
                for (to, other) in [(a, b), (b, a)] {
                    if !self.inner.needs_grad(to) {
                        continue;
                    }
                    let layout = Strided::broadcast(self.inner.shape(other), shape);
                    let dense = Strided::dense(shape);
                    if self.inner.shape(to) == shape {
                        self.bilinear(to, grads, other, |inner, dy, other, write, out| {
                            inner.backend.binary(kind, (dy, dense), (other, layout), write, out);
                        })?;
                        continue;
                    }
                    for (side_dy, side_other, side_out) in TERMS {
                        if !grads.has(side_dy) || self.inner.side(other, side_other).is_none() {
                            continue;
                        }
                        let mut product = self.inner.take(shape.len())?;
                        let inner = &*self.inner;
                        if let (Some(dy), Some(other)) =
                            (grads.view(inner, side_dy), inner.side(other, side_other))
                        {
                            let out = inner.backend.view_mut(&mut product.buf, 0..shape.len());
                            inner.backend.binary(kind, (dy, dense), (other, layout), Write::Set, out);
                        }
                        let product = match side_out {
                            Side::Value => Grads { shape, value: Some(product), tangent: None },
                            Side::Tangent => Grads { shape, value: None, tangent: Some(product) },
                        };
                        self.sum_to(to, &product)?;
                        self.release(product);
                    }
                }
                Ok(())
            }
        }
    }

    /// A new gradient, a function of the value part.
    fn map(
        &mut self,
        grads: &Grads<B>,
        f: impl FnOnce(&Inner<B>, B::View<'_>, B::ViewMut<'_>),
    ) -> Result<Option<Grads<B>>, NnError> {
        if !grads.has(Side::Value) {
            return Ok(None);
        }
        let mut out = self.inner.take(grads.shape.len())?;
        if let Some(dy) = grads.view(self.inner, Side::Value) {
            f(self.inner, dy, self.inner.backend.view_mut(&mut out.buf, 0..grads.shape.len()));
        }
        Ok(Some(Grads { shape: grads.shape, value: Some(out), tangent: None }))
    }

    fn release(&mut self, grads: Grads<B>) {
        [grads.value, grads.tangent].into_iter().flatten().for_each(|b| self.inner.pool.give(b));
    }

    /// Adds a gradient to an operand that was broadcast: sums over the dims that were repeated.
    fn sum_to(&mut self, to: Id, grads: &Grads<B>) -> Result<(), NnError> {
        let (full, own) = (grads.shape, self.inner.shape(to));
        if !self.inner.needs_grad(to) {
            return Ok(());
        }
        if own.len() == full.len() {
            return self
                .linear(to, grads, |inner, dy, write, out| inner.backend.affine(1.0, 0.0, dy, write, out));
        }
        // The operand's extents aligned with the result's; repeated are those of 1 that became more.
        let lead = full.rank() - own.rank();
        let extent = |i: usize| if i < lead { 1 } else { own[i - lead] };
        let repeated = |i: usize| extent(i) == 1 && full[i] != 1;
        for side in [Side::Value, Side::Tangent] {
            if !grads.has(side) {
                continue;
            }
            let mut now = full;
            let mut held: Option<Pooled<B::Buf>> = None;
            // From the first dim on; runs of repeated dims are summed at once.
            let mut dim = 0;
            while dim < full.rank() {
                if !repeated(dim) {
                    dim += 1;
                    continue;
                }
                let end = (dim..full.rank()).find(|i| !repeated(*i)).unwrap_or(full.rank());
                let (outer, len, rest) =
                    (now.product(0..dim), now.product(dim..end), now.product(end..now.rank()));
                let mut out = self.inner.take(outer * rest)?;
                let inner = &*self.inner;
                let x = match &held {
                    Some(buf) => Some(inner.backend.view(&buf.buf, 0..now.len())),
                    None => grads.view(inner, side),
                };
                if let Some(x) = x {
                    let view = inner.backend.view_mut(&mut out.buf, 0..outer * rest);
                    inner.backend.sum_axis(x, outer, len, rest, Write::Set, view);
                }
                if let Some(old) = held.replace(out) {
                    self.inner.pool.give(old);
                }
                for d in dim..end {
                    now = now.with_dim(d, 1);
                }
                dim = end;
            }
            if let Some(sum) = held {
                self.into(to, side, |inner, write, out| {
                    inner.backend.affine(1.0, 0.0, inner.backend.view(&sum.buf, 0..own.len()), write, out);
                })?;
                self.inner.pool.give(sum);
            }
        }
        Ok(())
    }

    fn matmul(&mut self, a: Id, b: Id, spec: &MatmulSpec, grads: &Grads<B>) -> Result<(), NnError> {
        // dA = dC B^T, dB = A^T dC; a transposed B is written through its transposed view, whose rows are contiguous.
        let da = MatmulSpec { n: spec.k, k: spec.n, a: spec.c, b: spec.b.t(), c: spec.a, ..*spec };
        self.bilinear(a, grads, b, |inner, dc, b, write, out| inner.backend.matmul(&da, dc, b, write, out))?;
        let db = if spec.b.cols == 1 {
            MatmulSpec { m: spec.k, n: spec.n, k: spec.m, a: spec.a.t(), b: spec.c, c: spec.b, ..*spec }
        } else {
            MatmulSpec { m: spec.n, n: spec.k, k: spec.m, a: spec.c.t(), b: spec.a, c: spec.b.t(), ..*spec }
        };
        let swapped = spec.b.cols != 1;
        self.bilinear(b, grads, a, |inner, dc, a, write, out| {
            if swapped {
                inner.backend.matmul(&db, dc, a, write, out);
            } else {
                inner.backend.matmul(&db, a, dc, write, out);
            }
        })
    }

    fn linear_layer(
        &mut self,
        id: Id,
        [x, w]: [Id; 2],
        bias: Option<Id>,
        act: Option<UnaryKind>,
        pre: Option<Id>,
        grads: &Grads<B>,
    ) -> Result<(), NnError> {
        // Through the activation first; ReLU's mask can be read off its output.
        let through = match act {
            None => None,
            Some(kind) => self.map(grads, |inner, dy, out| {
                inner.backend.unary_grad(kind, inner.view(pre.unwrap_or(id)), dy, Write::Set, out);
            })?,
        };
        let grads = through.as_ref().unwrap_or(grads);
        let (n, k) = (self.inner.shape(w)[0], self.inner.shape(w)[1]);
        let m = grads.shape.len() / n.max(1);
        if let Some(weight) = self.param_of(w) {
            let bias = bias.and_then(|b| self.param_of(b));
            self.observe(|inner| {
                let dy = grads.view(inner, Side::Value)?;
                Some(Parameterised::Linear { weight, bias, x: inner.view(x), dy, rows: m, nk: [n, k] })
            });
        }
        if let Some(bias) = bias {
            self.linear(bias, grads, |inner, dy, write, out| {
                inner.backend.sum_axis(dy, 1, m, n, write, out)
            })?;
        }
        let dw = MatmulSpec {
            batch: 1,
            m: n,
            n: k,
            k: m,
            a: Mat::dense(m, n).t(),
            b: Mat::dense(m, k),
            c: Mat::dense(n, k),
        };
        self.linear(w, grads, |inner, dy, write, out| {
            inner.backend.matmul(&dw, dy, inner.view(x), write, out)
        })?;
        let dx = MatmulSpec {
            batch: 1,
            m,
            n: k,
            k: n,
            a: Mat::dense(m, n),
            b: Mat::dense(n, k),
            c: Mat::dense(m, k),
        };
        self.linear(x, grads, |inner, dy, write, out| {
            inner.backend.matmul(&dx, dy, inner.view(w), write, out)
        })?;
        if let Some(through) = through {
            self.release(through);
        }
        Ok(())
    }

    #[expect(clippy::too_many_arguments, reason = "a fused operator has the operands of its parts")]
    fn fused_conv(
        &mut self,
        id: Id,
        [x, w]: [Id; 2],
        bias: Option<Id>,
        spec: &ConvSpec,
        act: Activation,
        argmax: Option<usize>,
        grads: &Grads<B>,
    ) -> Result<(), NnError> {
        if let Some(weight) = self.param_of(w) {
            let bias = bias.and_then(|b| self.param_of(b));
            self.observe(|inner| {
                let (x, y, dy) = (inner.view(x), inner.view(id), grads.view(inner, Side::Value)?);
                let argmax = argmax.map(|a| inner.index(a));
                Some(Parameterised::Conv2d { weight, bias, spec: *spec, act, x, y, argmax, dy })
            });
        }
        // The three gradients come from one pass over the images, so their targets must be had together.
        let len_w = self.inner.shape(w).len();
        let mut dw = self.inner.take(len_w)?;
        let mut db = match bias.filter(|b| self.inner.needs_grad(*b)) {
            Some(bias) => Some((bias, self.inner.take(spec.o)?)),
            None => None,
        };
        let len_x = self.inner.shape(x).len();
        let home = self.inner.nodes[x.at()].home;
        let mut dx = match self.inner.needs_grad(x) {
            true => Some(match self.inner.grads[home.at()][0].take() {
                Some(buf) => (Write::Add, buf),
                None => (Write::Set, self.inner.take(len_x)?),
            }),
            false => None,
        };
        let inner = &*self.inner;
        let b = &inner.backend;
        if let Some(dy) = grads.view(inner, Side::Value) {
            b.conv2d_grad(
                spec,
                act,
                inner.view(x),
                inner.view(w),
                inner.view(id),
                argmax.map(|a| inner.index(a)),
                dy,
                Some((Write::Set, b.view_mut(&mut dw.buf, 0..len_w))),
                db.as_mut().map(|(_, db)| (Write::Set, b.view_mut(&mut db.buf, 0..spec.o))),
                dx.as_mut().map(|(write, dx)| (*write, b.view_mut(&mut dx.buf, 0..len_x))),
            );
        }
        if let Some((_, dx)) = dx {
            self.deliver(x, dx, len_x)?;
        }
        self.into(w, Side::Value, |inner, write, out| {
            inner.backend.affine(1.0, 0.0, inner.backend.view(&dw.buf, 0..len_w), write, out);
        })?;
        self.inner.pool.give(dw);
        if let Some((bias, db)) = db {
            self.into(bias, Side::Value, |inner, write, out| {
                inner.backend.affine(1.0, 0.0, inner.backend.view(&db.buf, 0..spec.o), write, out);
            })?;
            self.inner.pool.give(db);
        }
        Ok(())
    }

    /// A convolution without bias or activation, linear in image and weight: the one that forward mode meets.
    fn plain_conv(&mut self, id: Id, x: Id, w: Id, spec: &ConvSpec, grads: &Grads<B>) -> Result<(), NnError> {
        if let (Some(weight), false) = (self.param_of(w), self.inner.forward_mode) {
            self.observe(|inner| {
                let (x, y, dy) = (inner.view(x), inner.view(id), grads.view(inner, Side::Value)?);
                let act = Activation::None;
                Some(Parameterised::Conv2d { weight, bias: None, spec: *spec, act, x, y, argmax: None, dy })
            });
        }
        self.bilinear(x, grads, w, |inner, dy, w, write, out| {
            let (b, any) = (&inner.backend, inner.view(x));
            b.conv2d_grad(spec, Activation::None, any, w, any, None, dy, None, None, Some((write, out)));
        })?;
        self.bilinear(w, grads, x, |inner, dy, x, write, out| {
            let (b, any) = (&inner.backend, inner.view(w));
            b.conv2d_grad(spec, Activation::None, x, any, x, None, dy, Some((write, out)), None, None);
        })
    }

    fn norm(
        &mut self,
        x: Id,
        gain: Id,
        bias: Option<Id>,
        stats: Id,
        grads: &Grads<B>,
    ) -> Result<(), NnError> {
        let d = grads.shape.last();
        let len = grads.shape.len();
        if let Some(gain) = self.param_of(gain) {
            let bias = bias.and_then(|b| self.param_of(b));
            self.observe(|inner| {
                let (x, stats, dy) = (inner.view(x), inner.view(stats), grads.view(inner, Side::Value)?);
                Some(Parameterised::Norm { gain, bias, x, stats, dy, rows: len / d.max(1), d })
            });
        }
        let (mut dgain, mut dbias, mut dx) =
            (self.inner.take(d)?, self.inner.take(d)?, self.inner.take(len)?);
        let inner = &*self.inner;
        let b = &inner.backend;
        if let Some(dy) = grads.view(inner, Side::Value) {
            let (x, g, stats) = (inner.view(x), inner.view(gain), inner.view(stats));
            let dgain = (Write::Set, b.view_mut(&mut dgain.buf, 0..d));
            let dx = (Write::Set, b.view_mut(&mut dx.buf, 0..len));
            match bias {
                Some(_) => {
                    let dbias = (Write::Set, b.view_mut(&mut dbias.buf, 0..d));
                    b.layer_norm_grad(d, x, g, stats, dy, dgain, dbias, dx);
                }
                None => b.rms_norm_grad(d, x, g, stats, dy, dgain, dx),
            }
        }
        self.deliver(gain, dgain, d)?;
        match bias {
            Some(bias) => self.deliver(bias, dbias, d)?,
            None => self.inner.pool.give(dbias),
        }
        self.deliver(x, dx, len)
    }

    /// Hands a finished contribution over: as it is where it is the first, added where it is not.
    fn deliver(&mut self, to: Id, buf: Pooled<B::Buf>, len: usize) -> Result<(), NnError> {
        if !self.inner.needs_grad(to) {
            self.inner.pool.give(buf);
            return Ok(());
        }
        let home = self.inner.nodes[to.at()].home;
        let is_param = matches!(self.inner.nodes[home.at()].op, Op::Param(_));
        if !is_param && self.inner.grads[home.at()][0].is_none() {
            self.inner.grads[home.at()][0] = Some(buf);
            return Ok(());
        }
        self.into(to, Side::Value, |inner, write, out| {
            inner.backend.affine(1.0, 0.0, inner.backend.view(&buf.buf, 0..len), write, out);
        })?;
        self.inner.pool.give(buf);
        Ok(())
    }

    /// `dx = gain rstd (dy - mean(dy) - xhat mean(dy xhat))`, the means over the whole batch (all ranks with a sync).
    fn batch_norm(
        &mut self,
        x: Id,
        gain: Id,
        bias: Id,
        stats: usize,
        grads: &Grads<B>,
    ) -> Result<(), NnError> {
        let s = grads.shape;
        let (n, c, hw) = (s[0], s[1], s.product(2..s.rank()));
        let (stats, ranks) = self.inner.channel_stats[stats].clone();
        let count = stats[2 * c];
        let mut gains = vec![B::Elem::default(); c];
        let inner = &*self.inner;
        let b = &inner.backend;
        let Some(dy) = grads.view(inner, Side::Value) else { return Ok(()) };
        let mut sums = vec![0.0; 2 * c];
        b.channel_sums(n, c, hw, dy, inner.view(x), &mut sums);
        // a device that was waited for once gives this at once
        b.download(inner.view(gain), &mut gains);
        // sum(dy) and sum(dy xhat) of this rank are the gradients of bias and gain.
        let (mut dgain, mut dbias) = (Vec::with_capacity(c), Vec::with_capacity(c));
        for i in 0..c {
            let (mean, rstd) = (stats[2 * i], stats[2 * i + 1]);
            let along = (sums[2 * i + 1] - mean * sums[2 * i]) * rstd;
            dbias.push(B::Elem::from_f64(sums[2 * i]));
            dgain.push(B::Elem::from_f64(along));
            sums[2 * i + 1] = along;
        }
        if let (Some(sync), true) = (self.sync, ranks > 1) {
            sync.sum(&mut sums)?;
        }
        let mut coefficients = Vec::with_capacity(3 * c);
        for i in 0..c {
            let (mean, rstd) = (stats[2 * i], stats[2 * i + 1]);
            let scale = gains[i].to_f64() * rstd;
            let along = sums[2 * i + 1] / count * rstd;
            coefficients.extend([scale, -scale * along, scale * (along * mean - sums[2 * i] / count)]);
        }
        for (to, values) in [(gain, dgain), (bias, dbias)] {
            let mut buf = self.inner.take(c)?;
            let b = &self.inner.backend;
            b.upload(&values, b.view_mut(&mut buf.buf, 0..c));
            self.deliver(to, buf, c)?;
        }
        self.linear(x, grads, |inner, dy, write, out| {
            inner.backend.channel_affine(n, c, hw, &coefficients, dy, inner.view(x), write, out);
        })
    }

    fn param_of(&self, id: Id) -> Option<ParamId> {
        match self.inner.nodes[self.inner.nodes[id.at()].home.at()].op {
            Op::Param(p) => Some(p),
            _ => None,
        }
    }

    /// Reports an operand of an addition that is a parameter.
    fn observe_offset(&mut self, operand: Id, grads: &Grads<B>) {
        if let Some((param, at)) = self.inner.param_part(operand)
            && let Some(len) = repeated_row(self.inner.shape(operand), grads.shape)
        {
            self.observe(|inner| {
                let dy = grads.view(inner, Side::Value)?;
                Some(Parameterised::Offset { param, at, dy, rows: grads.shape.len() / len.max(1), len })
            });
        }
    }

    fn observe<'s>(&'s mut self, f: impl FnOnce(&'s Inner<B>) -> Option<Parameterised<'s, B>>) {
        if let Some(observer) = self.observer.as_deref_mut()
            && let Some(op) = f(self.inner)
        {
            observer.observe(&self.inner.backend, op);
        }
    }
}

/// Elements of an operand that a broadcast repeats as a whole: along leading dims, of which there is at least one.
pub(crate) fn repeated_row(own: Shape, full: Shape) -> Option<usize> {
    let ones = own.iter().take_while(|extent| **extent == 1).count();
    let row = &own[ones..];
    (row.len() < full.rank() && full.ends_with(row)).then_some(own.len())
}

/// A node's gradient and its directional derivative.
struct Grads<B: Backend> {
    shape: Shape,
    value: Option<Pooled<B::Buf>>,
    tangent: Option<Pooled<B::Buf>>,
}

impl<B: Backend> Grads<B> {
    fn part(&self, side: Side) -> Option<&Pooled<B::Buf>> {
        match side {
            Side::Value => self.value.as_ref(),
            Side::Tangent => self.tangent.as_ref(),
        }
    }

    fn has(&self, side: Side) -> bool {
        self.part(side).is_some()
    }

    fn view<'a>(&'a self, inner: &Inner<B>, side: Side) -> Option<B::View<'a>> {
        self.part(side).map(|buf| inner.backend.view(&buf.buf, 0..self.shape.len()))
    }
}
