//! Gradients that travel between ranks in fewer bytes.
//!
//! The loop hands each bucket of the gradient to a [`Compressor`] as soon as the backward pass has written it, and gets the
//! sum over ranks, or what stands for it, at the end. [`HalfPrecision`] rounds to 16 bits. When each pays is told in
//! `docs/compression.md`.
#![forbid(unsafe_code)]

mod compressor;
mod config;
mod half_precision;

pub use self::compressor::{BucketLayout, Compressor};
pub use self::config::CompressionConfig;
pub use self::half_precision::{HalfFloat, HalfPrecision};
