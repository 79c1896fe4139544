//! AdaScale: the learning rate times the steps of the base batch that a step is worth.

use super::{Measured, RateRule};
use crate::running_mean::RunningMean;
use crate::words;
use phalanx_comm::Agreed;
use phalanx_grad::{BatchContext, GradError, Needs, PolicyState, ScalarBlock};

const NAME: &str = "adascale";
const VERSION: u32 = 1;

/// Least variance and signal of the gain's quotient, as in the published code.
const LEAST_VARIANCE: f64 = 1e-6;

/// The gain `(s + g) / (s / S + g)`, from 1 to `S = B / base`, with `s = tr_s / base` and `g = g2` averaged over steps; for SGD.
///
/// # Reference
/// Johnson et al., "`AdaScale` SGD: A User-Friendly Algorithm for Distributed Training", ICML 2020.
///
/// # Deviation
/// Schedule and end of the run count samples, as everywhere here, and not sums of gains.
#[derive(Clone, Debug)]
pub struct AdaScale {
    settings: Measured,
    noise: RunningMean,
    signal: RunningMean,
}

impl AdaScale {
    pub(super) fn new(settings: Measured) -> Self {
        let mean = RunningMean::new(settings.ema);
        AdaScale { settings, noise: mean, signal: mean }
    }
}

impl RateRule for AdaScale {
    fn name(&self) -> &'static str {
        NAME
    }

    fn needs(&self) -> Needs {
        Needs::of(self.settings.chunks)
    }

    fn factor(&mut self, statistics: &Agreed<ScalarBlock>, context: &BatchContext) -> Result<f64, GradError> {
        // a last batch in one chunk has no variance: what was measured before it holds
        if statistics.chunks > 1 {
            self.noise.push(statistics.tr_s()?);
            self.signal.push(statistics.g2()?);
        }
        let (base, scale) = (self.settings.base as f64, context.batch as f64 / self.settings.base as f64);
        let (Some(noise), Some(signal)) = (self.noise.get(), self.signal.get()) else { return Ok(1.0) };
        let (noise, signal) = ((noise / base).max(LEAST_VARIANCE), signal.max(0.0));
        let gain = (noise + signal) / (noise / scale + signal);
        Ok(gain.clamp(scale.min(1.0), scale.max(1.0)))
    }

    fn state(&self) -> PolicyState {
        words::write(VERSION, &[self.noise.words(), self.signal.words()].concat())
    }

    fn restore(&mut self, state: &PolicyState) -> Result<(), GradError> {
        let [a, b, c, d] = words::read_exactly(NAME, VERSION, state)?;
        self.noise.restore([a, b]);
        self.signal.restore([c, d]);
        Ok(())
    }
}
