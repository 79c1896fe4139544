//! The file system, until it is full.

use std::io::{self, ErrorKind};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use phalanx_train::storage::{Disk, Storage};

/// The real file system, that takes nothing more once `is_full` is set.
#[derive(Debug, Clone)]
pub(super) struct FillingDisk {
    pub(super) is_full: Arc<AtomicBool>,
}

impl FillingDisk {
    fn room(&self) -> io::Result<()> {
        match self.is_full.load(Ordering::Relaxed) {
            true => Err(ErrorKind::StorageFull.into()),
            false => Ok(()),
        }
    }
}

impl Storage for FillingDisk {
    fn make_dir(&self, dir: &Path) -> io::Result<()> {
        self.room().and_then(|()| Disk.make_dir(dir))
    }

    fn write_synced(&self, file: &Path, parts: &[&[u8]]) -> io::Result<()> {
        self.room().and_then(|()| Disk.write_synced(file, parts))
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        Disk.sync_dir(dir)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        Disk.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        Disk.remove(path)
    }

    fn len(&self, file: &Path) -> io::Result<u64> {
        Disk.len(file)
    }

    fn read(&self, file: &Path, limit: u64) -> io::Result<Vec<u8>> {
        Disk.read(file, limit)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        Disk.list(dir)
    }
}
