//! Run files: what a user writes to describe a training run, read, checked and written back.
//!
//! [`RawRun`] is the file as typed, with the place of everything in it; [`Run`] is the run as
//! meant, with every key resolved. Each key is declared once, in a file of `sections/`; from there
//! come the fields of [`Run`], the reader and the writer, the list of [`keys`], the suggestions
//! for mistyped names and `docs/run-file.md`.
//!
//! ```
//! use phalanx_launch::runfile::{RawRun, Registered};
//!
//! let text = "name = 'digits'\n[model]\nkind = 'cnn'\n[data]\nkind = 'digits'\n\
//!             [train]\nepochs = 20\nbtach = 64\n[optimizer]\nlr = 0.05\n";
//! let error = RawRun::parse("digits.toml", text)?.resolve(&Registered::default()).unwrap_err();
//! assert_eq!(
//!     error.to_string(),
//!     "digits.toml:8:1: train.btach: unknown key, did you mean `train.batch`?\n    \
//!      8 | btach = 64\n      | ^^^^^"
//! );
//! # Ok::<(), phalanx_launch::runfile::RunFileError>(())
//! ```

mod bytes;
mod check;
mod check_federated;
mod described;
mod docs;
mod error;
mod federated_run;
mod key;
mod near;
mod range;
mod raw;
mod reader;
mod registered;
mod run;
mod sections;
mod value;
mod write;

pub use bytes::{Bytes, ParseBytesError};
pub use described::Described;
pub use docs::{markdown, table};
pub use error::{At, Fault, Problem, RunFileError};
pub use federated_run::FederatedRun;
pub use key::{Key, KeyDefault, Resume};
pub(crate) use near::nearest;
pub use range::Range;
pub use raw::RawRun;
pub use registered::Registered;
pub(crate) use run::context_of;
pub use run::{Run, differences, keys};
pub use sections::{
    Aggregation, AggregationRule, Algorithm, Base, Batch, BatchPolicy, Checkpoint, Column, Comm, Compression,
    Coordinates, Data, Denominator, Faults, FedAlgorithm, Federated, FederatedOutput, Local, LrScaling,
    Model, Neighbours, OnNonfinite, OnUnusable, Optimizer, Output, OverWhat, Partition, PartitionKind,
    Precision, Progress, Reduction, Rule, Sampling, Schedule, Shape, Source, Statistic, Stop, Train,
    WhenRankLost,
};
pub use value::Value;
