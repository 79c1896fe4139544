//! A storage whose k-th change fails: for tests of what a full disk or a kill leaves behind.
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::Storage;

/// What happens at the chosen operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// It fails as on a full disk, once half of the data is written. Later operations work again.
    DiskFull,
    /// The process dies in the middle of it: this operation and all later ones fail.
    Kill,
}

/// Passes operations on to `inner` until the k-th change, which fails.
///
/// Changes are counted from 0: making a directory, writing, syncing, renaming, removing. Reads are not
/// counted, and after a [`Fault::Kill`] they fail as well.
#[derive(Debug)]
pub struct Faulty {
    inner: Arc<dyn Storage>,
    fault: Fault,
    left: AtomicU64,
    hit: AtomicBool,
}

impl Faulty {
    /// A storage that fails at change number `at`.
    pub fn new(inner: Arc<dyn Storage>, fault: Fault, at: u64) -> Self {
        Self { inner, fault, left: AtomicU64::new(at), hit: AtomicBool::new(false) }
    }

    /// Whether the fault has happened.
    pub fn hit(&self) -> bool {
        self.hit.load(Ordering::SeqCst)
    }

    /// Whether this change is the one that fails.
    fn is_due(&self) -> io::Result<bool> {
        self.alive()?;
        if self.hit() {
            return Ok(false);
        }
        let due = self.left.load(Ordering::SeqCst) == 0;
        if due {
            self.hit.store(true, Ordering::SeqCst);
        } else {
            self.left.fetch_sub(1, Ordering::SeqCst);
        }
        Ok(due)
    }

    fn alive(&self) -> io::Result<()> {
        if self.fault == Fault::Kill && self.hit() { Err(self.failure()) } else { Ok(()) }
    }

    fn failure(&self) -> io::Error {
        match self.fault {
            Fault::DiskFull => io::ErrorKind::StorageFull.into(),
            Fault::Kill => io::ErrorKind::Interrupted.into(),
        }
    }
}

impl Storage for Faulty {
    fn make_dir(&self, dir: &Path) -> io::Result<()> {
        if self.is_due()? { Err(self.failure()) } else { self.inner.make_dir(dir) }
    }

    fn write_synced(&self, file: &Path, parts: &[&[u8]]) -> io::Result<()> {
        if !self.is_due()? {
            return self.inner.write_synced(file, parts);
        }
        let whole = parts.concat();
        self.inner.write_synced(file, &[&whole[..whole.len() / 2]])?;
        Err(self.failure())
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        if self.is_due()? { Err(self.failure()) } else { self.inner.sync_dir(dir) }
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        if self.is_due()? { Err(self.failure()) } else { self.inner.rename(from, to) }
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        if !self.is_due()? {
            return self.inner.remove(path);
        }
        if let Some(first) = self.inner.list(path).unwrap_or_default().first() {
            self.inner.remove(&path.join(first))?;
        }
        Err(self.failure())
    }

    fn len(&self, file: &Path) -> io::Result<u64> {
        self.alive()?;
        self.inner.len(file)
    }

    fn read(&self, file: &Path, limit: u64) -> io::Result<Vec<u8>> {
        self.alive()?;
        self.inner.read(file, limit)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        self.alive()?;
        self.inner.list(dir)
    }
}
