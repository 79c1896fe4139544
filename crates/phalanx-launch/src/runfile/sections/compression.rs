//! `[compression]`: in how many bytes the gradients travel.

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
    }
}
