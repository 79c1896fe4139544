//! What a backward pass showed, kept to be shown again.

use crate::NnError;
use crate::observe::{ParamObserver, Parameterised};
use crate::params::ParamId;
use crate::pool::{Pool, Pooled};
use phalanx_tensor::op::{Activation, ConvSpec};
use phalanx_tensor::{Backend, Write};
use std::fmt;

/// Copies of what an observer sees, for statistics that depend on the gradient: it is known only after the pass.
///
/// The memory is that of all inputs and output gradients of operators with parameters, and is kept from pass to pass.
pub struct Recording<B: Backend> {
    pool: Pool<B>,
    operators: Vec<Recorded<B>>,
    bytes: usize,
    ids: Vec<u32>,
    error: Option<NnError>,
}

impl<B: Backend> Default for Recording<B> {
    fn default() -> Self {
        Self::new()
    }
}

impl<B: Backend> fmt::Debug for Recording<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let operators = self.operators.len();
        f.debug_struct("Recording").field("operators", &operators).field("bytes", &self.bytes).finish()
    }
}

impl<B: Backend> Recording<B> {
    /// Nothing recorded.
    #[must_use]
    pub fn new() -> Self {
        Recording { pool: Pool::new(), operators: Vec::new(), bytes: 0, ids: Vec::new(), error: None }
    }

    /// Forgets what was recorded.
    pub fn clear(&mut self) {
        for operator in self.operators.drain(..) {
            operator.give_back(&mut self.pool);
        }
        (self.bytes, self.error) = (0, None);
    }

    /// Bytes of what is recorded.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Operators recorded.
    #[must_use]
    pub fn len(&self) -> usize {
        self.operators.len()
    }

    /// Whether nothing is recorded.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.operators.is_empty()
    }

    /// Shows the operators to an observer, in the order in which they came.
    ///
    /// # Errors
    /// When the device had too little memory for one of them.
    pub fn replay(&self, backend: &B, observer: &mut dyn ParamObserver<B>) -> Result<(), NnError> {
        self.error.clone().map_or(Ok(()), Err)?;
        self.operators.iter().for_each(|operator| observer.observe(backend, operator.shown(backend)));
        Ok(())
    }

    pub(super) fn record(&mut self, backend: &B, op: &Parameterised<'_, B>) -> Result<(), NnError> {
        let Recording { pool, ids, .. } = self;
        let mut keep = |view: B::View<'_>, len: usize| -> Result<Held<B>, NnError> {
            let mut buf = pool.take(backend, len)?;
            backend.affine(1.0, 0.0, view, Write::Set, backend.view_mut(&mut buf.buf, 0..len));
            Ok(Held { buf, len })
        };
        let (kind, x, y, dy, index) = match *op {
            Parameterised::Linear { weight, bias, x, dy, rows, nk: [n, k] } => {
                let kind = Kind::Linear { weight, bias, rows, nk: [n, k] };
                (kind, Some(keep(x, rows * k)?), None, keep(dy, rows * n)?, None)
            }
            Parameterised::Conv2d { weight, bias, spec, act, x, y, argmax, dy } => {
                let kind = Kind::Conv2d { weight, bias, spec, act };
                let [oh, ow] = act.out_hw(spec.out_hw());
                let len = spec.n * spec.o * oh * ow;
                let y = if act == Activation::None { None } else { Some(keep(y, len)?) };
                (kind, Some(keep(x, spec.input_len())?), y, keep(dy, len)?, argmax.map(|a| (a, len)))
            }
            Parameterised::Embedding { table, ids, dy, rows, d } => {
                (Kind::Embedding { table, rows, d }, None, None, keep(dy, rows * d)?, Some((ids, rows)))
            }
            Parameterised::Norm { gain, bias, x, stats, dy, rows, d } => {
                let per_row = if bias.is_some() { 2 } else { 1 };
                let stats = keep(stats, rows * per_row)?;
                (
                    Kind::Norm { gain, bias, rows, d },
                    Some(keep(x, rows * d)?),
                    Some(stats),
                    keep(dy, rows * d)?,
                    None,
                )
            }
            Parameterised::Offset { param, at, dy, rows, len } => {
                (Kind::Offset { param, at, rows, len }, None, None, keep(dy, rows * len)?, None)
            }
        };
        let index = match index {
            Some((view, len)) => {
                ids.resize(len, 0);
                backend.download_index(view, ids);
                let mut buf = pool.take_index(backend, len)?;
                backend.upload_index(ids, backend.index_view_mut(&mut buf.buf, 0..len));
                Some((buf, len))
            }
            None => None,
        };
        let recorded = Recorded { kind, x, y, dy, index };
        self.bytes += recorded.bytes();
        self.operators.push(recorded);
        Ok(())
    }

    /// The operators, as they were shown.
    pub(super) fn operators<'s>(&'s self, backend: &'s B) -> impl Iterator<Item = Parameterised<'s, B>> {
        self.operators.iter().map(|operator| operator.shown(backend))
    }
}

