//! Checkpoints: everything that makes a resumed run the run that was never stopped, safe against crashes.
//!
//! A checkpoint is a directory `checkpoints/step-00000100/` of three files: `model.safetensors` and
//! `optimizer.safetensors`, which Python's `safetensors` reads, and `state.bin`, which holds a [`Meta`]
//! and the SHA-256 of the other two behind a magic, a version, a length and a checksum of its own.
//! [`Checkpoints`] writes, finds, checks and thins them out; equal state gives equal bytes.
//!
//! # Crash safety
//! A checkpoint is written beside its place under a name that begins with `.tmp-`, each file and the
//! directory are synced, and only then is it renamed and its parent synced. A crash or a full disk at
//! any point leaves the earlier checkpoints as they were.
//!
//! # Not done
//! No sharded checkpoints: one process writes the whole state.
use crate::NamedTensor;

pub use self::meta::{EpochCursor, FORMAT_VERSION, Meta};
pub use self::store::{Best, Checkpoints, Keep, Loaded, Refused, Saved};

pub mod state_file;

mod best;
mod meta;
mod store;

/// State to be saved, borrowed from the training loop.
#[derive(Debug, Clone, Copy)]
pub struct Snapshot<'a> {
    /// All that is not a tensor.
    pub meta: &'a Meta,
    /// Parameters and buffers of the model.
    pub model: &'a [NamedTensor<'a>],
    /// What the optimizer keeps from step to step.
    pub optimizer: &'a [NamedTensor<'a>],
}

/// State that was loaded, each file checked against its checksum.
#[derive(Debug, Clone, PartialEq)]
pub struct Checkpoint {
    /// All that is not a tensor.
    pub meta: Meta,
    /// Parameters and buffers of the model, sorted by name.
    pub model: Vec<NamedTensor<'static>>,
    /// What the optimizer keeps from step to step, sorted by name.
    pub optimizer: Vec<NamedTensor<'static>>,
}
