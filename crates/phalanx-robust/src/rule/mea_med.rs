//! The mean around the median.

use crate::{Decision, Law, Laws, Round, Rule};
use phalanx_grad::GradError;
use phalanx_tensor::rows::Statistic;
use serde::{Deserialize, Serialize};

/// The mean, in each coordinate, of the `n - f` values nearest to the median; of two as near, the lesser.
///
/// # Reference
/// Xie et al., "Generalized Byzantine-tolerant SGD", 2018.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MeaMed;

impl Rule for MeaMed {
    fn name(&self) -> &'static str {
        "mea-med"
    }

    fn min_n(&self, f: usize) -> usize {
        2 * f + 1
    }

    fn laws(&self) -> Laws {
        Laws::of_coordinates().without(Law::Monotone).without(Law::Box)
    }

    fn is_shardable(&self) -> bool {
        true
    }

    fn decide(&mut self, round: &Round<'_>) -> Result<Decision, GradError> {
        let keep = round.n() - round.hostile();
        Ok(Decision::columns((0..round.n()).collect(), Statistic::MeanAroundMedian { keep }))
    }
}
