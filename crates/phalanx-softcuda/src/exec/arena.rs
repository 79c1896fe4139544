//! The memory of devices, and what is known of each of its bytes.
//!
//! A device has a range of addresses that nothing of the host lies in. Behind it are two mappings of the host: the bytes, and a
//! byte of [`state`] for each. Allocations have gaps between them and their addresses are not used again, so that what is out
//! of bounds or freed is seen as such.

use crate::driver::Code;
use crate::fault::Fault;
use std::collections::BTreeMap;
use std::ptr;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

/// The first device address.
pub(crate) const BASE: u64 = 0x0600_0000_0000;
/// Addresses of a device.
const SPAN: u64 = 1 << 36;
/// The most devices.
const DEVICES: usize = 64;
/// The least gap between allocations.
const GAP: u64 = 512;

/// What is known of a byte.
pub(crate) mod state {
    /// Allocated, and never written.
    pub(crate) const UNWRITTEN: u8 = 1;
    /// Freed.
    pub(crate) const FREED: u8 = 2;
    /// Allocated and written.
    pub(crate) const WRITTEN: u8 = 3;
}

/// The memory of a device.
#[derive(Debug)]
pub(crate) struct Region {
    first: u64,
    data: *mut u8,
    states: *mut u8,
    book: Mutex<Book>,
}

// SAFETY: the mappings live as long as the process; kernels that race for a byte do so on a GPU as well, and the book has a lock
unsafe impl Send for Region {}
// SAFETY: as above
unsafe impl Sync for Region {}

/// What is allocated.
#[derive(Debug)]
struct Book {
    next: u64,
    live: BTreeMap<u64, u64>,
    freed: BTreeMap<u64, u64>,
    used: u64,
}

static REGIONS: [OnceLock<Option<Region>>; DEVICES] = [const { OnceLock::new() }; DEVICES];

/// The memory of a device.
pub(crate) fn region(device: usize) -> Result<&'static Region, Code> {
    let region = REGIONS.get(device).ok_or(Code::INVALID_DEVICE)?;
    region.get_or_init(|| Region::map(device)).as_ref().ok_or(Code::OUT_OF_MEMORY)
}

/// The device that an address belongs to.
pub(crate) fn device_of(address: u64) -> Option<usize> {
    let device = usize::try_from(address.checked_sub(BASE)? / SPAN).ok()?;
    (device < DEVICES).then_some(device)
}

/// What an access does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Read,
    Write,
    /// Bytes that need not be written.
    Touch,
}

/// Copies bytes of devices, and whether they are written.
pub(crate) fn copy(to: u64, from: u64, bytes: usize) -> Result<(), Fault> {
    let source = access(from, bytes, Kind::Touch)?;
    let target = access(to, bytes, Kind::Touch)?;
    // SAFETY: both were checked; they may overlap
    unsafe { target.copy_from(source, bytes) };
    let states = |address: u64| {
        let region = device_of(address).and_then(|device| REGIONS[device].get()).and_then(Option::as_ref);
        region.and_then(|region| region.at(address)).map(|(_, states)| states)
    };
    if let (Some(to), Some(from)) = (states(to), states(from)) {
        // SAFETY: as many states as bytes
        unsafe { to.copy_from(from, bytes) };
    }
    Ok(())
}

/// The host's address of `bytes` bytes of any device that may be accessed so. A write counts as done.
pub(crate) fn access(address: u64, bytes: usize, kind: Kind) -> Result<*mut u8, Fault> {
    let region = device_of(address).and_then(|device| REGIONS[device].get()).and_then(Option::as_ref);
    match region {
        Some(region) => region.access(address, bytes, kind),
        None => {
            let what = format!("{} of {bytes} bytes at {address:#x}, which is no device memory", verb(kind));
            Err(Fault::new(Code::ILLEGAL_ADDRESS, what))
        }
    }
}

/// Whether bytes in these states may be accessed so. A write counts as done.
#[inline]
pub(crate) fn allowed(states: &mut [u8], kind: Kind) -> bool {
    let all = states.iter().fold(u8::MAX, |all, state| all & state);
    match kind {
        Kind::Read => all == state::WRITTEN,
        Kind::Write => {
            let allowed = all & state::UNWRITTEN != 0;
            if allowed && all != state::WRITTEN {
                states.fill(state::WRITTEN);
            }
            allowed
        }
        Kind::Touch => all & state::UNWRITTEN != 0,
    }
}

fn verb(kind: Kind) -> &'static str {
    match kind {
        Kind::Read => "read",
        Kind::Write => "write",
        Kind::Touch => "copy",
    }
}

fn map(bytes: u64) -> Option<*mut u8> {
    let (access, flags) =
        (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE);
    // SAFETY: a new mapping, wherever there is room
    let start = unsafe { libc::mmap(ptr::null_mut(), usize::try_from(bytes).ok()?, access, flags, -1, 0) };
    (start != libc::MAP_FAILED).then_some(start.cast())
}

