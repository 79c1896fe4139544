//! Whether a file holds what it should.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::Path;

use flate2::bufread::MultiGzDecoder;
use sha2::{Digest, Sha256};

/// Length and SHA-256 of what a file must hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Checksum {
    /// Of the bytes of the file.
    Plain {
        /// Length in bytes.
        len: u64,
        /// SHA-256 in lower-case hexadecimal.
        sha256: &'static str,
    },
    /// Of what the file holds once unpacked by gzip, for files that different publishers pack
    /// differently.
    Gunzipped {
        /// Length in bytes.
        len: u64,
        /// SHA-256 in lower-case hexadecimal.
        sha256: &'static str,
    },
}

impl Checksum {
    /// Length of the file where that is known.
    pub(crate) fn file_len(self) -> Option<u64> {
        match self {
            Self::Plain { len, .. } => Some(len),
            Self::Gunzipped { .. } => None,
        }
    }

    /// The longest file that can match: gzip adds a header and a little for each block it cannot pack.
    pub(crate) fn most_bytes(self) -> u64 {
        match self {
            Self::Plain { len, .. } => len,
            Self::Gunzipped { len, .. } => len + len / 1000 + (1 << 16),
        }
    }

    pub(crate) fn need(self) -> &'static str {
        match self {
            Self::Plain { sha256, .. } | Self::Gunzipped { sha256, .. } => sha256,
        }
    }

    /// What the file holds instead, as hexadecimal, or nothing when it is right.
    ///
    /// Damaged gzip counts as wrong; an error is one of the disk.
    pub(crate) fn mismatch(self, file: &Path) -> io::Result<Option<String>> {
        let mut reader = BufReader::with_capacity(1 << 16, File::open(file)?);
        let (len, read) = match self {
            Self::Plain { len, .. } => (len, hash(&mut reader, len)?),
            Self::Gunzipped { len, .. } => match hash(&mut MultiGzDecoder::new(reader), len) {
                Ok(read) => (len, read),
                Err(error) if error.raw_os_error().is_some() => return Err(error),
                Err(_) => return Ok(Some("damaged gzip".to_owned())),
            },
        };
        let right = read.len == len && read.sha256 == self.need();
        Ok((!right).then(|| format!("{} ({} bytes)", read.sha256, read.len)))
    }
}

struct Hashed {
    len: u64,
    sha256: String,
}

/// Hashes up to one byte more than `len`, so that a file that goes on without end is soon refused.
fn hash(reader: &mut dyn Read, len: u64) -> io::Result<Hashed> {
    let mut reader = reader.take(len.saturating_add(1));
    let mut hasher = Sha256::new();
    let mut chunk = vec![0; 1 << 16];
    let mut read = 0;
    loop {
        match reader.read(&mut chunk) {
            Ok(0) => break,
            Ok(got) => {
                hasher.update(&chunk[..got]);
                read += got as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    let sha256 = hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(Hashed { len: read, sha256 })
}
