//! Conformance suites, exact inputs and harnesses for the tests of phalanx.
//!
//! A suite is a list of checks that knows no backend: each backend enters by one line in a test of its own.
//!
//! ```
//! use phalanx_comm::{CommError, Options, WorldSize, run_ranks};
//! use phalanx_testkit::conform::communicator;
//!
//! let world = run_ranks(WorldSize(2), &Options::default(), |comm| communicator(&comm));
//! assert!(world.is_ok(), "{world:?}");
//! ```
//!
//! For tests only: a check that does not hold panics, as `assert!` does.

#![forbid(unsafe_code)]

pub mod cluster;
pub mod conform;
mod control_job;
pub mod exact;
mod faulty;
pub mod mpi;
mod need;
pub mod slurm;
pub mod strategy;

pub use control_job::ControlJob;
pub use faulty::Faulty;
