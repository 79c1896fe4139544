//! The attacks on a run, for research and tests.

use phalanx_grad::Senders;
use phalanx_robust::attack::LabelFlip;
use phalanx_robust::registry::AttackConfig;
use serde::Deserialize;
use toml::{Table, Value as Toml};

use super::named::{self, NamedError};
use crate::runfile::Value;

/// The name under which labels are flipped, beside the attacks on gradients.
const LABEL_FLIP: &str = "label-flip";

/// The attacks, as the run file has them: a table each, with `kind`, `ranks` and settings.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Attacks(Vec<Table>);

/// Some ranks or nodes, and what they do.
#[derive(Debug, Clone, PartialEq)]
pub struct Attack {
    /// The hostile ranks, or nodes where the rule is over these.
    pub ranks: Vec<usize>,
    /// What they do.
    pub kind: AttackKind,
}

/// What hostile ranks do.
#[derive(Debug, Clone, PartialEq)]
pub enum AttackKind {
    /// They send another gradient.
    Gradient(AttackConfig),
    /// They train on wrong labels.
    Labels(LabelFlip),
}

/// What is wrong with the attacks of a run.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum AttacksError {
    /// A kind or a setting that is none.
    #[error(transparent)]
    Named(#[from] NamedError),
    /// An attack without attackers.
    #[error("{kind} needs the hostile {senders} in a list, such as ranks = [0]")]
    Ranks {
        /// The attack.
        kind: &'static str,
        /// Who could attack.
        senders: Senders,
    },
    /// A rank or node that there is not.
    #[error("{kind} names {} {rank}, {}", senders.one(), there_are(*senders, *got))]
    NoSuchRank {
        /// The attack.
        kind: &'static str,
        /// The rank or node.
        rank: usize,
        /// What it is.
        senders: Senders,
        /// How many there are.
        got: usize,
    },
    /// An attack of a federated run without attackers.
    #[error(
        "{kind} needs the hostile clients in a list, such as clients = [0], or their number, such as count = 1"
    )]
    Clients {
        /// The attack.
        kind: &'static str,
    },
    /// A client that there is not.
    #[error("{kind} names client {client}, federated.clients is {clients}")]
    NoSuchClient {
        /// The attack.
        kind: &'static str,
        /// The client, or how many.
        client: u64,
        /// How many there are.
        clients: usize,
    },
    /// A setting of what hostile clients train on, or when.
    #[error("{key} of {kind} is {got}, need {need}")]
    Setting {
        /// The attack.
        kind: &'static str,
        /// The setting.
        key: &'static str,
        /// Its value as TOML.
        got: String,
        /// What it must be.
        need: &'static str,
    },
    /// A rank or node with two attacks.
    #[error("{} {rank} has two attacks, need one", senders.one())]
    Twice {
        /// The rank or node.
        rank: usize,
        /// What it is.
        senders: Senders,
    },
    /// Nobody is honest.
    #[error("all {got} {senders} are hostile, need one that is not")]
    AllHostile {
        /// How many there are.
        got: usize,
        /// What they are.
        senders: Senders,
    },
}

/// How many there are, by the key that says so where there is one.
fn there_are(senders: Senders, got: usize) -> String {
    match senders {
        Senders::Ranks => format!("train.ranks is {got}"),
        others => format!("there are {got} {others}"),
    }
}

impl Attacks {
    /// The tables as they were written.
    pub(crate) fn tables(&self) -> &[Table] {
        &self.0
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The attacks on a run of so many ranks or nodes.
    ///
    /// # Errors
    /// [`AttacksError`] for the first thing that is wrong.
    pub fn on(&self, got: usize, senders: Senders) -> Result<Vec<Attack>, AttacksError> {
        let mut hostile: Vec<usize> = Vec::new();
        let mut attacks = Vec::new();
        for table in &self.0 {
            let attack = read(table, got, senders)?;
            for rank in &attack.ranks {
                if hostile.contains(rank) {
                    return Err(AttacksError::Twice { rank: *rank, senders });
                }
                hostile.push(*rank);
            }
            attacks.push(attack);
        }
        if !hostile.is_empty() && hostile.len() == got {
            return Err(AttacksError::AllHostile { got, senders });
        }
        Ok(attacks)
    }
}

fn read(table: &Table, got: usize, senders: Senders) -> Result<Attack, AttacksError> {
    let known: Vec<&'static str> = AttackConfig::NAMES.iter().copied().chain([LABEL_FLIP]).collect();
    let kind = named::kind("attack", table, &known)?;
    let mut settings = table.clone();
    let listed = settings.remove("ranks").and_then(|list| Vec::<usize>::read(&list));
    let hostile = listed.filter(|list| !list.is_empty()).ok_or(AttacksError::Ranks { kind, senders })?;
    if let Some(rank) = hostile.iter().copied().find(|rank| *rank >= got) {
        return Err(AttacksError::NoSuchRank { kind, rank, senders, got });
    }
    let kind = match kind {
        LABEL_FLIP => {
            settings.remove("kind");
            AttackKind::Labels(named::settings::<Flip>(kind, settings)?.to)
        }
        _ => AttackKind::Gradient(named::settings(kind, settings)?),
    };
    Ok(Attack { ranks: hostile, kind })
}

/// The settings of a label flip.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Flip {
    #[serde(default)]
    to: LabelFlip,
}

