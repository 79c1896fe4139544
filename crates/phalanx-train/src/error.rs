//! What can end a training run.

use crate::ArtefactError;
use phalanx_comm::CommError;
use phalanx_compress::CompressError;
use phalanx_data::DataError;
use phalanx_grad::{GradError, Senders};
use phalanx_nn::NnError;
use phalanx_tensor::TensorError;

/// An error of the training loop.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TrainError {
    /// A setting of the run that cannot be.
    #[error("{field} is {got}, need {need}")]
    Setting {
        /// The key of the run file.
        field: &'static str,
        /// What was given.
        got: u64,
        /// What is possible.
        need: String,
    },
    /// A loss or a gradient that is not a finite number.
    #[error("{} not finite at step {step}{}", Culprit(parameter), ByRank(rank))]
    NonFinite {
        /// The step, counted from 1; its update was not done.
        step: u64,
        /// The rank whose share of the batch gave it; none when only the sum over ranks overflowed.
        rank: Option<usize>,
        /// The parameter whose gradient it is; none when it is the loss.
        parameter: Option<String>,
    },
    /// A batch that leaves a rank without a gradient, which a rule other than the mean would take for one of zeros.
    #[error(
        "the batch of step {step} has {samples} samples for {senders} {called}, and the rule over {called} needs a \
         gradient of each: need train.drop_last, or another train.batch"
    )]
    SendersWithoutSamples {
        /// The step, counted from 1.
        step: u64,
        /// Samples of its batch.
        samples: usize,
        /// How many ranks or nodes there are.
        senders: usize,
        /// What they are.
        called: Senders,
    },
    /// A rule over ranks in a mode that has no gradients of ranks.
    #[error(
        "rule {rule} compares the gradients of ranks, and the reproducible mode adds up virtual shards: need \
         train.reduction = \"fast\""
    )]
    RuleOverShards {
        /// The rule.
        rule: &'static str,
    },
    /// A batch policy that takes the gradient for the mean, which the rule over ranks does not make.
    #[error(
        "batch policy {policy} compares the gradients of ranks with their mean, and rule {rule} makes another: need \
             aggregation.rule = \"mean\""
    )]
    PolicyNeedsMean {
        /// The policy.
        policy: &'static str,
        /// The rule.
        rule: &'static str,
    },
    /// A checkpoint that does not belong to this run.
    #[error("the checkpoint does not fit this run: {what} is {got}, the run has {need}")]
    Resume {
        /// What differs.
        what: String,
        /// In the checkpoint.
        got: String,
        /// In the run.
        need: String,
    },
    /// No checkpoint to go on from.
    #[error("there is no good checkpoint to go on from in {dir}")]
    NoCheckpoint {
        /// Where they would be.
        dir: String,
    },
    /// A batch policy asked for a statistic over chunks and for no chunks.
    #[error(
        "batch policy {policy} asks for {what} of no chunks: need Chunks::Ranks or Chunks::Samples with them"
    )]
    Statistics {
        /// The policy.
        policy: &'static str,
        /// What it asked for.
        what: &'static str,
    },
    /// Compression where the gradient is not a sum of buckets over ranks.
    #[error("compression {compressor} cannot go with {with}")]
    Compression {
        /// The compressor.
        compressor: &'static str,
        /// What it meets.
        with: &'static str,
    },
    /// A batch policy compares the gradients of samples, and the model does not tell them apart.
    #[error("batch policy {policy} compares the gradients of samples, which this model does not tell apart")]
    Samples {
        /// The policy.
        policy: &'static str,
        /// Where they mix.
        #[source]
        cause: NnError,
    },
    /// A batch policy compares the gradients of chunks, and each batch is one.
    #[error(
        "batch policy {policy} compares the gradients of ranks and there is one: need 2 of train.ranks, or \
         train.reduction = \"reproducible\" with train.shards of at least 2, or the statistic of samples"
    )]
    OneChunk {
        /// The policy.
        policy: &'static str,
    },
    /// A policy's decision that cannot be.
    #[error("batch policy {policy} decided on a batch of 0 samples at step {step}")]
    Decision {
        /// The policy.
        policy: &'static str,
        /// When.
        step: u64,
    },
    /// The plan does not fit the memory that the run may use.
    #[error("a rank needs {need} bytes for {samples} samples at once, train.memory_limit is {limit}")]
    Memory {
        /// What a rank needs.
        need: u64,
        /// What it may.
        limit: u64,
        /// Samples that it runs through the network at once.
        samples: usize,
    },
    /// A collective failed: another rank's error, a panic, a stall.
    #[error("communication failed")]
    Comm(#[from] CommError),
    /// The device failed, or has too little memory.
    #[error("the device failed")]
    Device(#[from] TensorError),
    /// The model failed.
    #[error("the model failed")]
    Nn(#[from] NnError),
    /// The data failed.
    #[error("the data cannot be used")]
    Data(#[from] DataError),
    /// A method failed.
    #[error("a method failed")]
    Grad(#[from] GradError),
    /// The compression of gradients failed.
    #[error("gradients cannot be compressed")]
    Compress(#[from] CompressError),
    /// A file of the run failed.
    #[error("a file of the run failed")]
    Artefact(#[from] ArtefactError),
}

struct Culprit<'a>(&'a Option<String>);

impl std::fmt::Display for Culprit<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            Some(parameter) => write!(f, "the gradient of {parameter} is"),
            None => f.write_str("the loss is"),
        }
    }
}

struct ByRank<'a>(&'a Option<usize>);

impl std::fmt::Display for ByRank<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            Some(rank) => write!(f, " on rank {rank}"),
            None => f.write_str(": each rank's share is finite, their sum is not"),
        }
    }
}
