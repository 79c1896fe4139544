//! What the benches share: made-up operands, and the extents that the library's models give to kernels.
#![forbid(unsafe_code)]

use phalanx::tensor::op::ConvSpec;

/// Rows, columns and depth of the products in `mlp`, `cnn` and `gpt`, for half of a batch of 128 or a tile.
pub const PRODUCTS: [[usize; 3]; 6] =
    [[64, 512, 784], [64, 256, 512], [64, 128, 9216], [1024, 384, 128], [1024, 512, 128], [1024, 128, 512]];

/// The convolutions of `lenet5` and `cnn` on 16 images, by name.
#[must_use]
pub fn convolutions() -> [(&'static str, ConvSpec); 4] {
    let conv = |c, o, side, kernel, padding| ConvSpec {
        n: 16,
        c,
        hw: [side, side],
        o,
        kernel: [kernel, kernel],
        stride: [1, 1],
        padding: [padding, padding],
        groups: 1,
    };
    [
        ("lenet5 conv1", conv(1, 6, 28, 5, 2)),
        ("lenet5 conv2", conv(6, 16, 14, 5, 0)),
        ("cnn conv1", conv(1, 32, 28, 3, 0)),
        ("cnn conv2", conv(32, 64, 26, 3, 0)),
    ]
}

/// Numbers in -0.5..0.5, the same in every run.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "below 1000")]
pub fn numbers(len: usize) -> Vec<f32> {
    (0..len).map(|i| ((i * 7919) % 1000) as f32 / 1000.0 - 0.5).collect()
}
