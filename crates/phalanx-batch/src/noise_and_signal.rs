//! The noise of a sample's gradient and the true gradient behind it, averaged over steps.

use crate::running_mean::RunningMean;
use phalanx_grad::{GradError, ScalarBlock};

/// Running means of `tr_s` and `g2`, one by one: each step's quotient is biased, that of the means is less so.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct NoiseAndSignal {
    noise: RunningMean,
    signal: RunningMean,
}

impl NoiseAndSignal {
    pub(crate) const WORDS: usize = 2 * RunningMean::WORDS;

    pub(crate) fn new(decay: f64) -> Self {
        let mean = RunningMean::new(decay);
        NoiseAndSignal { noise: mean, signal: mean }
    }

    /// Takes a step in and gives both means.
    ///
    /// # Errors
    /// Those of the estimators.
    pub(crate) fn push(&mut self, statistics: &ScalarBlock) -> Result<(f64, f64), GradError> {
        Ok((self.noise.push(statistics.tr_s()?), self.signal.push(statistics.g2()?)))
    }

    /// Both means, once there was a step.
    pub(crate) fn get(&self) -> Option<(f64, f64)> {
        self.noise.get().zip(self.signal.get())
    }

    pub(crate) fn words(&self) -> [u64; Self::WORDS] {
        let ([a, b], [c, d]) = (self.noise.words(), self.signal.words());
        [a, b, c, d]
    }

    pub(crate) fn restore(&mut self, [a, b, c, d]: [u64; Self::WORDS]) {
        self.noise.restore([a, b]);
        self.signal.restore([c, d]);
    }
}
