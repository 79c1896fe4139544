//! Nearest neighbour mixing.

use super::{Mixed, PreAggregator};
use crate::rule::Neighbourhoods;
use crate::{Laws, Mixing, Round};
use phalanx_grad::GradError;
use serde::{Deserialize, Serialize};

/// Replaces each vector by the mean of the `n - f` nearest to it, itself among them.
///
/// # Reference
/// Allouah et al., "Fixing by Mixing: A Recipe for Optimal Byzantine ML under Heterogeneity", AISTATS 2023.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Nnm;

impl PreAggregator for Nnm {
    fn name(&self) -> &'static str {
        "nnm"
    }

    fn min_n(&self, f: usize) -> usize {
        2 * f + 1
    }

    fn laws(&self) -> Laws {
        Laws::of_distances()
    }

    fn kappa(&self, kappa: f64, n: usize, f: usize) -> Option<f64> {
        (f < n).then(|| 8.0 * f as f64 / (n - f) as f64 * (kappa + 1.0))
    }

    fn is_shardable(&self) -> bool {
        true
    }

    fn mix(&mut self, round: &Round<'_>) -> Result<Mixed, GradError> {
        let n = round.n();
        let near = Neighbourhoods::new(round.gram()?);
        let mean = |i: usize| {
            let mut group = near.nearest(i, n - round.hostile());
            // one order for equal groups, so that equal means have equal bits
            group.sort_unstable();
            group
        };
        let groups: Vec<Vec<usize>> = (0..n).map(mean).collect();
        Ok(Mixed::each(round, Mixing::means(n, &groups)))
    }
}
