//! How a batch is divided: over ranks, and over the virtual shards of a reproducible run.
//!
//! Parts are contiguous and differ in length by at most one, the longer ones first. Virtual shards
//! are divided over ranks by the same rule, so the samples of a rank are contiguous then too.

use std::ops::Range;

/// The part of `indices` that belongs to `rank` of `ranks`.
///
/// # Panics
/// When `rank` is not below `ranks`.
///
/// # Examples
/// ```
/// use phalanx_data::shard;
///
/// let batch = [10, 11, 12, 13, 14];
/// assert_eq!(shard(&batch, 0, 2), [10, 11, 12]);
/// assert_eq!(shard(&batch, 1, 2), [13, 14]);
/// ```
#[track_caller]
pub fn shard(indices: &[usize], rank: usize, ranks: usize) -> &[usize] {
    &indices[shard_range(indices.len(), rank, ranks)]
}

/// Part `part` of `0..len` cut into `parts`.
///
/// # Panics
/// When `part` is not below `parts`.
#[track_caller]
pub fn shard_range(len: usize, part: usize, parts: usize) -> Range<usize> {
    assert!(part < parts, "there is no part {part} of {parts}");
    let (short, longer) = (len / parts, len % parts);
    let start = part * short + part.min(longer);
    start..start + short + usize::from(part < longer)
}

/// All parts of `0..len` cut into `parts`, in order.
///
/// # Examples
/// The samples of rank 1 of 3, in a batch of 19 cut into 8 virtual shards:
/// ```
/// use phalanx_data::{shard_range, shard_ranges};
///
/// let mine = shard_range(8, 1, 3);
/// assert_eq!(mine, 3..6);
/// let samples: Vec<_> = shard_ranges(19, 8).collect();
/// assert_eq!(samples[mine], [9..11, 11..13, 13..15]);
/// ```
pub fn shard_ranges(len: usize, parts: usize) -> impl ExactSizeIterator<Item = Range<usize>> + Clone {
    (0..parts).map(move |part| shard_range(len, part, parts))
}

#[cfg(test)]
mod tests {
    use super::{shard_range, shard_ranges};
    use proptest::prelude::{prop_assert, prop_assert_eq, proptest};

    #[test]
    fn the_longer_parts_come_first() {
        let parts: Vec<_> = shard_ranges(7, 4).collect();
        assert_eq!(parts, [0..2, 2..4, 4..6, 6..7]);
    }

    #[test]
    fn more_parts_than_samples_leaves_empty_ones() {
        let parts: Vec<_> = shard_ranges(2, 4).collect();
        assert_eq!(parts, [0..1, 1..2, 2..2, 2..2]);
    }

    #[test]
    #[should_panic(expected = "no part 3 of 3")]
    fn a_rank_beyond_the_last_is_refused() {
        shard_range(5, 3, 3);
    }

    proptest! {
        #[test]
        fn parts_tile_the_whole_and_differ_by_at_most_one(len in 0_usize..5000, parts in 1_usize..200) {
            let ranges: Vec<_> = shard_ranges(len, parts).collect();
            let mut end = 0;
            for range in &ranges {
                prop_assert_eq!(range.start, end);
                end = range.end;
                prop_assert!(range.len() == len / parts || range.len() == len / parts + 1);
            }
            prop_assert_eq!(end, len);
        }
    }
}
