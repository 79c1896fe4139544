//! The norm test of every coordinate by itself.

use crate::BatchError;
use crate::error::Check;
use crate::gradient_test::{Criterion, Quotient};
use phalanx_grad::{CoordinateRule, GradError, Needs, ScalarBlock};

/// Coordinate-wise norm test: `Var_j / B <= eta^2 g_j^2`, for all coordinates, a share of them, or tensor by tensor.
///
/// # Numerics
/// One more reduction of the length of the gradient each time it is asked. Running means are over the ratio itself.
///
/// # Reference
/// Lau, Liu and Kolar, "`AdAdaGrad`", arXiv 2402.11215: the test for `AdaGrad` with a rate a coordinate.
///
/// # Deviation
/// The theory asks it of all coordinates, which a single mean near 0 makes explode; the default is 90 % of them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CoordinateTest {
    /// As in the norm test: above 0 and below 1. Default 0.1.
    pub eta: f64,
    /// Which coordinates must pass. Default nine in ten.
    pub rule: CoordinateRule,
}

impl Default for CoordinateTest {
    fn default() -> Self {
        CoordinateTest { eta: 0.1, rule: CoordinateRule::Quantile(0.9) }
    }
}

impl Criterion for CoordinateTest {
    fn name(&self) -> &'static str {
        "coordinate-test"
    }

    fn needs(&self) -> Needs {
        Needs { coordinates: Some(self.rule), ..Needs::default() }
    }

    fn quotients(&self, block: &ScalarBlock) -> Result<[Quotient; 2], GradError> {
        Ok([Quotient { over: block.coordinate_target(self.eta)?, under: 1.0 }, Quotient::NOTHING])
    }

    fn validate(&self) -> Result<(), BatchError> {
        let check = Check(self.name());
        check.between_0_and_1("eta", self.eta)?;
        match self.rule {
            CoordinateRule::Quantile(share) => {
                check.that(share > 0.0 && share <= 1.0, "quantile", share, "a number above 0 and at most 1")
            }
            CoordinateRule::Max | CoordinateRule::PerTensor => Ok(()),
        }
    }
}
