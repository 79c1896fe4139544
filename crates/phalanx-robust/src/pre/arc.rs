//! Adaptive robust clipping.

use super::clip::factors;
use super::{Mixed, PreAggregator};
use crate::{Law, Laws, Mixing, Round};
use phalanx_grad::GradError;
use serde::{Deserialize, Serialize};

/// Scales the `floor(2 (f / n) (n - f))` longest vectors down to the longest of the others.
///
/// Free of parameters, and scaling all vectors scales the result.
///
/// # Reference
/// Allouah et al., "Adaptive Gradient Clipping for Robust Federated Learning", ICLR 2025.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Arc;

impl PreAggregator for Arc {
    fn name(&self) -> &'static str {
        "arc"
    }

    fn min_n(&self, f: usize) -> usize {
        2 * f + 1
    }

    fn laws(&self) -> Laws {
        Laws::all()
            .without(Law::Translation)
            .without(Law::CoordinateScale)
            .without(Law::Monotone)
            .without(Law::Box)
    }

    fn kappa(&self, kappa: f64, n: usize, f: usize) -> Option<f64> {
        (2 * f < n).then(|| kappa + 2.0 * f as f64 / (n - 2 * f) as f64)
    }

    fn is_shardable(&self) -> bool {
        true
    }

    fn mix(&mut self, round: &Round<'_>) -> Result<Mixed, GradError> {
        let (n, f) = (round.n(), round.hostile());
        let clipped = 2 * f * (n - f) / n;
        let norms_sq = round.norms_sq()?;
        let mut sorted = norms_sq.to_vec();
        sorted.sort_by(f64::total_cmp);
        let limit = sorted[n - clipped - 1].sqrt();
        Ok(Mixed::each(round, Mixing::scaled(&factors(norms_sq, limit))))
    }
}
