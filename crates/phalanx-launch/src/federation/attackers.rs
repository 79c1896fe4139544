//! From `[[attack]]` tables to attackers among clients.

use phalanx_federated::{Attacker, Conduct, EdgeCase, Poison};
use phalanx_robust::attack::{LabelFlip, Trigger};
use phalanx_robust::registry::AttackConfig;
use phalanx_tensor::rng::{Purpose, Stream};
use serde::Deserialize;
use toml::{Table, Value as Toml};

use crate::aggregation::named::{kind, settings};
use crate::aggregation::{Attacks, AttacksError};
use crate::runfile::Value;

/// What poisons samples, beside the attacks on updates.
const POISONS: [&str; 4] = ["label-flip", "backdoor", "dba", "edge-case"];

/// The share of a poisoning client's samples that is poisoned, unless told.
const SHARE: f64 = 0.5;

/// The attackers of a run of so many clients. A `count` of clients is always of the same ones: a greater count has those of a
/// smaller one among them.
///
/// # Errors
/// [`AttacksError`] for the first thing that is wrong.
pub(crate) fn attackers(attacks: &Attacks, clients: usize, seed: u64) -> Result<Vec<Attacker>, AttacksError> {
    attacks.tables().iter().map(|table| read(table, clients, seed)).collect()
}

fn read(table: &Table, clients: usize, seed: u64) -> Result<Attacker, AttacksError> {
    let known: Vec<&'static str> = AttackConfig::NAMES.iter().copied().chain(POISONS).collect();
    let kind = kind("attack", table, &known)?;
    let mut table = table.clone();
    let hostile = hostile(kind, &mut table, clients, seed)?;
    let every =
        number::<u64>(kind, &mut table, "every", "a number of rounds, at least 1", |every| *every > 0)?;
    if !POISONS.contains(&kind) {
        return Ok(Attacker { clients: hostile, every, conduct: Conduct::Forge(settings(kind, table)?) });
    }
    table.remove("kind");
    let share = number(kind, &mut table, "share", "a share above 0, at most 1", |share| {
        *share > 0.0 && *share <= 1.0
    })?;
    let epochs =
        number::<u64>(kind, &mut table, "epochs", "a number of epochs, at least 1", |epochs| *epochs > 0)?;
    let poison = match kind {
        "label-flip" => Poison::LabelFlip(settings::<Flip>(kind, table)?.to),
        "backdoor" => Poison::Backdoor(settings::<Trigger>(kind, table)?),
        "dba" => Poison::Distributed(settings::<Trigger>(kind, table)?),
        _ => {
            let Edge { source, target, tail } = settings(kind, table)?;
            Poison::EdgeCase(EdgeCase { source, target, tail })
        }
    };
    let share = share.unwrap_or(SHARE);
    Ok(Attacker { clients: hostile, every, conduct: Conduct::Poison { poison, share, epochs } })
}

/// The clients of `clients`, or as many as `count` says.
fn hostile(
    kind: &'static str,
    table: &mut Table,
    clients: usize,
    seed: u64,
) -> Result<Vec<u64>, AttacksError> {
    let missing = || AttacksError::Clients { kind };
    let (listed, count) = (table.remove("clients"), table.remove("count"));
    let hostile = match (listed, count) {
        (Some(listed), None) => {
            let listed = Vec::<usize>::read(&listed).ok_or_else(missing)?;
            listed.into_iter().map(|client| client as u64).collect()
        }
        (None, Some(count)) => {
            let count = usize::read(&count).ok_or_else(missing)?;
            if count > clients {
                return Err(AttacksError::NoSuchClient { kind, client: count as u64, clients });
            }
            let mut all: Vec<u64> = (0..clients as u64).collect();
            Stream::new(seed, Purpose::Attack, u64::MAX).shuffle(&mut all);
            all.truncate(count);
            all
        }
        _ => Vec::new(),
    };
    match hostile.iter().find(|client| **client >= clients as u64) {
        Some(client) => Err(AttacksError::NoSuchClient { kind, client: *client, clients }),
        None if hostile.is_empty() => Err(missing()),
        None => Ok(hostile),
    }
}

