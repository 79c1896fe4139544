//! Smallest maximum eigenvalue averaging: the mean of the `n - f` that spread least in their worst direction.

use crate::eigen::{centered, quotient, top};
use crate::subsets::{best_removal, kept};
use crate::{Decision, Laws, Round, Rule};
use phalanx_grad::GradError;
use serde::{Deserialize, Serialize};

/// The mean of the `n - f` vectors whose covariance has the least greatest eigenvalue; of equals the first in order.
///
/// # Numerics
/// The eigenvalue is that of the centred Gram matrix, `n x n`, by Jacobi rotations: exact, whatever `d`.
///
/// # Errors
/// [`GradError::TooManySubsets`] when there are more than a million subsets.
///
/// # Reference
/// Allouah et al., "On the Privacy-Robustness-Utility Trilemma in Distributed Learning", ICML 2023.
///
/// # Deviation
/// None; ByzFL takes one power iteration from a random vector instead of the eigenvalue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Smea;

impl Rule for Smea {
    fn name(&self) -> &'static str {
        "smea"
    }

    fn min_n(&self, f: usize) -> usize {
        2 * f + 1
    }

    fn laws(&self) -> Laws {
        Laws::of_distances()
    }

    /// As for [`Mva`](crate::Mva), with the greatest eigenvalue, which is at most the variance.
    fn kappa(&self, n: usize, f: usize) -> Option<f64> {
        (2 * f < n).then(|| 4.0 * f as f64 / (n - 2 * f) as f64)
    }

    fn is_shardable(&self) -> bool {
        true
    }

    fn decide(&mut self, round: &Round<'_>) -> Result<Decision, GradError> {
        let (n, f, gram) = (round.n(), round.hostile(), round.gram()?);
        let mut best = f64::INFINITY;
        let bound = |gone: &[usize], _: usize| -> f64 {
            if gone.len() < f {
                return 0.0;
            }
            let kept = kept(n, gone);
            let covariance = centered(gram, &kept, &vec![1.0; kept.len()]);
            // a quotient of any vector is below the eigenvalue: most subsets need no more
            let low = quotient(&covariance, kept.len());
            let value = if low > best { low } else { top(covariance, kept.len()).0 };
            best = best.min(value);
            value
        };
        let removed = best_removal(self.name(), n, f, bound)?;
        Ok(Decision::mean_of(n, &kept(n, &removed)))
    }
}
