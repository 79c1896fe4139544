//! A ramp: the batch grows by the same amount after every step.

use crate::error::Check;
use crate::{BatchError, words};
use phalanx_comm::Agreed;
use phalanx_grad::{
    BatchContext, BatchDecision, BatchPolicy, GradError, Needs, PolicyBounds, PolicyState, ScalarBlock,
};

const NAME: &str = "ramp";
const VERSION: u32 = 1;

/// Settings of [`Ramp`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RampConfig {
    /// Samples that each step adds to the batch, at least 1. Default 1.
    pub increment: u64,
    /// Where it ends, in samples. Default: as many as there are.
    pub max: u64,
}

impl Default for RampConfig {
    fn default() -> Self {
        RampConfig { increment: 1, max: u64::MAX }
    }
}

/// Adds `increment` samples to the batch after every step, until it is `max`.
#[derive(Debug)]
pub struct Ramp {
    config: RampConfig,
}

impl Ramp {
    /// The policy with these settings.
    ///
    /// # Errors
    /// [`BatchError::Field`] names the first that is out of range.
    pub fn new(config: RampConfig) -> Result<Self, BatchError> {
        let check = Check(NAME);
        check.at_least_one("increment", config.increment)?;
        check.at_least_one("max", config.max)?;
        Ok(Ramp { config })
    }
}

impl BatchPolicy for Ramp {
    fn name(&self) -> &'static str {
        NAME
    }

    fn bounds(&self) -> PolicyBounds {
        PolicyBounds { max_batch: self.config.max, ..PolicyBounds::default() }
    }

    fn needs(&self, _: &BatchContext) -> Needs {
        Needs::default()
    }

    fn decide(
        &mut self,
        _: &Agreed<ScalarBlock>,
        context: &BatchContext,
    ) -> Result<BatchDecision, GradError> {
        let limit = self.config.max.min(context.max_batch);
        let next = context.batch.saturating_add(self.config.increment).min(limit);
        Ok(BatchDecision::of(next.max(context.batch)))
    }

    fn state(&self) -> PolicyState {
        words::write(VERSION, &[])
    }

    fn restore(&mut self, state: &PolicyState) -> Result<(), GradError> {
        words::read_exactly::<0>(NAME, VERSION, state).map(|_| ())
    }
}
