//! The mark on the checkpoint of least validation loss: a small file that survives crashes.
use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::storage::{Storage, replace_file};

/// The longest mark that is read, in bytes.
const MAX_LEN: u64 = 1024;

/// The checkpoint with the least validation loss.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Best {
    /// Its step.
    pub step: u64,
    /// Its mean loss over the validation set; finite.
    pub validation_loss: f64,
}

impl Best {
    /// Of a checkpoint whose validation loss was taken and is finite.
    pub(super) fn of(step: u64, validation_loss: Option<f64>) -> Option<Self> {
        let validation_loss = validation_loss.filter(|loss| loss.is_finite())?;
        Some(Self { step, validation_loss })
    }

    /// Whether this one takes the place of `other`: the earlier step does on a tie.
    pub(super) fn beats(&self, other: &Self) -> bool {
        (self.validation_loss, self.step) < (other.validation_loss, other.step)
    }

    /// The mark in `file`; none if there is no mark, or none that can be read.
    pub(super) fn read(storage: &dyn Storage, file: &Path) -> Option<Self> {
        let bytes = storage.read(file, MAX_LEN).ok()?;
        serde_json::from_slice(&bytes).ok()
    }

    /// Puts the mark in `file` in place of the one there.
    pub(super) fn write(&self, storage: &dyn Storage, file: &Path) -> io::Result<()> {
        let mut line = serde_json::to_vec(self)?;
        line.push(b'\n');
        replace_file(storage, file, &[&line])
    }
}
