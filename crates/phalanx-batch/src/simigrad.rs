//! SimiGrad: a batch whose halves agree as much as they are told to.

use crate::cut::is_cut_to_one_chunk;
use crate::error::Check;
use crate::pace::{Pace, whole};
use crate::{BatchError, words};
use phalanx_comm::Agreed;
use phalanx_grad::{
    BatchContext, BatchDecision, BatchPolicy, Chunks, GradError, Needs, PolicyBounds, PolicyState,
    ScalarBlock,
};

const NAME: &str = "simigrad";
const VERSION: u32 = 1;

/// Settings of [`SimiGrad`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SimiGradConfig {
    /// Whose gradients are compared. Default ranks.
    pub chunks: Chunks,
    /// Steps between two looks, at least 1. Default 1.
    pub interval: u64,
    /// The smallest batch, in samples. Default 1.
    pub min: u64,
    /// The greatest batch, in samples. Default: as many as there are.
    pub max: u64,
    /// Cosine of the gradients of two halves that the batch is steered to, above 0 and below 1. Default 0.1.
    pub cosine: f64,
}

impl Default for SimiGradConfig {
    fn default() -> Self {
        SimiGradConfig { chunks: Chunks::Ranks, interval: 1, min: 1, max: u64::MAX, cosine: 0.1 }
    }
}

/// A tenth more where the two halves of the batch agree too little, a tenth less where they agree more than asked.
///
/// # Reference
/// Qin et al., "`SimiGrad`: Fine-Grained Adaptive Batching for Large Scale Training using Gradient Similarity Measurement",
/// NeurIPS 2021.
///
/// # Deviation
/// The halves' gradients are not exchanged: their expected cosine `g2 / (g2 + 2 tr_s / B)` follows from the scalars.
#[derive(Debug)]
pub struct SimiGrad {
    config: SimiGradConfig,
}

impl SimiGrad {
    /// The policy with these settings.
    ///
    /// # Errors
    /// [`BatchError::Field`] or [`BatchError::Below`] names the first that is out of range.
    pub fn new(config: SimiGradConfig) -> Result<Self, BatchError> {
        let check = Check(NAME);
        check.at_least_one("interval", config.interval)?;
        check.at_least_one("min", config.min)?;
        check.reaches(("max", config.max), ("min", config.min))?;
        check.between_0_and_1("cosine", config.cosine)?;
        Ok(SimiGrad { config })
    }

    fn pace(&self) -> Pace {
        Pace { interval: self.config.interval, max: self.config.max, ..Pace::default() }
    }
}

impl BatchPolicy for SimiGrad {
    fn name(&self) -> &'static str {
        NAME
    }

    fn bounds(&self) -> PolicyBounds {
        PolicyBounds { needs: Needs::of(self.config.chunks), max_batch: self.config.max }
    }

    fn needs(&self, context: &BatchContext) -> Needs {
        if self.pace().is_due(context.step) { Needs::of(self.config.chunks) } else { Needs::default() }
    }

    fn decide(
        &mut self,
        statistics: &Agreed<ScalarBlock>,
        context: &BatchContext,
    ) -> Result<BatchDecision, GradError> {
        let stay = BatchDecision::of(context.batch);
        if !self.pace().is_due(context.step) || is_cut_to_one_chunk(statistics, context) {
            return Ok(stay);
        }
        let cosine = match statistics.expected_half_cosine() {
            Err(GradError::Undefined { .. }) => return Ok(stay),
            cosine => cosine?,
        };
        let batch = context.batch as f64;
        let next = if cosine < self.config.cosine {
            whole(1.1 * batch).max(context.batch + 1)
        } else if cosine > self.config.cosine {
            whole(0.9 * batch).min(context.batch - 1).max(1)
        } else {
            context.batch
        };
        let batch = next.max(self.config.min).min(self.pace().limit(context)).max(1);
        Ok(BatchDecision { batch, target: Some(cosine) })
    }

    fn state(&self) -> PolicyState {
        words::write(VERSION, &[])
    }

    fn restore(&mut self, state: &PolicyState) -> Result<(), GradError> {
        words::read_exactly::<0>(NAME, VERSION, state).map(|_| ())
    }
}
