//! `[compression]`: in how many bytes the gradients travel.

use crate::runfile::Range;
use crate::runfile::key::kinds;

kinds! {
    /// How the gradients travel between ranks; all but "none" lose something, see `docs/compression.md`.
    pub enum Compression by kind = "none" {
        /// As they are, in single precision.
        "none" => None {}
        /// Rounded to IEEE half precision: half the bytes.
        "fp16" => Fp16 {}
        /// Rounded to brain floats: half the bytes, the range of single precision, fewer digits.
        "bf16" => Bf16 {}
        /// Matrices as two thin factors; what they miss is remembered and added to the next gradient.
        "powersgd" => PowerSgd {
            /// Columns of a factor: more are closer to the gradient, and longer.
            rank: usize = 4, "columns", Range::Within(1.0, 65_536.0), Fixed;
            /// Steps whose gradients travel in full before.
            start_step: u64 = 100, "steps", Range::AtLeast(0.0), Fixed;
        }
        /// The largest elements; the others are remembered and added to the next gradient.
        "topk" => TopK {
            /// Share of the elements of a bucket that a rank sends.
            fraction: f64 = 0.01, "", Range::UpTo(0.0, 1.0), Fixed;
            /// Steps whose gradients travel in full before.
            start_step: u64 = 100, "steps", Range::AtLeast(0.0), Fixed;
        }
    }
}