/// Takes a number out of the table.
fn number<T: Value>(
    kind: &'static str,
    table: &mut Table,
    key: &'static str,
    need: &'static str,
    fits: impl Fn(&T) -> bool,
) -> Result<Option<T>, AttacksError> {
    let Some(toml) = table.remove(key) else { return Ok(None) };
    let wrong = |toml: &Toml| AttacksError::Setting { kind, key, got: toml.to_string(), need };
    T::read(&toml).filter(fits).map(Some).ok_or_else(|| wrong(&toml))
}

/// The settings of a label flip.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Flip {
    #[serde(default)]
    to: LabelFlip,
}

/// The settings of an edge-case attack.
#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Edge {
    source: u32,
    target: u32,
    tail: f64,
}

impl Default for Edge {
    fn default() -> Self {
        Edge { source: 7, target: 1, tail: 0.05 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use phalanx_robust::attack::Pgd;

    fn of(text: &str, clients: usize) -> Result<Vec<Attacker>, AttacksError> {
        let table: Table = text.parse().expect("TOML");
        attackers(&Attacks::read(&table["attack"]).expect("tables"), clients, 1)
    }

    #[test]
    fn a_backdoor_with_a_ball_is_two_attacks_of_the_same_clients() {
        let text = "[[attack]]\nkind = 'backdoor'\ncount = 2\nevery = 10\nshare = 0.3\nepochs = 6\ntarget = 4\n\
                    [[attack]]\nkind = 'pgd'\ncount = 2\nradius = 0.5\n";
        let got = of(text, 50).expect("attackers");
        assert_eq!(got[0].clients, got[1].clients);
        assert_eq!((got[0].clients.len(), got[0].every), (2, Some(10)));
        let poison = Poison::Backdoor(Trigger { target: 4, ..Trigger::default() });
        assert_eq!(got[0].conduct, Conduct::Poison { poison, share: 0.3, epochs: Some(6) });
        let pgd = Pgd { radius: 0.5, ..Pgd::default() };
        assert_eq!(got[1].conduct, Conduct::Forge(AttackConfig::Pgd(pgd)));
        let three = of("[[attack]]\nkind = 'zero'\ncount = 3\n", 50).expect("attackers");
        assert!(three[0].clients.starts_with(&got[0].clients));
    }

    #[test]
    fn what_is_wrong_is_named() {
        let told = |text: &str| of(&format!("[[attack]]\n{text}"), 20).expect_err("a slip").to_string();
        assert_eq!(
            told("kind = 'backdor'\nclients = [0]"),
            "unknown attack \"backdor\", did you mean `backdoor`?"
        );
        let nobody = "dba needs the hostile clients in a list, such as clients = [0], or their number, such as count = 1";
        assert_eq!(told("kind = 'dba'"), nobody);
        assert_eq!(told("kind = 'dba'\nclients = []"), nobody);
        assert_eq!(told("kind = 'nan'\nclients = [3, 20]"), "nan names client 20, federated.clients is 20");
        assert_eq!(told("kind = 'nan'\ncount = 21"), "nan names client 21, federated.clients is 20");
        assert_eq!(
            told("kind = 'dba'\nclients = [1]\nshare = 1.5"),
            "share of dba is 1.5, need a share above 0, at most 1"
        );
        assert_eq!(
            told("kind = 'nan'\nclients = [1]\nevery = 0"),
            "every of nan is 0, need a number of rounds, at least 1"
        );
        let unknown = told("kind = 'backdoor'\nclients = [1]\nsizes = 3");
        assert!(unknown.starts_with("backdoor: unknown field `sizes`"), "{unknown}");
    }
}
