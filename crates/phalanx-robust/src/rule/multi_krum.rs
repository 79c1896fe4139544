//! Multi-Krum: the mean of those with the nearest neighbours.

use super::{Neighbourhoods, Neighbours, least};
use crate::{Decision, Law, Laws, Round, Rule};
use phalanx_grad::{Axis, GradError, Ranks};
use serde::{Deserialize, Serialize};

/// The mean of the `m` vectors with the least scores of [`Krum`](crate::Krum).
///
/// # Reference
/// Blanchard et al., "Machine Learning with Adversaries: Byzantine Tolerant Gradient Descent", NeurIPS 2017.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MultiKrum {
    /// How many neighbours count.
    pub neighbours: Neighbours,
    /// How many are averaged; not given, `n - f`.
    pub keep: Option<usize>,
}

impl Rule for MultiKrum {
    fn name(&self) -> &'static str {
        "multi-krum"
    }

    fn min_n(&self, f: usize) -> usize {
        self.neighbours.min_n(f).max(self.keep.unwrap_or(1))
    }

    fn laws(&self) -> Laws {
        let laws = Laws::of_distances();
        if self.keep.is_none() { laws } else { laws.without(Law::MeanWithoutHostile) }
    }

    fn is_shardable(&self) -> bool {
        true
    }

    fn decide(&mut self, round: &Round<'_>) -> Result<Decision, GradError> {
        let (n, f) = (round.n(), round.hostile());
        let keep = self.keep.unwrap_or(n - f);
        if keep == 0 {
            return Err(GradError::TooFew { rule: self.name(), axis: Ranks::NAME, got: 0, need: 1 });
        }
        let near = Neighbourhoods::new(round.gram()?);
        let scores = near.scores(&vec![true; n], self.neighbours.count(n, f));
        Ok(Decision::mean_of(n, &least(&scores, keep)).with_scores(scores))
    }
}
