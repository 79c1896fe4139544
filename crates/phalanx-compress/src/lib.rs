//! Gradients that travel between ranks in fewer bytes.
//!
//! The loop hands each bucket of the gradient to a [`Compressor`] as soon as the backward pass has written it, and gets the
//! sum over ranks, or what stands for it, at the end. [`HalfPrecision`] rounds to 16 bits; [`TopK`] sends the largest
//! elements and [`PowerSgd`] thin factors of matrices, and both remember what they left out. When each pays is told in
//! `docs/compression.md`.
#![forbid(unsafe_code)]

mod compressor;
mod config;
mod delayed;
mod error;
mod half_precision;
mod memory;
mod power_sgd;
mod top_k;

pub use self::compressor::{BucketLayout, Compressor, Matrix, Traffic};
pub use self::config::CompressionConfig;
pub use self::delayed::Delayed;
pub use self::error::CompressError;
pub use self::half_precision::{HalfFloat, HalfPrecision};
pub use self::power_sgd::PowerSgd;
pub use self::top_k::TopK;
