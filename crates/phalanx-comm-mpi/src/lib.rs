//! The communicator of phalanx over MPI: ranks as processes, on one node or on many.
//!
//! Empty without the feature `mpi`, so that a workspace builds where there is no MPI. With it, a program that was
//! started by `mpirun` or `srun` makes a `MpiWorld`, runs what each rank does in it, and ends it with the exit code:
//!
//! ```no_run
//! # #[cfg(feature = "mpi")] {
//! use phalanx_comm::{CommError, CommunicatorExt};
//! use phalanx_comm_mpi::{MpiOptions, MpiWorld};
//!
//! let world = MpiWorld::init(&MpiOptions::default()).expect("started by mpirun");
//! let sum = world.run(|comm| {
//!     let mut x = [1.0_f32];
//!     comm.all_reduce_sum(&mut x)?;
//!     Ok::<_, CommError>(x[0])
//! });
//! println!("{sum:?}");
//! world.end(0);
//! # }
//! ```
//!
//! # How a collective runs
//! 1. Each rank **announces** its call in a message of 256 bytes: over a board in shared memory inside a node, by one
//!    `MPI_Iallgather` between nodes. Numbers that fit travel in it, and then that is all.
//! 2. When all have announced, each compares all calls, and goes on only if they are the same.
//! 3. Inside a node, ranks map the memory that [`alloc`](phalanx_comm::Communicator::alloc) gave out: each reduces its share
//!    of the coordinates of all buffers in one pass, the code of the thread backend. Between nodes with several ranks, the
//!    ranks of each sum a slice each and exchange it with one rank of every other node; or slices of all buffers are
//!    exchanged between all ranks. `MpiWorld::tune` measures which is faster; both give the same bits.
//!
//! Started collectives advance by calls between operators, or by a thread of the communicator (`MpiWorld::advance_by`), which
//! then calls MPI in the rank's place; never both at once.
//!
//! So a disagreement is found before any memory is touched. Sums on one node, and those of one rank a node, have the bits of
//! ranks as threads; started reductions over several nodes of several ranks sum the ranks of each node first.

#![cfg_attr(not(feature = "mpi"), forbid(unsafe_code))]
#![cfg_attr(feature = "mpi", deny(unsafe_code))]

#[cfg(feature = "mpi")]
mod alarm;
#[cfg(feature = "mpi")]
mod announce;
#[cfg(feature = "mpi")]
mod blocking;
#[cfg(feature = "mpi")]
mod board;
#[cfg(feature = "mpi")]
mod comm;
#[cfg(feature = "mpi")]
mod error;
#[cfg(feature = "mpi")]
#[expect(unsafe_code, reason = "the calls of MPI")]
mod ffi;
#[cfg(feature = "mpi")]
mod hierarchical;
#[cfg(feature = "mpi")]
mod lane;
#[cfg(feature = "mpi")]
mod library;
#[cfg(feature = "mpi")]
mod nodes;
#[cfg(feature = "mpi")]
mod options;
#[cfg(feature = "mpi")]
mod progress;
#[cfg(feature = "mpi")]
#[expect(unsafe_code, reason = "memory that processes of a node share")]
mod segment;
#[cfg(feature = "mpi")]
mod slices;
#[cfg(feature = "mpi")]
mod started;
#[cfg(feature = "mpi")]
mod survive;
#[cfg(feature = "mpi")]
mod tune;
#[cfg(feature = "mpi")]
mod wait;
#[cfg(feature = "mpi")]
mod world;

#[cfg(feature = "mpi")]
pub use comm::MpiComm;
#[cfg(feature = "mpi")]
pub use error::MpiError;
#[cfg(feature = "mpi")]
pub use options::{MpiOptions, Nodes, Progress};
#[cfg(feature = "mpi")]
pub use survive::Survivors;
#[cfg(feature = "mpi")]
pub use world::{MpiWorld, library_version};
