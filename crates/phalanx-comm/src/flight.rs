//! The flight recorder: the last collectives of a rank, readable by the others when something has gone wrong.

use crate::call::OpKind;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// How many collectives a recorder remembers.
pub const FLIGHT_LEN: usize = 256;

/// One collective of one rank.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct OpRecord {
    /// Its number on this communicator, from 1; the same on every rank.
    pub seq: u64,
    /// Which collective.
    pub op: OpKind,
    /// Bytes this rank passed.
    pub bytes: u64,
    /// When this rank entered or started it, since the world began.
    pub started: Duration,
    /// When it was complete on this rank; `None` while it is not.
    pub finished: Option<Duration>,
}

impl fmt::Display for OpRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "#{} {} of {} bytes, started at {:.6} s, ",
            self.seq,
            self.op,
            self.bytes,
            self.started.as_secs_f64()
        )?;
        match self.finished {
            Some(at) => write!(f, "finished at {:.6} s", at.as_secs_f64()),
            None => f.write_str("unfinished"),
        }
    }
}

/// A ring of the last [`FLIGHT_LEN`] collectives: written by one rank, read by any, at a few nanoseconds an entry.
///
/// An entry that is overwritten while it is read is left out.
#[derive(Debug)]
pub struct FlightRecorder {
    entries: Vec<Entry>,
}

#[derive(Debug, Default)]
struct Entry {
    seq: AtomicU64,
    op: AtomicU64,
    bytes: AtomicU64,
    started: AtomicU64,
    /// Nanoseconds + 1, so that 0 is "not yet".
    finished: AtomicU64,
}

impl Default for FlightRecorder {
    fn default() -> Self {
        Self::new()
    }
}

impl FlightRecorder {
    /// An empty recorder.
    pub fn new() -> Self {
        Self { entries: (0..FLIGHT_LEN).map(|_| Entry::default()).collect() }
    }

    /// Notes that collective `seq` began at `now` nanoseconds.
    pub fn begin(&self, seq: u64, op: OpKind, bytes: usize, now: u64) {
        let entry = self.entry(seq);
        entry.seq.store(0, Ordering::Relaxed);
        entry.op.store(op as u64, Ordering::Release);
        entry.bytes.store(bytes as u64, Ordering::Release);
        entry.started.store(now, Ordering::Release);
        entry.finished.store(0, Ordering::Release);
        entry.seq.store(seq, Ordering::Release);
    }

    /// Notes that collective `seq` was complete at `now` nanoseconds.
    pub fn finish(&self, seq: u64, now: u64) {
        self.entry(seq).finished.store(now.saturating_add(1), Ordering::Release);
    }

    /// The remembered collectives, oldest first.
    pub fn records(&self) -> Vec<OpRecord> {
        let mut records: Vec<_> = self.entries.iter().filter_map(Entry::read).collect();
        records.sort_by_key(|r| r.seq);
        records
    }

    /// The latest collective.
    pub fn last(&self) -> Option<OpRecord> {
        self.entries.iter().filter_map(Entry::read).max_by_key(|r| r.seq)
    }

    fn entry(&self, seq: u64) -> &Entry {
        &self.entries[(seq % FLIGHT_LEN as u64) as usize]
    }
}

impl Entry {
    fn read(&self) -> Option<OpRecord> {
        let seq = self.seq.load(Ordering::Acquire);
        let op = *OpKind::ALL.get(usize::try_from(self.op.load(Ordering::Acquire)).ok()?)?;
        let record = OpRecord {
            seq,
            op,
            bytes: self.bytes.load(Ordering::Acquire),
            started: Duration::from_nanos(self.started.load(Ordering::Acquire)),
            finished: self.finished.load(Ordering::Acquire).checked_sub(1).map(Duration::from_nanos),
        };
        (seq != 0 && self.seq.load(Ordering::Acquire) == seq).then_some(record)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_collectives_are_forgotten_first() {
        let recorder = FlightRecorder::new();
        for seq in 1..=FLIGHT_LEN as u64 + 3 {
            recorder.begin(seq, OpKind::Barrier, 0, seq);
            recorder.finish(seq, seq + 1);
        }
        let records = recorder.records();
        assert_eq!((records.len(), records[0].seq), (FLIGHT_LEN, 4));
        assert_eq!(recorder.last().map(|r| r.seq), Some(FLIGHT_LEN as u64 + 3));
    }

    #[test]
    fn what_has_not_ended_says_so() {
        let recorder = FlightRecorder::new();
        recorder.begin(1, OpKind::AllReduce, 64, 2_000);
        let last = recorder.last().unwrap();
        assert_eq!(last.to_string(), "#1 all_reduce of 64 bytes, started at 0.000002 s, unfinished");
    }
}
