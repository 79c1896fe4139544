//! The convolutional network of `PyTorch`'s MNIST example, without dropout.

use crate::NnError;
use crate::graph::Graph;
use crate::layers::{Conv2d, Linear};
use crate::models::{ModelConfig, image};
use crate::net::{Features, Net, Task};
use crate::params::ParamBuilder;
use crate::var::{ConvOptions, Var};
use phalanx_tensor::Backend;
use phalanx_tensor::op::UnaryKind;

/// `conv1` and `conv2` of 3 x 3 with ReLU, 2 x 2 max pooling, `fc1` and `fc2`; 32, 64 channels and 128 hidden units by
/// default, 1,199,882 parameters on 28 x 28 images.
#[derive(Debug)]
pub struct Cnn {
    convs: [Conv2d; 2],
    layers: [Linear; 2],
}

impl Cnn {
    /// Keys: `channels` (two, default `[32, 64]`), `hidden` (default 128).
    ///
    /// # Errors
    /// [`NnError::Size`] for images smaller than 6 x 6, or other data.
    pub fn from_config(
        config: &mut ModelConfig,
        task: &Task,
        params: &mut ParamBuilder,
    ) -> Result<Self, NnError> {
        let ([c, h, w], classes) = image("cnn", task)?;
        let channels = config.sizes("channels", &[32, 64])?;
        let hidden = config.size("hidden", 128)?;
        let [first, second] = channels[..] else {
            return Err(NnError::Size {
                model: "cnn",
                field: "channels",
                got: channels.len(),
                need: "two numbers",
            });
        };
        if h.min(w) < 6 {
            return Err(NnError::Size {
                model: "cnn",
                field: "image side",
                got: h.min(w),
                need: "at least 6",
            });
        }
        let flat = second * ((h - 4) / 2) * ((w - 4) / 2);
        let plain = ConvOptions::default();
        Ok(Cnn {
            convs: [
                params.scope("conv1", |p| Conv2d::new(p, c, first, [3, 3], plain)),
                params.scope("conv2", |p| Conv2d::new(p, first, second, [3, 3], plain)),
            ],
            layers: [
                params.scope("fc1", |p| Linear::new(p, flat, hidden)),
                params.scope("fc2", |p| Linear::new(p, hidden, classes)),
            ],
        })
    }
}

impl<B: Backend> Net<B> for Cnn {
    fn logits<'g>(&self, _: &'g Graph<B>, x: Features<'g, B>) -> Result<Var<'g, B>, NnError> {
        let x = self.convs[0].forward_relu(x.dense()?)?;
        let x = self.convs[1].forward_relu_pool2(x)?.flatten()?;
        let x = self.layers[0].forward_act(x, UnaryKind::Relu)?;
        self.layers[1].forward(x)
    }
}