impl<B: Backend> ParamObserver<B> for Recording<B> {
    fn observe(&mut self, backend: &B, op: Parameterised<'_, B>) {
        if self.error.is_none() {
            self.error = self.record(backend, &op).err();
        }
    }
}

/// What an operator is, without its tensors.
#[derive(Clone, Copy, Debug)]
enum Kind {
    Linear { weight: ParamId, bias: Option<ParamId>, rows: usize, nk: [usize; 2] },
    Conv2d { weight: ParamId, bias: Option<ParamId>, spec: ConvSpec, act: Activation },
    Embedding { table: ParamId, rows: usize, d: usize },
    Norm { gain: ParamId, bias: Option<ParamId>, rows: usize, d: usize },
    Offset { param: ParamId, at: usize, rows: usize, len: usize },
}

struct Held<B: Backend> {
    buf: Pooled<B::Buf>,
    len: usize,
}

/// An operator with copies of its tensors; `y` also stands for the statistics of a normalisation.
struct Recorded<B: Backend> {
    kind: Kind,
    x: Option<Held<B>>,
    y: Option<Held<B>>,
    dy: Held<B>,
    index: Option<(Pooled<B::Index>, usize)>,
}

impl<B: Backend> Recorded<B> {
    fn bytes(&self) -> usize {
        let held = [self.x.as_ref(), self.y.as_ref(), Some(&self.dy)].into_iter().flatten();
        let elements: usize = held.map(|held| held.len).sum();
        elements * size_of::<B::Elem>() + self.index.as_ref().map_or(0, |(_, len)| 4 * len)
    }

    fn shown<'s>(&'s self, backend: &B) -> Parameterised<'s, B> {
        let view = |held: &'s Held<B>| backend.view(&held.buf.buf, 0..held.len);
        let dy = view(&self.dy);
        // What an operator does not read may be anything.
        let (x, y) = (self.x.as_ref().map_or(dy, view), self.y.as_ref().map_or(dy, view));
        let index = self.index.as_ref().map(|(buf, len)| backend.index_view(&buf.buf, 0..*len));
        match (self.kind, index) {
            (Kind::Linear { weight, bias, rows, nk }, _) => {
                Parameterised::Linear { weight, bias, x, dy, rows, nk }
            }
            (Kind::Conv2d { weight, bias, spec, act }, argmax) => {
                Parameterised::Conv2d { weight, bias, spec, act, x, y, argmax, dy }
            }
            (Kind::Embedding { table, rows, d }, Some(ids)) => {
                Parameterised::Embedding { table, ids, dy, rows, d }
            }
            (Kind::Embedding { .. }, None) => unreachable!("an embedding is recorded with its ids"),
            (Kind::Norm { gain, bias, rows, d }, _) => {
                Parameterised::Norm { gain, bias, x, stats: y, dy, rows, d }
            }
            (Kind::Offset { param, at, rows, len }, _) => Parameterised::Offset { param, at, dy, rows, len },
        }
    }

    fn give_back(self, pool: &mut Pool<B>) {
        [self.x, self.y, Some(self.dy)].into_iter().flatten().for_each(|held| pool.give(held.buf));
        self.index.into_iter().for_each(|(buf, _)| pool.give_index(buf));
    }
}
