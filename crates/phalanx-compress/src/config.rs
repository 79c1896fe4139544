//! Which compressor a run has, as plain values.

use crate::compressor::Compressor;
use crate::half_precision::HalfPrecision;
use half::{bf16, f16};

/// A compressor and its settings.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[non_exhaustive]
pub enum CompressionConfig {
    /// Gradients travel as they are.
    #[default]
    None,
    /// Rounded to IEEE half precision.
    Fp16,
    /// Rounded to brain floats.
    Bf16,
}

impl CompressionConfig {
    /// The compressor; none where gradients travel as they are.
    #[must_use]
    pub fn build(&self) -> Option<Box<dyn Compressor>> {
        match self {
            Self::None => None,
            Self::Fp16 => Some(Box::new(HalfPrecision::<f16>::new())),
            Self::Bf16 => Some(Box::new(HalfPrecision::<bf16>::new())),
        }
    }
}
