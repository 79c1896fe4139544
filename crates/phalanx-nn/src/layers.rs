//! Layers: groups of parameters with the operator that uses them, initialised as `PyTorch` does.

mod conv;
mod embedding;
mod linear;
mod norm;

pub use conv::Conv2d;
pub use embedding::Embedding;
pub use linear::Linear;
pub use norm::{BatchNorm2d, LayerNorm, RmsNorm};

/// `1 / sqrt(fan_in)`: the bound of the uniform initial values of `PyTorch`'s linear and convolution layers.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "layers are far below 2^52 wide")]
pub fn fan_in_bound(fan_in: usize) -> f64 {
    1.0 / (fan_in.max(1) as f64).sqrt()
}
