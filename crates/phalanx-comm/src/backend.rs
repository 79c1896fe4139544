//! What a backend in another crate is made of: the arithmetic of the thread backend, counters, the form of a call.
//!
//! Programs that train need nothing of this.

pub use crate::arithmetic::Arithmetic;
pub use crate::call::digest;
pub use crate::shared::fused::{
    Addresses, all_reduce, all_reduce_packed, fold_nodes, fold_ranks, fold_sums, share, spread, sum_buffers,
    tree_reduce,
};
pub use crate::stats::StatsCell;
