//! What happened in a run, one JSON object a line in `events.jsonl`: the source of reports and dashboards.
//!
//! A line is an [`Event`] with its kind under `"event"`. Floats that are not finite are the strings
//! `"NaN"`, `"Infinity"` and `"-Infinity"`. Within a step the order is: `step`, `aggregated`, `round`,
//! `eval`, `policy`, `checkpoint`; so all that precedes a checkpoint's line is in the checkpoint, and a resumed run, which
//! [drops what follows](EventWriter::resume), shows each step once.
use phalanx_comm::cost::{Choice, Link, Tuning};
use phalanx_grad::{Reason, Rejected};
use serde::{Deserialize, Serialize};

pub use self::reader::{EventLog, read};
pub use self::writer::EventWriter;
use crate::json_number;

mod reader;
mod writer;

/// A line of `events.jsonl`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Event {
    /// The run began, or went on after a resume.
    RunStarted(RunStarted),
    /// An update of the parameters was made or skipped.
    Step(StepDone),
    /// A rule over ranks left some of them out of a step.
    Aggregated(Aggregated),
    /// A round of federated training was made, or left the model as it was.
    Round(RoundDone),
    /// The model was evaluated.
    Eval(EvalDone),
    /// A checkpoint was written.
    Checkpoint(CheckpointSaved),
    /// A policy changed a setting.
    Policy(PolicyDecided),
    /// Something a user should know that stops nothing.
    Warning(WarningRaised),
    /// The run failed.
    Failure(RunFailed),
    /// The run came to its end.
    Finished(RunFinished),
    /// A kind that a later version writes.
    #[serde(other)]
    Unknown,
}

/// The run began, or went on after a resume.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct RunStarted {
    /// The run's name.
    pub name: String,
    /// Version of phalanx.
    pub version: String,
    /// Step it begins after: 0, or that of the checkpoint.
    pub step: u64,
    /// Samples used until then.
    pub samples: u64,
    /// Ranks of the job.
    pub ranks: u64,
    /// Global batch, in samples.
    pub batch: u64,
    /// The seed.
    pub seed: u64,
    /// Kind of the model.
    pub model: String,
    /// Number of its parameters.
    pub parameters: u64,
    /// Samples in the training set, without the validation set.
    pub train_samples: u64,
    /// Steps the run is to make, where that is known before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub planned_steps: Option<u64>,
    /// How gradients are summed between nodes, where there are several.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub between_nodes: Option<BetweenNodes>,
}

/// How gradients are summed between the nodes of a job.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct BetweenNodes {
    /// Nodes of the job.
    pub nodes: u64,
    /// Ranks of the fullest.
    pub ranks_on_a_node: u64,
    /// `auto`, or the method that the run file names: `flat`, `hierarchical` or `mpi`.
    pub choice: String,
    /// Bytes from which on sums are hierarchical; none where they never are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hierarchical_from_bytes: Option<u64>,
    /// What a sum over the ranks of a node takes, where that was measured.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub inside: Option<LinkMeasured>,
    /// What a message between nodes takes, where that was measured.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub across: Option<LinkMeasured>,
}

/// A link, as short measurements at the start of the run fit it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct LinkMeasured {
    /// Seconds that it takes however few the bytes.
    #[serde(with = "json_number")]
    pub start_seconds: f64,
    /// Bytes a second.
    #[serde(with = "json_number")]
    pub bytes_per_second: f64,
}

impl From<Link> for LinkMeasured {
    fn from(link: Link) -> Self {
        Self { start_seconds: link.start_seconds, bytes_per_second: link.bytes_per_second }
    }
}

impl From<LinkMeasured> for Link {
    fn from(link: LinkMeasured) -> Self {
        Self { start_seconds: link.start_seconds, bytes_per_second: link.bytes_per_second }
    }
}

impl From<Tuning> for BetweenNodes {
    fn from(tuning: Tuning) -> Self {
        let levels = tuning.levels;
        Self {
            nodes: tuning.topology.nodes as u64,
            ranks_on_a_node: tuning.topology.most_on_a_node as u64,
            choice: match tuning.choice {
                Choice::Auto => "auto".to_owned(),
                Choice::Fixed(method) => method.to_string(),
            },
            hierarchical_from_bytes: tuning.hierarchical_from().filter(|_| tuning.topology.has_levels()),
            inside: levels.and_then(|levels| levels.inside).map(Into::into),
            across: levels.map(|levels| levels.across.into()),
        }
    }
}

