//! The tape: what a model computed, with the buffers it filled.

use crate::NnError;
use crate::params::{ParamId, Params};
use crate::pool::{Pool, Pooled};
use crate::var::Var;
use phalanx_tensor::op::{Activation, AttentionSpec, BinaryKind, ConvSpec, MatmulSpec, PoolSpec, UnaryKind};
use phalanx_tensor::rng::{Purpose, Stream};
use phalanx_tensor::{Backend, Float, Memory, Shape, Write};
use std::cell::{Cell, RefCell};
use std::fmt;
use std::marker::PhantomData;

/// Whether a graph keeps what a backward pass needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Activations are kept, dropout drops, batch norm takes the batch's statistics.
    Train,
    /// Nothing is kept for a backward pass, dropout passes, batch norm takes the running statistics.
    Eval,
}

/// Sums statistics over ranks inside a forward or backward pass, for batch normalisation over the whole batch.
pub trait StatsSync {
    /// Replaces each number by its sum over all ranks, and returns how many ranks took part.
    ///
    /// # Errors
    /// [`NnError::Sync`] when the collective failed.
    fn sum(&self, values: &mut [f64]) -> Result<usize, NnError>;
}

/// A node of the tape, by position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Id(pub(crate) u32);

impl Id {
    pub(crate) fn at(self) -> usize {
        self.0 as usize
    }
}

/// Which of a dual number's two parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Value,
    Tangent,
}

/// What a node computes. Operands come first, then what the backward pass needs.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Op {
    Input,
    Param(ParamId),
    Unary(UnaryKind, Id),
    Affine { x: Id, alpha: f64 },
    Binary(BinaryKind, Id, Id),
    Matmul { a: Id, b: Id, spec: MatmulSpec },
    Linear { x: Id, w: Id, bias: Option<Id>, act: Option<UnaryKind>, pre: Option<Id> },
    Conv2d { x: Id, w: Id, bias: Option<Id>, spec: ConvSpec, act: Activation, argmax: Option<usize> },
    MaxPool { x: Id, spec: PoolSpec, argmax: usize },
    AvgPool { x: Id, spec: PoolSpec },
    Gather { table: Id, ids: usize },
    LayerNorm { x: Id, gain: Id, bias: Id, stats: Id },
    RmsNorm { x: Id, gain: Id, stats: Id },
    BatchNorm { x: Id, gain: Id, bias: Id, stats: usize },
    Softmax(Id),
    LogSoftmax(Id),
    CrossEntropy { logits: Id, labels: usize, lse: Id },
    Attention { qkv: Id, lse: Id, spec: AttentionSpec },
    Dropout { x: Id, stream: Stream, first: u64, p: f64 },
    SumAxis { x: Id, outer: usize, len: usize, inner: usize },
    Expand { x: Id },
    Reshape(Id),
    Permute { x: Id, order: [u8; phalanx_tensor::MAX_DIMS] },
    Narrow { x: Id, dim: usize, start: usize },
    Concat { a: Id, b: Id, dim: usize },
}

