//! What the loop is told: sizes, limits and habits, but no method.

use crate::over::Over;

/// When training is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// After so many passes over the training set.
    Epochs(u64),
    /// After so many samples; the last batch is cut to end there.
    Samples(u64),
    /// After so many optimizer steps.
    Steps(u64),
}

/// How gradients of ranks become one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reduction {
    /// Each rank sums its share, buckets are summed in rank order: equal bits from run to run with equal ranks.
    Fast,
    /// Sums go shard by shard in a fixed tree: equal bits for every number of ranks up to `shards`.
    Reproducible {
        /// Virtual shards of each batch.
        shards: usize,
    },
}

/// What happens when a loss or gradient is not finite.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnNonFinite {
    /// All ranks stop before the update.
    Stop,
    /// All ranks leave the update out and go on.
    Skip,
}

/// Settings of the training loop.
#[derive(Clone, Debug, PartialEq)]
pub struct TrainConfig {
    /// Seed of weights, order and dropout.
    pub seed: u64,
    /// Global batch, in samples; what the policy begins with.
    pub batch: u64,
    /// Samples that a rank takes between two additions to its gradient; 0 for its whole share.
    pub micro_batch: usize,
    /// Samples that a rank runs through the network at once; 0 for as many as fit [`TrainConfig::TILE_BYTES`], or
    /// [`TrainConfig::device_memory`].
    pub tile: usize,
    /// When training is done.
    pub limit: Limit,
    /// How gradients become one.
    pub reduction: Reduction,
    /// Bytes of the first bucket, the one that leaves while most of the backward pass is still ahead.
    pub first_bucket_bytes: usize,
    /// Bytes of the other buckets.
    pub bucket_bytes: usize,
    /// What happens when a loss or gradient is not finite.
    pub on_nonfinite: OnNonFinite,
    /// Largest norm of the gradient; a longer one is scaled down to it.
    pub clip_norm: Option<f64>,
    /// Steps between evaluations on the validation set, 0 for one at the end of each epoch; each checkpoint has one too.
    pub eval_every: u64,
    /// Samples between evaluations, where that is how they are counted: instead of `eval_every`, 0 for not.
    pub eval_every_samples: u64,
    /// Steps between progress reports.
    pub log_every: u64,
    /// Steps between checkpoints, 0 for only the last.
    pub checkpoint_every: u64,
    /// Whether a batch that the epoch cannot fill is left out.
    pub drop_last: bool,
    /// Bytes that a rank may use.
    pub memory_limit: Option<u64>,
    /// What a rule over ranks other than the mean is over.
    pub over: Over,
    /// Bytes that a rank may fill of a device with memory of its own, the same on all ranks. Such a device is the better used
    /// the more samples it is given at once; none for one that computes in the host's memory, and works best in its caches.
    pub device_memory: Option<u64>,
}

impl TrainConfig {
    /// Activations and their gradients of a tile stay below this, where one sample does: about what a core's share of
    /// the last-level cache holds.
    pub const TILE_BYTES: usize = 32 << 20;

    /// The defaults of `[train]` in a run file, with seed 0 and no checkpoint before the last.
    ///
    /// # Examples
    /// ```
    /// use phalanx_train::{Limit, TrainConfig};
    ///
    /// let config = TrainConfig { clip_norm: Some(1.0), ..TrainConfig::new(64, Limit::Epochs(15)) };
    /// assert_eq!((config.seed, config.bucket_bytes), (0, 1 << 20));
    /// ```
    #[must_use]
    pub const fn new(batch: u64, limit: Limit) -> Self {
        TrainConfig {
            seed: 0,
            batch,
            micro_batch: 0,
            tile: 0,
            limit,
            reduction: Reduction::Fast,
            first_bucket_bytes: 64 << 10,
            bucket_bytes: 1 << 20,
            on_nonfinite: OnNonFinite::Stop,
            clip_norm: None,
            eval_every: 0,
            eval_every_samples: 0,
            log_every: 10,
            checkpoint_every: 0,
            drop_last: false,
            memory_limit: None,
            over: Over::Ranks,
            device_memory: None,
        }
    }

    /// Samples of a micro-batch of a share. The reproducible mode adds up whole shards, whatever the micro-batch: its bits
    /// must not follow it.
    pub(crate) fn micro_of(&self, share: usize) -> usize {
        match (self.reduction, self.micro_batch) {
            (Reduction::Reproducible { .. }, _) | (_, 0) => share,
            (Reduction::Fast, samples) => samples.min(share),
        }
    }
}
