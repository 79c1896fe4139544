//! Reads `events.jsonl`, of a run that goes on or was killed in the middle of a line as well.
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

use super::Event;
use crate::ArtefactError;

/// The longest line that is read, in bytes; ours are below 1 KiB.
const MAX_LINE: u64 = 1 << 20;

/// The events of a run.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct EventLog {
    /// In the order in which they were written.
    pub events: Vec<Event>,
    /// Numbers, from 1, of lines that are no event. A last line that was cut off is not among them.
    pub bad_lines: Vec<u64>,
}

/// Reads the events in `file`; what is no event is left out and counted.
///
/// # Errors
/// [`ArtefactError::Io`].
pub fn read(file: &Path) -> Result<EventLog, ArtefactError> {
    let mut log = EventLog::default();
    let mut lines = Lines::open(file).map_err(ArtefactError::io("read", file))?;
    for number in 1.. {
        match lines.next().map_err(ArtefactError::io("read", file))? {
            None => break,
            Some(line) => match line.event {
                Some(event) => log.events.push(event),
                None if line.whole => log.bad_lines.push(number),
                None => {}
            },
        }
    }
    Ok(log)
}

/// A line of the file.
#[derive(Debug)]
pub(super) struct Line {
    /// The event, if it is one.
    pub(super) event: Option<Event>,
    /// Whether its end was written.
    pub(super) whole: bool,
    /// Its length with its end, in bytes.
    pub(super) bytes: u64,
}

/// The lines of the file, one buffer for all.
#[derive(Debug)]
pub(super) struct Lines {
    file: BufReader<File>,
    line: Vec<u8>,
}

impl Lines {
    pub(super) fn open(file: &Path) -> io::Result<Self> {
        Ok(Self { file: BufReader::new(File::open(file)?), line: Vec::new() })
    }

    pub(super) fn next(&mut self) -> io::Result<Option<Line>> {
        self.line.clear();
        let mut bytes = (&mut self.file).take(MAX_LINE).read_until(b'\n', &mut self.line)? as u64;
        if bytes == 0 {
            return Ok(None);
        }
        let fits = self.line.ends_with(b"\n");
        let event = serde_json::from_slice(&self.line).ok();
        let whole = fits || (bytes == MAX_LINE && self.skip_line(&mut bytes)?);
        Ok(Some(Line { event: event.filter(|_| whole), whole, bytes }))
    }

    /// Skips the rest of a line that is too long; returns whether its end was found.
    fn skip_line(&mut self, bytes: &mut u64) -> io::Result<bool> {
        loop {
            self.line.clear();
            let more = (&mut self.file).take(MAX_LINE).read_until(b'\n', &mut self.line)? as u64;
            *bytes += more;
            if more == 0 || self.line.ends_with(b"\n") {
                return Ok(more > 0);
            }
        }
    }
}
