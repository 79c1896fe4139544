//! The learning rate in proportion to the root of the batch.

use super::RateRule;
use crate::words;
use phalanx_comm::Agreed;
use phalanx_grad::{BatchContext, GradError, Needs, PolicyState, ScalarBlock};

const NAME: &str = "square-root";
const VERSION: u32 = 1;

/// `lr sqrt(B / base)`: for Adam and other methods that divide by the size of the gradient.
///
/// # Reference
/// Granziol, Zohren and Roberts, "Learning Rates as a Function of Batch Size", arXiv 2006.09092; Malladi et al., "On the SDEs and
/// Scaling Rules for Adaptive Gradient Algorithms", 2022.
///
/// # Deviation
/// Only the rate: the decays and the epsilon of Adam, which the SDE rule scales too, stay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SquareRoot {
    /// The batch that the rate was tuned for, in samples, at least 1.
    pub base: u64,
}

impl RateRule for SquareRoot {
    fn name(&self) -> &'static str {
        NAME
    }

    fn needs(&self) -> Needs {
        Needs::default()
    }

    fn factor(&mut self, _: &Agreed<ScalarBlock>, context: &BatchContext) -> Result<f64, GradError> {
        Ok((context.batch as f64 / self.base as f64).sqrt())
    }

    fn state(&self) -> PolicyState {
        words::write(VERSION, &[])
    }

    fn restore(&mut self, state: &PolicyState) -> Result<(), GradError> {
        words::read_exactly::<0>(NAME, VERSION, state).map(|_| ())
    }
}
