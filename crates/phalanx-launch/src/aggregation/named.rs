//! A kind with settings, as a table of a list: the name is looked up first, so that a slip finds its nearest.

use serde::de::DeserializeOwned;
use toml::{Table, Value as Toml};

use crate::runfile::nearest;

/// What is wrong with one entry of a list of kinds.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum NamedError {
    /// A name that is none.
    #[error("unknown {what} {got:?}{}", hint(*nearest, known))]
    Unknown {
        /// What the name is of.
        what: &'static str,
        /// The name.
        got: String,
        /// The nearest known one.
        nearest: Option<&'static str>,
        /// All known ones.
        known: Vec<&'static str>,
    },
    /// A table without a name.
    #[error("{what} has no kind; known are {}", known.join(", "))]
    NoKind {
        /// What the table is of.
        what: &'static str,
        /// The known names.
        known: Vec<&'static str>,
    },
    /// Settings that the kind does not take.
    #[error("{kind}: {}", cause.message())]
    Settings {
        /// The kind.
        kind: &'static str,
        /// What is wrong with them.
        cause: toml::de::Error,
    },
}

fn hint(nearest: Option<&str>, known: &[&str]) -> String {
    nearest.map_or_else(
        || format!("; known are {}", known.join(", ")),
        |name| format!(", did you mean `{name}`?"),
    )
}

/// The known name under `kind`.
pub(crate) fn kind(
    what: &'static str,
    table: &Table,
    known: &[&'static str],
) -> Result<&'static str, NamedError> {
    let Some(got) = table.get("kind").and_then(Toml::as_str) else {
        return Err(NamedError::NoKind { what, known: known.to_vec() });
    };
    known.iter().find(|name| **name == got).copied().ok_or_else(|| {
        let near = nearest(got, known.iter().copied());
        let nearest = known.iter().find(|name| Some(**name) == near).copied();
        NamedError::Unknown { what, got: got.to_owned(), nearest, known: known.to_vec() }
    })
}

/// The settings of a kind.
pub(crate) fn settings<T: DeserializeOwned>(kind: &'static str, table: Table) -> Result<T, NamedError> {
    table.try_into().map_err(|cause| NamedError::Settings { kind, cause })
}
