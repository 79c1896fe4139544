//! Where gradients go.

use crate::NnError;
use crate::graph::Graph;
use crate::params::{ParamId, Params};
use phalanx_tensor::{Backend, Write};

/// Takes the gradients of a backward pass.
///
/// The training loop's sink is the flat buffer whose finished parts are already being reduced over the ranks.
pub trait GradSink<B: Backend> {
    /// Where the gradient of a parameter is written, and whether it is the first contribution.
    fn target(&mut self, param: ParamId) -> (Write, B::ViewMut<'_>);

    /// The same for the gradient's directional derivative, asked for only while the graph carries tangents.
    fn tangent(&mut self, param: ParamId) -> (Write, B::ViewMut<'_>);

    /// No more contributions to this parameter come in this pass.
    fn ready(&mut self, param: ParamId) {
        let _ = param;
    }

    /// Called between operators: a place to let communication progress.
    fn breathe(&mut self) {}
}

/// A sink that is one flat buffer with the layout of [`Params`].
#[derive(Debug)]
pub struct FlatSink<B: Backend> {
    backend: B,
    params: Params,
    grads: B::Buf,
    tangents: B::Buf,
    begun: Vec<[bool; 2]>,
}

impl<B: Backend> FlatSink<B> {
    /// A sink for the parameters of a graph.
    ///
    /// # Errors
    /// When the device has too little memory.
    pub fn new(graph: &Graph<B>) -> Result<Self, NnError> {
        let (backend, params) = (graph.backend().clone(), graph.params().clone());
        let len = params.grad_len();
        let begun = vec![[false; 2]; params.iter().count()];
        Ok(FlatSink { grads: backend.alloc(len)?, tangents: backend.alloc(len)?, backend, params, begun })
    }

    /// Forgets everything: the next contributions are the first.
    pub fn clear(&mut self) {
        self.begun.fill([false; 2]);
    }

    /// The gradient where it lies; what had no contribution holds what it held before.
    #[must_use]
    pub fn view(&self) -> B::View<'_> {
        self.backend.view(&self.grads, 0..self.params.grad_len())
    }

    /// The gradient, zero where there was none.
    #[must_use]
    pub fn to_vec(&self) -> Vec<B::Elem> {
        self.read(&self.grads, 0)
    }

    /// The gradient's directional derivative, zero where there was none.
    #[must_use]
    pub fn tangents_to_vec(&self) -> Vec<B::Elem> {
        self.read(&self.tangents, 1)
    }

    fn read(&self, buf: &B::Buf, which: usize) -> Vec<B::Elem> {
        let mut flat = vec![B::Elem::default(); self.params.grad_len()];
        for (id, _, span) in self.params.iter().filter(|(id, ..)| self.begun[id.index()][which]) {
            let range = span.offset..span.offset + span.len;
            self.backend.download(self.backend.view(buf, range.clone()), &mut flat[range]);
            debug_assert!(self.params.spec(id).trainable, "statistics have no gradient");
        }
        flat
    }
}

impl<B: Backend> GradSink<B> for FlatSink<B> {
    fn target(&mut self, param: ParamId) -> (Write, B::ViewMut<'_>) {
        let span = self.params.span(param);
        let begun = std::mem::replace(&mut self.begun[param.index()][0], true);
        let view = self.backend.view_mut(&mut self.grads, span.offset..span.offset + span.len);
        (if begun { Write::Add } else { Write::Set }, view)
    }

    fn tangent(&mut self, param: ParamId) -> (Write, B::ViewMut<'_>) {
        let span = self.params.span(param);
        let begun = std::mem::replace(&mut self.begun[param.index()][1], true);
        let view = self.backend.view_mut(&mut self.tangents, span.offset..span.offset + span.len);
        (if begun { Write::Add } else { Write::Set }, view)
    }
}
