//! RFA: a few steps towards the geometric median, weighted by samples.

use super::geometric_median::{distances_to_sum, normalized, weiszfeld};
use super::positive;
use crate::{Decision, Law, Laws, Round, Rule};
use phalanx_grad::{Axis, GradError, Ranks};
use serde::{Deserialize, Serialize};

/// Robust federated averaging: smoothed Weiszfeld steps from the mean by samples.
///
/// # Reference
/// Pillutla et al., "Robust Aggregation for Federated Learning", IEEE Transactions on Signal Processing 70, 2022.
///
/// # Deviation
/// It ends when no weight moves by more than 1e-12, and not by the objective.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Rfa {
    /// Steps.
    pub steps: usize,
    /// The least distance that is divided by.
    pub smoothing: f64,
}

impl Default for Rfa {
    fn default() -> Self {
        Rfa { steps: 4, smoothing: 1e-5 }
    }
}

impl Rule for Rfa {
    fn name(&self) -> &'static str {
        "rfa"
    }

    fn min_n(&self, f: usize) -> usize {
        2 * f + 1
    }

    fn laws(&self) -> Laws {
        Laws::of_distances().without(Law::Majority).without(Law::MeanWithoutHostile)
    }

    fn is_shardable(&self) -> bool {
        true
    }

    fn decide(&mut self, round: &Round<'_>) -> Result<Decision, GradError> {
        positive(self.name(), "smoothing", self.smoothing)?;
        let masses: Vec<f64> = round.samples().iter().map(|samples| *samples as f64).collect();
        if masses.iter().sum::<f64>() == 0.0 {
            return Err(GradError::NoSamples { axis: Ranks::NAME });
        }
        let gram = round.gram()?;
        let start = normalized(masses.clone());
        let weights_n = weiszfeld(gram, &masses, start, self.steps, 1e-12, self.smoothing);
        let distances = distances_to_sum(gram, &weights_n);
        Ok(Decision::sum(weights_n).with_scores(distances))
    }
}
