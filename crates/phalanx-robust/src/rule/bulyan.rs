//! Bulyan: Krum again and again, then the mean around the median of what it chose.

use super::{Neighbourhoods, least};
use crate::{Decision, Law, Laws, Round, Rule};
use phalanx_grad::GradError;
use phalanx_tensor::rows::Statistic;
use serde::{Deserialize, Serialize};

/// Moves the winner of Krum to a selection until it has `n - 2f`, then takes, in each coordinate, the mean of the
/// `n - 4f` values of the selection nearest to its median.
///
/// Each round of Krum looks at those that are left, with the neighbours that its count then has, one at least. The
/// score in the report is that of the round in which a vector was chosen, and the last one of those left out.
///
/// # Reference
/// El Mhamdi et al., "The Hidden Vulnerability of Distributed Learning in Byzantium", ICML 2018.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bulyan;

impl Rule for Bulyan {
    fn name(&self) -> &'static str {
        "bulyan"
    }

    fn min_n(&self, f: usize) -> usize {
        4 * f + 3
    }

    fn laws(&self) -> Laws {
        Laws::of_distances().without(Law::Rotation)
    }

    fn is_shardable(&self) -> bool {
        true
    }

    fn decide(&mut self, round: &Round<'_>) -> Result<Decision, GradError> {
        let (n, f) = (round.n(), round.hostile());
        let near = Neighbourhoods::new(round.gram()?);
        let mut left = vec![true; n];
        let mut scores = vec![0.0; n];
        let mut selection = Vec::new();
        for remaining in (2 * f + 1..=n).rev() {
            let now = near.scores(&left, remaining.saturating_sub(f + 2).max(1));
            (0..n).filter(|i| left[*i]).for_each(|i| scores[i] = now[i]);
            let winner = least(&now, 1)[0];
            left[winner] = false;
            selection.push(winner);
        }
        selection.sort_unstable();
        let keep = n - 4 * f;
        Ok(Decision::columns(selection, Statistic::MeanAroundMedian { keep }).with_scores(scores))
    }
}
