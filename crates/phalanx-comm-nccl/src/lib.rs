//! Collectives between GPUs, by NCCL: memory of a device in, memory of a device out, in the order of a stream.
//!
//! Empty without the feature `nccl`. With it nothing of NCCL is needed to build: the library is opened when a communicator
//! is made, and what is missing then is an error that says so.
//!
//! The types to know are `NcclComm`, the ranks of a [`Communicator`](phalanx_comm::Communicator) that have a device
//! each, and `NcclExchange`, which adds up gradients for the training loop. The host's communicator stays beside NCCL's: over
//! it travel the unique id, the comparison of calls, and the news of a failure.
//!
//! ```no_run
//! # #[cfg(feature = "nccl")] {
//! use cudarc::driver::{CudaContext, DevicePtrMut as _};
//! use phalanx_comm::{Dtype, Options, ReduceOp, WorldSize, run_ranks};
//! use phalanx_comm_nccl::{DeviceSpan, NcclComm, NcclError, NcclOptions};
//!
//! run_ranks(WorldSize(2), &Options::default(), |host| {
//!     let context = CudaContext::new(host.rank().index())?;
//!     let stream = context.new_stream()?;
//!     let comm = NcclComm::new(&host, &context, &NcclOptions::default())?;
//!     let mut numbers = stream.clone_htod(&[1.0_f32; 1000])?;
//!     // SAFETY: nothing but the stream touches the numbers
//!     let span = unsafe { DeviceSpan::from_raw(numbers.device_ptr_mut(&stream).0, 1000, Dtype::F32) };
//!     comm.all_reduce_in_place(span, ReduceOp::Sum, &stream)?;
//!     assert_eq!(stream.clone_dtoh(&numbers)?, [2.0; 1000]);
//!     comm.close()
//! })
//! .expect("two devices and NCCL");
//! # }
//! ```
//!
//! # How a hang is avoided
//! 1. Before a communicator is made, all ranks tell each other whether they can, so that none waits for one without a library.
//! 2. The first calls of a communicator are compared over the host before NCCL sees them, as are later ones now and then: a
//!    difference is [`CommError::Mismatch`](phalanx_comm::CommError::Mismatch) on every rank.
//! 3. Communicators do not block (`blocking = 0`), so that they can be aborted at any time. A thread watches over each: an error
//!    that NCCL tells later, or a collective that is not complete in time, aborts it here and ends the host's
//!    collectives, and with them those of the other ranks.
//!
//! Not done here: splitting and shrinking of communicators, collectives inside of CUDA graphs, registered memory.

#![cfg_attr(not(feature = "nccl"), forbid(unsafe_code))]
#![cfg_attr(feature = "nccl", deny(unsafe_code))]

#[cfg(feature = "nccl")]
mod calls;
#[cfg(feature = "nccl")]
mod comm;
#[cfg(feature = "nccl")]
mod error;
#[cfg(feature = "nccl")]
mod exchange;
#[cfg(feature = "nccl")]
mod group;
#[cfg(feature = "nccl")]
#[expect(unsafe_code, reason = "the calls of NCCL")]
mod handle;
#[cfg(feature = "nccl")]
mod hello;
#[cfg(feature = "nccl")]
#[expect(unsafe_code, reason = "the functions of a library that is opened at run time")]
mod library;
#[cfg(feature = "nccl")]
mod options;
#[cfg(feature = "nccl")]
#[expect(unsafe_code, reason = "calls of the driver")]
mod peers;
#[cfg(feature = "nccl")]
#[expect(unsafe_code, reason = "addresses on a device")]
mod span;
#[cfg(feature = "nccl")]
mod watchdog;

#[cfg(feature = "nccl")]
pub use comm::NcclComm;
#[cfg(feature = "nccl")]
pub use error::NcclError;
#[cfg(feature = "nccl")]
pub use exchange::NcclExchange;
#[cfg(feature = "nccl")]
pub use group::Group;
#[cfg(feature = "nccl")]
pub use library::{NcclLibrary, NcclVersion};
#[cfg(feature = "nccl")]
pub use options::NcclOptions;
#[cfg(feature = "nccl")]
pub use span::DeviceSpan;