impl AttackKind {
    /// The name, as in a run file.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Gradient(config) => config.name(),
            Self::Labels(_) => LABEL_FLIP,
        }
    }
}

impl Value for Attacks {
    fn expects() -> String {
        "tables, each [[attack]] with `kind` and who attacks".to_owned()
    }

    fn read(toml: &Toml) -> Option<Self> {
        toml.as_array()?.iter().map(|item| item.as_table().cloned()).collect::<Option<_>>().map(Self)
    }

    fn write(&self) -> Option<Toml> {
        (!self.is_empty()).then(|| Toml::Array(self.0.iter().cloned().map(Toml::Table).collect()))
    }

    fn when_absent() -> Option<Self> {
        Some(Self::default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use phalanx_robust::attack::Ipm;

    fn on(text: &str, ranks: usize) -> Result<Vec<Attack>, AttacksError> {
        let table: Table = text.parse().expect("TOML");
        Attacks::read(&table["attack"]).expect("tables").on(ranks, Senders::Ranks)
    }

    #[test]
    fn attacks_have_ranks_and_settings() {
        let text = "[[attack]]\nkind = 'ipm'\nranks = [3]\nepsilon = 2.0\n\
                    [[attack]]\nkind = 'label-flip'\nranks = [0, 1]\nto = 'next'\n";
        let attacks = on(text, 5).expect("attacks");
        let ipm = AttackKind::Gradient(AttackConfig::Ipm(Ipm { epsilon: 2.0 }));
        assert_eq!(attacks[0], Attack { ranks: vec![3], kind: ipm });
        assert_eq!(attacks[1], Attack { ranks: vec![0, 1], kind: AttackKind::Labels(LabelFlip::Next) });
    }

    #[test]
    fn what_is_wrong_is_named() {
        let told = |text, ranks| on(text, ranks).expect_err("a slip").to_string();
        assert_eq!(
            told("[[attack]]\nkind = 'aile'\nranks = [3]\n", 5),
            "unknown attack \"aile\", did you mean `alie`?"
        );
        assert_eq!(
            told("[[attack]]\nkind = 'alie'\n", 5),
            "alie needs the hostile ranks in a list, such as ranks = [0]"
        );
        assert_eq!(
            told("[[attack]]\nkind = 'alie'\nranks = [5]\n", 5),
            "alie names rank 5, train.ranks is 5"
        );
        let of_nodes = |text: &str| {
            let table: Table = text.parse().expect("TOML");
            let attacks = Attacks::read(&table["attack"]).expect("tables");
            attacks.on(2, Senders::Nodes).expect_err("a slip").to_string()
        };
        let told_of_nodes = of_nodes("[[attack]]\nkind = 'alie'\nranks = [2]\n");
        assert_eq!(told_of_nodes, "alie names node 2, there are 2 nodes");
        let told_of_nodes = of_nodes("[[attack]]\nkind = 'alie'\nranks = [0, 1]\n");
        assert_eq!(told_of_nodes, "all 2 nodes are hostile, need one that is not");
        let twice = "[[attack]]\nkind = 'alie'\nranks = [1]\n[[attack]]\nkind = 'zero'\nranks = [1]\n";
        assert_eq!(told(twice, 5), "rank 1 has two attacks, need one");
        assert_eq!(
            told("[[attack]]\nkind = 'zero'\nranks = [0]\n", 1),
            "all 1 ranks are hostile, need one that is not"
        );
        let setting = told("[[attack]]\nkind = 'alie'\nranks = [1]\nzz = 1.0\n", 5);
        assert!(setting.starts_with("alie: unknown field `zz`"), "{setting}");
    }
}
