//! The exit codes of the program, and which error ends it with which.

use std::error::Error;
use std::fmt;
use std::io;
use std::process::ExitCode;

use phalanx_train::ArtefactError;

use crate::engine::DeviceError;
use crate::hosts::HostsError;
use crate::runfile::RunFileError;
use crate::supervise::StarterError;
use crate::usage::UsageError;

/// How the program ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Exit {
    /// All is done.
    Done,
    /// Training, or what else was asked for, failed.
    Failed,
    /// The run file or the arguments are wrong.
    BadInput,
    /// A rank was lost.
    RankLost,
    /// Stopped on request, with a checkpoint.
    Stopped,
}

impl Exit {
    /// All of them, by code.
    pub const ALL: [Self; 5] = [Self::Done, Self::Failed, Self::BadInput, Self::RankLost, Self::Stopped];

    /// The exit code of the process.
    #[must_use]
    pub fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Failed => 1,
            Self::BadInput => 2,
            Self::RankLost => 3,
            Self::Stopped => 4,
        }
    }

    /// What the code says, for `--help` and the documents.
    #[must_use]
    pub fn meaning(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Failed => "training failed",
            Self::BadInput => "bad run file or arguments",
            Self::RankLost => "a rank was lost",
            Self::Stopped => "stopped on request, with a checkpoint to go on from",
        }
    }

    /// How `error` ends the program: as its [`WithExit`] says, as bad input for a wrong run file
    /// or argument, else as failed.
    #[must_use]
    pub fn of(error: &anyhow::Error) -> Self {
        let exit = |cause: &(dyn Error + 'static)| {
            if let Some(with) = cause.downcast_ref::<WithExit>() {
                Some(with.exit)
            } else {
                is_bad_input(cause).then_some(Self::BadInput)
            }
        };
        error.chain().find_map(exit).unwrap_or(Self::Failed)
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        exit.code().into()
    }
}

/// An error that ends the program with a code of its own; it reads as the error inside.
#[derive(Debug)]
pub struct WithExit {
    exit: Exit,
    inner: anyhow::Error,
}

impl WithExit {
    /// Ends the program as `exit` says when `inner` reaches the top.
    #[must_use]
    pub fn new(exit: Exit, inner: anyhow::Error) -> Self {
        Self { exit, inner }
    }
}

impl fmt::Display for WithExit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

impl Error for WithExit {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.inner.source()
    }
}

fn is_bad_input(cause: &(dyn Error + 'static)) -> bool {
    let is_refused_dir = |error: &ArtefactError| {
        matches!(
            error,
            ArtefactError::HoldsRun { .. }
                | ArtefactError::NoRun { .. }
                | ArtefactError::Locked { .. }
                | ArtefactError::RunName { .. }
        )
    };
    let is_refused = cause.is::<RunFileError>() || cause.is::<UsageError>();
    is_refused
        || cause.is::<DeviceError>()
        || cause.is::<HostsError>()
        || cause.is::<StarterError>()
        || cause.downcast_ref().is_some_and(is_refused_dir)
}

/// Whether a pipe or a socket that nobody reads any more caused the error.
#[must_use]
pub fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let is_pipe = |cause: &(dyn Error + 'static)| {
        cause.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
    };
    error.chain().any(is_pipe)
}

#[cfg(test)]
mod tests {
    use super::{Exit, WithExit};
    use crate::usage::UsageError;
    use anyhow::{Context as _, anyhow};

    #[test]
    fn the_code_is_found_below_contexts() {
        let lost = WithExit::new(Exit::RankLost, anyhow!("rank 3 is gone"));
        let error = Err::<(), _>(lost).context("training digits").unwrap_err();
        assert_eq!(Exit::of(&error), Exit::RankLost);
        assert_eq!(format!("{error:#}"), "training digits: rank 3 is gone");

        let usage = Err::<(), _>(UsageError::NothingToResume).context("resuming").unwrap_err();
        assert_eq!(Exit::of(&usage), Exit::BadInput);
        assert_eq!(Exit::of(&anyhow!("out of luck")), Exit::Failed);
    }
}
