//! The part of a checkpoint that is not tensors.
use std::collections::BTreeMap;

use crate::wire::{Decode, Encode};

/// The version of the layout of `state.bin`: it grows with each change to [`Meta`].
pub const FORMAT_VERSION: u32 = 1;

/// A place in the sequence of epochs, in global samples: it does not depend on the number of ranks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Encode, Decode)]
pub struct EpochCursor {
    /// The epoch, from 0.
    pub epoch: u64,
    /// Samples of this epoch that all ranks together have used.
    pub samples: u64,
}

/// Counters, cursors and small states at the end of a step.
///
/// The states of the batch policy, the schedule and other parts are bytes that those parts encode
/// themselves: this type knows no method. Any value is valid; floats are kept bit for bit.
#[derive(Debug, Clone, Default, PartialEq, Encode, Decode)]
pub struct Meta {
    /// Steps done.
    pub step: u64,
    /// Samples used by all ranks together since the beginning of the run.
    pub samples: u64,
    /// Where the sampler stands.
    pub cursor: EpochCursor,
    /// The seed of the run.
    pub seed: u64,
    /// Ranks of the job that wrote this. A resumed job may have another number.
    pub ranks: u64,
    /// The resolved run file.
    pub run_file: String,
    /// Counters of the random streams, by purpose.
    pub counters: BTreeMap<String, u64>,
    /// State of the batch policy.
    pub policy: Vec<u8>,
    /// State of the learning-rate schedule.
    pub schedule: Vec<u8>,
    /// States of other parts, by their names: transforms, aggregation rules, ...
    pub parts: BTreeMap<String, Vec<u8>>,
    /// Series of numbers that later decisions read, by their names.
    pub history: BTreeMap<String, Vec<f64>>,
    /// Mean loss over the validation set at this step, where it was taken.
    pub validation_loss: Option<f64>,
    /// The least validation loss of the run so far.
    pub best_validation_loss: Option<f64>,
}
