//! The mean of each coordinate without its extremes.

use crate::{Decision, Laws, Round, Rule};
use phalanx_grad::GradError;
use phalanx_tensor::rows::Statistic;
use serde::{Deserialize, Serialize};

/// The mean of each coordinate without its `f` least and `f` greatest values.
///
/// # Reference
/// Yin et al., "Byzantine-Robust Distributed Learning: Towards Optimal Statistical Rates", ICML 2018.
///
/// # Deviation
/// It trims by the number of hostile vectors and not by a fraction, which rounds to nothing for small `n`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrimmedMean;

impl Rule for TrimmedMean {
    fn name(&self) -> &'static str {
        "trimmed-mean"
    }

    fn min_n(&self, f: usize) -> usize {
        2 * f + 1
    }

    fn laws(&self) -> Laws {
        Laws::of_coordinates()
    }

    /// The best possible constant: a trimmed mean lies between the means of the `n - 2f` least and of the `n - 2f`
    /// greatest honest values.
    fn kappa(&self, n: usize, f: usize) -> Option<f64> {
        (2 * f < n).then(|| f as f64 / (n - 2 * f) as f64)
    }

    fn is_shardable(&self) -> bool {
        true
    }

    fn decide(&mut self, round: &Round<'_>) -> Result<Decision, GradError> {
        Ok(Decision::columns((0..round.n()).collect(), Statistic::TrimmedMean { cut: round.hostile() }))
    }
}