impl Op {
    /// The name of the method of [`Var`] that made the node.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Op::Input => "input",
            Op::Param(_) => "param",
            Op::Unary(..) => "unary",
            Op::Affine { .. } => "affine",
            Op::Binary(BinaryKind::Add, ..) => "add",
            Op::Binary(BinaryKind::Sub, ..) => "sub",
            Op::Binary(..) => "mul",
            Op::Matmul { .. } => "matmul",
            Op::Linear { .. } => "linear",
            Op::Conv2d { .. } => "conv2d",
            Op::MaxPool { .. } => "max_pool2d",
            Op::AvgPool { .. } => "avg_pool2d",
            Op::Gather { .. } => "gather",
            Op::LayerNorm { .. } => "layer_norm",
            Op::RmsNorm { .. } => "rms_norm",
            Op::BatchNorm { .. } => "batch_norm",
            Op::Softmax(_) => "softmax",
            Op::LogSoftmax(_) => "log_softmax",
            Op::CrossEntropy { .. } => "cross_entropy",
            Op::Attention { .. } => "attention",
            Op::Dropout { .. } => "dropout",
            Op::SumAxis { .. } => "sum_axis",
            Op::Expand { .. } => "expand",
            Op::Reshape(_) => "reshape",
            Op::Permute { .. } => "permute",
            Op::Narrow { .. } => "narrow",
            Op::Concat { .. } => "concat",
        }
    }

    /// The nodes to which a gradient may flow from here.
    pub(crate) fn operands(&self) -> impl Iterator<Item = Id> + use<> {
        let operands = match *self {
            Op::Input | Op::Param(_) => [None; 3],
            Op::Unary(_, x)
            | Op::Softmax(x)
            | Op::LogSoftmax(x)
            | Op::Reshape(x)
            | Op::Affine { x, .. }
            | Op::MaxPool { x, .. }
            | Op::AvgPool { x, .. }
            | Op::Dropout { x, .. }
            | Op::SumAxis { x, .. }
            | Op::Expand { x }
            | Op::Permute { x, .. }
            | Op::Narrow { x, .. }
            | Op::Gather { table: x, .. }
            | Op::CrossEntropy { logits: x, .. }
            | Op::Attention { qkv: x, .. } => [Some(x), None, None],
            Op::Binary(_, a, b) | Op::Matmul { a, b, .. } | Op::Concat { a, b, .. } => {
                [Some(a), Some(b), None]
            }
            Op::Linear { x, w, bias, .. } | Op::Conv2d { x, w, bias, .. } => [Some(x), Some(w), bias],
            Op::RmsNorm { x, gain, .. } => [Some(x), Some(gain), None],
            Op::LayerNorm { x, gain, bias, .. } | Op::BatchNorm { x, gain, bias, .. } => {
                [Some(x), Some(gain), Some(bias)]
            }
        };
        operands.into_iter().flatten()
    }
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Node {
    pub(crate) op: Op,
    pub(crate) shape: Shape,
    /// Where the value lies: with another node after a reshape.
    pub(crate) home: Id,
    /// Whether a gradient may flow here.
    pub(crate) grad: bool,
}

/// A value and, in forward mode, its directional derivative.
pub(crate) struct Value<B: Memory> {
    pub(crate) value: Option<Pooled<B::Buf>>,
    pub(crate) tangent: Option<Pooled<B::Buf>>,
}

pub(crate) struct Inner<B: Backend> {
    pub(crate) backend: B,
    pub(crate) params: Params,
    pub(crate) flat: B::Buf,
    pub(crate) flat_tangent: Option<B::Buf>,
    pub(crate) pool: Pool<B>,
    pub(crate) nodes: Vec<Node>,
    pub(crate) values: Vec<Value<B>>,
    pub(crate) indices: Vec<(Pooled<B::Index>, usize)>,
    /// Per channel `[mean, rstd]` of batch norms, and how many ranks shared them.
    pub(crate) channel_stats: Vec<(Vec<f64>, usize)>,
    pub(crate) grads: Vec<[Option<Pooled<B::Buf>>; 2]>,
    pub(crate) param_nodes: Vec<Option<Id>>,
    pub(crate) mode: Mode,
    pub(crate) forward_mode: bool,
    pub(crate) dropouts: u64,
    seed: u64,
    step: u64,
    pub(crate) first_sample: u64,
}

/// A model's parameters and the tape of what it computes from them.
///
/// A step is [`Graph::reset`], the model's forward pass over [`Graph::input`] and [`Graph::param`], and
/// [`Graph::backward`]; the buffers of one step serve the next.
///
/// # Collective
/// No, but for batch norm with a [`StatsSync`].
///
/// # Examples
/// ```
/// use phalanx_nn::{FlatSink, Graph, Init, Mode, NnError, ParamBuilder};
/// use phalanx_tensor::{Cpu, Shape};
///
/// let mut params = ParamBuilder::new();
/// let w = params.param("w", [1, 2], Init::Constant(0.0));
/// let mut graph = Graph::new(Cpu::<f64>::new(), params.finish(), 1)?;
/// let mut sink = FlatSink::new(&graph)?;
///
/// // least squares: y = 3 a - b, by gradient descent
/// for step in 0..100 {
///     graph.reset(Mode::Train, step, 0);
///     sink.clear();
///     let x = graph.input(&[1.0, 0.0, 0.0, 1.0, 1.0, 1.0], Shape::from([3, 2]))?;
///     let y = graph.input(&[3.0, -1.0, 2.0], Shape::from([3, 1]))?;
///     let loss = x.linear(graph.param(w), None)?.squared_error(y)?;
///     graph.backward(loss, 1.0, &mut sink)?;
///     let grads = sink.to_vec();
///     graph.params_mut().iter_mut().zip(grads).for_each(|(w, g)| *w -= 0.1 * g);
/// }
/// let fitted = graph.params_to_vec();
/// assert!((fitted[0] - 3.0).abs() < 1e-3 && (fitted[1] + 1.0).abs() < 1e-3, "{fitted:?}");
/// # Ok::<(), NnError>(())
/// ```
pub struct Graph<B: Backend> {
    pub(crate) inner: RefCell<Inner<B>>,
    pub(crate) sync: Option<Box<dyn StatsSync>>,
    pub(crate) params: Params,
    backend: B,
    pub(crate) sync_used: Cell<bool>,
}

