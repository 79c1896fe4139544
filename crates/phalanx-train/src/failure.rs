//! `failure.json`: why a run failed, with what one asks next.
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::ArtefactError;
use crate::summary::{read_json, write_json};

/// Why a run failed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Failure {
    /// The rank that failed first, where one did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rank: Option<u64>,
    /// The host it ran on.
    pub host: String,
    /// In which step, counted from 1; 0 before the first.
    pub step: u64,
    /// What the loop was doing: `forward`, `backward`, `all-reduce`, `checkpoint`, ...
    pub phase: String,
    /// The operation that failed, where it is smaller than the phase.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub operation: Option<String>,
    /// The error, and after it what caused it, one below the other.
    pub causes: Vec<String>,
    /// The exit code of the process.
    pub exit_code: u8,
}

impl Failure {
    /// The error and its causes, outermost first.
    pub fn chain(error: &dyn std::error::Error) -> Vec<String> {
        std::iter::successors(Some(error), |error| error.source()).map(ToString::to_string).collect()
    }

    /// Writes it whole or not at all.
    ///
    /// # Errors
    /// [`ArtefactError::Io`].
    pub fn write(&self, file: &Path) -> Result<(), ArtefactError> {
        write_json(file, self)
    }

    /// Reads one.
    ///
    /// # Errors
    /// [`ArtefactError::Io`], [`ArtefactError::TooLong`], [`ArtefactError::Json`].
    pub fn read(file: &Path) -> Result<Self, ArtefactError> {
        read_json(file)
    }
}

/// The name of this host, for [`Failure::host`].
pub fn host() -> String {
    crate::rundir::host()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trip_with_the_chain_of_causes() {
        let full = std::io::Error::from(std::io::ErrorKind::StorageFull);
        let error = ArtefactError::Io { action: "write", path: "/runs/x/state.bin".into(), source: full };
        let failure = Failure {
            rank: Some(1),
            host: host(),
            step: 412,
            phase: "checkpoint".to_owned(),
            causes: Failure::chain(&error),
            exit_code: 1,
            ..Failure::default()
        };
        assert_eq!(failure.causes, ["cannot write /runs/x/state.bin", "no storage space"]);
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("failure.json");
        failure.write(&file).unwrap();
        assert_eq!(Failure::read(&file).unwrap(), failure);
        std::fs::write(&file, "{").unwrap();
        assert!(matches!(Failure::read(&file), Err(ArtefactError::Json { .. })));
    }
}
