//! The shared memory of a block, and who touched which byte since when.
//!
//! Two accesses of a byte race where they are of different threads, one writes, nothing is ordered between them, and not both
//! are strong (atomic, volatile, relaxed and the like). A barrier of the block orders all; a barrier of a warp its lanes.

use crate::driver::Code;
use crate::fault::Fault;

/// Who touched a byte last: a thread and a time, packed, or 0 for nobody.
///
/// Bits 0 to 5 are the lane, 6 to 11 the warp, 12 to 16 the count of barriers of that warp, 17 to 31 the count of barriers of
/// the block, from 1.
type Touch = u32;

/// In the place of a lane or a warp: several of them.
const SEVERAL: u32 = 32;
/// In the place of a lane: an access that races with no other of its kind.
const STRONG: u32 = 33;
/// What an asynchronous copy that nobody waited for leaves.
const ON_ITS_WAY: Touch = 63;
/// The last count of barriers of a block that fits.
const LAST_EPOCH: u32 = (1 << 15) - 1;

/// A thread at a time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Who {
    pub(super) warp: u32,
    pub(super) lane: u32,
    /// Barriers that the warp has passed on its own.
    pub(super) syncs: u32,
    pub(super) strong: bool,
}

/// The shared memory of a block.
#[derive(Debug, Default)]
pub(super) struct Shared {
    data: Vec<u8>,
    writes: Vec<Touch>,
    reads: Vec<Touch>,
    epoch: u32,
}

fn warp(touch: Touch) -> u32 {
    touch >> 6 & 63
}

fn lane(touch: Touch) -> u32 {
    touch & 63
}

impl Shared {
    /// Starts a block: nothing is written.
    pub(super) fn reset(&mut self, bytes: usize) {
        self.data.clear();
        self.data.resize(bytes, 0);
        self.writes.clear();
        self.writes.resize(bytes, 0);
        self.reads.clear();
        self.reads.resize(bytes, 0);
        self.epoch = 1;
    }

    /// All threads of the block have met.
    pub(super) fn barrier(&mut self) {
        self.epoch += 1;
        if self.epoch > LAST_EPOCH {
            self.epoch = 2;
            for touch in self.writes.iter_mut().filter(|touch| **touch > ON_ITS_WAY) {
                *touch = 1 << 17;
            }
            self.reads.fill(0);
        }
    }

    fn touch(&self, who: Who) -> Touch {
        let lane = if who.strong { STRONG } else { who.lane };
        self.epoch << 17 | (who.syncs & 31) << 12 | who.warp << 6 | lane
    }

    /// Whether an earlier access is unordered with one by `now`, packed as it.
    fn races(&self, before: Touch, now: Touch) -> bool {
        if before >> 17 != self.epoch || before == now {
            return false;
        }
        if lane(before) == STRONG && lane(now) == STRONG {
            return false;
        }
        if warp(before) != warp(now) {
            return true;
        }
        // in one warp: another lane since the last barrier of the warp
        before >> 12 == now >> 12 && lane(before) != lane(now)
    }

    fn range(&self, address: u64, bytes: usize, verb: &str) -> Result<usize, Fault> {
        match usize::try_from(address) {
            Ok(start) if start.saturating_add(bytes) <= self.data.len() => Ok(start),
            _ => {
                let size = self.data.len();
                let what =
                    format!("{verb} of {bytes} bytes at byte {address:#x} of {size} bytes of shared memory");
                Err(Fault::new(Code::ILLEGAL_ADDRESS, what))
            }
        }
    }

    /// Bytes that a thread reads.
    #[inline]
    pub(super) fn read(&mut self, address: u64, bytes: usize, who: Who) -> Result<&[u8], Fault> {
        let start = self.range(address, bytes, "read")?;
        let now = self.touch(who);
        for at in start..start + bytes {
            let written = self.writes[at];
            if written <= ON_ITS_WAY || self.races(written, now) {
                return Err(self.unreadable(at, written, who));
            }
            self.reads[at] = self.readers(self.reads[at], now);
        }
        Ok(&self.data[start..start + bytes])
    }

    /// Who has read, where `before` has and now this thread does.
    fn readers(&self, before: Touch, now: Touch) -> Touch {
        let kind = if lane(before) == STRONG && lane(now) == STRONG { STRONG } else { SEVERAL };
        if before >> 17 != self.epoch || (warp(before) == warp(now) && lane(before) == lane(now)) {
            now
        } else if warp(before) != warp(now) {
            now & !(63 << 6 | 63) | SEVERAL << 6 | kind
        } else if before >> 12 == now >> 12 {
            now & !63 | SEVERAL
        } else {
            // the barrier of the warp lies between them
            now
        }
    }

