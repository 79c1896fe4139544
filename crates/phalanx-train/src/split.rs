//! From the batch that a policy asks for to one that all ranks can share evenly.

/// A batch of `parts * accumulation * micro` samples: each rank, or each virtual shard of the reproducible mode, takes
/// `accumulation` micro-batches one after the other.
///
/// # Examples
/// ```
/// use phalanx_train::BatchSplit;
/// // 2 ranks, at most 512 samples at once
/// let split = BatchSplit::towards(1030, 2, Some(512), u64::MAX);
/// assert_eq!((split.parts, split.accumulation, split.micro), (2, 2, 258));
/// assert_eq!(split.batch(), 1032);
/// // not beyond a limit
/// assert_eq!(BatchSplit::towards(1030, 2, Some(512), 1030).batch(), 1028);
/// ```
///
/// # Reference
/// Lau, Liu and Kolar, arXiv 2402.11215: the order of micro-batch first and accumulation then.
///
/// # Deviation
/// The published code keeps micro-batches at their maximum once they have reached it, which can double the batch that the test
/// asked for. Here accumulation is as little as can be, and micro-batches are evened out after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchSplit {
    /// Ranks, or virtual shards.
    pub parts: u64,
    /// Micro-batches that each takes in a step.
    pub accumulation: u64,
    /// Samples of a micro-batch.
    pub micro: u64,
}

impl BatchSplit {
    /// The smallest even batch of at least `target` samples with micro-batches of at most `most_micro`, or the greatest below
    /// `limit` where that is less.
    ///
    /// Counts of 0 are taken for 1.
    #[must_use]
    pub fn towards(target: u64, parts: u64, most_micro: Option<u64>, limit: u64) -> Self {
        let (target, parts) = (target.max(1), parts.max(1));
        let most_micro = most_micro.unwrap_or(u64::MAX).max(1);
        let with = |accumulation: u64| {
            let evenly = parts.saturating_mul(accumulation);
            let micro = target.div_ceil(evenly).min(limit / evenly).clamp(1, most_micro);
            BatchSplit { parts, accumulation, micro }
        };
        let accumulation = target.div_ceil(parts).div_ceil(most_micro);
        let (split, fewer) = (with(accumulation), with(accumulation.saturating_sub(1).max(1)));
        // below a limit, full micro-batches may come nearer to it
        if split.batch() < target && fewer.batch() >= split.batch() { fewer } else { split }
    }

    /// Samples of the whole batch.
    #[must_use]
    pub fn batch(&self) -> u64 {
        self.parts.saturating_mul(self.accumulation).saturating_mul(self.micro)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::{prop_assert, proptest};

    proptest! {
        #[test]
        fn a_split_holds_the_target_and_the_micro_batch(
            target in 1_u64..100_000, parts in 1_u64..64, most in 1_u64..600,
        ) {
            let split = BatchSplit::towards(target, parts, Some(most), u64::MAX);
            prop_assert!(split.micro <= most);
            prop_assert!(split.batch() >= target);
            // one sample less a micro-batch would not hold it, and one micro-batch less would be too large
            prop_assert!(split.batch() - parts * split.accumulation < target);
            prop_assert!(split.accumulation == 1 || parts * (split.accumulation - 1) * most < target);
        }

        #[test]
        fn a_limit_is_kept_where_each_part_has_a_sample(
            target in 1_u64..100_000, parts in 1_u64..64, limit in 64_u64..10_000,
        ) {
            prop_assert!(BatchSplit::towards(target, parts, None, limit).batch() <= limit);
        }
    }
}
