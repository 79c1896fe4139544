//! The convolution layer.

use crate::NnError;
use crate::layers::fan_in_bound;
use crate::params::{Init, ParamBuilder, ParamId};
use crate::var::{ConvOptions, Var};
use phalanx_tensor::Backend;

/// A two-dimensional convolution with a bias.
#[derive(Clone, Copy, Debug)]
pub struct Conv2d {
    weight: ParamId,
    bias: ParamId,
    options: ConvOptions,
}

impl Conv2d {
    /// A layer from `inputs` to `outputs` channels, uniform in `1/sqrt(fan_in)`.
    pub fn new(
        params: &mut ParamBuilder,
        inputs: usize,
        outputs: usize,
        kernel: [usize; 2],
        options: ConvOptions,
    ) -> Self {
        let per_group = inputs / options.groups.max(1);
        let bound = Init::Uniform(fan_in_bound(per_group * kernel[0] * kernel[1]));
        let weight = params.param("weight", [outputs, per_group, kernel[0], kernel[1]], bound);
        Conv2d { weight, bias: params.param("bias", [outputs], bound), options }
    }

    /// Applies the layer.
    ///
    /// # Errors
    /// Those of [`Var::conv2d`].
    pub fn forward<'g, B: Backend>(&self, x: Var<'g, B>) -> Result<Var<'g, B>, NnError> {
        let graph = x.graph();
        x.conv2d(graph.param(self.weight), Some(graph.param(self.bias)), self.options)
    }

    /// Applies the layer and ReLU in one pass.
    ///
    /// # Errors
    /// Those of [`Var::conv2d`].
    pub fn forward_relu<'g, B: Backend>(&self, x: Var<'g, B>) -> Result<Var<'g, B>, NnError> {
        let graph = x.graph();
        x.conv2d_relu(graph.param(self.weight), Some(graph.param(self.bias)), self.options)
    }

    /// Applies the layer, ReLU and 2 x 2 max pooling in one pass.
    ///
    /// # Errors
    /// Those of [`Var::conv2d`].
    pub fn forward_relu_pool2<'g, B: Backend>(&self, x: Var<'g, B>) -> Result<Var<'g, B>, NnError> {
        let graph = x.graph();
        x.conv2d_relu_pool2(graph.param(self.weight), Some(graph.param(self.bias)), self.options)
    }
}
