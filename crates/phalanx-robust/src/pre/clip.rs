//! Clipping to a fixed length.

use super::{Mixed, PreAggregator};
use crate::rule::positive;
use crate::{Law, Laws, Mixing, Round};
use phalanx_grad::GradError;
use serde::{Deserialize, Serialize};

/// Scales vectors longer than `norm` down to it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Clip {
    /// The greatest length.
    pub norm: f64,
}

impl Default for Clip {
    fn default() -> Self {
        Clip { norm: 1.0 }
    }
}

impl PreAggregator for Clip {
    fn name(&self) -> &'static str {
        "clip"
    }

    fn min_n(&self, _f: usize) -> usize {
        1
    }

    fn laws(&self) -> Laws {
        Laws::none().and(Law::Permutation).and(Law::Negation).and(Law::Rotation)
    }

    fn is_shardable(&self) -> bool {
        true
    }

    fn mix(&mut self, round: &Round<'_>) -> Result<Mixed, GradError> {
        let limit = positive(self.name(), "norm", self.norm)?;
        Ok(Mixed::each(round, Mixing::scaled(&factors(round.norms_sq()?, limit))))
    }
}

/// What scales each vector to the limit at most.
pub(super) fn factors(norms_sq: &[f64], limit: f64) -> Vec<f64> {
    let factor = |norm: f64| if norm > limit { limit / norm } else { 1.0 };
    norms_sq.iter().map(|norm_sq| factor(norm_sq.sqrt())).collect()
}
