//! What the starter of ranks leaves behind: remote shells to hosts that do not answer, which hold its output open.

use std::io::{self, Read};
use std::os::fd::AsFd;
use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;
use std::time::{Duration, Instant, SystemTime};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, Signal, kill_process};

/// How long output may still come after the starter has ended.
const LAST_LINES: Duration = Duration::from_secs(1);

/// Between two looks at whether the starter has ended.
const LOOK: Timespec = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };

/// What all processes of one start have in their environment, so that they are known whoever adopts them.
#[derive(Debug)]
pub(super) struct Mark(String);

impl Mark {
    const NAME: &str = "PHALANX_LAUNCH";

    /// A mark that no other start has.
    pub(super) fn new() -> Self {
        let since = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
        Self(format!("{}.{}", std::process::id(), since.as_nanos()))
    }

    pub(super) fn put_on(&self, command: &mut Command) {
        command.env(Self::NAME, &self.0);
    }

    /// Ends the processes of this machine that have the mark, without waiting for them.
    pub(super) fn end_all(&self) {
        for pid in self.processes() {
            tracing::debug!("ends process {pid:?}, which the starter of the ranks has left");
            if let Err(error) = kill_process(pid, Signal::TERM) {
                tracing::debug!("process {pid:?} cannot be signalled: {error}");
            }
        }
    }

    fn processes(&self) -> Vec<Pid> {
        let entry = format!("{}={}", Self::NAME, self.0);
        let has_mark = |dir: &Path| {
            // a process of another user or one that has just ended cannot be read
            let environment = std::fs::read(dir.join("environ")).unwrap_or_default();
            environment.split(|byte| *byte == 0).any(|variable| variable == entry.as_bytes())
        };
        let dirs = std::fs::read_dir("/proc").into_iter().flatten().flatten().map(|entry| entry.path());
        dirs.filter(|dir| has_mark(dir)).filter_map(|dir| pid_of(&dir)).collect()
    }
}

fn pid_of(dir: &Path) -> Option<Pid> {
    Pid::from_raw(dir.file_name()?.to_str()?.parse().ok()?)
}

/// A stream that ends a little after `ended` is set, whoever still holds it.
pub(super) struct UntilEnded<'a, R> {
    pub(super) stream: R,
    pub(super) ended: &'a OnceLock<Instant>,
}

impl<R: Read + AsFd> Read for UntilEnded<'_, R> {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        loop {
            let mut fds = [PollFd::new(&self.stream, PollFlags::IN)];
            match poll(&mut fds, Some(&LOOK)) {
                Ok(0) if self.ended.get().is_some_and(|ended| ended.elapsed() > LAST_LINES) => return Ok(0),
                Ok(0) | Err(rustix::io::Errno::INTR) => {}
                Ok(_) => return self.stream.read(to),
                Err(error) => return Err(error.into()),
            }
        }
    }
}
