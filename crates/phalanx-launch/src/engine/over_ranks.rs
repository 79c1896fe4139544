//! From `[aggregation]` and the attacks to the rule over ranks of the loop.

use phalanx_grad::{GradError, Mean, Ranks, Reduce};
use phalanx_robust::attack::{Attack, UnderAttack};
use phalanx_robust::registry::AttackConfig;
use phalanx_robust::{Robust, WeightedMean};
use phalanx_tensor::Cpu;

use super::job::bad_input;
use crate::aggregation::{self, AttackKind};
use crate::runfile::Run;

/// The rule of a run and the attacks on it, checked once.
#[derive(Debug, Clone)]
pub(super) struct OverRanks {
    rule: Option<aggregation::OverRanks>,
    attacks: Vec<(AttackConfig, Vec<usize>)>,
    seed: u64,
}

impl OverRanks {
    /// What `run` asks for, with the ranks and nodes that it has now.
    pub(super) fn new(run: &Run) -> anyhow::Result<Self> {
        let ranks = run.train.ranks;
        let rule = aggregation::OverRanks::of(&run.aggregation, ranks, run.seed).map_err(bad_input)?;
        let attacks = run.attacks().map_err(bad_input)?.into_iter();
        let on_gradients = attacks.filter_map(|attack| match attack.kind {
            AttackKind::Gradient(config) => Some((config, attack.ranks)),
            AttackKind::Labels(_) => None,
        });
        Ok(OverRanks { rule, attacks: on_gradients.collect(), seed: run.seed })
    }

    /// The rule for one rank.
    pub(super) fn build(&self) -> Result<Box<dyn Reduce<Ranks, Cpu<f32>>>, GradError> {
        let rule: Box<dyn Reduce<Ranks, Cpu<f32>>> = match &self.rule {
            None => Box::new(Mean),
            Some(rule) => Box::new(rule.build()?),
        };
        let mut attacks = Vec::new();
        for (config, ranks) in &self.attacks {
            attacks.push((self.attack(config)?, ranks.clone()));
        }
        let mut attacks = attacks.into_iter();
        let Some((attack, ranks)) = attacks.next() else { return Ok(rule) };
        let under = UnderAttack::new(rule, attack, ranks, self.seed);
        Ok(Box::new(attacks.fold(under, |under, (attack, ranks)| under.and(attack, ranks))))
    }

    fn attack(&self, config: &AttackConfig) -> Result<Box<dyn Attack>, GradError> {
        let defense = match &self.rule {
            None => Robust::new(0, WeightedMean),
            Some(rule) => rule.build()?,
        };
        Ok(config.build(|| defense))
    }
}
