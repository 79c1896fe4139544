//! What goes wrong with NCCL before, in or after a collective.

use crate::library::NcclVersion;
use cudarc::driver::DriverError;
use phalanx_comm::{CommError, Rank};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// Why NCCL could not be used, or what became of a collective.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum NcclError {
    /// The library is not on this machine.
    #[error("NCCL is not here: tried {}: {cause}", tried.join(", "))]
    NoLibrary {
        /// The names that were tried.
        tried: Vec<String>,
        /// What the loader said to the last of them.
        cause: Arc<str>,
    },
    /// The library lacks a function.
    #[error("the NCCL in {library} has no function {function}: it is too old")]
    NoFunction {
        /// The name by which the library was opened.
        library: Arc<str>,
        /// What it lacks.
        function: &'static str,
    },
    /// The library is older than what is needed.
    #[error("the NCCL in {library} is {got}, {need} is the least")]
    TooOld {
        /// The name by which the library was opened.
        library: Arc<str>,
        /// Its version.
        got: NcclVersion,
        /// The oldest that can be used.
        need: NcclVersion,
    },
    /// A function of NCCL returned an error, at once or later.
    #[error("{function} failed with {code} ({name}): {text}")]
    Call {
        /// The function that returned it, or that told it later.
        function: &'static str,
        /// What it returned.
        code: u32,
        /// The name of that code.
        name: &'static str,
        /// What the library says to it.
        text: Arc<str>,
    },
    /// A call of the driver failed.
    #[error("{}{what}: {}", On(*device), Driver(cause))]
    Driver {
        /// The device, where a communicator has one.
        device: Option<usize>,
        /// What was being done.
        what: &'static str,
        /// What the driver said.
        cause: DriverError,
    },
    /// Other ranks did not come, or the device did not get to it.
    #[error("{what} was not complete after {:.1} s", waited.as_secs_f64())]
    Timeout {
        /// What was waited for: making the communicator, or a collective with its number.
        what: Arc<str>,
        /// For how long.
        waited: Duration,
    },
    /// A stream of another device than the communicator's.
    #[error("a collective of cuda:{communicator} on a stream of cuda:{stream}")]
    OtherDevice {
        /// The stream's device.
        stream: usize,
        /// The communicator's.
        communicator: usize,
    },
    /// The communicator was closed by this rank.
    #[error("the communicator is closed")]
    Closed,
    /// The ranks did not make the same call, or one of them failed.
    #[error(transparent)]
    Comm(#[from] CommError),
}

impl NcclError {
    /// The error of `rank` as all ranks get to see it.
    #[must_use]
    pub fn on(&self, rank: Rank) -> CommError {
        match self {
            Self::Call { function, code, text, .. } => CommError::Library {
                rank,
                function: (*function).into(),
                code: i64::from(*code),
                text: Arc::clone(text),
            },
            Self::Comm(error) => error.clone(),
            other => CommError::aborted(rank, other),
        }
    }

    /// For `map_err` on a call of the driver.
    pub(crate) const fn driver(what: &'static str) -> impl Fn(DriverError) -> Self {
        move |cause| Self::Driver { device: None, what, cause }
    }

    /// The same, of a device.
    pub(crate) fn of(self, ordinal: usize) -> Self {
        match self {
            Self::Driver { device: None, what, cause } => Self::Driver { device: Some(ordinal), what, cause },
            other => other,
        }
    }
}

impl From<DriverError> for NcclError {
    fn from(cause: DriverError) -> Self {
        Self::Driver { device: None, what: "a call of the driver", cause }
    }
}

struct On(Option<usize>);

impl fmt::Display for On {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.map_or(Ok(()), |ordinal| write!(f, "cuda:{ordinal}: "))
    }
}

struct Driver<'a>(&'a DriverError);

impl fmt::Display for Driver<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "code {}", self.0.0 as u32)?;
        match self.0.error_string() {
            Ok(text) => write!(f, " ({})", text.to_string_lossy()),
            Err(_) => Ok(()),
        }
    }
}
