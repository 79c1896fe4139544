//! The learning rate in proportion to the batch.

use super::RateRule;
use crate::words;
use phalanx_comm::Agreed;
use phalanx_grad::{BatchContext, GradError, Needs, PolicyState, ScalarBlock};

const NAME: &str = "linear";
const VERSION: u32 = 1;

/// `lr B / base`: right for SGD while the batch is small against the noise scale.
///
/// # Reference
/// Granziol, Zohren and Roberts, "Learning Rates as a Function of Batch Size", arXiv 2006.09092; Goyal et al., "Accurate, Large
/// Minibatch SGD", 2017.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Linear {
    /// The batch that the rate was tuned for, in samples, at least 1.
    pub base: u64,
}

impl RateRule for Linear {
    fn name(&self) -> &'static str {
        NAME
    }

    fn needs(&self) -> Needs {
        Needs::default()
    }

    fn factor(&mut self, _: &Agreed<ScalarBlock>, context: &BatchContext) -> Result<f64, GradError> {
        Ok(context.batch as f64 / self.base as f64)
    }

    fn state(&self) -> PolicyState {
        words::write(VERSION, &[])
    }

    fn restore(&mut self, state: &PolicyState) -> Result<(), GradError> {
        words::read_exactly::<0>(NAME, VERSION, state).map(|_| ())
    }
}
