//! The pre-aggregators of a run.

use phalanx_robust::registry::PreConfig;
use toml::{Table, Value as Toml};

use super::named::{self, NamedError};
use crate::runfile::Value;

/// What acts before the rule, as the run file has it: names, or tables with a name and settings.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Before(Vec<Table>);

impl Before {
    /// Whether nothing does.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The settings of each, the first to act first.
    ///
    /// # Errors
    /// [`NamedError`] for the first name or setting that is none.
    pub fn configs(&self) -> Result<Vec<PreConfig>, NamedError> {
        let one = |table: &Table| {
            let kind = named::kind("pre-aggregator", table, PreConfig::NAMES)?;
            named::settings(kind, table.clone())
        };
        self.0.iter().map(one).collect()
    }
}

impl Value for Before {
    fn expects() -> String {
        "a list of names or tables".to_owned()
    }

    fn read(toml: &Toml) -> Option<Self> {
        let one = |item: &Toml| match item {
            Toml::String(name) => Some(Table::from_iter([("kind".to_owned(), Toml::String(name.clone()))])),
            Toml::Table(table) => Some(table.clone()),
            _ => None,
        };
        toml.as_array()?.iter().map(one).collect::<Option<_>>().map(Self)
    }

    fn write(&self) -> Option<Toml> {
        let one = |table: &Table| match table.get("kind") {
            Some(name) if table.len() == 1 => name.clone(),
            _ => Toml::Table(table.clone()),
        };
        Some(Toml::Array(self.0.iter().map(one).collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn before(text: &str) -> Before {
        let table: Table = format!("x = {text}").parse().expect("TOML");
        Before::read(&table["x"]).expect("a list")
    }

    #[test]
    fn names_and_tables_come_back_as_they_were() {
        let text = before(r#"["arc", { kind = "bucketing", size = 3 }]"#);
        let configs = text.configs().expect("known");
        assert_eq!(configs.iter().map(PreConfig::name).collect::<Vec<_>>(), ["arc", "bucketing"]);
        assert_eq!(Before::read(&text.write().expect("a list")), Some(text));
    }

    #[test]
    fn slips_are_named() {
        let told = |text| before(text).configs().expect_err("a slip").to_string();
        assert_eq!(told(r#"["nmn"]"#), "unknown pre-aggregator \"nmn\", did you mean `nnm`?");
        assert!(told(r#"[{ kind = "clip", nrom = 2.0 }]"#).starts_with("clip: unknown field `nrom`"));
        assert!(told("[{}]").starts_with("pre-aggregator has no kind; known are nnm, bucketing"));
        assert_eq!(Before::read(&Toml::Integer(3)), None);
    }
}
