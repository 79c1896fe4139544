//! Minimum variance averaging: the mean of the `n - f` that are nearest to their mean.

use crate::subsets::{best_removal, kept};
use crate::{Decision, Laws, Round, Rule};
use phalanx_grad::GradError;
use serde::{Deserialize, Serialize};

/// The mean of the `n - f` vectors with the least sum of squared distances to their mean; of equals the first in
/// order.
///
/// # Errors
/// [`GradError::TooManySubsets`] when a million steps of branch and bound do not settle it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mva;

impl Rule for Mva {
    fn name(&self) -> &'static str {
        "mva"
    }

    fn min_n(&self, f: usize) -> usize {
        2 * f + 1
    }

    fn laws(&self) -> Laws {
        Laws::of_distances()
    }

    /// The variance of the chosen is at most that of the honest, and they share `n - 2f`.
    fn kappa(&self, n: usize, f: usize) -> Option<f64> {
        (2 * f < n).then(|| 4.0 * f as f64 / (n - 2 * f) as f64)
    }

    fn is_shardable(&self) -> bool {
        true
    }

    fn decide(&mut self, round: &Round<'_>) -> Result<Decision, GradError> {
        let (n, f, gram) = (round.n(), round.hostile(), round.gram()?);
        let distance = |i: usize, j: usize| gram.distance_sq(i, j);
        let sums: Vec<f64> = (0..n).map(|i| (0..n).map(|j| distance(i, j)).sum()).collect();
        let cost = |gone: &[usize]| -> f64 {
            // pairs of those kept, added up and not subtracted: a far vector would swallow the rest
            let kept = kept(n, gone);
            kept.iter()
                .enumerate()
                .map(|(at, i)| kept[..at].iter().map(|j| distance(*i, *j)).sum::<f64>())
                .sum()
        };
        let bound = |gone: &[usize], from: usize| -> f64 {
            if gone.len() == f {
                return cost(gone);
            }
            // whoever comes before `from` and is not gone stays: their pairs are certain
            let stay: Vec<usize> = (0..from).filter(|i| !gone.contains(i)).collect();
            stay.iter()
                .enumerate()
                .map(|(at, i)| stay[..at].iter().map(|j| distance(*i, *j)).sum::<f64>())
                .sum()
        };
        let removed = best_removal(self.name(), n, f, bound)?;
        Ok(Decision::mean_of(n, &kept(n, &removed)).with_scores(sums))
    }
}
