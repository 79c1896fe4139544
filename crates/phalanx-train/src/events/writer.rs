//! Writes `events.jsonl`, buffered so that a step costs no system call.
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::Event;
use super::reader::Lines;
use crate::ArtefactError;

/// Bytes after which the buffer is written out in any case.
const BUFFER_LEN: usize = 1 << 16;

/// Appends events to a file.
///
/// Events reach the file at the first event after each interval, at [`flush`](Self::flush), and on drop.
#[derive(Debug)]
pub struct EventWriter {
    path: PathBuf,
    file: File,
    buffer: Vec<u8>,
    interval: Duration,
    flushed: Instant,
}

impl EventWriter {
    /// Begins a new file, in place of one that is there.
    ///
    /// # Errors
    /// [`ArtefactError::Io`].
    pub fn create(path: &Path, interval: Duration) -> Result<Self, ArtefactError> {
        let file = File::create(path).map_err(ArtefactError::io("make", path))?;
        Ok(Self::over(path, file, interval))
    }

    /// Goes on after the checkpoint of `step`: drops what the run will do again, from the first event of
    /// a later step on, and a failure or an end. A file that does not exist is begun.
    ///
    /// # Errors
    /// [`ArtefactError::Io`].
    pub fn resume(path: &Path, step: u64, interval: Duration) -> Result<Self, ArtefactError> {
        let open = || -> io::Result<File> {
            let mut options = OpenOptions::new();
            let file = options.create(true).append(true).open(path)?;
            file.set_len(bytes_until(path, step)?)?;
            Ok(file)
        };
        let file = open().map_err(ArtefactError::io("open", path))?;
        Ok(Self::over(path, file, interval))
    }

    /// Appends an event. In a warmed-up run it allocates nothing.
    ///
    /// # Errors
    /// [`ArtefactError::Io`] if it was time to write, and that failed.
    pub fn write(&mut self, event: &Event) -> Result<(), ArtefactError> {
        // serialising our own types into memory fails only if memory does
        serde_json::to_writer(&mut self.buffer, event)
            .map_err(|source| ArtefactError::Json { file: self.path.clone(), source })?;
        self.buffer.push(b'\n');
        if self.buffer.len() >= BUFFER_LEN / 2 || self.flushed.elapsed() >= self.interval {
            self.flush()?;
        }
        Ok(())
    }

    /// Writes out what is buffered.
    ///
    /// # Errors
    /// [`ArtefactError::Io`]; the buffered events are then lost, so that a full disk does not fill the
    /// memory as well.
    pub fn flush(&mut self) -> Result<(), ArtefactError> {
        let result = self.file.write_all(&self.buffer);
        self.buffer.clear();
        self.flushed = Instant::now();
        result.map_err(ArtefactError::io("write", &self.path))
    }

    fn over(path: &Path, file: File, interval: Duration) -> Self {
        let buffer = Vec::with_capacity(BUFFER_LEN);
        Self { path: path.to_path_buf(), file, buffer, interval, flushed: Instant::now() }
    }
}

impl Drop for EventWriter {
    fn drop(&mut self) {
        if let Err(error) = self.flush() {
            tracing::warn!(%error, "the last events are lost");
        }
    }
}

/// The length of the part of the file that a run which goes on after `step` keeps.
fn bytes_until(path: &Path, step: u64) -> io::Result<u64> {
    let mut lines = Lines::open(path)?;
    let mut keep = 0;
    while let Some(line) = lines.next()? {
        let undone = line.event.is_some_and(|event| event.is_undone_by_resume_after(step));
        if undone || !line.whole {
            break;
        }
        keep += line.bytes;
    }
    Ok(keep)
}