impl<B: Backend> fmt::Debug for Graph<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let inner = self.inner.borrow();
        f.debug_struct("Graph")
            .field("backend", &inner.backend)
            .field("params", &inner.params.count())
            .field("nodes", &inner.nodes.len())
            .finish_non_exhaustive()
    }
}

/// Indices on the device, token ids or labels, until the graph is reset.
#[derive(Clone, Copy, Debug)]
pub struct Ids<'g> {
    tape: PhantomData<&'g ()>,
    pub(crate) at: usize,
    /// How many.
    pub len: usize,
    /// One more than the greatest.
    pub(crate) bound: usize,
}

impl<B: Backend> Graph<B> {
    /// A graph whose parameters have their initial values.
    ///
    /// # Errors
    /// When the device has too little memory.
    pub fn new(backend: B, params: Params, seed: u64) -> Result<Self, NnError> {
        let flat = backend.alloc(params.flat_len())?;
        let count = params.iter().count();
        let inner = Inner {
            backend: backend.clone(),
            params: params.clone(),
            flat,
            flat_tangent: None,
            pool: Pool::new(),
            nodes: Vec::new(),
            values: Vec::new(),
            indices: Vec::new(),
            channel_stats: Vec::new(),
            grads: Vec::new(),
            param_nodes: vec![None; count],
            mode: Mode::Train,
            forward_mode: false,
            dropouts: 0,
            seed,
            step: 0,
            first_sample: 0,
        };
        let mut graph =
            Graph { inner: RefCell::new(inner), sync: None, params, backend, sync_used: Cell::new(false) };
        graph.set_params(&graph.params.initial(seed));
        Ok(graph)
    }

    /// The device.
    #[must_use]
    pub fn backend(&self) -> &B {
        &self.backend
    }

    /// The layout of the parameters.
    #[must_use]
    pub fn params(&self) -> &Params {
        &self.params
    }

    /// Writes the whole flat buffer.
    ///
    /// # Panics
    /// When `values` has another length than the flat buffer.
    pub fn set_params(&mut self, values: &[f64]) {
        let inner = self.inner.get_mut();
        assert_eq!(values.len(), inner.params.flat_len(), "the flat buffer");
        let values: Vec<B::Elem> = values.iter().map(|v| B::Elem::from_f64(*v)).collect();
        let range = 0..values.len();
        inner.backend.upload(&values, inner.backend.view_mut(&mut inner.flat, range));
    }

    /// The whole flat buffer on the host.
    #[must_use]
    pub fn params_to_vec(&self) -> Vec<B::Elem> {
        let inner = self.inner.borrow();
        let mut host = vec![B::Elem::default(); inner.params.flat_len()];
        inner.backend.download(inner.backend.view(&inner.flat, 0..host.len()), &mut host);
        host
    }

