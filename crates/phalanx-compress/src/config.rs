//! Which compressor a run has, as plain values.

use crate::compressor::Compressor;
use crate::delayed::Delayed;
use crate::error::CompressError;
use crate::half_precision::HalfPrecision;
use crate::power_sgd::PowerSgd;
use crate::top_k::TopK;
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
    /// As thin factors of matrices.
    PowerSgd {
        /// Columns of a factor.
        rank: usize,
        /// Steps in full before.
        start_step: u64,
        /// Seed of the first factors.
        seed: u64,
    },
    /// Their largest elements.
    TopK {
        /// Share of the elements.
        fraction: f64,
        /// Steps in full before.
        start_step: u64,
    },
}

impl CompressionConfig {
    /// The compressor; none where gradients travel as they are.
    ///
    /// # Errors
    /// [`CompressError::Setting`] for settings out of range.
    pub fn build(&self) -> Result<Option<Box<dyn Compressor>>, CompressError> {
        Ok(match *self {
            Self::None => None,
            Self::Fp16 => Some(Box::new(HalfPrecision::<f16>::new())),
            Self::Bf16 => Some(Box::new(HalfPrecision::<bf16>::new())),
            Self::PowerSgd { rank, start_step, seed } => {
                Some(Box::new(Delayed::new(PowerSgd::new(rank, seed)?, start_step)))
            }
            Self::TopK { fraction, start_step } => {
                Some(Box::new(Delayed::new(TopK::new(fraction)?, start_step)))
            }
        })
    }
}
