//! A file that is not complete yet: `NAME.part`, locked while it is written, renamed when it is right.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use crate::fetch::error::FetchError;

/// The partial form of a file, held by this process alone.
#[derive(Debug)]
pub(crate) struct Part {
    to: PathBuf,
    path: PathBuf,
    file: File,
}

impl Part {
    /// Opens what an earlier attempt left, or an empty one.
    pub(crate) fn resume(to: &Path) -> Result<Self, FetchError> {
        let mut name = to.file_name().unwrap_or_default().to_owned();
        name.push(".part");
        let path = to.with_file_name(name);
        let io = |doing| {
            let file = path.clone();
            move |source| FetchError::Io { doing, file, source }
        };
        let mut options = OpenOptions::new();
        let file =
            options.read(true).write(true).create(true).truncate(false).open(&path).map_err(io("create"))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(FetchError::Busy { file: path }),
            Err(TryLockError::Error(source)) => return Err(io("lock")(source)),
        }
        (&file).seek(SeekFrom::End(0)).map_err(io("read"))?;
        Ok(Self { to: to.to_path_buf(), path, file })
    }

    /// Opens an empty one, whatever was left.
    pub(crate) fn create(to: &Path) -> Result<Self, FetchError> {
        let part = Self::resume(to)?;
        part.clear()?;
        Ok(part)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn len(&self) -> Result<u64, FetchError> {
        Ok(self.file.metadata().map_err(self.io("read"))?.len())
    }

    pub(crate) fn append(&self, bytes: &[u8]) -> Result<(), FetchError> {
        (&self.file).write_all(bytes).map_err(self.io("write"))
    }

    pub(crate) fn clear(&self) -> Result<(), FetchError> {
        self.file.set_len(0).map_err(self.io("write"))?;
        (&self.file).rewind().map_err(self.io("write"))
    }

    /// Puts the file in its place, on disk.
    pub(crate) fn finish(self) -> Result<(), FetchError> {
        self.file.sync_all().map_err(self.io("write"))?;
        fs::rename(&self.path, &self.to).map_err(self.io("rename"))
    }

    /// Leaves nothing behind.
    pub(crate) fn remove(self) -> Result<(), FetchError> {
        fs::remove_file(&self.path).map_err(self.io("remove"))
    }

    pub(crate) fn io(&self, doing: &'static str) -> impl FnOnce(std::io::Error) -> FetchError + use<> {
        let file = self.path.clone();
        move |source| FetchError::Io { doing, file, source }
    }
}