impl Region {
    fn map(device: usize) -> Option<Self> {
        let book = Book { next: GAP, live: BTreeMap::new(), freed: BTreeMap::new(), used: 0 };
        let first = BASE + device as u64 * SPAN;
        Some(Self { first, data: map(SPAN)?, states: map(SPAN)?, book: Mutex::new(book) })
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Bytes in use.
    pub(crate) fn used(&self) -> u64 {
        self.book().used
    }

    /// Allocates bytes that count as never written.
    pub(crate) fn allocate(&self, bytes: u64, limit: u64) -> Result<u64, Code> {
        let mut book = self.book();
        let end = book.next.checked_add(bytes).ok_or(Code::OUT_OF_MEMORY)?;
        if book.used.saturating_add(bytes) > limit || end + 2 * GAP > SPAN {
            return Err(Code::OUT_OF_MEMORY);
        }
        let start = book.next;
        book.next = (end + GAP).next_multiple_of(512);
        book.used += bytes;
        book.live.insert(start, bytes);
        self.fill(start, bytes, state::UNWRITTEN);
        Ok(self.first + start)
    }

    /// Frees what was allocated at an address, and gives its memory back to the host.
    pub(crate) fn free(&self, address: u64) -> Result<(), Code> {
        let start = address.wrapping_sub(self.first);
        let mut book = self.book();
        let bytes = book.live.remove(&start).ok_or(Code::INVALID_VALUE)?;
        book.freed.insert(start, bytes);
        book.used -= bytes;
        self.fill(start, bytes, state::FREED);
        let (from, to) = (start.next_multiple_of(4096), (start + bytes) & !4095);
        if from < to {
            // SAFETY: whole pages of this mapping, that hold nothing any more
            unsafe {
                libc::madvise(self.data.add(from as usize).cast(), (to - from) as usize, libc::MADV_DONTNEED)
            };
        }
        Ok(())
    }

    /// The allocation around an address, as its first address and its length.
    pub(crate) fn allocation(&self, address: u64) -> Option<(u64, u64)> {
        let offset = address.checked_sub(self.first)?;
        let book = self.book();
        let (start, bytes) = book.live.range(..=offset).next_back()?;
        (offset < start + bytes).then_some((self.first + start, *bytes))
    }

    fn fill(&self, start: u64, bytes: u64, state: u8) {
        // SAFETY: an allocation lies within the span
        unsafe { self.states.add(start as usize).write_bytes(state, bytes as usize) };
    }

    /// Where the bytes and their states lie, of an address of this device with at least 256 addresses behind it.
    #[inline]
    pub(crate) fn at(&self, address: u64) -> Option<(*mut u8, *mut u8)> {
        let offset = address.wrapping_sub(self.first);
        // SAFETY: within the mappings
        (offset < SPAN - 256)
            .then(|| unsafe { (self.data.add(offset as usize), self.states.add(offset as usize)) })
    }

    /// [`access`] of this device.
    pub(crate) fn access(&self, address: u64, bytes: usize, kind: Kind) -> Result<*mut u8, Fault> {
        let offset = address.wrapping_sub(self.first);
        if offset.saturating_add(bytes as u64) > SPAN {
            return Err(self.explain(address, bytes, kind));
        }
        // SAFETY: within the mappings
        let (data, states) = unsafe {
            let states = std::slice::from_raw_parts_mut(self.states.add(offset as usize), bytes);
            (self.data.add(offset as usize), states)
        };
        if allowed(states, kind) { Ok(data) } else { Err(self.explain(address, bytes, kind)) }
    }

    /// What is wrong with an access.
    #[cold]
    pub(crate) fn explain(&self, address: u64, bytes: usize, kind: Kind) -> Fault {
        let offset = address.wrapping_sub(self.first);
        let book = self.book();
        let before = book.live.range(..=offset).next_back().map(|(&start, &length)| (start, length));
        let freed = book.freed.range(..=offset).next_back().map(|(&start, &length)| (start, length));
        let verb = verb(kind);
        let what = match (before, freed) {
            (Some((start, length)), _) if offset + (bytes as u64) <= start + length => {
                let within = offset - start;
                format!(
                    "{verb} of {bytes} bytes at byte {within} of an allocation of {length}, which nothing has written"
                )
            }
            (_, Some((start, length))) if offset < start + length => {
                format!("{verb} of {bytes} bytes at byte {} of freed memory of {length}", offset - start)
            }
            (Some((start, length)), _) => {
                let past = offset + bytes as u64 - (start + length);
                format!(
                    "{verb} of {bytes} bytes at {address:#x}, {past} bytes past the end of an allocation of {length} bytes"
                )
            }
            _ => format!("{verb} of {bytes} bytes at {address:#x}, before any allocation"),
        };
        Fault::new(Code::ILLEGAL_ADDRESS, what)
    }
}

#[cfg(test)]
mod tests {
    use super::{Kind, access, region};
    use crate::driver::Code;

    #[test]
    fn each_byte_has_a_state() {
        let region = region(63).unwrap();
        let memory = region.allocate(100, 1 << 20).unwrap();
        let unwritten = access(memory, 4, Kind::Read).unwrap_err().to_string();
        assert!(unwritten.contains("nothing has written"), "{unwritten}");
        access(memory + 96, 4, Kind::Write).unwrap();
        access(memory + 96, 4, Kind::Read).unwrap();
        let beyond = access(memory + 97, 4, Kind::Write).unwrap_err().to_string();
        assert!(beyond.contains("1 bytes past the end of an allocation of 100"), "{beyond}");
        region.free(memory).unwrap();
        let freed = access(memory, 4, Kind::Write).unwrap_err().to_string();
        assert!(freed.contains("freed"), "{freed}");
        assert_eq!(region.free(memory), Err(Code::INVALID_VALUE));
        assert_eq!(region.allocate(1 << 21, 1 << 20), Err(Code::OUT_OF_MEMORY));
    }
}
