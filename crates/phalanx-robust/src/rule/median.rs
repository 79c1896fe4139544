//! The median of each coordinate.

use crate::{Decision, Law, Laws, Round, Rule};
use phalanx_grad::GradError;
use phalanx_tensor::rows::Statistic;
use serde::{Deserialize, Serialize};

/// The middle value of each coordinate, or the mean of the two middle ones.
///
/// # Reference
/// Yin et al., "Byzantine-Robust Distributed Learning: Towards Optimal Statistical Rates", ICML 2018.
///
/// # Deviation
/// None; the mean of the two middle values is NumPy's choice, where `torch.median` takes the lower.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Median;

impl Rule for Median {
    fn name(&self) -> &'static str {
        "median"
    }

    fn min_n(&self, f: usize) -> usize {
        2 * f + 1
    }

    fn laws(&self) -> Laws {
        Laws::of_coordinates().without(Law::MeanWithoutHostile)
    }

    /// The best possible constant: each order statistic lies between two of the honest values, whose distance from
    /// their mean is bounded by Cauchy and Schwarz.
    fn kappa(&self, n: usize, f: usize) -> Option<f64> {
        let odd = usize::from(n % 2 == 1);
        let above = (n + odd).checked_sub(2 * f).filter(|_| 2 * f < n)?;
        let (n, above) = (n as f64, above as f64);
        Some(if odd == 1 { (n - 1.0) / above } else { (n - 2.0) / (above + 2.0) })
    }

    fn is_shardable(&self) -> bool {
        true
    }

    fn decide(&mut self, round: &Round<'_>) -> Result<Decision, GradError> {
        Ok(Decision::columns((0..round.n()).collect(), Statistic::Median))
    }
}