    /// The trainable part of the flat buffer, for an optimizer.
    pub fn params_mut(&mut self) -> B::ViewMut<'_> {
        let inner = self.inner.get_mut();
        let range = 0..inner.params.grad_len();
        inner.backend.view_mut(&mut inner.flat, range)
    }

    /// The running statistics, for an average over ranks.
    pub fn statistics_mut(&mut self) -> B::ViewMut<'_> {
        let inner = self.inner.get_mut();
        let range = inner.params.grad_len()..inner.params.flat_len();
        inner.backend.view_mut(&mut inner.flat, range)
    }

    /// The running statistics, on the host.
    #[must_use]
    pub fn statistics_to_vec(&self) -> Vec<B::Elem> {
        let inner = self.inner.borrow();
        let range = inner.params.grad_len()..inner.params.flat_len();
        let mut host = vec![B::Elem::default(); range.len()];
        inner.backend.download(inner.backend.view(&inner.flat, range), &mut host);
        host
    }

    /// Carries the directional derivative along `direction` (laid out as the trainable parameters) through everything
    /// computed from now on: forward mode, and over a backward pass exact Hessian-vector products.
    ///
    /// Fused operators are then composed of elementary ones, which costs time and memory.
    ///
    /// # Errors
    /// When the device has too little memory.
    ///
    /// # Panics
    /// When `direction` has another length than the gradient's flat buffer.
    #[expect(clippy::panic_in_result_fn, reason = "misuse, documented")]
    pub fn set_direction(&mut self, direction: &[B::Elem]) -> Result<(), NnError> {
        self.reset(Mode::Train, 0, 0);
        let inner = self.inner.get_mut();
        assert_eq!(direction.len(), inner.params.grad_len(), "a direction of the trainable parameters");
        let mut tangent = match inner.flat_tangent.take() {
            Some(tangent) => tangent,
            None => inner.backend.alloc(inner.params.flat_len())?,
        };
        let range = 0..direction.len();
        inner.backend.upload(direction, inner.backend.view_mut(&mut tangent, range));
        inner.flat_tangent = Some(tangent);
        inner.forward_mode = true;
        Ok(())
    }

    /// Ends forward mode.
    pub fn clear_direction(&mut self) {
        self.reset(Mode::Train, 0, 0);
        self.inner.get_mut().forward_mode = false;
    }

    /// Sums batch statistics of batch norms over ranks.
    pub fn set_sync(&mut self, sync: Option<Box<dyn StatsSync>>) {
        self.sync = sync;
    }

    /// Forgets the tape and keeps its buffers for the next.
    ///
    /// `step` and `first_sample` (the place of the tile's first sample in the global batch) key dropout, so that masks
    /// do not depend on ranks or tiles.
    pub fn reset(&mut self, mode: Mode, step: u64, first_sample: u64) {
        let inner = self.inner.get_mut();
        let Inner { pool, nodes, values, indices, channel_stats, grads, param_nodes, .. } = inner;
        nodes.clear();
        for value in values.drain(..) {
            [value.value, value.tangent].into_iter().flatten().for_each(|b| pool.give(b));
        }
        indices.drain(..).for_each(|(b, _)| pool.give_index(b));
        grads.drain(..).flatten().flatten().for_each(|b| pool.give(b));
        channel_stats.clear();
        param_nodes.fill(None);
        (inner.mode, inner.step, inner.first_sample, inner.dropouts) = (mode, step, first_sample, 0);
    }

    /// Gives back to the device what the arena holds and no value uses, as when inputs of other lengths will follow.
    pub fn trim(&mut self) {
        let (mode, step, first_sample) = {
            let inner = self.inner.get_mut();
            (inner.mode, inner.step, inner.first_sample)
        };
        self.reset(mode, step, first_sample);
        self.inner.get_mut().pool.trim();
        self.backend().trim();
    }

    /// Whether the graph records for a backward pass.
    #[must_use]
    pub fn mode(&self) -> Mode {
        self.inner.borrow().mode
    }

    /// Bytes that the arena took from the device: activations, their gradients, indices.
    #[must_use]
    pub fn arena_bytes(&self) -> usize {
        self.inner.borrow().pool.bytes()
    }

    /// A tensor from the host.
    ///
    /// # Errors
    /// When `data` has not the length of `shape`, or the device has too little memory.
    pub fn input(&self, data: &[B::Elem], shape: Shape) -> Result<Var<'_, B>, NnError> {
        if data.len() != shape.len() {
            let got = vec![Shape::from([data.len()]), shape];
            return Err(NnError::Shape { op: "input", need: "as many numbers as the shape has", got });
        }
        let mut inner = self.inner.borrow_mut();
        let mut buf = inner.take(shape.len())?;
        inner.backend.upload(data, inner.backend.view_mut(&mut buf.buf, 0..data.len()));
        let id = inner.push(Op::Input, shape, Some(buf), None, false);
        Ok(Var { graph: self, id })
    }

    /// Rows of a table that is on the device already, that of `rows[i]` at place `i`.
    ///
    /// # Shapes
    /// `table`: `of x d`; `shape`: `rows.len()` and whatever dims make up `d`.
    ///
    /// # Errors
    /// When `shape` does not begin with the number of rows, [`NnError::Index`] for a row that is not in the table, and when
    /// the device has too little memory.
    pub fn input_rows(
        &self,
        (table, of): (B::View<'_>, usize),
        rows: &[u32],
        shape: Shape,
    ) -> Result<Var<'_, B>, NnError> {
        if shape.dims().first() != Some(&rows.len()) {
            let got = vec![Shape::from([rows.len()]), shape];
            return Err(NnError::Shape { op: "input_rows", need: "a row for each of the first dim", got });
        }
        let ids = self.ids(rows, of)?;
        let mut inner = self.inner.borrow_mut();
        let mut buf = inner.take(shape.len())?;
        let (d, y) =
            (shape.dims()[1..].iter().product(), inner.backend.view_mut(&mut buf.buf, 0..shape.len()));
        inner.backend.gather_rows(d, table, inner.index(ids.at), y);
        let id = inner.push(Op::Input, shape, Some(buf), None, false);
        Ok(Var { graph: self, id })
    }

    /// Indices from the host, each below `bound`.
    ///
    /// # Errors
    /// [`NnError::Index`] for one that is not, and when the device has too little memory.
    pub fn ids(&self, data: &[u32], bound: usize) -> Result<Ids<'_>, NnError> {
        if let Some(at) = data.iter().position(|id| *id as usize >= bound) {
            return Err(NnError::Index { got: data[at], at, len: bound });
        }
        let mut inner = self.inner.borrow_mut();
        let Inner { pool, backend, indices, .. } = &mut *inner;
        let mut buf = pool.take_index(backend, data.len())?;
        backend.upload_index(data, backend.index_view_mut(&mut buf.buf, 0..data.len()));
        indices.push((buf, data.len()));
        Ok(Ids { tape: PhantomData, at: indices.len() - 1, len: data.len(), bound })
    }

    /// A parameter as a tensor.
    #[must_use]
    pub fn param(&self, id: ParamId) -> Var<'_, B> {
        let mut inner = self.inner.borrow_mut();
        if let Some(id) = inner.param_nodes[id.index()] {
            return Var { graph: self, id };
        }
        let (shape, grad) = (inner.params.spec(id).shape, inner.params.spec(id).trainable);
        let node = inner.push(Op::Param(id), shape, None, None, grad);
        inner.param_nodes[id.index()] = Some(node);
        Var { graph: self, id: node }
    }

    /// The parameters used since the last reset, the first whose gradient is finished first.
    #[must_use]
    pub fn completion_order(&self) -> Vec<ParamId> {
        let inner = self.inner.borrow();
        let used = inner.nodes.iter().rev().filter_map(|n| match n.op {
            Op::Param(id) if n.grad => Some(id),
            _ => None,
        });
        used.collect()
    }
}

