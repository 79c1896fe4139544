//! AdaScale: the learning rate times the steps of the base batch that a step is worth.

use super::{Measured, RateRule};
use crate::noise_and_signal::NoiseAndSignal;
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
    means: NoiseAndSignal,
}

impl AdaScale {
    pub(super) fn new(settings: Measured) -> Self {
        AdaScale { settings, means: NoiseAndSignal::new(settings.ema) }
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
            self.means.push(statistics)?;
        }
        let (base, scale) = (self.settings.base as f64, context.batch as f64 / self.settings.base as f64);
        let Some((noise, signal)) = self.means.get() else { return Ok(1.0) };
        let (noise, signal) = ((noise / base).max(LEAST_VARIANCE), signal.max(0.0));
        let gain = (noise + signal) / (noise / scale + signal);
        Ok(gain.clamp(scale.min(1.0), scale.max(1.0)))
    }

    fn state(&self) -> PolicyState {
        words::write(VERSION, &self.means.words())
    }

    fn restore(&mut self, state: &PolicyState) -> Result<(), GradError> {
        self.means.restore(words::read_exactly(NAME, VERSION, state)?);
        Ok(())
    }
}
