//! Communicators: the trait, ranks as threads, reproducible reduction, agreement, failure reports.
//!
//! The two types to know are [`Communicator`], what every backend does, and [`Region`], memory that a started reduction
//! owns while the rest of the buffer is still written. A world of threads needs nothing but this crate:
//!
//! ```
//! use phalanx_comm::{CommError, Options, ReduceOp, WorldSize, run_ranks};
//!
//! let sums = run_ranks(WorldSize(2), &Options::default(), |comm| {
//!     // one flat gradient, two buckets: the back one leaves while the front one is still computed
//!     let mut front = comm.alloc(1000)?;
//!     let mut back = front.split_off(600);
//!     back.fill(1.0);
//!     let pending = comm.start_all_reduce(back, ReduceOp::Sum)?;
//!     front.fill(2.0);
//!     comm.progress()?;
//!     let done = comm.start_all_reduce(front, ReduceOp::Sum)?;
//!     let (back, mut gradient) = (pending.wait()?, done.wait()?);
//!     gradient.try_unsplit(back).expect("neighbours");
//!     Ok::<_, CommError>((gradient[0], gradient[999]))
//! })
//! .expect("no rank fails");
//! assert_eq!(sums, [(4.0, 2.0); 2]);
//! ```
//!
//! Not done here: device buffers, and ranks in other processes, which are backends of their own.

#![deny(unsafe_code)]

mod agreed;
mod arithmetic;
pub mod backend;
mod call;
mod communicator;
pub mod control;
pub mod cost;
mod element;
mod error;
mod event;
mod failure;
mod flight;
mod packing;
mod pending;
mod plan;
mod rank;
#[expect(unsafe_code, reason = "the memory that thread ranks share")]
mod shared;
mod slice;
mod solo;
mod stats;
mod sync;
mod thread;
mod tree;

#[cfg(all(test, loom))]
mod tests;

pub use agreed::{
    Agreed, agree_all_gather, agree_broadcast, agree_max, agree_min, agree_sum, tree_all_reduce_f64,
    tree_sum_f64,
};
pub use call::{Call, OpKind, ReduceOp};
pub use communicator::{Communicator, CommunicatorExt, TreeNodes};
pub use element::{Dtype, Element};
pub use error::{CommError, Missing};
pub use flight::{FLIGHT_LEN, FlightRecorder, OpRecord};
pub use packing::Packing;
pub use pending::{Driver, Pending, Ticket};
pub use plan::verify_plan;
pub use rank::{Rank, WorldSize};
pub use shared::Region;
pub use slice::{SliceMut, SliceRef};
pub use solo::SoloComm;
pub use stats::CommStats;
pub use thread::{Options, RankFailure, ThreadComm, ThreadWorld, WorldError, run_ranks};
pub use tree::{NodeId, ShardTree, TreeAccumulator};
