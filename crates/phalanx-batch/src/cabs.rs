//! CABS: a batch that keeps the expected gain of a step per sample at its greatest.

use crate::cut::is_cut_to_one_chunk;
use crate::error::Check;
use crate::pace::{Pace, whole};
use crate::running_mean::RunningMean;
use crate::{BatchError, words};
use phalanx_comm::Agreed;
use phalanx_grad::{
    BatchContext, BatchDecision, BatchPolicy, Chunks, GradError, Needs, PolicyBounds, PolicyState,
    ScalarBlock,
};

const NAME: &str = "cabs";
const VERSION: u32 = 1;

/// Settings of [`Cabs`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CabsConfig {
    /// Whose gradients are compared. Default samples.
    pub chunks: Chunks,
    /// Steps between two looks, at least 1. Default 1.
    pub interval: u64,
    /// The smallest batch, in samples. Default 16.
    pub min: u64,
    /// The greatest batch, in samples. Default 2048.
    pub max: u64,
    /// Factor on the batch, above 0. Default 1.
    pub scale: f64,
    /// Decay of the running means of variance and loss. Default 0.95.
    pub ema: f64,
}

impl Default for CabsConfig {
    fn default() -> Self {
        CabsConfig { chunks: Chunks::Samples, interval: 1, min: 16, max: 2048, scale: 1.0, ema: 0.95 }
    }
}

/// `B = scale lr xi / loss`, with the trace `xi` of the population variance of a sample's gradient; for plain SGD and a loss
/// whose lower bound is near 0.
///
/// # Reference
/// Balles, Romero and Hennig, "Coupling Adaptive Batch Sizes with Learning Rates", UAI 2017.
///
/// # Deviation
/// Running means begin at the first value. The published code begins that of the loss at 1.
#[derive(Debug)]
pub struct Cabs {
    config: CabsConfig,
    xi: RunningMean,
    loss: RunningMean,
}

impl Cabs {
    /// The policy with these settings.
    ///
    /// # Errors
    /// [`BatchError::Field`] or [`BatchError::Below`] names the first that is out of range.
    pub fn new(config: CabsConfig) -> Result<Self, BatchError> {
        let check = Check(NAME);
        check.at_least_one("interval", config.interval)?;
        check.at_least_one("min", config.min)?;
        check.reaches(("max", config.max), ("min", config.min))?;
        check.positive("scale", config.scale)?;
        check.decay("ema", config.ema)?;
        let mean = RunningMean::new(config.ema);
        Ok(Cabs { config, xi: mean, loss: mean })
    }

    fn pace(&self) -> Pace {
        Pace { interval: self.config.interval, max: self.config.max, ..Pace::default() }
    }
}

impl BatchPolicy for Cabs {
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
        if !self.pace().is_due(context.step) || is_cut_to_one_chunk(statistics, context) {
            return Ok(BatchDecision::of(context.batch));
        }
        let samples = statistics.samples as f64;
        let xi = self.xi.push(statistics.tr_s()? * (samples - 1.0) / samples);
        let loss = self.loss.push(statistics.loss);
        if loss <= 0.0 {
            return Ok(BatchDecision::of(context.batch));
        }
        let target = self.config.scale * context.lr * xi / loss;
        let limit = self.pace().limit(context);
        let batch = whole(target.round()).max(self.config.min).min(limit).max(1);
        Ok(BatchDecision { batch, target: Some(target) })
    }

    fn state(&self) -> PolicyState {
        words::write(VERSION, &[self.xi.words(), self.loss.words()].concat())
    }

    fn restore(&mut self, state: &PolicyState) -> Result<(), GradError> {
        let [a, b, c, d] = words::read_exactly(NAME, VERSION, state)?;
        self.xi.restore([a, b]);
        self.loss.restore([c, d]);
        Ok(())
    }
}
