//! The mean of those nearest to one that is trusted.

use super::least;
use crate::{Decision, Law, Laws, Round, Rule};
use phalanx_grad::GradError;
use serde::{Deserialize, Serialize};

/// The mean of the `n - f` vectors nearest to a pivot: the one of the sender named `pivot`, or the
/// [trusted update](crate::Updates::with_trusted) when none is named.
///
/// # Errors
/// [`GradError::Missing`] when the pivot is not among the valid vectors.
///
/// # Reference
/// Farhadkhani et al., "Robust Collaborative Learning with Linear Gradient Overhead", ICML 2023.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Monna {
    /// The sender to trust; none: the trusted update.
    pub pivot: Option<u64>,
}

impl Rule for Monna {
    fn name(&self) -> &'static str {
        "monna"
    }

    fn min_n(&self, f: usize) -> usize {
        2 * f + 1
    }

    /// A pivot among the senders may be hostile, and a trusted update does not move with them.
    fn laws(&self) -> Laws {
        let laws = Laws::of_distances().without(Law::Majority);
        let fixed =
            laws.without(Law::Translation).without(Law::Scale).without(Law::Negation).without(Law::Rotation);
        if self.pivot.is_some() { laws } else { fixed }
    }

    fn is_shardable(&self) -> bool {
        true
    }

    fn decide(&mut self, round: &Round<'_>) -> Result<Decision, GradError> {
        let (n, rule) = (round.n(), self.name());
        let distances = match self.pivot {
            Some(pivot) => {
                let at = round.ids().iter().position(|id| *id == pivot);
                let at = at.ok_or(GradError::Missing { rule, what: "the vector of its pivot" })?;
                let gram = round.gram()?;
                (0..n).map(|i| gram.distance_sq(at, i)).collect()
            }
            None => {
                let trusted = round.trusted().ok_or(GradError::Missing { rule, what: "a trusted update" })?;
                round.distances_sq_to(trusted)?
            }
        };
        let kept = least(&distances, n - round.hostile());
        Ok(Decision::mean_of(n, &kept).with_scores(distances))
    }
}
