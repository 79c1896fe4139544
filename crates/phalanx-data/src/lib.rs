//! Data sets, deterministic sharding and shuffling, and fetching with checksums.
//!
//! A [`Dataset`] holds samples in as few bytes as they need and writes chosen ones, normalised,
//! into buffers of the caller. A [`Sampler`] says which samples make the next batch, as a function
//! of the seed and the number of samples already drawn; [`shard`] cuts a batch for ranks. A
//! [`Source`] names one of the kinds of data and opens it.
//!
//! ```
//! use phalanx_data::{BatchBuffers, Dataset, Sampler, Source, shard};
//!
//! # fn main() -> Result<(), phalanx_data::DataError> {
//! let digits = Source::Digits.open()?.hold_out(0.1, 1)?;
//! let mut sampler = Sampler::new(digits.train.len(), 1)?;
//! let mut buffers = BatchBuffers::default();
//!
//! let (rank, ranks) = (1, 2);
//! let batch = sampler.batch(0, 64);
//! digits.train.fill(shard(batch.indices, rank, ranks), &mut buffers);
//! assert_eq!(buffers.labels().len(), 32);
//! assert_eq!(buffers.features().len(), 32 * 8 * 8);
//! assert_eq!(batch.next, 64);
//! # Ok(())
//! # }
//! ```
//!
//! Every reader has a form that takes bytes instead of a path. None of them panics on bad input or
//! allocates by a length that the input merely claims.
//!
//! Not done: augmentation, streaming from disk, text labels in CSV.
#![forbid(unsafe_code)]

mod batch;
mod dataset;
mod error;
mod images;
mod partition;
mod sampler;
mod shard;
mod source;
mod split;
mod subset;
mod table;
mod text;

pub mod cifar;
pub mod csv;
pub mod digits;
#[cfg(feature = "fetch")]
pub mod fetch;
pub mod idx;

mod files;

pub use crate::batch::{BatchBuffers, InputsMut};
pub use crate::cifar::CifarOptions;
pub use crate::csv::{Column, CsvOptions, TestPart};
pub use crate::dataset::{Dataset, SampleKind};
pub use crate::error::DataError;
pub use crate::idx::{IdxFiles, IdxOptions};
pub use crate::images::{Images, Normalise};
pub use crate::partition::{Partition, labels};
pub use crate::sampler::{Batch, Sampler};
pub use crate::shard::{shard, shard_range, shard_ranges};
pub use crate::source::Source;
pub use crate::split::Splits;
pub use crate::subset::Subset;
pub use crate::table::Table;
pub use crate::text::{Text, TextOptions};
