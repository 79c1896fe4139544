//! The linear layer.

use crate::NnError;
use crate::layers::fan_in_bound;
use crate::params::{Init, ParamBuilder, ParamId};
use crate::var::Var;
use phalanx_tensor::Backend;
use phalanx_tensor::op::UnaryKind;

/// `y = x w^T + b` over the last dim.
#[derive(Clone, Copy, Debug)]
pub struct Linear {
    weight: ParamId,
    bias: Option<ParamId>,
}

impl Linear {
    /// A layer from `inputs` to `outputs` with a bias, uniform in `1/sqrt(inputs)`.
    pub fn new(params: &mut ParamBuilder, inputs: usize, outputs: usize) -> Self {
        let bound = Init::Uniform(fan_in_bound(inputs));
        Self::with_init(params, inputs, outputs, bound, Some(bound))
    }

    /// A layer with other initial values; without `bias` it has none.
    pub fn with_init(
        params: &mut ParamBuilder,
        inputs: usize,
        outputs: usize,
        weight: Init,
        bias: Option<Init>,
    ) -> Self {
        let weight = params.param("weight", [outputs, inputs], weight);
        Linear { weight, bias: bias.map(|init| params.param("bias", [outputs], init)) }
    }

    /// The weight, `outputs x inputs`.
    #[must_use]
    pub fn weight(&self) -> ParamId {
        self.weight
    }

    /// Applies the layer.
    ///
    /// # Errors
    /// Those of [`Var::linear`].
    pub fn forward<'g, B: Backend>(&self, x: Var<'g, B>) -> Result<Var<'g, B>, NnError> {
        let graph = x.graph();
        x.linear(graph.param(self.weight), self.bias.map(|b| graph.param(b)))
    }

    /// Applies the layer and an activation in one pass.
    ///
    /// # Errors
    /// Those of [`Var::linear_act`].
    pub fn forward_act<'g, B: Backend>(&self, x: Var<'g, B>, act: UnaryKind) -> Result<Var<'g, B>, NnError> {
        let graph = x.graph();
        x.linear_act(graph.param(self.weight), self.bias.map(|b| graph.param(b)), act)
    }
}
