//! DiveBatch: a batch that grows with the diversity of the gradients of an epoch.

use crate::error::Check;
use crate::pace::whole;
use crate::{BatchError, words};
use phalanx_comm::Agreed;
use phalanx_grad::{
    BatchContext, BatchDecision, BatchPolicy, Chunks, GradError, Needs, PolicyBounds, PolicyState,
    ScalarBlock,
};

const NAME: &str = "divebatch";
const VERSION: u32 = 1;

/// Settings of [`DiveBatch`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DiveBatchConfig {
    /// Whose gradients are compared. Default samples.
    pub chunks: Chunks,
    /// Samples between two decisions: those of an epoch, at least 1.
    pub period: u64,
    /// Factor on the diversity, above 0. Default 0.02, as in the published code.
    pub delta: f64,
    /// The greatest batch, in samples. Default: as many as there are.
    pub max: u64,
}

impl DiveBatchConfig {
    /// The default settings for epochs of `period` samples.
    #[must_use]
    pub fn of_epoch(period: u64) -> Self {
        DiveBatchConfig { chunks: Chunks::Samples, period, delta: 0.02, max: u64::MAX }
    }
}

/// At the end of an epoch of `n` samples, `B = delta n D` with the diversity `D = sum |g_i|^2 / |sum g_i|^2`; never less than
/// before.
///
/// # Reference
/// Chen et al., "`DiveBatch`: Accelerating Model Training Through Gradient-Diversity Aware Batch Size Adaptation", 2025.
///
/// # Deviation
/// `|sum g_i|^2` over the epoch is `n^2 g2 + n tr_s`, with `g2` and `tr_s` averaged over its samples: no sum of gradients is kept,
/// and steps of the epoch are not taken for one point. Where `g2` is not positive the batch goes to its maximum, as the published
/// code does on NaN.
#[derive(Debug)]
pub struct DiveBatch {
    config: DiveBatchConfig,
    noise: f64,
    signal: f64,
    samples: u64,
}

impl DiveBatch {
    /// The policy with these settings.
    ///
    /// # Errors
    /// [`BatchError::Field`] names the first that is out of range.
    pub fn new(config: DiveBatchConfig) -> Result<Self, BatchError> {
        let check = Check(NAME);
        check.at_least_one("period", config.period)?;
        check.positive("delta", config.delta)?;
        check.at_least_one("max", config.max)?;
        Ok(DiveBatch { config, noise: 0.0, signal: 0.0, samples: 0 })
    }

    /// The batch of what was added up.
    fn target(&self) -> f64 {
        let n = self.samples as f64;
        let (noise, signal) = (self.noise / n, self.signal / n);
        if signal <= 0.0 {
            return f64::INFINITY;
        }
        let diversity = n * (signal + noise) / (n * n * signal + n * noise);
        self.config.delta * n * diversity
    }
}

impl BatchPolicy for DiveBatch {
    fn name(&self) -> &'static str {
        NAME
    }

    fn bounds(&self) -> PolicyBounds {
        PolicyBounds { needs: Needs::of(self.config.chunks), max_batch: self.config.max }
    }

    fn needs(&self, _: &BatchContext) -> Needs {
        Needs::of(self.config.chunks)
    }

    fn decide(
        &mut self,
        statistics: &Agreed<ScalarBlock>,
        context: &BatchContext,
    ) -> Result<BatchDecision, GradError> {
        // the last batch of an epoch may be a single sample, or a single chunk
        if let (Ok(noise), Ok(signal)) = (statistics.tr_s(), statistics.g2()) {
            self.noise += statistics.samples as f64 * noise;
            self.signal += statistics.samples as f64 * signal;
            self.samples += statistics.samples;
        }
        let (before, after) = (context.samples, context.samples + statistics.samples);
        if before / self.config.period == after / self.config.period || self.samples == 0 {
            return Ok(BatchDecision::of(context.batch));
        }
        let target = self.target();
        (self.noise, self.signal, self.samples) = (0.0, 0.0, 0);
        let limit = self.config.max.min(context.max_batch);
        let batch = whole(target.ceil()).min(limit).max(context.batch);
        Ok(BatchDecision { batch, target: Some(target) })
    }

    fn state(&self) -> PolicyState {
        words::write(VERSION, &[self.noise.to_bits(), self.signal.to_bits(), self.samples])
    }

    fn restore(&mut self, state: &PolicyState) -> Result<(), GradError> {
        let [noise, signal, samples] = words::read_exactly(NAME, VERSION, state)?;
        (self.noise, self.signal, self.samples) = (f64::from_bits(noise), f64::from_bits(signal), samples);
        Ok(())
    }
}
