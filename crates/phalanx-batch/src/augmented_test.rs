//! The augmented inner-product test: along the batch's gradient, and not too far across it.

use crate::BatchError;
use crate::error::Check;
use crate::gradient_test::{Criterion, Quotient};
use crate::inner_product_test::along;
use crate::norm_test::positive_norm_sq;
use phalanx_grad::{GradError, Needs, ScalarBlock};

/// Augmented inner-product test: `v_ip / B <= theta^2 N^2` and `v_or / B <= nu^2 N`.
///
/// Where the exact tests hold, `E|g|^2 <= (1 + theta^2 + nu^2) |G|^2`.
///
/// # Reference
/// Bollapragada, Byrd and Nocedal, "Adaptive sampling strategies for stochastic optimization", SIAM J. Optim. 2018, with
/// their `theta` and `nu = tan(80 degrees)` as defaults.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AugmentedTest {
    /// As in the inner-product test: above 0. Default 0.9.
    pub theta: f64,
    /// Length of the noise across the batch's gradient, as a share of that gradient: above 0. Default 5.84.
    pub nu: f64,
}

impl Default for AugmentedTest {
    fn default() -> Self {
        AugmentedTest { theta: 0.9, nu: 5.84 }
    }
}

impl Criterion for AugmentedTest {
    fn name(&self) -> &'static str {
        "augmented-test"
    }

    fn needs(&self) -> Needs {
        Needs { projections: true, ..Needs::default() }
    }

    fn quotients(&self, block: &ScalarBlock) -> Result<[Quotient; 2], GradError> {
        let norm_sq = positive_norm_sq(self.name(), block)?;
        let across = Quotient { over: block.v_or()?, under: self.nu * self.nu * norm_sq };
        Ok([along(self.name(), self.theta, block)?, across])
    }

    fn validate(&self) -> Result<(), BatchError> {
        let check = Check(self.name());
        check.positive("theta", self.theta)?;
        check.positive("nu", self.nu)
    }
}
