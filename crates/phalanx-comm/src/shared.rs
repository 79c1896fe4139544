//! The memory that thread ranks share: the one module of this crate with unsafe code.
//!
//! Everything here serves one argument. A collective moves through four steps, each seen by all ranks:
//!
//! 1. a rank **posts**: it writes where its buffers are into its slot of that collective, then the number of
//!    the collective (release);
//! 2. when all have posted (acquire), each compares all calls, and goes on only if they are the same;
//! 3. a rank **enters**, works on its own share of the coordinates of *all* buffers, and **leaves**;
//! 4. when all have left (acquire), the buffers belong to their ranks again.
//!
//! Shares don't overlap, so between steps 2 and 4 no two ranks touch the same element. A rank that has to give up
//! between 1 and 4 first fails the world and then waits until nobody is inside step 3; a rank that enters looks at
//! the failure *after* it has announced itself, with a sequentially consistent fence between (and the same on the
//! other side), so nobody can enter later. Step 3 is arithmetic only, hence that wait is short.
//!
//! A started collective owns its [`Region`]s until step 4. They leave by a finished [`Pending`](crate::Pending), or
//! with the communicator.

pub(crate) mod fused;
mod lane;
mod post;
mod region;
mod simd;
mod slot;
mod started;
mod work;

pub(crate) use lane::{Group, Lane};
pub use region::Region;
pub(crate) use started::Held;
