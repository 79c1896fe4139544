//! The batch that is as large as the noise scale of the gradient.

use crate::cut::is_cut_to_one_chunk;
use crate::error::Check;
use crate::noise_and_signal::NoiseAndSignal;
use crate::pace::{Pace, whole};
use crate::{BatchError, words};
use phalanx_comm::Agreed;
use phalanx_grad::{
    BatchContext, BatchDecision, BatchPolicy, Chunks, GradError, Needs, PolicyBounds, PolicyState,
    ScalarBlock,
};

const NAME: &str = "noise-scale";
const VERSION: u32 = 1;

/// Settings of [`NoiseScale`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct NoiseScaleConfig {
    /// Whose gradients are compared. Default ranks.
    pub chunks: Chunks,
    /// How often it looks, how far the batch goes at once (up or down), how large it gets.
    pub pace: Pace,
    /// The smallest batch, in samples. Default 1.
    pub min: u64,
    /// Decay of the running means of variance and signal. Default 0.95.
    pub ema: f64,
    /// The batch stays while the noise scale over it lies between this, above 0 and below 1, and its inverse.
    /// Default 0.5.
    pub hysteresis: f64,
}

impl Default for NoiseScaleConfig {
    fn default() -> Self {
        NoiseScaleConfig { chunks: Chunks::Ranks, pace: Pace::default(), min: 1, ema: 0.95, hysteresis: 0.5 }
    }
}

/// Keeps the batch near `B_simple = tr_s / g2`, up and down.
///
/// Variance and signal are averaged over steps one by one and divided then, since each step's quotient is biased. While
/// the mean signal is not positive, noise hides it and the batch stays.
///
/// # Reference
/// McCandlish et al., "An Empirical Model of Large-Batch Training", 2018.
///
/// # Deviation
/// The paper measures and lets people choose; that the batch follows, with hysteresis, is ours.
#[derive(Debug)]
pub struct NoiseScale {
    config: NoiseScaleConfig,
    means: NoiseAndSignal,
}

impl NoiseScale {
    /// The policy with these settings.
    ///
    /// # Errors
    /// [`BatchError::Field`] or [`BatchError::Below`] names the first that is out of range.
    pub fn new(config: NoiseScaleConfig) -> Result<Self, BatchError> {
        let check = Check(NAME);
        config.pace.validate(NAME)?;
        check.at_least_one("min", config.min)?;
        check.reaches(("max", config.pace.max), ("min", config.min))?;
        check.decay("ema", config.ema)?;
        check.between_0_and_1("hysteresis", config.hysteresis)?;
        Ok(NoiseScale { config, means: NoiseAndSignal::new(config.ema) })
    }
}

impl BatchPolicy for NoiseScale {
    fn name(&self) -> &'static str {
        NAME
    }

    fn bounds(&self) -> PolicyBounds {
        PolicyBounds { needs: Needs::of(self.config.chunks), max_batch: self.config.pace.max }
    }

    fn needs(&self, context: &BatchContext) -> Needs {
        match self.config.pace.is_due(context.step) {
            true => Needs::of(self.config.chunks),
            false => Needs::default(),
        }
    }

    fn decide(
        &mut self,
        statistics: &Agreed<ScalarBlock>,
        context: &BatchContext,
    ) -> Result<BatchDecision, GradError> {
        if !self.config.pace.is_due(context.step) || is_cut_to_one_chunk(statistics, context) {
            return Ok(BatchDecision::of(context.batch));
        }
        let (noise, signal) = self.means.push(statistics)?;
        if signal <= 0.0 {
            return Ok(BatchDecision::of(context.batch));
        }
        let target = noise / signal;
        let ratio = target / context.batch as f64;
        let low = self.config.hysteresis;
        let batch = if low <= ratio && ratio <= 1.0 / low {
            context.batch
        } else {
            let most = context.batch as f64 * self.config.pace.growth;
            let least = context.batch as f64 / self.config.pace.growth;
            let limit = self.config.pace.limit(context);
            whole(target.clamp(least, most).round()).max(self.config.min).min(limit).max(1)
        };
        Ok(BatchDecision { batch, target: Some(target) })
    }

    fn state(&self) -> PolicyState {
        words::write(VERSION, &self.means.words())
    }

    fn restore(&mut self, state: &PolicyState) -> Result<(), GradError> {
        self.means.restore(words::read_exactly(NAME, VERSION, state)?);
        Ok(())
    }
}
