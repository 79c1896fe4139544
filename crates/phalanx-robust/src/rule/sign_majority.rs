//! The sign on which most agree.

use super::Finish;
use crate::{Decision, Law, Laws, Round, Rule};
use phalanx_grad::GradError;
use phalanx_tensor::rows::Statistic;
use serde::{Deserialize, Serialize};

/// In each coordinate, 1 when more values are positive than negative, -1 when fewer are, 0 when neither.
///
/// Its result has no scale: use it with a learning rate of its own.
///
/// # Reference
/// Bernstein et al., "signSGD with Majority Vote is Communication Efficient and Fault Tolerant", ICLR 2019.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignMajority;

impl Rule for SignMajority {
    fn name(&self) -> &'static str {
        "sign-majority"
    }

    fn min_n(&self, f: usize) -> usize {
        2 * f + 1
    }

    fn laws(&self) -> Laws {
        Laws::none().and(Law::Permutation).and(Law::Negation).and(Law::Monotone)
    }

    fn is_shardable(&self) -> bool {
        true
    }

    fn decide(&mut self, round: &Round<'_>) -> Result<Decision, GradError> {
        Ok(Decision::columns((0..round.n()).collect(), Statistic::SignSum).with_finish(Finish::Sign))
    }
}
