//! The embedding layer.

use crate::NnError;
use crate::graph::{Graph, Ids};
use crate::params::{Init, ParamBuilder, ParamId};
use crate::var::Var;
use phalanx_tensor::Backend;

/// A table of rows picked by index.
#[derive(Clone, Copy, Debug)]
pub struct Embedding {
    weight: ParamId,
}

impl Embedding {
    /// A table of `rows` rows of `width`.
    pub fn new(params: &mut ParamBuilder, rows: usize, width: usize, init: Init) -> Self {
        Embedding { weight: params.param("weight", [rows, width], init) }
    }

    /// The table.
    #[must_use]
    pub fn weight(&self) -> ParamId {
        self.weight
    }

    /// Picks rows: `[ids, width]`.
    ///
    /// # Errors
    /// Those of [`Var::gather`].
    pub fn forward<'g, B: Backend>(&self, graph: &'g Graph<B>, ids: Ids<'g>) -> Result<Var<'g, B>, NnError> {
        graph.param(self.weight).gather(ids)
    }
}
