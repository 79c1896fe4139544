//! The mean by samples: what federated averaging does with whatever comes.

use crate::{Decision, Law, Laws, Round, Rule};
use phalanx_grad::{Axis, GradError, Ranks};
use serde::{Deserialize, Serialize};

/// The mean of the vectors, each weighted by the samples that its sender says it stands for.
///
/// It bears no hostile vector: one is enough to move it anywhere. Here for what a filter leaves over, and to
/// compare with.
///
/// # Errors
/// [`GradError::NoSamples`] when all counts are 0.
///
/// # Reference
/// McMahan et al., "Communication-Efficient Learning of Deep Networks from Decentralized Data", AISTATS 2017.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WeightedMean;

impl Rule for WeightedMean {
    fn name(&self) -> &'static str {
        "mean"
    }

    fn min_n(&self, _f: usize) -> usize {
        1
    }

    fn laws(&self) -> Laws {
        Laws::all().without(Law::Majority).without(Law::Box)
    }

    fn kappa(&self, _n: usize, f: usize) -> Option<f64> {
        (f == 0).then_some(0.0)
    }

    fn is_shardable(&self) -> bool {
        true
    }

    fn decide(&mut self, round: &Round<'_>) -> Result<Decision, GradError> {
        let total: f64 = round.samples().iter().map(|samples| *samples as f64).sum();
        if total == 0.0 {
            return Err(GradError::NoSamples { axis: Ranks::NAME });
        }
        Ok(Decision::sum(round.samples().iter().map(|samples| *samples as f64 / total).collect()))
    }
}
