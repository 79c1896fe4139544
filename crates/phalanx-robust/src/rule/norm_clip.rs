//! The mean of vectors that are cut to a length.

use super::geometric_median::median;
use super::positive;
use crate::{Decision, Law, Laws, Round, Rule};
use phalanx_grad::GradError;
use serde::{Deserialize, Serialize};

/// The mean of `x_i min(1, C / |x_i|)`: nobody moves the result by more than `C / n`.
///
/// # Reference
/// Sun et al., "Can You Really Backdoor Federated Learning?", 2019.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NormClip {
    /// The length `C`; not given, the median of the lengths.
    pub norm: Option<f64>,
}

impl Rule for NormClip {
    fn name(&self) -> &'static str {
        "norm-clip"
    }

    fn min_n(&self, f: usize) -> usize {
        2 * f + 1
    }

    fn laws(&self) -> Laws {
        let laws = Laws::none().and(Law::Permutation).and(Law::Negation).and(Law::Rotation);
        if self.norm.is_none() { laws.and(Law::Scale).and(Law::Unanimity) } else { laws }
    }

    fn is_shardable(&self) -> bool {
        true
    }

    fn decide(&mut self, round: &Round<'_>) -> Result<Decision, GradError> {
        let norms: Vec<f64> = round.norms_sq()?.iter().map(|norm_sq| norm_sq.sqrt()).collect();
        let limit = match self.norm {
            Some(norm) => positive(self.name(), "norm", norm)?,
            None => median(norms.clone()),
        };
        let share = 1.0 / norms.len() as f64;
        let weight = |norm: &f64| if *norm > limit { share * limit / norm } else { share };
        Ok(Decision::sum(norms.iter().map(weight).collect()).with_scores(norms))
    }
}
