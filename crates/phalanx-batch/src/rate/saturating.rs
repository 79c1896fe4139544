//! The learning rate in proportion to small batches, level above the noise scale.

use super::{Measured, RateRule};
use crate::running_mean::RunningMean;
use crate::words;
use phalanx_comm::Agreed;
use phalanx_grad::{BatchContext, GradError, Needs, PolicyState, ScalarBlock};

const NAME: &str = "saturating";
const VERSION: u32 = 1;

/// `lr (1 + b / base) / (1 + b / B)` with the measured noise scale `b`: the rate `lr_max / (1 + b / B)`, given by what it is at `base`.
///
/// While the mean signal is not positive, noise hides it, and the rule is the linear one.
///
/// # Reference
/// McCandlish et al., "An Empirical Model of Large-Batch Training", 2018, equation 2.6; the same shape in Granziol, Zohren and
/// Roberts, arXiv 2006.09092.
#[derive(Clone, Debug)]
pub struct Saturating {
    settings: Measured,
    noise: RunningMean,
    signal: RunningMean,
}

impl Saturating {
    pub(super) fn new(settings: Measured) -> Self {
        let mean = RunningMean::new(settings.ema);
        Saturating { settings, noise: mean, signal: mean }
    }
}

impl RateRule for Saturating {
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
        let (batch, base) = (context.batch as f64, self.settings.base as f64);
        Ok(match (self.noise.get(), self.signal.get()) {
            (Some(noise), Some(signal)) if signal > 0.0 => {
                let scale = noise / signal;
                (1.0 + scale / base) / (1.0 + scale / batch)
            }
            _ => batch / base,
        })
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
