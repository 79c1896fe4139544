//! Executes decoded kernels, warp by warp.
//!
//! A warp keeps its registers as arrays of 32 lanes, so that one instruction is one loop over them. Lanes that took different
//! ways form groups; the group with the lowest program counter runs until it meets another or has to wait for one. Blocks run
//! one after the other, and the warps of a block up to a barrier each.

mod access;
pub(crate) mod arena;
mod asynchronous;
mod atomic;
mod block;
pub(crate) mod float;
mod grid;
mod kernel;
pub(crate) mod lanes;
mod mma;
mod shared;
mod sync;
mod warp;

pub(crate) use access::{Access, Base, Extend, Target};
pub(crate) use asynchronous::CpAsync;
pub(crate) use atomic::Atomic;
pub(crate) use grid::{Launch, run};
pub(crate) use kernel::{BarrierVote, Guard, Instr, Kernel, Op, Shuffle, Special, Vote};
pub(crate) use lanes::{D, Doubles, P, W, Words, lanes, lanes_where};
pub(crate) use mma::{Ldmatrix, Mma, Shape};

/// Where the state spaces of a thread lie among generic addresses.
pub(crate) mod window {
    /// Shared memory.
    pub(crate) const SHARED: u64 = 0x0100_0000_0000;
    /// Local memory.
    pub(crate) const LOCAL: u64 = 0x0200_0000_0000;
    /// Parameters of the kernel.
    pub(crate) const PARAM: u64 = 0x0300_0000_0000;
    /// Bytes of each.
    pub(crate) const BYTES: u64 = 0x0100_0000_0000;
}
