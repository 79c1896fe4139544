//! `[model]`: which network, and its sizes.

use crate::runfile::Range;
use crate::runfile::key::kinds;

kinds! {
    /// The network; a program with models of its own registers further kinds.
    pub enum Model by kind {
        /// Fully connected layers with ReLU between them.
        "mlp" => Mlp {
            /// Widths of the hidden layers.
            hidden: Vec<usize> = vec![512, 256], "units", Range::Within(1.0, 1_048_576.0), Fixed;
        }
        /// LeNet-5 with ReLU and max-pooling.
        "lenet5" => LeNet5 {}
        /// 3x3 convolutions with ReLU, a 2x2 max-pool, and two fully connected layers.
        "cnn" => Cnn {
            /// Channels of the convolutions.
            channels: Vec<usize> = vec![32, 64], "channels", Range::Within(1.0, 65_536.0), Fixed;
            /// Width of the fully connected layer before the last.
            hidden: usize = 128, "units", Range::Within(1.0, 1_048_576.0), Fixed;
        }
        /// A pre-norm transformer over bytes with causal attention.
        "gpt" => Gpt {
            /// Transformer blocks.
            layers: usize = 4, "blocks", Range::Within(1.0, 1_000.0), Fixed;
            /// Width of the residual stream; the heads divide it.
            width: usize = 128, "units", Range::Within(1.0, 65_536.0), Fixed;
            /// Attention heads of a block.
            heads: usize = 4, "heads", Range::Within(1.0, 65_536.0), Fixed;
            /// Positions: the longest window that the model sees.
            context: usize = 128, "tokens", Range::Within(1.0, 1_048_576.0), Fixed;
            /// Probability with which a unit is dropped in training.
            dropout: f64 = 0.0, "", Range::Below(0.0, 1.0), Fixed;
        }
        ..
        /// A model that the program registered; its sizes are its own.
        Registered
    }
}
