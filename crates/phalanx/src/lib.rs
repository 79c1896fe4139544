//! Trains models on many ranks and treats the statistics of gradients as first-class.
//!
//! One dependency for a program of your own: each crate of the workspace is a module here, and [`prelude`] brings the
//! traits into scope. From the bottom up:
//!
//! | module | holds |
//! |---|---|
//! | [`tensor`] | shapes, the op traits of a device, the CPU |
//! | [`comm`] | ranks, collectives, values that ranks agree on |
//! | [`grad`] | sets of gradients along an axis, their statistics, the traits of every method |
//! | [`data`] | data sets, the order of samples, fetching |
//! | [`nn`] | automatic differentiation, layers, models |
//! | [`optim`] | optimizers and learning-rate schedules |
//! | [`batch`] | batch-size policies |
//! | [`robust`] | rules over ranks that bear hostile ones, attacks on them |
//! | [`compress`] | gradients in fewer bytes |
//! | [`train`] | the one loop, checkpoints, what a run leaves |
//! | [`federated`] | clients, rounds, server algorithms, attackers |
//!
//! With the feature `mpi` there is also `mpi`, ranks as processes under `mpirun` or `srun`; with `cuda`, NVIDIA GPUs as a
//! device; with `nccl`, sums of gradients between them.
//!
//! The program `phalanx`, which trains from run files, is the crate `phalanx-launch` above this one.
//!
//! ```
//! use phalanx::comm::{Options, WorldSize, run_ranks};
//! use phalanx::prelude::*;
//!
//! let sums = run_ranks(WorldSize(2), &Options::default(), |comm| {
//!     let mut gradient = [1.0_f32, 2.0];
//!     comm.all_reduce_sum(&mut gradient)?;
//!     Ok::<_, phalanx::comm::CommError>(gradient)
//! });
//! assert_eq!(sums.expect("no rank fails"), [[2.0, 4.0]; 2]);
//! ```
#![forbid(unsafe_code)]

pub mod prelude;

pub use phalanx_batch as batch;
pub use phalanx_comm as comm;
#[cfg(feature = "mpi")]
pub use phalanx_comm_mpi as mpi;
#[cfg(feature = "nccl")]
pub use phalanx_comm_nccl as nccl;
pub use phalanx_compress as compress;
#[cfg(feature = "cuda")]
pub use phalanx_cuda as cuda;
pub use phalanx_data as data;
pub use phalanx_federated as federated;
pub use phalanx_grad as grad;
pub use phalanx_nn as nn;
pub use phalanx_optim as optim;
pub use phalanx_robust as robust;
pub use phalanx_tensor as tensor;
pub use phalanx_train as train;

/// The programs of the README and their test.
#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
struct Readme;
