//! The inner-product test: do the samples' gradients point along the batch's?

use crate::BatchError;
use crate::error::Check;
use crate::gradient_test::{Criterion, Quotient};
use crate::norm_test::positive_norm_sq;
use phalanx_grad::{GradError, Needs, ScalarBlock};

/// Inner-product test: `v_ip / B <= theta^2 N^2`.
///
/// Asks less than the norm test: only that the batch's gradient is a descent direction most of the time.
///
/// # Reference
/// Bollapragada, Byrd and Nocedal, "Adaptive sampling strategies for stochastic optimization", SIAM J. Optim. 2018.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct InnerProductTest {
    /// Deviation of the inner products that the batch may have, as a share of the squared gradient: above 0.
    /// Default 0.9.
    pub theta: f64,
}

impl Default for InnerProductTest {
    fn default() -> Self {
        InnerProductTest { theta: 0.9 }
    }
}

impl Criterion for InnerProductTest {
    fn name(&self) -> &'static str {
        "inner-product-test"
    }

    fn needs(&self) -> Needs {
        Needs { projections: true, ..Needs::default() }
    }

    fn quotients(&self, block: &ScalarBlock) -> Result<[Quotient; 2], GradError> {
        Ok([along(self.name(), self.theta, block)?, Quotient::NOTHING])
    }

    fn validate(&self) -> Result<(), BatchError> {
        Check(self.name()).positive("theta", self.theta)
    }
}

/// `v_ip / (theta^2 N^2)`.
pub(crate) fn along(statistic: &'static str, theta: f64, block: &ScalarBlock) -> Result<Quotient, GradError> {
    let norm_sq = positive_norm_sq(statistic, block)?;
    Ok(Quotient { over: block.v_ip()?, under: theta * theta * norm_sq * norm_sq })
}
