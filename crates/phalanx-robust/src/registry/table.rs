//! What there is, as a table.

use super::{AttackConfig, PreConfig, RuleConfig};
use crate::Laws;
use serde::Serialize;
use serde_json::Value;
use std::fmt;

/// What an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A rule over ranks.
    Rule,
    /// A pre-aggregator.
    PreAggregator,
    /// An attack.
    Attack,
}

/// A rule, pre-aggregator or attack in the table.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Entry {
    /// What it is.
    pub kind: Kind,
    /// Its name.
    pub name: &'static str,
    /// Its settings with their defaults; empty where the default is that none is given.
    pub settings: Vec<(String, String)>,
    /// The least number of vectors for 0, 1, 2 hostile; nothing for attacks.
    pub min_n: Option<[usize; 3]>,
    /// The laws it keeps with its defaults; those of a pre-aggregator are what it leaves of a rule's.
    pub laws: Laws,
}

impl Entry {
    /// The least number of vectors as a formula in `f`.
    #[must_use]
    pub fn min_n_formula(&self) -> String {
        let Some([none, one, two]) = self.min_n else { return "-".to_owned() };
        let slope = one.saturating_sub(none);
        debug_assert_eq!(two, none + 2 * slope, "straight lines");
        match (slope, none) {
            (0, none) => none.to_string(),
            (1, none) => format!("f + {none}"),
            (slope, none) => format!("{slope} f + {none}"),
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kind::Rule => "rule",
            Kind::PreAggregator => "pre-aggregator",
            Kind::Attack => "attack",
        })
    }
}

/// All rules, pre-aggregators and attacks, in the order of the documentation.
#[must_use]
pub fn entries() -> Vec<Entry> {
    let rules =
        RuleConfig::NAMES.iter().filter_map(|name| RuleConfig::from_name(name)).filter_map(|config| {
            // defaults are in range
            let rule = config.build().ok()?;
            let min_n = Some([0, 1, 2].map(|f| rule.min_n(f)));
            Some(Entry {
                kind: Kind::Rule,
                name: config.name(),
                settings: settings(&config),
                min_n,
                laws: rule.laws(),
            })
        });
    let pres = PreConfig::NAMES.iter().filter_map(|name| PreConfig::from_name(name)).map(|config| {
        let pre = config.build();
        let min_n = Some([0, 1, 2].map(|f| pre.min_n(f)));
        Entry {
            kind: Kind::PreAggregator,
            name: config.name(),
            settings: settings(&config),
            min_n,
            laws: pre.laws(),
        }
    });
    let attacks = AttackConfig::NAMES.iter().filter_map(|name| AttackConfig::from_name(name)).map(|config| {
        let (name, settings) = (config.name(), settings(&config));
        Entry { kind: Kind::Attack, name, settings, min_n: None, laws: Laws::none() }
    });
    rules.chain(pres).chain(attacks).collect()
}

/// The fields of a configuration besides its name.
fn settings(config: &impl Serialize) -> Vec<(String, String)> {
    let Ok(Value::Object(fields)) = serde_json::to_value(config) else { return Vec::new() };
    let settings = fields.into_iter().filter(|(key, _)| key != "rule" && key != "kind");
    settings
        .map(|(key, value)| (key, if value.is_null() { String::new() } else { value.to_string() }))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Krum, Robust};

    #[test]
    fn names_of_configurations_are_those_of_what_they_build() {
        let entries = entries();
        let count = RuleConfig::NAMES.len() + PreConfig::NAMES.len() + AttackConfig::NAMES.len();
        assert_eq!(entries.len(), count, "every default can be built");
        for name in RuleConfig::NAMES {
            let config = RuleConfig::from_name(name).expect(name);
            assert_eq!(config.build().expect(name).name(), *name);
        }
        for name in PreConfig::NAMES {
            assert_eq!(PreConfig::from_name(name).expect(name).build().name(), *name);
        }
        for name in AttackConfig::NAMES {
            let attack = AttackConfig::from_name(name).expect(name).build(|| Robust::new(1, Krum::default()));
            assert_eq!(attack.name(), *name);
        }
        assert_eq!(RuleConfig::from_name("krumm"), None);
    }

    #[test]
    fn least_numbers_are_straight_lines_in_f() {
        let of = |name: &str| entries().into_iter().find(|entry| entry.name == name).expect("an entry");
        assert_eq!(of("krum").min_n_formula(), "2 f + 3");
        assert_eq!(of("bulyan").min_n_formula(), "4 f + 3");
        assert_eq!(of("mean").min_n_formula(), "1");
        assert_eq!(of("zero").min_n_formula(), "-");
        assert_eq!(of("multi-krum").settings[0], ("keep".to_owned(), String::new()));
        assert_eq!(of("ipm").settings, [("epsilon".to_owned(), "0.1".to_owned())]);
    }

    #[test]
    fn settings_survive_a_file() {
        for name in RuleConfig::NAMES {
            let config = RuleConfig::from_name(name).expect(name);
            let text = toml::to_string(&config).expect(name);
            assert_eq!(toml::from_str::<RuleConfig>(&text).expect(name), config, "{text}");
        }
        for name in PreConfig::NAMES {
            let config = PreConfig::from_name(name).expect(name);
            assert_eq!(
                toml::from_str::<PreConfig>(&toml::to_string(&config).expect(name)).expect(name),
                config
            );
        }
        for name in AttackConfig::NAMES {
            let config = AttackConfig::from_name(name).expect(name);
            assert_eq!(
                toml::from_str::<AttackConfig>(&toml::to_string(&config).expect(name)).expect(name),
                config
            );
        }
        assert!(toml::from_str::<RuleConfig>("rule = \"median\"\nkeep = 1").is_err());
    }
}
