//! Getting data sets: from where the system has them, or by HTTP, always checked.
//!
//! [`fetch`] gets a set by name. [`download`] is its engine, for any file whose checksum is known:
//! interrupted transfers go on where they stopped, in this run or the next.
//!
//! ```no_run
//! use phalanx_data::fetch::{FetchOptions, fetch};
//!
//! let options = FetchOptions::new("data");
//! let fetched = fetch("fashion-mnist", &options, &mut |progress| {
//!     eprintln!("{}: {} bytes", progress.file, progress.done);
//! })?;
//! let splits = phalanx_data::IdxOptions::in_folder(&fetched.path)?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod checksum;
mod download;
mod error;
mod images;
mod part;
mod shakespeare;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub use self::checksum::Checksum;
pub use self::download::download;
pub use self::error::FetchError;

/// A set that [`fetch`] knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Set {
    /// The name to fetch it by.
    pub name: &'static str,
    /// What it is.
    pub about: &'static str,
    /// The terms it comes under, also written beside the data.
    pub licence: &'static str,
    /// Where it is downloaded from when no mirror is given.
    pub base: &'static str,
}

/// All sets, by name.
pub const SETS: [&Set; 3] = [&images::FASHION_MNIST.set, &images::MNIST.set, &shakespeare::SET];

/// Where data go and how patient a download is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FetchOptions {
    /// The set goes to a folder of its name in here.
    pub dir: PathBuf,
    /// Where packages of the system put data sets, each in a folder of its name. What is there is
    /// copied, not downloaded, unless a mirror is given. Default `/usr/share/datasets`, Debian's.
    pub installed: PathBuf,
    /// Base URL to download from instead of the set's own; the file names are appended.
    pub mirror: Option<String>,
    /// How often in a row a transfer may fail without getting further. Default 5; 0 counts as 1.
    pub attempts: u32,
    /// Pause after the first failure; it doubles with each further one, up to a minute. Default 1 s.
    pub backoff: Duration,
    /// How long a server may be silent. Default 30 s.
    pub stall: Duration,
}

impl FetchOptions {
    /// The defaults for a folder.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self {
            dir: dir.into(),
            installed: PathBuf::from("/usr/share/datasets"),
            mirror: None,
            attempts: 5,
            backoff: Duration::from_secs(1),
            stall: Duration::from_secs(30),
        }
    }
}

/// How far a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress<'a> {
    /// Name of the file.
    pub file: &'a str,
    /// Bytes that are on disk.
    pub done: u64,
    /// Bytes of the whole file, once the server has said so.
    pub total: Option<u64>,
}

/// What [`fetch`] did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fetched {
    /// The folder of an image set, the file of a text: what a run file names as `data.path`.
    pub path: PathBuf,
    /// Where the data came from.
    pub origin: Origin,
    /// Their licence.
    pub licence: &'static str,
}

/// Where data came from.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Origin {
    /// They were there, with the right checksums.
    Present,
    /// Copied from a package of the system.
    Installed(PathBuf),
    /// Downloaded from this base URL.
    Downloaded(String),
}

/// Makes sure that a set is in `options.dir`, complete and unaltered.
///
/// # Errors
/// [`FetchError`]; an interrupted transfer leaves `NAME.part` to go on with, a corrupt one leaves nothing.
pub fn fetch(
    name: &str,
    options: &FetchOptions,
    progress: &mut dyn FnMut(Progress<'_>),
) -> Result<Fetched, FetchError> {
    let folder = |set: &Set| {
        let folder = options.dir.join(set.name);
        let io = |source| FetchError::Io { doing: "create", file: folder.clone(), source };
        fs::create_dir_all(&folder).map_err(io)?;
        write(&folder.join("LICENCE.txt"), set.licence.as_bytes())?;
        Ok(folder)
    };
    for set in [&images::FASHION_MNIST, &images::MNIST] {
        if name == set.set.name {
            return images::fetch(set, folder(&set.set)?, options, progress);
        }
    }
    if name == shakespeare::SET.name {
        return shakespeare::fetch(folder(&shakespeare::SET)?, options, progress);
    }
    Err(FetchError::UnknownSet { got: name.to_owned(), known: SETS.map(|set| set.name) })
}

/// Writes a small file beside its place and moves it there.
fn write(file: &Path, bytes: &[u8]) -> Result<(), FetchError> {
    let part = part::Part::create(file)?;
    part.append(bytes)?;
    part.finish()
}

fn base(set: &Set, options: &FetchOptions) -> String {
    let base = options.mirror.as_deref().unwrap_or(set.base);
    base.trim_end_matches('/').to_owned()
}
