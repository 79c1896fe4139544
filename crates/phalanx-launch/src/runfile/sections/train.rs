//! `[train]`: how the batch is split over ranks, and how long the run goes on.

use crate::runfile::Bytes;
use crate::runfile::Key;
use crate::runfile::Range;
use crate::runfile::error::Fault;
use crate::runfile::key::{Group, keys, names};
use crate::runfile::raw::STOPS;
use crate::runfile::reader::Reader;

keys! {
    /// The split of the work and its end.
    pub struct Train {
        /// Ranks of the job, as threads; under a launcher the launcher decides.
        ranks: usize = 2, "ranks", Range::Within(1.0, 65_536.0), May;
        /// Samples of one optimizer step, over all ranks.
        batch: usize = 64, "samples", Range::AtLeast(1.0), Fixed;
        /// Samples that a rank takes between two additions to its gradient; 0: batch / ranks.
        micro_batch: usize = 0, "samples", Range::AtLeast(0.0), Fixed;
        /// Samples that a rank runs through the network at once, for the sake of the cache; 0:
        /// chosen by the program. Changes the speed, not the micro-batch.
        tile: usize = 0, "samples", Range::AtLeast(0.0), Fixed;
        /// "fast", or "reproducible": the same bits for any number of ranks up to `shards`.
        reduction: Reduction = Reduction::Fast, "", Range::Any, Fixed;
        /// On a GPU: "f32", or "tf32", which rounds the operands of matrix products for its matrix units. Sums, weights and all
        /// else stay in f32.
        precision: Precision = Precision::F32, "", Range::Any, May;
        /// Virtual shards into which "reproducible" cuts the batch.
        shards: usize = 8, "shards", Range::Within(1.0, 65_536.0), Fixed;
        /// Gradient bytes of the bucket that leaves first; small, so that sending starts early.
        first_bucket_bytes: Bytes = Bytes(64 << 10), "bytes", Range::AtLeast(4.0), Fixed;
        /// Gradient bytes of every other bucket.
        bucket_bytes: Bytes = Bytes(1 << 20), "bytes", Range::AtLeast(4.0), Fixed;
        /// How long a rank waits for the others before the job ends.
        timeout_seconds: f64 = 60.0, "seconds", Range::UpTo(0.0, 1e6), Fixed;
        /// How long a rank that is a process may give no sign of life, or no progress while others wait,
        /// before all ranks end.
        lost_after_seconds: f64 = 15.0, "seconds", Range::UpTo(0.0, 86_400.0), May;
        /// "end" ends all ranks when a process of one dies; "shrink" has the others go on without a restart, from the last
        /// checkpoint: over Open MPI 5, under `mpirun --with-ft ulfm`.
        when_rank_lost: WhenRankLost = WhenRankLost::End, "", Range::Any, May;
        /// "stop" ends all ranks before the update when a loss or gradient is not finite; "skip"
        /// leaves the step out on all ranks.
        on_nonfinite: OnNonfinite = OnNonfinite::Stop, "", Range::Any, Fixed;
        /// Steps between two looks at the validation set; 0: at the end of each epoch.
        eval_every_steps: u64 = 0, "steps", Range::AtLeast(0.0), Fixed;
        /// Samples between two looks at the validation set, in place of `eval_every_steps`; 0: steps count. For runs
        /// whose batch changes.
        eval_every_samples: u64 = 0, "samples", Range::AtLeast(0.0), Fixed;
        /// Steps between two entries in the log and in `events.jsonl`.
        log_every_steps: u64 = 10, "steps", Range::AtLeast(1.0), May;
        /// Memory that the job may take; not given: no limit.
        memory_limit: Option<Bytes>, "bytes", Range::AtLeast(1.0), Fixed;
        /// Leave out the samples of an epoch that do not fill a batch.
        drop_last: bool = false, "", Range::Any, Fixed;
        ..
        /// When the run is done.
        stop: Stop
    }
}

names! {
    /// How gradients are summed over ranks.
    pub enum Reduction {
        /// The same bits from run to run at the same number of ranks.
        "fast" => Fast,
        /// The same bits for any number of ranks up to the number of shards.
        "reproducible" => Reproducible,
    }
}

names! {
    /// What the death of a rank that is a process does.
    pub enum WhenRankLost {
        /// Ends all ranks.
        "end" => End,
        /// The others go on from the last checkpoint.
        "shrink" => Shrink,
    }
}

names! {
    /// To what a GPU rounds the operands of matrix products.
    pub enum Precision {
        /// Not at all.
        "f32" => F32,
        /// Ten bits of mantissa.
        "tf32" => Tf32,
    }
}

names! {
    /// What a loss or gradient that is not finite does.
    pub enum OnNonfinite {
        /// Ends the run before the update.
        "stop" => Stop,
        /// Leaves the step out on all ranks.
        "skip" => Skip,
    }
}

/// When a run is done: one of `epochs`, `samples`, `steps`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// After so many passes over the training set.
    Epochs(u64),
    /// At the first step that reaches so many samples.
    Samples(u64),
    /// After so many optimizer steps.
    Steps(u64),
}

keys! {
    /// The three keys of [`Stop`].
    struct Stops {
        /// Passes over the training set after which the run is done. One of `epochs`, `samples`
        /// and `steps` must be given.
        epochs: Option<u64>, "epochs", Range::AtLeast(1.0), May;
        /// Samples after which the run is done.
        samples: Option<u64>, "samples", Range::AtLeast(1.0), May;
        /// Optimizer steps after which the run is done.
        steps: Option<u64>, "steps", Range::AtLeast(1.0), May;
    }
}

impl Group for Stop {
    fn keys(section: &'static str, out: &mut Vec<Key>) {
        Stops::keys(section, out);
    }

    fn read(reader: &mut Reader<'_>) -> Option<Self> {
        let got = reader.given(&STOPS);
        if got.len() != 1 {
            let (name, at) = got.last().map_or(("", reader.at("")), |name| (*name, reader.at(name)));
            reader.report(name, at, Fault::NotOne { of: STOPS.to_vec(), got });
        }
        let stops = Stops::read(reader)?;
        match stops {
            Stops { epochs: Some(epochs), samples: None, steps: None } => Some(Self::Epochs(epochs)),
            Stops { epochs: None, samples: Some(samples), steps: None } => Some(Self::Samples(samples)),
            Stops { epochs: None, samples: None, steps: Some(steps) } => Some(Self::Steps(steps)),
            _ => None,
        }
    }

    fn write(&self, out: &mut Vec<(String, toml::Value)>) {
        let none = Stops { epochs: None, samples: None, steps: None };
        match *self {
            Self::Epochs(epochs) => Stops { epochs: Some(epochs), ..none },
            Self::Samples(samples) => Stops { samples: Some(samples), ..none },
            Self::Steps(steps) => Stops { steps: Some(steps), ..none },
        }
        .write(out);
    }
}
