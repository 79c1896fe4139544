//! Why the control channel could not be started.

use crate::error::CommError;
use crate::rank::{Rank, WorldSize};
use std::io;

/// Why the control channel could not be started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ControlError {
    /// No port could be opened.
    #[error("the control channel cannot {action}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The address of another rank cannot be read.
    #[error("the control address of {from} is unreadable ({got} bytes)")]
    Card {
        /// Whose.
        from: Rank,
        /// Its length.
        got: usize,
    },
    /// The secret that rank 0 sent is none.
    #[error("the secret of the job has {got} bytes, needs {need}")]
    Secret {
        /// Its length.
        got: usize,
        /// The length of a secret.
        need: usize,
    },
    /// There is not one address a rank.
    #[error("{cards} control addresses for {size}")]
    Cards {
        /// How many addresses there are.
        cards: usize,
        /// How many ranks there are.
        size: WorldSize,
    },
    /// The ranks could not tell each other their addresses.
    #[error("the ranks could not tell each other their control addresses")]
    Comm(#[from] CommError),
}

impl ControlError {
    pub(super) const fn io(action: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { action, source }
    }
}
