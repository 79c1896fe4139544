//! What a model is written in: tensors on the tape, and every operator on them.

mod elementwise;
mod images;
mod layout;
mod losses;
mod norms;
mod products;
mod reductions;

use crate::NnError;
use crate::graph::{Graph, Id, Op};
use phalanx_tensor::{Backend, Shape, Write};
use std::fmt;

pub use self::images::ConvOptions;
pub(crate) use self::layout::permuted;
pub use self::losses::Hits;

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

    /// Copies the numbers to a view of the caller's, which must have as many elements. The host need not wait.
    pub fn copy_to(self, out: B::ViewMut<'_>) {
        let inner = self.graph.inner.borrow();
        inner.backend.affine(1.0, 0.0, inner.view(self.id), Write::Set, out);
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
}
