//! What can be wrong with the settings of a policy.

/// An error of this crate.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BatchError {
    /// No policy of this name.
    #[error("no batch policy is named {name}, there are {}", known.join(", "))]
    UnknownPolicy {
        /// The name asked for.
        name: String,
        /// Those there are.
        known: &'static [&'static str],
    },
}
