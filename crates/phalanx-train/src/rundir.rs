//! The directory of a run: `runs/<name>`, who may write into it, and where each file of a run stands.
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use self::lock::Lock;
pub use self::paths::RunPaths;
use crate::ArtefactError;
use crate::storage::{Disk, Storage, replace_file};

pub(crate) use self::lock::host;

mod lock;
mod paths;

/// What to do with a directory that holds a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Existing {
    /// Refuse it.
    Refuse,
    /// Remove the files of that run, and no others.
    Overwrite,
    /// Continue that run; refuse a directory that holds none.
    Resume,
}

/// The directory of the run of this process: no other process writes into it while this lives.
#[derive(Debug)]
pub struct RunDir {
    paths: RunPaths,
    _lock: Lock,
}

impl RunDir {
    /// Makes `base/name`, or `base/name-2`, `base/name-3`, ... if that is taken.
    ///
    /// Two processes that call this at once get different directories.
    ///
    /// # Collective
    /// No. One rank calls it before the others start, and tells them the path.
    ///
    /// # Errors
    /// [`ArtefactError::RunName`]; [`ArtefactError::Io`] where `base` cannot be made or written to.
    ///
    /// # Examples
    /// ```
    /// use phalanx_train::rundir::RunDir;
    ///
    /// let base = tempfile::tempdir()?;
    /// let first = RunDir::create(base.path(), "digits")?;
    /// let second = RunDir::create(base.path(), "digits")?;
    /// assert!(first.paths().root().ends_with("digits"));
    /// assert!(second.paths().root().ends_with("digits-2"));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn create(base: &Path, name: &str) -> Result<Self, ArtefactError> {
        check_name(name)?;
        fs::create_dir_all(base).map_err(ArtefactError::io("make", base))?;
        let mut dir = base.join(name);
        for number in 2_u64.. {
            match fs::create_dir(&dir) {
                Ok(()) => break,
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                    dir = base.join(format!("{name}-{number}"));
                }
                Err(error) => return Err(ArtefactError::io("make", &dir)(error)),
            }
        }
        Self::lock(dir)
    }

    /// Takes `dir` for a run, and makes it if need be.
    ///
    /// # Errors
    /// [`ArtefactError::HoldsRun`] and [`ArtefactError::NoRun`] as `existing` says;
    /// [`ArtefactError::Locked`] while another process has it; [`ArtefactError::Io`] where it cannot be
    /// made or written to.
    pub fn at(dir: &Path, existing: Existing) -> Result<Self, ArtefactError> {
        let holds_run = RunPaths::new(dir).holds_run();
        match existing {
            Existing::Refuse if holds_run => return Err(ArtefactError::HoldsRun { dir: dir.to_path_buf() }),
            Existing::Resume if !RunPaths::new(dir).run_file().is_file() => {
                return Err(ArtefactError::NoRun { dir: dir.to_path_buf() });
            }
            _ => fs::create_dir_all(dir).map_err(ArtefactError::io("make", dir))?,
        }
        let run = Self::lock(dir.to_path_buf())?;
        // another process may have put a run here between the look and the lock
        if existing == Existing::Refuse && run.paths.holds_run() {
            return Err(ArtefactError::HoldsRun { dir: dir.to_path_buf() });
        }
        if existing == Existing::Overwrite {
            run.paths.remove_artefacts()?;
        }
        Ok(run)
    }

    /// Where the files of the run stand.
    pub fn paths(&self) -> &RunPaths {
        &self.paths
    }

    /// Writes the resolved run file, from which the run can be resumed or repeated.
    ///
    /// # Errors
    /// [`ArtefactError::Io`].
    pub fn write_run_file(&self, text: &str) -> Result<(), ArtefactError> {
        write_whole(&self.paths.run_file(), text.as_bytes())
    }

    fn lock(dir: PathBuf) -> Result<Self, ArtefactError> {
        let lock = Lock::take(&dir)?;
        Ok(Self { paths: RunPaths::new(dir), _lock: lock })
    }
}

/// Writes a small file whole or not at all.
pub(crate) fn write_whole(file: &Path, bytes: &[u8]) -> Result<(), ArtefactError> {
    replace_file(&Disk, file, &[bytes]).map_err(ArtefactError::io("write", file))
}

