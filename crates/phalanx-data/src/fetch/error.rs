//! What can go wrong between a set's name and its bytes on disk.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

/// Why a set or a file could not be fetched.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FetchError {
    /// No set of that name.
    #[error("no data set {got:?} to fetch, there are {}", known.join(", "))]
    UnknownSet {
        /// The name asked for.
        got: String,
        /// The names there are.
        known: [&'static str; 3],
    },

    /// The disk refused.
    #[error("cannot {doing} {}", .file.display())]
    Io {
        /// What was being done.
        doing: &'static str,
        /// The file or folder.
        file: PathBuf,
        /// The cause.
        source: io::Error,
    },

    /// Another process is fetching the same file.
    #[error("{} is being written by another process", .file.display())]
    Busy {
        /// The partial file.
        file: PathBuf,
    },

    /// No answer: name, connection, TLS or time.
    #[error("no answer from {url}")]
    Request {
        /// The address.
        url: String,
        /// The cause.
        source: Box<ureq::Error>,
    },

    /// An answer that is not the file.
    #[error("{url} answered with HTTP status {status}")]
    Status {
        /// The address.
        url: String,
        /// The status.
        status: u16,
    },

    /// The server sent another part of the file than the one asked for.
    #[error("{url} was asked for the bytes from {need} on and sent the range {got:?}")]
    Range {
        /// The address.
        url: String,
        /// Its `Content-Range`.
        got: String,
        /// The first byte asked for.
        need: u64,
    },

    /// The connection broke.
    #[error("{url} broke off after {got} bytes")]
    Broken {
        /// The address.
        url: String,
        /// Bytes on disk.
        got: u64,
        /// The cause.
        source: io::Error,
    },

    /// The server stopped early without an error.
    #[error("{url} ended after {got} bytes of {need}")]
    Truncated {
        /// The address.
        url: String,
        /// Bytes on disk.
        got: u64,
        /// Bytes of the file.
        need: u64,
    },

    /// The server fell silent.
    #[error("{url} sent nothing for {waited:?} after {got} bytes")]
    Stalled {
        /// The address.
        url: String,
        /// How long it was waited for.
        waited: Duration,
        /// Bytes on disk.
        got: u64,
    },

    /// A file of another length than the one meant.
    #[error("{url} has {got} bytes or more, need {need}")]
    Length {
        /// The address.
        url: String,
        /// The length announced or received.
        got: u64,
        /// The length, or the longest length, of the right file.
        need: u64,
    },

    /// All bytes came, but not the right ones. The partial file has been removed.
    #[error("{url} has SHA-256 {got}, need {need}")]
    Checksum {
        /// The address.
        url: String,
        /// The checksum received.
        got: String,
        /// The right one.
        need: &'static str,
    },

    /// An archive with the right checksum that could not be taken apart.
    #[error("cannot unpack {}", .file.display())]
    Archive {
        /// The archive.
        file: PathBuf,
        /// The cause.
        source: io::Error,
    },

    /// What was unpacked is not what it should be.
    #[error("{} unpacks to SHA-256 {got}, need {need}", .file.display())]
    Unpacked {
        /// The archive.
        file: PathBuf,
        /// The checksum of the result.
        got: String,
        /// The right one.
        need: &'static str,
    },
}

impl FetchError {
    /// Whether the same request may succeed a little later.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Status { status, .. } => matches!(status, 408 | 425 | 429 | 500..),
            Self::Request { source, .. } => match &**source {
                // a refused certificate arrives as invalid data, and will be refused again
                ureq::Error::Io(error) => error.kind() != io::ErrorKind::InvalidData,
                ureq::Error::Timeout(_) | ureq::Error::ConnectionFailed | ureq::Error::Protocol(_) => true,
                _ => false,
            },
            Self::Range { .. } | Self::Broken { .. } | Self::Truncated { .. } | Self::Stalled { .. } => true,
            _ => false,
        }
    }
}
