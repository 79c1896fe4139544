//! The norm test: is the noise of the batch's gradient short against the gradient?

use crate::BatchError;
use crate::error::Check;
use crate::gradient_test::{Criterion, Quotient};
use phalanx_grad::{GradError, Needs, ScalarBlock};

/// A gradient shorter than this is none to compare with: its square.
pub(crate) const LEAST_NORM_SQ: f64 = 1e-12;

/// By what the variance is divided.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Denominator {
    /// The squared length of the batch's own gradient, as in the papers. It holds the noise of the batch besides the
    /// signal, so that growth ends at `(1 - eta^2) / eta^2` times the noise scale.
    #[default]
    Raw,
    /// The unbiased squared length of the true gradient: growth ends at `1 / eta^2` times the noise scale.
    Debiased,
}

/// Norm test: `tr_s / B <= eta^2 N`.
///
/// Where the exact test holds, `E|g|^2 <= (1 + eta^2) |G|^2`. With `eta` of 1 or more the raw test never grows a batch.
///
/// # Reference
/// Byrd et al., "Sample size selection in optimization methods for machine learning", 2012.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct NormTest {
    /// Length of the noise that the batch's gradient may have, as a share of its own: above 0 and below 1. Default 0.1.
    pub eta: f64,
    /// By what the variance is divided. Default the raw one.
    pub denominator: Denominator,
}

impl Default for NormTest {
    fn default() -> Self {
        NormTest { eta: 0.1, denominator: Denominator::Raw }
    }
}

impl Criterion for NormTest {
    fn name(&self) -> &'static str {
        "norm-test"
    }

    fn needs(&self) -> Needs {
        Needs::default()
    }

    fn quotients(&self, block: &ScalarBlock) -> Result<[Quotient; 2], GradError> {
        let norm_sq = positive_norm_sq(self.name(), block)?;
        let signal = match self.denominator {
            Denominator::Raw => norm_sq,
            Denominator::Debiased => block.g2()?,
        };
        let under = self.eta * self.eta * signal;
        Ok([Quotient { over: block.tr_s()?, under }, Quotient::NOTHING])
    }

    fn validate(&self) -> Result<(), BatchError> {
        Check(self.name()).between_0_and_1("eta", self.eta)
    }
}

/// The squared length of the gradient where it is long enough to divide by.
pub(crate) fn positive_norm_sq(statistic: &'static str, block: &ScalarBlock) -> Result<f64, GradError> {
    let value = block.n;
    if value >= LEAST_NORM_SQ {
        Ok(value)
    } else {
        Err(GradError::Undefined { statistic, quantity: "n", value })
    }
}
