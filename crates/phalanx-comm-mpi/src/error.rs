//! What goes wrong with MPI before or below a collective.

use phalanx_comm::{CommError, Rank};
use std::io;

/// Why MPI, or memory shared over it, could not be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MpiError {
    /// A function of MPI returned an error code.
    #[error("{function} failed with code {code}: {text}")]
    Call {
        /// Its name.
        function: &'static str,
        /// What it returned.
        code: i32,
        /// What the library says to that.
        text: String,
    },
    /// The library does not let several threads call it.
    #[error(
        "this MPI gives thread level {got} (MPI_THREAD_MULTIPLE is {need}): build it with thread support"
    )]
    ThreadLevel {
        /// The level it gives.
        got: i32,
        /// The level that is needed.
        need: i32,
    },
    /// MPI can be started once a process.
    #[error("MPI was started before in this process")]
    Started,
    /// The ranks that are left after the death of one cannot go on with this library, or with how they were started.
    #[error(
        "{library} cannot go on without a rank that died: it takes Open MPI 5, and ranks that \
         `mpirun --with-ft ulfm` has started"
    )]
    CannotSurvive {
        /// The library.
        library: String,
    },
    /// Too few ranks are left: others may be, elsewhere, that go on.
    #[error("{left} of {before} ranks are left here: more than half may go on, or half with the lowest rank")]
    Quorum {
        /// Ranks that are left.
        left: usize,
        /// Ranks that there were.
        before: usize,
    },
    /// The ranks that were left did not come to agree on who they are.
    #[error("of {before} ranks, those that are left did not come to agree on who they are")]
    Unsettled {
        /// Ranks that there were.
        before: usize,
    },
    /// The system gave no memory that processes can share.
    #[error("{what} of {bytes} bytes: {source}")]
    Memory {
        /// What was tried.
        what: &'static str,
        /// For how much.
        bytes: usize,
        /// What the system said.
        source: io::Error,
    },
    /// What another process put into shared memory makes no sense.
    #[error("{rank} announced memory that is not there")]
    Token {
        /// That rank, among those of its node.
        rank: Rank,
    },
}

impl MpiError {
    /// The error as all ranks get to see it.
    pub(crate) fn on(&self, rank: Rank) -> CommError {
        match self {
            Self::Call { function, code, text } => CommError::Library {
                rank,
                function: (*function).into(),
                code: i64::from(*code),
                text: text.as_str().into(),
            },
            other => CommError::aborted(rank, other),
        }
    }
}
