//! Proptest strategies for what several crates' property tests need.

use proptest::prelude::{Strategy, any};
use proptest::sample::Index;

/// A cut of a sum into shards, ranks and coordinates.
#[derive(Clone, Debug)]
pub struct TreeCase {
    /// Virtual shards.
    pub shards: usize,
    /// Ranks, at most one a shard.
    pub ranks: usize,
    /// Coordinates.
    pub len: usize,
    /// Where the buffer is cut in two buckets.
    pub cut: usize,
}

/// Sums over 1 to 33 shards by 1 to 6 ranks, of 0 to 3000 coordinates in two buckets.
pub fn tree_case() -> impl Strategy<Value = TreeCase> {
    (1..=33_usize, any::<Index>(), 0..=3000_usize, any::<Index>()).prop_map(|(shards, ranks, len, cut)| {
        TreeCase { shards, ranks: 1 + ranks.index(shards.min(6)), len, cut: cut.index(len + 1) }
    })
}