/// Reads a small file.
pub(crate) fn read_whole(file: &Path, limit: u64) -> Result<Vec<u8>, ArtefactError> {
    let got = Disk.len(file).map_err(ArtefactError::io("read", file))?;
    if got > limit {
        return Err(ArtefactError::TooLong { file: file.to_path_buf(), limit, got });
    }
    Disk.read(file, limit).map_err(ArtefactError::io("read", file))
}

fn check_name(name: &str) -> Result<(), ArtefactError> {
    let why = match name {
        "" => "is empty",
        _ if name.starts_with('.') => "begins with a dot",
        _ if name.contains(['/', '\\']) => "contains a path separator",
        _ if name.chars().any(char::is_control) => "contains a control character",
        _ if name.len() > 200 => "is longer than 200 bytes",
        _ => return Ok(()),
    };
    Err(ArtefactError::RunName { name: name.to_owned(), why })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn threads_that_create_at_once_get_different_directories() {
        let base = tempfile::tempdir().unwrap();
        let runs: Vec<RunDir> = std::thread::scope(|scope| {
            let threads: Vec<_> =
                (0..16).map(|_| scope.spawn(|| RunDir::create(base.path(), "digits").unwrap())).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        let dirs: BTreeSet<_> = runs.iter().map(|run| run.paths().root().to_path_buf()).collect();
        let need: BTreeSet<_> = std::iter::once("digits".to_owned())
            .chain((2..=16).map(|number| format!("digits-{number}")))
            .map(|name| base.path().join(name))
            .collect();
        assert_eq!(dirs, need);
    }

    #[test]
    fn names_that_leave_the_directory_are_refused() {
        let base = tempfile::tempdir().unwrap();
        for name in ["", ".", "..", ".hidden", "a/b", "/etc", "a\nb", "a\0"] {
            let error = RunDir::create(base.path(), name).unwrap_err();
            assert!(matches!(&error, ArtefactError::RunName { .. }), "{name:?}: {error:?}");
        }
        assert_eq!(fs::read_dir(base.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_parent_that_cannot_be_made_is_named() {
        let base = tempfile::tempdir().unwrap();
        let file = base.path().join("file");
        fs::write(&file, "").unwrap();
        let error = RunDir::create(&file.join("runs"), "digits").unwrap_err();
        assert_eq!(error.to_string(), format!("cannot make {}", file.join("runs").display()));
        assert!(std::error::Error::source(&error).is_some());
    }

    #[test]
    fn an_explicit_directory_follows_existing() {
        let base = tempfile::tempdir().unwrap();
        let dir = base.path().join("deep/run");
        assert!(matches!(RunDir::at(&dir, Existing::Resume), Err(ArtefactError::NoRun { .. })));
        assert!(!dir.exists(), "a refusal makes nothing");
        let run = RunDir::at(&dir, Existing::Refuse).unwrap();
        run.write_run_file("seed = 1\n").unwrap();
        drop(run);

        assert!(matches!(RunDir::at(&dir, Existing::Refuse), Err(ArtefactError::HoldsRun { .. })));
        let run = RunDir::at(&dir, Existing::Resume).unwrap();
        assert_eq!(fs::read_to_string(run.paths().run_file()).unwrap(), "seed = 1\n");
        drop(run);

        fs::write(dir.join("notes.txt"), "mine").unwrap();
        fs::create_dir(dir.join("checkpoints")).unwrap();
        let run = RunDir::at(&dir, Existing::Overwrite).unwrap();
        assert!(!run.paths().holds_run());
        assert_eq!(fs::read_to_string(dir.join("notes.txt")).unwrap(), "mine", "not ours to remove");
    }

    #[test]
    fn one_writer_at_a_time() {
        let base = tempfile::tempdir().unwrap();
        let run = RunDir::create(base.path(), "digits").unwrap();
        run.write_run_file("").unwrap();
        let dir = run.paths().root().to_path_buf();
        for existing in [Existing::Resume, Existing::Overwrite] {
            let error = RunDir::at(&dir, existing).unwrap_err();
            let pid = std::process::id();
            assert!(matches!(&error, ArtefactError::Locked { pid: got, .. } if *got == pid), "{error:?}");
        }
        assert!(run.paths().run_file().exists(), "a refused overwrite removes nothing");
        drop(run);
        RunDir::at(&dir, Existing::Resume).unwrap();
    }
}
