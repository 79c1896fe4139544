//! The environment variables that the program reads: all of them are read here.

use std::path::PathBuf;

/// Looks up an environment variable; injected where a test needs another environment.
pub(crate) type Lookup<'a> = &'a dyn Fn(&str) -> Option<String>;

/// The value of an environment variable; `None` if it is unset or no Unicode.
#[expect(clippy::disallowed_methods, reason = "this is the one place that reads the environment")]
pub(crate) fn lookup(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// Where data sets are kept: `$PHALANX_DATA`, or `data` below the current directory.
pub(crate) fn data_dir(lookup: Lookup<'_>) -> PathBuf {
    lookup("PHALANX_DATA").filter(|dir| !dir.is_empty()).map_or_else(|| PathBuf::from("data"), PathBuf::from)
}

/// Whether the user asks every program for text without colours.
pub(crate) fn wants_no_color(lookup: Lookup<'_>) -> bool {
    lookup("NO_COLOR").is_some_and(|value| !value.is_empty()) || lookup("TERM").as_deref() == Some("dumb")
}
