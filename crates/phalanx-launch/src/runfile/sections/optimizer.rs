//! `[optimizer]`: how a gradient becomes an update.

use crate::runfile::Range;
use crate::runfile::key::{keys, kinds};

keys! {
    /// The optimizer.
    pub struct Optimizer {
        /// Learning rate, before the schedule.
        lr: f64, "", Range::Above(0.0), Fixed;
        /// Decoupled weight decay: a step also takes `lr * weight_decay` of each weight away.
        weight_decay: f64 = 0.0, "", Range::AtLeast(0.0), Fixed;
        /// Largest 2-norm of the whole gradient; a longer one is scaled down. Not given: no limit.
        clip_norm: Option<f64>, "", Range::Above(0.0), Fixed;
        ..
        /// The rule, with its own constants.
        rule: Rule
    }
}

kinds! {
    /// The rule that turns a gradient into an update.
    pub enum Rule by kind = "sgd" {
        /// Stochastic gradient descent.
        "sgd" => Sgd {
            /// Share of the last update's velocity that stays.
            momentum: f64 = 0.0, "", Range::Below(0.0, 1.0), Fixed;
            /// Nesterov's look-ahead; needs momentum.
            nesterov: bool = false, "", Range::Any, Fixed;
        }
        /// Adam with decoupled weight decay.
        "adamw" => AdamW {
            /// Decay of the mean of gradients.
            beta1: f64 = 0.9, "", Range::Below(0.0, 1.0), Fixed;
            /// Decay of the mean of squared gradients.
            beta2: f64 = 0.999, "", Range::Below(0.0, 1.0), Fixed;
            /// Added to the root of the mean square.
            eps: f64 = 1e-8, "", Range::Above(0.0), Fixed;
        }
        /// AdaGrad: a rate for each weight, from the sum of its squared gradients.
        "adagrad" => AdaGrad {
            /// Added to the root of the sum of squares.
            eps: f64 = 1e-10, "", Range::Above(0.0), Fixed;
        }
        /// AdaGrad with one rate for all weights, from the sum of squared gradient norms.
        "adagrad-norm" => AdaGradNorm {
            /// Start of the root of that sum.
            b0: f64 = 0.1, "", Range::Above(0.0), Fixed;
        }
    }
}
