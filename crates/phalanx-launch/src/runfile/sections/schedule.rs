//! `[schedule]`: the learning rate over the run, counted in samples.

use crate::runfile::Range;
use crate::runfile::key::{keys, kinds};

keys! {
    /// The learning rate over the run.
    pub struct Schedule {
        /// Samples over which the rate rises from 0 to `optimizer.lr`.
        warmup_samples: u64 = 0, "samples", Range::AtLeast(0.0), Fixed;
        ..
        /// What follows the warm-up.
        shape: Shape
    }
}

kinds! {
    /// The course of the learning rate after the warm-up.
    pub enum Shape by kind = "constant" {
        /// Stays.
        "constant" => Constant {}
        /// Falls in a straight line to the end of the run.
        "linear" => Linear {
            /// The last rate, as a share of `optimizer.lr`.
            final_factor: f64 = 0.0, "", Range::Within(0.0, 1.0), Fixed;
        }
        /// Falls along half a cosine to the end of the run.
        "cosine" => Cosine {
            /// The last rate, as a share of `optimizer.lr`.
            final_factor: f64 = 0.0, "", Range::Within(0.0, 1.0), Fixed;
        }
        /// Follows a schedule file, such as `phalanx schedule refine` writes.
        "refined" => Refined {
            /// The file.
            path: String, "", Range::Any, Fixed;
        }
    }
}
