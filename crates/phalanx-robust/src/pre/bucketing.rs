//! Bucketing: means of random groups.

use super::{Mixed, PreAggregator};
use crate::{Law, Laws, Round};
use phalanx_grad::GradError;
use phalanx_tensor::rng::{Purpose, Stream};
use serde::{Deserialize, Serialize};

/// Shuffles the vectors and replaces each `size` in a row by their mean; the last group may be smaller.
///
/// Each hostile vector spoils one group: a rule behind it sees `n / size` vectors, of which `f` may be hostile.
///
/// # Reference
/// Karimireddy et al., "Byzantine-Robust Learning on Heterogeneous Datasets via Bucketing", ICLR 2022.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Bucketing {
    /// Vectors in a group.
    pub size: usize,
    /// Of the shuffle.
    pub seed: u64,
}

impl Default for Bucketing {
    fn default() -> Self {
        Bucketing { size: 2, seed: 0 }
    }
}

impl PreAggregator for Bucketing {
    fn name(&self) -> &'static str {
        "bucketing"
    }

    fn min_n(&self, _f: usize) -> usize {
        1
    }

    fn laws(&self) -> Laws {
        if self.size <= 1 { Laws::all() } else { Laws::all().without(Law::MeanWithoutHostile) }
    }

    fn is_shardable(&self) -> bool {
        true
    }

    fn mix(&mut self, round: &Round<'_>) -> Result<Mixed, GradError> {
        if self.size == 0 {
            let need = "a number above 0";
            return Err(GradError::Setting { rule: self.name(), setting: "size", got: 0.0, need });
        }
        let mut order: Vec<usize> = (0..round.n()).collect();
        Stream::new(self.seed, Purpose::User(13), round.step()).shuffle(&mut order);
        let groups: Vec<Vec<usize>> = order.chunks(self.size).map(<[usize]>::to_vec).collect();
        Ok(Mixed::groups(round, &groups))
    }
}
