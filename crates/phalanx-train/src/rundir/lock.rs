//! The lock on a run directory: two jobs in one directory would write over each other's checkpoints.
//!
//! The kernel's file lock decides where there is one: it ends with its process, however that ends. Some
//! cluster file systems have none; there the holder's process id, start time, host and boot id, which the
//! file holds in any case for the message, tell a live holder from a dead one.
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::ArtefactError;

const NAME: &str = ".lock";

/// A held lock. Dropping it lets go.
#[derive(Debug)]
pub(super) struct Lock {
    file: File,
}

impl Lock {
    /// Takes the lock on `dir`.
    pub(super) fn take(dir: &Path) -> Result<Self, ArtefactError> {
        let path = dir.join(NAME);
        let io = |error| ArtefactError::io("lock", &path)(error);
        let mut options = OpenOptions::new();
        let mut file = options.read(true).write(true).create(true).truncate(false).open(&path).map_err(io)?;
        let found = Holder::read(&mut file).map_err(io)?;
        let holder_lives = match file.try_lock() {
            Ok(()) => false,
            Err(TryLockError::WouldBlock) => true,
            Err(TryLockError::Error(error)) if has_no_locks(&error) => {
                found.as_ref().is_some_and(Holder::may_live)
            }
            Err(TryLockError::Error(error)) => return Err(io(error)),
        };
        if holder_lives {
            let Holder { pid, host, .. } = found.unwrap_or_default();
            return Err(ArtefactError::Locked { dir: dir.to_path_buf(), pid, host });
        }
        Holder::this_process().write(&mut file).map_err(io)?;
        Ok(Self { file })
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // an empty file names no holder; the kernel's lock goes with the file handle
        if let Err(error) = self.file.set_len(0) {
            tracing::debug!(%error, "cannot empty the lock file");
        }
    }
}

fn has_no_locks(error: &io::Error) -> bool {
    // ENOLCK and ENOSYS of Linux
    error.kind() == io::ErrorKind::Unsupported || matches!(error.raw_os_error(), Some(37 | 38))
}

/// Who holds the lock.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
struct Holder {
    pid: u32,
    /// Clock ticks from boot to the process's start: tells it from a later process of the same id.
    start: u64,
    host: String,
    boot: String,
}

impl Holder {
    fn this_process() -> Self {
        let pid = std::process::id();
        Self { pid, start: start_of(pid).unwrap_or(0), host: host(), boot: boot() }
    }

    /// The holder in the file; none where it is empty or cut off.
    fn read(file: &mut File) -> io::Result<Option<Self>> {
        let mut text = Vec::new();
        file.take(4096).read_to_end(&mut text)?;
        Ok(serde_json::from_slice(&text).ok())
    }

    fn write(&self, file: &mut File) -> io::Result<()> {
        file.rewind()?;
        file.set_len(0)?;
        file.write_all(&serde_json::to_vec(self)?)
    }

    /// False only if it is sure that the holder is gone; of other hosts nothing is known.
    fn may_live(&self) -> bool {
        let same_host = self.host == host();
        if same_host && self.boot == boot() { start_of(self.pid) == Some(self.start) } else { !same_host }
    }
}

pub(crate) fn host() -> String {
    read_line("/proc/sys/kernel/hostname")
}

fn boot() -> String {
    read_line("/proc/sys/kernel/random/boot_id")
}

fn read_line(path: &str) -> String {
    fs::read_to_string(path).map(|text| text.trim_end().to_owned()).unwrap_or_default()
}

/// When a process that lives was started: field 22 of its `stat`, the 20th after the name in brackets.
fn start_of(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.split(' ').nth(19)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_left_by_a_killed_process_is_taken_over() {
        let dir = tempfile::tempdir().unwrap();
        let dead = Holder { pid: 1, start: 1, ..Holder::this_process() };
        fs::write(dir.path().join(NAME), serde_json::to_vec(&dead).unwrap()).unwrap();
        let lock = Lock::take(dir.path()).unwrap();
        let holder: Holder = serde_json::from_slice(&fs::read(dir.path().join(NAME)).unwrap()).unwrap();
        assert_eq!(holder, Holder::this_process());
        drop(lock);
        assert_eq!(fs::read(dir.path().join(NAME)).unwrap(), b"");
    }

    #[test]
    fn without_kernel_locks_a_holder_is_told_by_pid_start_boot_and_host() {
        let this = Holder::this_process;
        assert!(this().start > 0, "read from /proc");
        assert!(this().may_live());
        assert!(!Holder { start: this().start + 1, ..this() }.may_live(), "the pid was given away again");
        assert!(!Holder { pid: u32::MAX, ..this() }.may_live());
        assert!(!Holder { boot: "before the reboot".to_owned(), ..this() }.may_live());
        assert!(Holder { host: "elsewhere".to_owned(), pid: u32::MAX, ..this() }.may_live());
    }

    #[test]
    fn a_cut_off_lock_file_names_nobody() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(NAME), "{\"pid\":").unwrap();
        Lock::take(dir.path()).unwrap();
    }
}
