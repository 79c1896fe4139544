//! What can go wrong with the files of a run, with the facts one asks for next.
use std::path::{Path, PathBuf};

use crate::wire::WireError;

/// A file or directory of a run that could not be written, read or believed.
///
/// Messages name the file and what is wrong with it; the cause, where another library has one, is in
/// [`source`](std::error::Error::source).
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ArtefactError {
    /// The operating system refused an operation on a file: a full disk, a missing permission, ...
    #[error("cannot {action} {path}", path = path.display())]
    Io {
        /// What was being done, as a verb.
        action: &'static str,
        /// To which file or directory.
        path: PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// A run's name cannot be the name of a directory.
    #[error("`{name}` cannot name a run: it {why}")]
    RunName {
        /// The name.
        name: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// A directory given for a new run holds a run.
    #[error("{dir} already holds a run: resume it, overwrite it, or place this one elsewhere", dir = dir.display())]
    HoldsRun {
        /// The directory.
        dir: PathBuf,
    },
    /// A directory given to resume or to read holds no run.
    #[error("{dir} holds no run: it has no run.toml", dir = dir.display())]
    NoRun {
        /// The directory.
        dir: PathBuf,
    },
    /// Another process is writing into the run directory.
    #[error("{dir} is in use by process {pid} on {host}", dir = dir.display())]
    Locked {
        /// The directory.
        dir: PathBuf,
        /// The process that holds it; 0 where it has not said yet.
        pid: u32,
        /// The host of that process; empty where it has not said yet.
        host: String,
    },
    /// A file is shorter or longer than it must be: truncated, or written to since.
    #[error("{file} is {got} bytes long instead of {need}", file = file.display())]
    Length {
        /// The file.
        file: PathBuf,
        /// The length it was written with, in bytes.
        need: u64,
        /// Its length now, in bytes.
        got: u64,
    },
    /// A file is longer than anything that is read as its kind.
    #[error("{file} has {got} bytes, more than the {limit} that are read", file = file.display())]
    TooLong {
        /// The file.
        file: PathBuf,
        /// The longest that is read, in bytes.
        limit: u64,
        /// Its length, in bytes.
        got: u64,
    },
    /// A file does not begin as its kind does.
    #[error("{file} does not begin as {need}", file = file.display())]
    Magic {
        /// The file.
        file: PathBuf,
        /// The kind it must be.
        need: &'static str,
    },
    /// A file was written by another version of the format.
    #[error("{file} has format version {got}, this phalanx reads version {need}", file = file.display())]
    Version {
        /// The file.
        file: PathBuf,
        /// The version that is read.
        need: u32,
        /// The version found.
        got: u32,
    },
    /// The contents of a file are not those that were written.
    #[error("{file} is damaged: its {kind} is {got} instead of {need}", file = file.display())]
    Checksum {
        /// The file.
        file: PathBuf,
        /// The kind of checksum.
        kind: &'static str,
        /// The checksum it was written with, in hexadecimal.
        need: String,
        /// That of its contents now, in hexadecimal.
        got: String,
    },
    /// A file is whole and cannot be decoded all the same.
    #[error("{file} cannot be decoded", file = file.display())]
    Wire {
        /// The file.
        file: PathBuf,
        /// Why not.
        #[source]
        source: WireError,
    },
    /// Run state cannot be encoded, for example because it exceeds the cap on its size.
    #[error("the state for {file} cannot be encoded", file = file.display())]
    Encode {
        /// The file that was to hold it.
        file: PathBuf,
        /// Why not.
        #[source]
        source: WireError,
    },
    /// A checkpoint's directory and its contents name different steps.
    #[error("{dir} holds the checkpoint of step {got}", dir = dir.display())]
    WrongStep {
        /// The checkpoint's directory, whose name says another step.
        dir: PathBuf,
        /// The step in its state.
        got: u64,
    },
    /// A file is not in the safetensors format.
    #[error("{file} is not a safetensors file", file = file.display())]
    TensorFile {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        #[source]
        source: safetensors::SafeTensorError,
    },
    /// A set of tensors cannot be described in a safetensors header.
    #[error("the tensors cannot be described in a safetensors header")]
    TensorHeader {
        /// Why not.
        #[source]
        source: safetensors::SafeTensorError,
    },
    /// A tensor has elements of a type that phalanx does not store.
    #[error("tensor `{tensor}` of {file} has elements of type {got}, need F32, F64 or U64", file = file.display())]
    Dtype {
        /// The file.
        file: PathBuf,
        /// The tensor's name.
        tensor: String,
        /// Its element type.
        got: safetensors::Dtype,
    },
    /// A tensor has not as many elements as its shape says.
    #[error("tensor `{tensor}` of shape {shape:?} has {got} elements")]
    Shape {
        /// The tensor's name.
        tensor: String,
        /// Its shape.
        shape: Vec<usize>,
        /// The number of its elements.
        got: usize,
    },
    /// Two tensors of one file have the same name.
    #[error("two tensors are named `{tensor}`")]
    DuplicateTensor {
        /// The name.
        tensor: String,
    },
    /// A name that the safetensors format keeps for itself.
    #[error("a tensor cannot be named `{tensor}`: the safetensors format uses this name")]
    ReservedTensor {
        /// The name.
        tensor: String,
    },
    /// There is nothing to resume from.
    #[error("{dir} holds no checkpoint", dir = dir.display())]
    NoCheckpoint {
        /// The directory of the checkpoints.
        dir: PathBuf,
    },
    /// There are checkpoints, and each is damaged.
    #[error("none of the {count} checkpoints in {dir} can be used; the newest was refused", dir = dir.display())]
    NoGoodCheckpoint {
        /// The directory of the checkpoints.
        dir: PathBuf,
        /// How many were tried.
        count: usize,
        /// Why the newest was refused.
        #[source]
        newest: Box<ArtefactError>,
    },
    /// A file is not the JSON it should be.
    #[error("{file} is not what phalanx writes there", file = file.display())]
    Json {
        /// The file.
        file: PathBuf,
        /// Where and why.
        #[source]
        source: serde_json::Error,
    },
}

impl ArtefactError {
    /// Says what was being done to `path` when the operating system refused.
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| Self::Io { action, path, source }
    }
}
