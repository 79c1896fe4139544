//! Where each file of a run stands.
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::ArtefactError;

/// The files of a run by name: for whoever reads a run, as well as for the one who writes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunPaths {
    root: PathBuf,
}

impl RunPaths {
    /// Names of all that a run leaves in its directory.
    const ARTEFACTS: [&str; 9] = [
        "run.toml",
        "events.jsonl",
        "summary.json",
        "failure.json",
        "model.safetensors",
        "trace.json",
        "tb",
        "checkpoints",
        "logs",
    ];

    /// Of the run in `root`. Touches no file.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// The directory itself.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The resolved run file.
    pub fn run_file(&self) -> PathBuf {
        self.root.join("run.toml")
    }

    /// What happened, one JSON object a line: [`events`](crate::events).
    pub fn events(&self) -> PathBuf {
        self.root.join("events.jsonl")
    }

    /// The figures at the end: [`Summary`](crate::Summary).
    pub fn summary(&self) -> PathBuf {
        self.root.join("summary.json")
    }

    /// Why the run failed, if it did: [`Failure`](crate::Failure).
    pub fn failure(&self) -> PathBuf {
        self.root.join("failure.json")
    }

    /// The trained model: [`model_file`](crate::model_file).
    pub fn model(&self) -> PathBuf {
        self.root.join("model.safetensors")
    }

    /// The directory of TensorBoard's event files.
    pub fn tensorboard(&self) -> PathBuf {
        self.root.join("tb")
    }

    /// The directory of the checkpoints.
    pub fn checkpoints(&self) -> PathBuf {
        self.root.join("checkpoints")
    }

    /// The Chrome trace, with a lane a rank.
    pub fn trace(&self) -> PathBuf {
        self.root.join("trace.json")
    }

    /// The directory of the logs of ranks that are processes.
    pub fn logs(&self) -> PathBuf {
        self.root.join("logs")
    }

    /// Whether anything of a run is there.
    pub fn holds_run(&self) -> bool {
        Self::ARTEFACTS.iter().any(|name| self.root.join(name).exists())
    }

    /// Removes what a run left, and nothing that is not a run's.
    pub(super) fn remove_artefacts(&self) -> Result<(), ArtefactError> {
        for name in Self::ARTEFACTS {
            let path = self.root.join(name);
            match fs::symlink_metadata(&path) {
                Ok(meta) if meta.is_dir() => fs::remove_dir_all(&path),
                Ok(_) => fs::remove_file(&path),
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
                Err(error) => Err(error),
            }
            .map_err(ArtefactError::io("remove", &path))?;
        }
        Ok(())
    }
}
