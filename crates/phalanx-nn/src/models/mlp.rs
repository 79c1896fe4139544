//! A multi-layer perceptron.

use crate::NnError;
use crate::graph::Graph;
use crate::layers::Linear;
use crate::models::{ModelConfig, tokens};
use crate::net::{Features, Net, Task};
use crate::params::ParamBuilder;
use crate::var::Var;
use phalanx_tensor::Backend;
use phalanx_tensor::op::UnaryKind;

/// Linear layers `fc1`, `fc2`, ... with ReLU between; 784-512-256-10 on 28 x 28 images, 535,818 parameters.
#[derive(Debug)]
pub struct Mlp {
    layers: Vec<Linear>,
}

impl Mlp {
    /// Keys: `hidden`, the widths between (default `[512, 256]`).
    ///
    /// # Errors
    /// [`NnError::Config`] for other data than features with labels.
    pub fn from_config(
        config: &mut ModelConfig,
        task: &Task,
        params: &mut ParamBuilder,
    ) -> Result<Self, NnError> {
        let Task::Classify { features, classes } = task else { return Err(tokens("mlp")) };
        let hidden = config.sizes("hidden", &[512, 256])?;
        let mut inputs = features.len();
        let mut layers = Vec::new();
        for (i, outputs) in hidden.into_iter().chain([*classes]).enumerate() {
            layers.push(params.scope(format_args!("fc{}", i + 1), |p| Linear::new(p, inputs, outputs)));
            inputs = outputs;
        }
        Ok(Mlp { layers })
    }
}

impl<B: Backend> Net<B> for Mlp {
    fn logits<'g>(&self, _: &'g Graph<B>, x: Features<'g, B>) -> Result<Var<'g, B>, NnError> {
        let mut x = x.dense()?.flatten()?;
        let (hidden, last) = self.layers.split_at(self.layers.len() - 1);
        for layer in hidden {
            x = layer.forward_act(x, UnaryKind::Relu)?;
        }
        last.iter().try_fold(x, |x, layer| layer.forward(x))
    }
}
