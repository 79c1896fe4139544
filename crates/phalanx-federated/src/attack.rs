//! Hostile clients: what they train on, what they send, and how far their backdoors open.

mod backdoor;
mod client_data;
mod edge;

pub use backdoor::Backdoor;
pub use client_data::ClientData;
pub use edge::EdgeCase;

pub(crate) use client_data::Poisoner;

use phalanx_robust::attack::{LabelFlip, Pgd, Trigger};
use phalanx_robust::registry::AttackConfig;

/// Clients that attack together.
///
/// A client may be in several: what it trains on is poisoned by the first that poisons, and what it sends is forged by all that
/// forge, one after the other. So a model-replacement backdoor is one attacker that poisons and one that scales, with the same
/// clients, and a PGD backdoor one that poisons and one that projects.
#[derive(Clone, Debug, PartialEq)]
pub struct Attacker {
    /// Its clients.
    pub clients: Vec<u64>,
    /// Its clients take part in each round of such a number, in the place of others, and in no other round; not given: whenever
    /// they are sampled.
    pub every: Option<u64>,
    /// What they do.
    pub conduct: Conduct,
}

/// What hostile clients do.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Conduct {
    /// They send another update.
    Forge(AttackConfig),
    /// They train on poisoned samples.
    Poison {
        /// With what.
        poison: Poison,
        /// The share of their samples that is poisoned.
        share: f64,
        /// Passes over their samples, where they train longer or shorter than others.
        epochs: Option<u64>,
    },
}

/// What is wrong with poisoned samples.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Poison {
    /// Their labels.
    LabelFlip(LabelFlip),
    /// They bear a trigger and the label that it should give.
    Backdoor(Trigger),
    /// They bear one of four parts of a trigger, each attacker another; all together open the backdoor.
    Distributed(Trigger),
    /// They are replaced by rare samples of one class under the label of another.
    EdgeCase(EdgeCase),
}

impl Poison {
    /// The name, as in a run file.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Poison::LabelFlip(_) => "label-flip",
            Poison::Backdoor(_) => "backdoor",
            Poison::Distributed(_) => "dba",
            Poison::EdgeCase(_) => "edge-case",
        }
    }
}

impl Conduct {
    /// The name, as in a run file.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Conduct::Forge(config) => config.name(),
            Conduct::Poison { poison, .. } => poison.name(),
        }
    }
}

/// What attackers do in a round, by client.
pub(crate) struct Assault<'a>(pub(crate) &'a [Attacker]);

impl<'a> Assault<'a> {
    /// The clients of attackers with a frequency: those whose round this is, and those whose it is not.
    pub(crate) fn timed(&self, round: u64) -> (Vec<u64>, Vec<u64>) {
        let (mut forced, mut away) = (Vec::new(), Vec::new());
        for attacker in self.0 {
            match attacker.every {
                Some(every) if round.is_multiple_of(every.max(1)) => forced.extend(&attacker.clients),
                Some(_) => away.extend(&attacker.clients),
                None => {}
            }
        }
        away.retain(|client| !forced.contains(client));
        (forced, away)
    }

    /// The first attack that poisons a client's samples, and which of its clients it is.
    pub(crate) fn poison(&self, client: u64) -> Option<(usize, usize)> {
        let poisons =
            self.0.iter().enumerate().filter(|(_, of)| matches!(of.conduct, Conduct::Poison { .. }));
        poisons.into_iter().find_map(|(i, of)| Some((i, of.clients.iter().position(|id| *id == client)?)))
    }

    /// Those that forge what a client sends.
    pub(crate) fn forges(&self, client: u64) -> impl Iterator<Item = usize> + use<'a> {
        let forges =
            self.0.iter().enumerate().filter(move |(_, of)| {
                matches!(of.conduct, Conduct::Forge(_)) && of.clients.contains(&client)
            });
        forges.map(|(i, _)| i)
    }

    /// The ball that a client stays in while it trains.
    pub(crate) fn ball(&self, client: u64) -> Option<Pgd> {
        self.forges(client).find_map(|i| match self.0[i].conduct {
            Conduct::Forge(AttackConfig::Pgd(pgd)) => Some(pgd),
            _ => None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attacker(clients: &[u64], every: Option<u64>, conduct: Conduct) -> Attacker {
        Attacker { clients: clients.to_vec(), every, conduct }
    }

    fn poison() -> Conduct {
        Conduct::Poison { poison: Poison::LabelFlip(LabelFlip::Mirror), share: 1.0, epochs: None }
    }

    #[test]
    fn a_client_may_poison_and_forge() {
        let forge = |name| Conduct::Forge(AttackConfig::from_name(name).expect("a name"));
        let attackers = [
            attacker(&[4, 7], Some(10), poison()),
            attacker(&[7], None, forge("pgd")),
            attacker(&[7, 2], None, forge("model-replacement")),
        ];
        let assault = Assault(&attackers);
        assert_eq!((assault.poison(7), assault.poison(2)), (Some((0, 1)), None));
        assert_eq!(assault.forges(7).collect::<Vec<_>>(), [1, 2]);
        assert_eq!((assault.ball(7), assault.ball(4)), (Some(Pgd::default()), None));
        assert_eq!(assault.timed(20), (vec![4, 7], vec![]));
        assert_eq!(assault.timed(21), (vec![], vec![4, 7]));
    }
}