/// An update of the parameters was made or skipped.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct StepDone {
    /// Steps done, with this one.
    pub step: u64,
    /// Samples used by all ranks together, with this step's.
    pub samples: u64,
    /// Mean loss over the step's batch.
    #[serde(with = "json_number")]
    pub loss: f64,
    /// Learning rate of the update.
    #[serde(with = "json_number")]
    pub lr: f64,
    /// Global batch of the step, in samples.
    pub batch: u64,
    /// The batch that a policy's statistics asked for, before its limits, in samples; where the policy steers another figure,
    /// that figure.
    #[serde(with = "json_number::option", skip_serializing_if = "Option::is_none")]
    pub target: Option<f64>,
    /// Statistics over the chunks of the batch, where a policy measured them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub statistics: Option<ChunkStatistics>,
    /// Euclidean norm of the mean gradient, before clipping.
    #[serde(with = "json_number::option", skip_serializing_if = "Option::is_none")]
    pub grad_norm: Option<f64>,
    /// Sum of absolute values of the mean gradient, before clipping.
    #[serde(with = "json_number::option", skip_serializing_if = "Option::is_none")]
    pub grad_norm_l1: Option<f64>,
    /// Samples a second of this step, all ranks together.
    #[serde(with = "json_number")]
    pub samples_per_second: f64,
    /// Seconds from the start of this process's training to the end of the step.
    #[serde(with = "json_number")]
    pub seconds: f64,
    /// Seconds of the step that the slowest rank waited for communication that no computation hid.
    #[serde(with = "json_number")]
    pub exposed_comm_seconds: f64,
    /// Seconds of the step that the slowest rank waited for data.
    #[serde(with = "json_number")]
    pub data_seconds: f64,
    /// What rank 0 sent of its gradient, where it was compressed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub traffic: Option<GradientTraffic>,
    /// Whether the update was left out because a loss or gradient was not finite.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub skipped: bool,
}

/// What a rank passed to the collectives that reduce its gradient.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct GradientTraffic {
    /// Bytes as they were sent, compressed.
    pub sent_bytes: u64,
    /// Bytes that the gradient has in single precision.
    pub plain_bytes: u64,
}

impl GradientTraffic {
    /// The traffic of both.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            sent_bytes: self.sent_bytes + other.sent_bytes,
            plain_bytes: self.plain_bytes + other.plain_bytes,
        }
    }
}

/// What the gradients of the chunks of a batch say about those of single samples.
///
/// Figures that one step cannot give, such as a noise scale where noise hides the signal, are absent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ChunkStatistics {
    /// Chunks that were compared: ranks, virtual shards or samples.
    pub chunks: u64,
    /// Sum of the chunks' squared gradient norms, each times its samples.
    #[serde(with = "json_number")]
    pub q: f64,
    /// Variance of the gradient of a sample, summed over coordinates.
    #[serde(with = "json_number::option", skip_serializing_if = "Option::is_none")]
    pub variance: Option<f64>,
    /// Squared norm of the true gradient, unbiased.
    #[serde(with = "json_number::option", skip_serializing_if = "Option::is_none")]
    pub signal: Option<f64>,
    /// Variance over signal, in samples.
    #[serde(with = "json_number::option", skip_serializing_if = "Option::is_none")]
    pub noise_scale: Option<f64>,
    /// Samples that profit from a step along the gradient of one.
    #[serde(with = "json_number::option", skip_serializing_if = "Option::is_none")]
    pub coherence: Option<f64>,
    /// Variance of the inner products with the mean gradient.
    #[serde(with = "json_number::option", skip_serializing_if = "Option::is_none")]
    pub variance_along: Option<f64>,
    /// Variance across the mean gradient.
    #[serde(with = "json_number::option", skip_serializing_if = "Option::is_none")]
    pub variance_across: Option<f64>,
    /// Variance over squared mean of the coordinates, as one number.
    #[serde(with = "json_number::option", skip_serializing_if = "Option::is_none")]
    pub coordinate_ratio: Option<f64>,
}

/// A rule over ranks left some of them out of a step.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Aggregated {
    /// Which step.
    pub step: u64,
    /// Name of the rule.
    pub rule: String,
    /// What it is over, `nodes`, where that is not ranks: numbers are then those of nodes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub over: Option<String>,
    /// The ranks that have no part in the result.
    pub left_out: Vec<RankLeftOut>,
}

/// A rank, or a node, whose gradient has no part in a step.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct RankLeftOut {
    /// The number of the rank or node.
    pub rank: u64,
    /// Why: `left_out` by a rule or filter, `not_finite`, `norm` or `length`.
    pub reason: String,
    /// The reason in words.
    pub detail: String,
    /// What the one who left it out scored it, where it scores.
    #[serde(with = "json_number::option", skip_serializing_if = "Option::is_none")]
    pub score: Option<f64>,
}

impl From<&Rejected> for RankLeftOut {
    fn from(rejected: &Rejected) -> Self {
        let reason = match rejected.reason {
            Reason::Length { .. } => "length",
            Reason::NonFinite { .. } => "not_finite",
            Reason::Norm { .. } => "norm",
            _ => "left_out",
        };
        RankLeftOut {
            rank: rejected.id,
            reason: reason.to_owned(),
            detail: rejected.reason.to_string(),
            score: rejected.score,
        }
    }
}