impl<B: Backend> Inner<B> {
    pub(crate) fn take(&mut self, len: usize) -> Result<Pooled<B::Buf>, NnError> {
        Ok(self.pool.take(&self.backend, len)?)
    }

    /// Adds a node; `grad` says whether a gradient may flow through it.
    pub(crate) fn push(
        &mut self,
        op: Op,
        shape: Shape,
        value: Option<Pooled<B::Buf>>,
        tangent: Option<Pooled<B::Buf>>,
        grad: bool,
    ) -> Id {
        #[expect(
            clippy::cast_possible_truncation,
            reason = "a tape of 2^32 nodes has run out of memory long before"
        )]
        let id = Id(self.nodes.len() as u32);
        let home = match op {
            Op::Reshape(x) => self.nodes[x.at()].home,
            _ => id,
        };
        self.nodes.push(Node { op, shape, home, grad: grad && self.mode == Mode::Train });
        self.values.push(Value { value, tangent });
        id
    }

    pub(crate) fn shape(&self, id: Id) -> Shape {
        self.nodes[id.at()].shape
    }

    pub(crate) fn needs_grad(&self, id: Id) -> bool {
        self.nodes[id.at()].grad
    }

    /// The value of a node.
    pub(crate) fn view(&self, id: Id) -> B::View<'_> {
        let len = self.shape(id).len();
        let home = self.nodes[id.at()].home.at();
        if let Op::Param(p) = self.nodes[home].op {
            let span = self.params.span(p);
            return self.backend.view(&self.flat, span.offset..span.offset + span.len);
        }
        match &self.values[home].value {
            Some(buf) => self.backend.view(&buf.buf, 0..len),
            None => {
                panic!("the backward pass is over: its graph has no values until it is reset and run again")
            }
        }
    }

    /// The directional derivative of a node, none where it is zero.
    pub(crate) fn tangent(&self, id: Id) -> Option<B::View<'_>> {
        if !self.forward_mode {
            return None;
        }
        let len = self.shape(id).len();
        let home = self.nodes[id.at()].home.at();
        if let Op::Param(p) = self.nodes[home].op {
            let span = self.params.span(p);
            let flat = self.flat_tangent.as_ref().filter(|_| self.params.spec(p).trainable);
            return flat.map(|t| self.backend.view(t, span.offset..span.offset + span.len));
        }
        self.values[home].tangent.as_ref().map(|buf| self.backend.view(&buf.buf, 0..len))
    }

    /// The trainable parameter whose elements, from the given one on, are those of a node: the parameter itself, under any
    /// shape, or a run of its rows.
    pub(crate) fn param_part(&self, id: Id) -> Option<(ParamId, usize)> {
        let home = self.nodes[id.at()].home;
        match self.nodes[home.at()].op {
            Op::Param(param) if self.needs_grad(home) => Some((param, 0)),
            Op::Narrow { x, dim, start } if self.shape(x)[..dim].iter().all(|extent| *extent == 1) => {
                let (param, at) = self.param_part(x)?;
                Some((param, at + start * self.shape(x).strides()[dim]))
            }
            _ => None,
        }
    }

    pub(crate) fn side(&self, id: Id, side: Side) -> Option<B::View<'_>> {
        match side {
            Side::Value => Some(self.view(id)),
            Side::Tangent => self.tangent(id),
        }
    }

    pub(crate) fn index(&self, at: usize) -> B::IndexView<'_> {
        let (buf, len) = &self.indices[at];
        self.backend.index_view(&buf.buf, 0..*len)
    }

    /// Computes a node whose value is a linear function of one operand: the tangent is the same function of its tangent.
    pub(crate) fn linear_op(
        &mut self,
        op: Op,
        x: Id,
        shape: Shape,
        f: impl Fn(&B, B::View<'_>, B::ViewMut<'_>),
    ) -> Result<Id, NnError> {
        let mut out = self.take(shape.len())?;
        f(&self.backend, self.view(x), self.backend.view_mut(&mut out.buf, 0..shape.len()));
        let mut tangent = None;
        if self.tangent(x).is_some() {
            let mut t = self.take(shape.len())?;
            if let Some(tx) = self.tangent(x) {
                f(&self.backend, tx, self.backend.view_mut(&mut t.buf, 0..shape.len()));
            }
            tangent = Some(t);
        }
        let grad = self.needs_grad(x);
        Ok(self.push(op, shape, Some(out), tangent, grad))
    }

    /// Computes a node whose value is linear in each of two operands: the tangent is the sum of two such products.
    pub(crate) fn bilinear_op(
        &mut self,
        op: Op,
        [a, b]: [Id; 2],
        shape: Shape,
        f: impl Fn(&B, B::View<'_>, B::View<'_>, Write, B::ViewMut<'_>),
    ) -> Result<Id, NnError> {
        let mut out = self.take(shape.len())?;
        f(
            &self.backend,
            self.view(a),
            self.view(b),
            Write::Set,
            self.backend.view_mut(&mut out.buf, 0..shape.len()),
        );
        let mut tangent: Option<Pooled<B::Buf>> = None;
        for (side_a, side_b) in [(Side::Tangent, Side::Value), (Side::Value, Side::Tangent)] {
            if self.side(a, side_a).is_none() || self.side(b, side_b).is_none() {
                continue;
            }
            let write = if tangent.is_some() { Write::Add } else { Write::Set };
            let mut t = match tangent.take() {
                Some(t) => t,
                None => self.take(shape.len())?,
            };
            if let (Some(va), Some(vb)) = (self.side(a, side_a), self.side(b, side_b)) {
                f(&self.backend, va, vb, write, self.backend.view_mut(&mut t.buf, 0..shape.len()));
            }
            tangent = Some(t);
        }
        let grad = self.needs_grad(a) || self.needs_grad(b);
        Ok(self.push(op, shape, Some(out), tangent, grad))
    }

    /// A node that holds work of another for the backward pass: saved statistics, inputs of activations.
    pub(crate) fn keep(&mut self, len: usize, buf: Pooled<B::Buf>) -> Id {
        self.push(Op::Input, Shape::from([len]), Some(buf), None, false)
    }

    pub(crate) fn dropout_stream(&mut self) -> Stream {
        self.dropouts += 1;
        // Up to 2^16 dropouts a step, each with its own stream.
        Stream::new(self.seed, Purpose::Dropout, (self.step << 16) + self.dropouts)
    }
}
