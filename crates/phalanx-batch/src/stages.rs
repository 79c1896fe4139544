//! Stages: a list of batch sizes, each for an equal share of the run.

use crate::error::Check;
use crate::{BatchError, words};
use phalanx_comm::Agreed;
use phalanx_grad::{
    BatchContext, BatchDecision, BatchPolicy, GradError, Needs, PolicyBounds, PolicyState, ScalarBlock,
};

const NAME: &str = "stages";
const VERSION: u32 = 1;

/// Settings of [`Stages`].
#[derive(Clone, Debug, PartialEq)]
pub struct StagesConfig {
    /// The batch of each stage, in samples; the first is what the run begins with.
    pub sizes: Vec<u64>,
}

/// Goes through a list of batch sizes, each for an equal share of the run's samples.
///
/// The usual hand-made warm-up of the batch, and the baseline of policies that look at the gradient.
#[derive(Debug)]
pub struct Stages {
    config: StagesConfig,
}

impl Stages {
    /// The policy with these settings.
    ///
    /// # Errors
    /// [`BatchError::Field`] where there is no stage, or one without samples.
    pub fn new(config: StagesConfig) -> Result<Self, BatchError> {
        let check = Check(NAME);
        check.that(!config.sizes.is_empty(), "sizes", 0.0, "at least one")?;
        config.sizes.iter().try_for_each(|size| check.at_least_one("sizes", *size))?;
        Ok(Stages { config })
    }

    /// The batch at a place of the run.
    fn at(&self, samples: u64, total: u64) -> u64 {
        let stages = self.config.sizes.len();
        let stage = u128::from(samples) * stages as u128 / u128::from(total.max(1));
        let stage = usize::try_from(stage).unwrap_or(stages).min(stages - 1);
        self.config.sizes[stage]
    }
}

impl BatchPolicy for Stages {
    fn name(&self) -> &'static str {
        NAME
    }

    fn bounds(&self) -> PolicyBounds {
        let max_batch = self.config.sizes.iter().copied().max().unwrap_or(u64::MAX);
        PolicyBounds { max_batch, ..PolicyBounds::default() }
    }

    fn needs(&self, _: &BatchContext) -> Needs {
        Needs::default()
    }

    fn decide(
        &mut self,
        statistics: &Agreed<ScalarBlock>,
        context: &BatchContext,
    ) -> Result<BatchDecision, GradError> {
        let batch = self.at(context.samples + statistics.samples, context.total);
        Ok(BatchDecision::of(batch.min(context.max_batch)))
    }

    fn state(&self) -> PolicyState {
        words::write(VERSION, &[])
    }

    fn restore(&mut self, state: &PolicyState) -> Result<(), GradError> {
        words::read_exactly::<0>(NAME, VERSION, state).map(|_| ())
    }
}
