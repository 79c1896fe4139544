//! The file operations that crash safety rests on, as a trait, so that tests can make each of them fail.
use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::Path;

pub use self::faulty::{Fault, Faulty};

mod faulty;

/// Operations on files and directories, in the granularity in which a crash can part them.
///
/// A name (a created, renamed or removed entry) is durable only after [`sync_dir`](Self::sync_dir) of
/// the directory it stands in; contents are durable once [`write_synced`](Self::write_synced) returned.
pub trait Storage: fmt::Debug + Send + Sync {
    /// Makes a directory; one that exists is fine.
    ///
    /// # Errors
    /// As the operating system says.
    fn make_dir(&self, dir: &Path) -> io::Result<()>;

    /// Writes `parts` one after another as the contents of `file`, and waits until they are durable.
    ///
    /// # Errors
    /// As the operating system says; the file may then hold anything.
    fn write_synced(&self, file: &Path, parts: &[&[u8]]) -> io::Result<()>;

    /// Waits until the entries of `dir` are durable.
    ///
    /// # Errors
    /// As the operating system says.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;

    /// Renames a file over whatever file has the new name, or a directory to a name that is free.
    ///
    /// # Errors
    /// As the operating system says.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes a file, or a directory and all it holds.
    ///
    /// # Errors
    /// As the operating system says; a part may be gone then.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// The length of a file, in bytes.
    ///
    /// # Errors
    /// As the operating system says.
    fn len(&self, file: &Path) -> io::Result<u64>;

    /// The first `limit` bytes of a file, or all of it.
    ///
    /// # Errors
    /// As the operating system says.
    fn read(&self, file: &Path, limit: u64) -> io::Result<Vec<u8>>;

    /// The names in a directory, sorted; names that are not UTF-8 are left out, phalanx writes none.
    ///
    /// # Errors
    /// As the operating system says.
    fn list(&self, dir: &Path) -> io::Result<Vec<String>>;
}

/// The real file system.
#[derive(Debug, Clone, Copy, Default)]
pub struct Disk;

impl Storage for Disk {
    fn make_dir(&self, dir: &Path) -> io::Result<()> {
        fs::create_dir_all(dir)
    }

    fn write_synced(&self, file: &Path, parts: &[&[u8]]) -> io::Result<()> {
        let mut file = File::create(file)?;
        for part in parts {
            file.write_all(part)?;
        }
        file.sync_all()
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        File::open(dir)?.sync_all()
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        if fs::symlink_metadata(path)?.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) }
    }

    fn len(&self, file: &Path) -> io::Result<u64> {
        fs::metadata(file).map(|meta| meta.len())
    }

    fn read(&self, file: &Path, limit: u64) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        File::open(file)?.take(limit).read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(dir)? {
            names.extend(entry?.file_name().into_string().ok());
        }
        names.sort_unstable();
        Ok(names)
    }
}

/// Replaces `file` by `parts` so that a crash leaves the old contents or the new, never a mixture.
///
/// # Errors
/// As the operating system says; the old contents are then still there.
pub(crate) fn replace_file(storage: &dyn Storage, file: &Path, parts: &[&[u8]]) -> io::Result<()> {
    let dir = file.parent().unwrap_or(Path::new("."));
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    let beside = dir.join(format!(".tmp-{name}"));
    storage.write_synced(&beside, parts)?;
    storage.rename(&beside, file)?;
    storage.sync_dir(dir)
}
