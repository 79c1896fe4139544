//! The learning rate in proportion to small batches, level above the noise scale.

use super::{Measured, RateRule};
use crate::noise_and_signal::NoiseAndSignal;
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
    means: NoiseAndSignal,
}

impl Saturating {
    pub(super) fn new(settings: Measured) -> Self {
        Saturating { settings, means: NoiseAndSignal::new(settings.ema) }
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
            self.means.push(statistics)?;
        }
        let (batch, base) = (context.batch as f64, self.settings.base as f64);
        Ok(match self.means.get() {
            Some((noise, signal)) if signal > 0.0 => {
                let scale = noise / signal;
                (1.0 + scale / base) / (1.0 + scale / batch)
            }
            _ => batch / base,
        })
    }

    fn state(&self) -> PolicyState {
        words::write(VERSION, &self.means.words())
    }

    fn restore(&mut self, state: &PolicyState) -> Result<(), GradError> {
        self.means.restore(words::read_exactly(NAME, VERSION, state)?);
        Ok(())
    }
}
