//! LeNet-5 with ReLU and max pooling.

use crate::NnError;
use crate::graph::Graph;
use crate::layers::{Conv2d, Linear};
use crate::models::{ModelConfig, image};
use crate::net::{Features, Net, Task};
use crate::params::ParamBuilder;
use crate::var::{ConvOptions, Var};
use phalanx_tensor::Backend;
use phalanx_tensor::op::UnaryKind;

/// `conv1` of 5 x 5 padded by 2 and `conv2` of 5 x 5, each with ReLU and 2 x 2 max pooling, then `fc1`, `fc2` and
/// `fc3`; 6 and 16 channels, 120 and 84 hidden units by default, 61,706 parameters on 28 x 28 images.
///
/// # Reference
/// `LeCun` et al., "Gradient-based learning applied to document recognition", Proc. IEEE 1998.
///
/// # Deviation
/// ReLU for the scaled tanh, max pooling for trained subsampling, full connections between channels.
#[derive(Debug)]
pub struct LeNet5 {
    convs: [Conv2d; 2],
    layers: [Linear; 3],
}

impl LeNet5 {
    /// Keys: `channels` (two, default `[6, 16]`), `hidden` (two, default `[120, 84]`).
    ///
    /// # Errors
    /// [`NnError::Size`] for images smaller than 12 x 12, or other data.
    pub fn from_config(
        config: &mut ModelConfig,
        task: &Task,
        params: &mut ParamBuilder,
    ) -> Result<Self, NnError> {
        let ([c, h, w], classes) = image("lenet5", task)?;
        let two = |field, got: &[usize]| match *got {
            [a, b] => Ok((a, b)),
            _ => Err(NnError::Size { model: "lenet5", field, got: got.len(), need: "two numbers" }),
        };
        let (first, second) = two("channels", &config.sizes("channels", &[6, 16])?)?;
        let (wide, narrow) = two("hidden", &config.sizes("hidden", &[120, 84])?)?;
        if h.min(w) < 12 {
            return Err(NnError::Size {
                model: "lenet5",
                field: "image side",
                got: h.min(w),
                need: "at least 12",
            });
        }
        let flat = second * ((h / 2 - 4) / 2) * ((w / 2 - 4) / 2);
        let padded = ConvOptions { padding: [2, 2], ..ConvOptions::default() };
        Ok(LeNet5 {
            convs: [
                params.scope("conv1", |p| Conv2d::new(p, c, first, [5, 5], padded)),
                params.scope("conv2", |p| Conv2d::new(p, first, second, [5, 5], ConvOptions::default())),
            ],
            layers: [
                params.scope("fc1", |p| Linear::new(p, flat, wide)),
                params.scope("fc2", |p| Linear::new(p, wide, narrow)),
                params.scope("fc3", |p| Linear::new(p, narrow, classes)),
            ],
        })
    }
}

impl<B: Backend> Net<B> for LeNet5 {
    fn logits<'g>(&self, _: &'g Graph<B>, x: Features<'g, B>) -> Result<Var<'g, B>, NnError> {
        let x = self.convs[0].forward_relu_pool2(x.dense()?)?;
        let x = self.convs[1].forward_relu_pool2(x)?.flatten()?;
        let x = self.layers[0].forward_act(x, UnaryKind::Relu)?;
        let x = self.layers[1].forward_act(x, UnaryKind::Relu)?;
        self.layers[2].forward(x)
    }
}