/// A round of federated training.
///
/// Who lied is known because the run says so; it is what the rule is measured by and knows nothing of.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct RoundDone {
    /// Which round, counted from 1; a round is a step.
    pub step: u64,
    /// The clients that answered, in the order of their names.
    pub clients: Vec<ClientDone>,
    /// The clients that were asked and did not answer, or too late.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub absent: Vec<u64>,
    /// Hostile clients whose update has no part in the result.
    pub caught: u64,
    /// Honest clients whose update has no part in the result.
    pub wronged: u64,
    /// Why the model stayed as it was, if it did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unusable: Option<String>,
}

/// What a client did in a round.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ClientDone {
    /// Its name.
    pub client: u64,
    /// Its samples.
    pub samples: u64,
    /// Local optimizer steps.
    pub steps: u64,
    /// Mean loss over its local steps.
    #[serde(with = "json_number")]
    pub loss: f64,
    /// Share of right answers over its local steps, 0 to 1.
    #[serde(with = "json_number")]
    pub accuracy: f64,
    /// Euclidean norm of what it sent.
    #[serde(with = "json_number")]
    pub norm: f64,
    /// Whether an attack of the run is its.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub hostile: bool,
    /// Why its update has no part in the result, if it has none: `left_out` by a rule or filter, `not_finite`, `norm` or
    /// `length`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub left_out: Option<String>,
    /// What the last filter or rule that saw it scored it, where it scores.
    #[serde(with = "json_number::option", skip_serializing_if = "Option::is_none")]
    pub score: Option<f64>,
}

/// The data set that an evaluation read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Split {
    /// The training set.
    Train,
    /// The part of the training data that is kept out for decisions.
    #[default]
    Validation,
    /// The test set, which decides nothing.
    Test,
    /// Samples that open a backdoor, with the label that it gives.
    Backdoor,
}

/// The model was evaluated.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct EvalDone {
    /// After which step.
    pub step: u64,
    /// Samples used in training until then.
    pub samples: u64,
    /// On which data.
    pub split: Split,
    /// Mean loss.
    #[serde(with = "json_number")]
    pub loss: f64,
    /// Share of right answers, 0 to 1, where the task has such.
    #[serde(with = "json_number::option", skip_serializing_if = "Option::is_none")]
    pub accuracy: Option<f64>,
}

/// A checkpoint was written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct CheckpointSaved {
    /// After which step.
    pub step: u64,
    /// Length of its files, in bytes.
    pub bytes: u64,
    /// Seconds that training stood still for it.
    #[serde(with = "json_number")]
    pub seconds: f64,
    /// Whether it has the least validation loss so far.
    pub best: bool,
}

/// A policy changed a setting.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct PolicyDecided {
    /// After which step.
    pub step: u64,
    /// Name of the policy.
    pub policy: String,
    /// Global batch from the next step on, in samples.
    pub batch: u64,
    /// Samples of a micro-batch, 0 where the policy did not move it.
    pub micro_batch: u64,
    /// Micro-batches that a rank, or a virtual shard, takes in a step.
    pub accumulation: u64,
    /// The figure it decided by.
    #[serde(with = "json_number::option", skip_serializing_if = "Option::is_none")]
    pub statistic: Option<f64>,
    /// Why, in words.
    pub reason: String,
}

/// Something a user should know that stops nothing.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct WarningRaised {
    /// After which step.
    pub step: u64,
    /// The warning.
    pub message: String,
}

/// The run failed.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct RunFailed {
    /// In which step, counted from 1.
    pub step: u64,
    /// The rank that failed, where one did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rank: Option<u64>,
    /// Why.
    pub message: String,
}

/// The run came to its end.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct RunFinished {
    /// Steps done.
    pub step: u64,
    /// Samples used.
    pub samples: u64,
    /// Seconds of training of this process.
    #[serde(with = "json_number")]
    pub seconds: f64,
    /// Whether it stopped on request rather than at its planned end.
    pub stopped: bool,
}

impl Event {
    /// The step it belongs to; none for kinds this version does not know.
    pub fn step(&self) -> Option<u64> {
        match self {
            Self::RunStarted(event) => Some(event.step),
            Self::Step(event) => Some(event.step),
            Self::Aggregated(event) => Some(event.step),
            Self::Round(event) => Some(event.step),
            Self::Eval(event) => Some(event.step),
            Self::Checkpoint(event) => Some(event.step),
            Self::Policy(event) => Some(event.step),
            Self::Warning(event) => Some(event.step),
            Self::Failure(event) => Some(event.step),
            Self::Finished(event) => Some(event.step),
            Self::Unknown => None,
        }
    }

    /// Whether a run that goes on after `step` makes it anew, or makes it untrue.
    fn is_undone_by_resume_after(&self, step: u64) -> bool {
        let ends_the_run = matches!(self, Self::Failure(_) | Self::Finished(_));
        ends_the_run || self.step().is_some_and(|at| at > step)
    }
}