    /// Bytes that a thread writes.
    #[inline]
    pub(super) fn write(&mut self, address: u64, bytes: usize, who: Who) -> Result<&mut [u8], Fault> {
        let start = self.range(address, bytes, "write")?;
        let now = self.touch(who);
        for at in start..start + bytes {
            if self.races(self.writes[at], now) {
                return Err(self.race(at, "write", self.writes[at], "write", who));
            }
            if self.races(self.reads[at], now) {
                return Err(self.race(at, "write", self.reads[at], "read", who));
            }
            self.writes[at] = now;
        }
        Ok(&mut self.data[start..start + bytes])
    }

    /// Marks bytes that an asynchronous copy will fill.
    pub(super) fn expect(&mut self, address: u64, bytes: usize, who: Who) -> Result<(), Fault> {
        self.write(address, bytes, who)?;
        let start = self.range(address, bytes, "copy")?;
        self.writes[start..start + bytes].fill(ON_ITS_WAY);
        Ok(())
    }

    /// Fills what [`Self::expect`] has marked.
    pub(super) fn arrive(&mut self, address: u64, bytes: &[u8], who: Who) {
        if let Ok(start) = self.range(address, bytes.len(), "copy") {
            let now = self.touch(who);
            self.writes[start..start + bytes.len()].fill(now);
            self.data[start..start + bytes.len()].copy_from_slice(bytes);
        }
    }

    #[cold]
    fn unreadable(&self, at: usize, written: Touch, who: Who) -> Fault {
        match written {
            0 => {
                let what = format!("read of byte {at:#x} of shared memory, which nothing has written");
                Fault::new(Code::ILLEGAL_ADDRESS, what)
            }
            ON_ITS_WAY => {
                let what = format!(
                    "read of byte {at:#x} of shared memory while an asynchronous copy to it is under way"
                );
                Fault::new(Code::ILLEGAL_ADDRESS, what)
            }
            _ => self.race(at, "read", written, "write", who),
        }
    }

    #[cold]
    fn race(&self, at: usize, verb: &str, before: Touch, earlier: &str, who: Who) -> Fault {
        let by = match (warp(before), lane(before)) {
            (SEVERAL, _) => "several warps".to_owned(),
            (warp, SEVERAL) => format!("several lanes of warp {warp}"),
            (warp, STRONG) => format!("warp {warp}, atomically,"),
            (warp, lane) => format!("lane {lane} of warp {warp}"),
        };
        let what = format!(
            "race: {verb} of byte {at:#x} of shared memory by lane {} of warp {} and {earlier} by {by} with no barrier between them",
            who.lane, who.warp
        );
        Fault::new(Code::ILLEGAL_ADDRESS, what)
    }
}

#[cfg(test)]
mod tests {
    use super::{Shared, Who};

    fn who(warp: u32, lane: u32, syncs: u32) -> Who {
        Who { warp, lane, syncs, strong: false }
    }

    fn shared() -> Shared {
        let mut shared = Shared::default();
        shared.reset(64);
        shared
    }

    #[test]
    fn a_barrier_orders_warps() {
        let mut shared = shared();
        shared.write(0, 4, who(0, 0, 0)).unwrap();
        assert!(shared.read(0, 4, who(1, 0, 0)).unwrap_err().what.starts_with("race: read"));
        shared.barrier();
        shared.read(0, 4, who(1, 0, 0)).unwrap();
        shared.read(0, 4, who(2, 5, 0)).unwrap();
        assert!(shared.write(0, 4, who(1, 0, 0)).unwrap_err().what.contains("read by several warps"));
    }

    #[test]
    fn a_barrier_of_a_warp_orders_its_lanes() {
        let mut shared = shared();
        shared.write(8, 4, who(0, 1, 0)).unwrap();
        assert!(shared.read(8, 4, who(0, 2, 0)).is_err());
        shared.read(8, 4, who(0, 2, 1)).unwrap();
        // the only reader since may write
        shared.write(8, 4, who(0, 2, 1)).unwrap();
        assert!(shared.write(8, 4, who(0, 3, 1)).is_err());
    }

    #[test]
    fn atomics_race_only_with_others() {
        let mut shared = shared();
        let strong = |warp| Who { strong: true, ..who(warp, 0, 0) };
        shared.write(0, 4, strong(0)).unwrap();
        shared.write(0, 4, strong(1)).unwrap();
        for warp in [0, 1, 2] {
            shared.read(0, 4, strong(warp)).unwrap();
            shared.write(0, 4, strong(warp)).unwrap();
        }
        assert!(shared.read(0, 4, who(2, 0, 0)).is_err());
    }

    #[test]
    fn the_count_of_barriers_may_overflow() {
        let mut shared = shared();
        shared.write(0, 4, who(0, 0, 0)).unwrap();
        for _ in 0..100_000 {
            shared.barrier();
        }
        shared.read(0, 4, who(3, 3, 0)).unwrap();
        assert!(shared.read(4, 4, who(3, 3, 0)).unwrap_err().what.contains("nothing has written"));
    }
}
