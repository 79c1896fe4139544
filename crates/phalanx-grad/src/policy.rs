//! Who decides how large the next batch is.

use crate::{CoordinateRule, GradError, ScalarBlock};
use phalanx_comm::Agreed;
use std::fmt::Debug;

/// Decides the batch size, and what the learning rate makes of it, from statistics on which all ranks agree.
///
/// A decision is a function of the agreed statistics, the context and what earlier decisions left in the state, all
/// of which are the same on every rank; it looks at nothing else, so every rank decides the same.
///
/// # Units
/// Batch sizes are global, in samples.
///
/// # Collective
/// No. [`Agreed`] is the proof that the collective was done.
pub trait BatchPolicy: Debug + Send {
    /// The name, as in a run file.
    fn name(&self) -> &'static str;

    /// What holds for the whole run, so that a run that cannot be is refused before its first step.
    fn bounds(&self) -> PolicyBounds {
        PolicyBounds::default()
    }

    /// Which statistics the step that `context` describes must measure.
    fn needs(&self, context: &BatchContext) -> Needs;

    /// The factor on the scheduled learning rate of the step whose statistics these are; asked for once a step,
    /// before [`decide`](Self::decide).
    ///
    /// # Errors
    /// As [`decide`](Self::decide).
    fn lr_factor(
        &mut self,
        statistics: &Agreed<ScalarBlock>,
        context: &BatchContext,
    ) -> Result<f64, GradError> {
        let _ = (statistics, context);
        Ok(1.0)
    }

    /// How long the step took, where [`Needs::time`] asked; before [`decide`](Self::decide).
    ///
    /// # Numerics
    /// The only figure here that differs between two equal runs: a policy that uses it cannot be repeated.
    fn timed(&mut self, time: &Agreed<StepTime>) {
        let _ = time;
    }

    /// The batch size of the next step.
    ///
    /// # Errors
    /// What an estimator of [`ScalarBlock`] gives where the policy cannot do without: a batch in one chunk has no
    /// variance, whatever the step. A statistic that one step lacks is no error: the batch stays.
    fn decide(
        &mut self,
        statistics: &Agreed<ScalarBlock>,
        context: &BatchContext,
    ) -> Result<BatchDecision, GradError>;

    /// Everything that later decisions depend on.
    fn state(&self) -> PolicyState;

    /// Takes back what [`state`](Self::state) gave.
    ///
    /// # Errors
    /// [`GradError::PolicyState`] when the state is of another version or damaged.
    fn restore(&mut self, state: &PolicyState) -> Result<(), GradError>;
}

/// Where a run is when a policy decides. The same on all ranks.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BatchContext {
    /// The step just done, counted from 1.
    pub step: u64,
    /// Samples seen before this step.
    pub samples: u64,
    /// Samples of the whole run.
    pub total: u64,
    /// Global batch size of the step, in samples.
    pub batch: u64,
    /// The greatest batch size that the run allows.
    pub max_batch: u64,
    /// Ranks that share a batch.
    pub ranks: u64,
    /// Learning rate of the step.
    pub lr: f64,
}

/// What holds for the whole run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PolicyBounds {
    /// The most that any step must measure.
    pub needs: Needs,
    /// The greatest batch that the policy will ask for, in samples: what memory is planned for.
    pub max_batch: u64,
}

impl Default for PolicyBounds {
    /// Measures nothing and may ask for any batch.
    fn default() -> Self {
        PolicyBounds { needs: Needs::default(), max_batch: u64::MAX }
    }
}

/// How long a step took on the rank that was slowest.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct StepTime {
    /// Seconds of the whole step.
    pub seconds: f64,
    /// Seconds of it that communication took and no computation hid.
    pub exposed: f64,
    /// Samples of the step, of all ranks.
    pub samples: u64,
    /// Parts in which each rank took its share one after the other, at least 1.
    pub accumulation: u64,
}

/// What a policy decided.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BatchDecision {
    /// Global batch size of the next step, in samples.
    pub batch: u64,
    /// What the statistics asked for before limits, where they were asked: for the log.
    pub target: Option<f64>,
}

impl BatchDecision {
    /// The next batch is of this size, and no statistic was asked.
    #[must_use]
    pub fn of(batch: u64) -> Self {
        BatchDecision { batch, target: None }
    }
}

/// What a step must measure for a policy, beyond `N` and the loss, which every step has.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Needs {
    /// What the chunks of `Q` are.
    pub chunks: Chunks,
    /// Whether the inner products of the chunks with the mean gradient are needed: a second small all-reduce.
    pub projections: bool,
    /// How the variances of the single coordinates become one number, if they are needed: one more reduction of the
    /// length of the gradient.
    pub coordinates: Option<CoordinateRule>,
    /// Whether [`BatchPolicy::timed`] is to be called: one more number to agree on.
    pub time: bool,
}

impl Needs {
    /// The statistics over these chunks and nothing else.
    #[must_use]
    pub fn of(chunks: Chunks) -> Self {
        Needs { chunks, ..Needs::default() }
    }

    /// What serves both.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Needs {
            chunks: self.chunks.max(other.chunks),
            projections: self.projections || other.projections,
            coordinates: self.coordinates.or(other.coordinates),
            time: self.time || other.time,
        }
    }
}

/// The parts of a batch whose gradients are compared, from cheap to dear.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Chunks {
    /// No statistic over chunks is needed.
    #[default]
    None,
    /// The mean gradients of ranks and of their micro-batches.
    Ranks,
    /// The gradients of single samples.
    Samples,
}

/// The state of a policy, as checkpoints hold it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PolicyState {
    /// The version of the layout of `bytes`, which the policy counts by itself.
    pub version: u32,
    /// What the policy wrote.
    pub bytes: Vec<u8>,
}
