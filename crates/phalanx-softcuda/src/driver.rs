//! The driver: what `libcuda.so` exports.
//!
//! Each function checks its arguments as the driver's documentation says and returns the code that the driver would. The
//! signatures are those of `cuda.h`. Pointers must be null or valid, strings end, and what a copy names as host memory is as
//! long as it says: that is the contract of all of them, which their `Safety` sections do not repeat.

mod code;
mod context;
mod copy;
mod device;
mod event;
mod launch;
mod memory;
mod module;
pub(crate) mod stream;
mod table;

pub(crate) use code::Code;
pub(crate) use context::current;
pub(crate) use memory::{UnderWay, reaches};
pub(crate) use stream::{StreamHandle, submit_once};

/// A number that looks nothing like `x`: a step of SplitMix64.
pub(crate) fn mix(x: u64) -> u64 {
    let mut z = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ z >> 31
}
