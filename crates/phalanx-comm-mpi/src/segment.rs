//! Memory that the processes of a node share, without a name: a killed job leaves nothing behind, and `/dev/shm`,
//! which containers keep small, does not bound it.
//!
//! A rank allocates by itself (`memfd_create`), so that `alloc` need not be collective as an MPI window is. Another
//! rank maps the memory when an announcement first names it, by way of `/proc/PID/fd/FD`.

use crate::error::MpiError;
use phalanx_comm::{Rank, Region};
use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd};
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

/// Mapped pages of a file.
#[derive(Debug)]
struct Mapping {
    start: NonNull<u8>,
    bytes: usize,
}

// SAFETY: an address and a size; who follows the address argues for that where it happens
unsafe impl Send for Mapping {}
// SAFETY: as above
unsafe impl Sync for Mapping {}

impl Mapping {
    /// `bytes`, more than 0, of a file that is at least that long.
    fn of(file: &File, bytes: usize) -> Result<Self, MpiError> {
        let (protection, shared) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED);
        // SAFETY: a new mapping at an address that the system chooses
        let start = unsafe { libc::mmap(ptr::null_mut(), bytes, protection, shared, file.as_raw_fd(), 0) };
        if start == libc::MAP_FAILED {
            return Err(memory("mapping shared memory", bytes));
        }
        let start = NonNull::new(start.cast()).ok_or_else(|| memory("mapping shared memory", bytes))?;
        Ok(Self { start, bytes })
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: mapped by `of`, and unmapped nowhere else
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.bytes) };
    }
}

fn memory(what: &'static str, bytes: usize) -> MpiError {
    MpiError::Memory { what, bytes, source: io::Error::last_os_error() }
}

/// Memory of this rank that others may map.
#[derive(Debug)]
struct Segment {
    mapping: Mapping,
    file: File,
    serial: u64,
}

impl Segment {
    fn new(bytes: usize, serial: u64) -> Result<Self, MpiError> {
        // SAFETY: a name that ends in 0; the descriptor is new and owned by the file from here on
        let file = unsafe {
            match libc::memfd_create(c"phalanx".as_ptr(), libc::MFD_CLOEXEC) {
                -1 => return Err(memory("a shared memory file", bytes)),
                fd => File::from_raw_fd(fd),
            }
        };
        file.set_len(bytes as u64).map_err(|source| MpiError::Memory {
            what: "shared memory",
            bytes,
            source,
        })?;
        Ok(Self { mapping: Mapping::of(&file, bytes)?, file, serial })
    }
}

/// Where some shared memory is, in two words that another process of the node can follow. Zeros: nowhere.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Token {
    /// Number of the segment in its process, and its descriptor there.
    pub(crate) segment: u64,
    /// Bytes from its start.
    pub(crate) offset: u64,
}

impl Token {
    pub(crate) const NOWHERE: Self = Self { segment: 0, offset: 0 };

    fn new(segment: &Segment, offset: usize) -> Self {
        let fd = u64::from(segment.file.as_raw_fd().cast_unsigned());
        Self { segment: segment.serial << 32 | fd, offset: offset as u64 }
    }

    pub(crate) const fn is_nowhere(self) -> bool {
        self.segment == 0
    }
}

/// The shared memory of this process, and what it has mapped of others.
#[derive(Debug, Default)]
pub(crate) struct Segments {
    tables: Mutex<Tables>,
}

#[derive(Debug, Default)]
struct Tables {
    last_serial: u64,
    /// By address.
    own: BTreeMap<usize, Weak<Segment>>,
    /// By process and segment, with the tick of its last use.
    mapped: BTreeMap<(u32, u64), (Mapping, u64)>,
    tick: u64,
}

/// Mappings of other ranks' memory that are kept, beyond those in use by one collective.
const KEPT: usize = 512;

impl Segments {
    fn lock(&self) -> std::sync::MutexGuard<'_, Tables> {
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn segment(&self, bytes: usize) -> Result<Arc<Segment>, MpiError> {
        let mut tables = self.lock();
        tables.last_serial += 1;
        let segment = Arc::new(Segment::new(bytes, tables.last_serial)?);
        tables.own.retain(|_, segment| segment.strong_count() > 0);
        tables.own.insert(segment.mapping.start.as_ptr().addr(), Arc::downgrade(&segment));
        Ok(segment)
    }

    /// A zeroed region in shared memory.
    pub(crate) fn region(&self, len: usize) -> Result<Region<f32>, MpiError> {
        if len == 0 {
            return Ok(Region::default());
        }
        let segment = self.segment(len * size_of::<f32>())?;
        let start = segment.mapping.start.cast();
        // SAFETY: `len` zeroed floats, page aligned, mapped as long as the segment lives; other ranks touch them only
        // while a collective owns the region
        Ok(unsafe { Region::from_raw_parts(start, len, segment) })
    }

    /// Zeroed words that processes may write at once, and where they are.
    pub(crate) fn words(&self, len: usize) -> Result<(SharedWords, Token), MpiError> {
        let segment = self.segment(len * size_of::<AtomicU64>())?;
        let token = Token::new(&segment, 0);
        let start = segment.mapping.start.cast();
        Ok((SharedWords { start, len, keeper: Keeper::Own(segment) }, token))
    }

    /// The words that another process of this node has made.
    pub(crate) fn words_of(&self, pid: u32, token: Token, len: usize) -> Result<SharedWords, MpiError> {
        let mapping = open(pid, token.segment, len * size_of::<AtomicU64>())?;
        Ok(SharedWords { start: mapping.start.cast(), len, keeper: Keeper::Mapped(mapping) })
    }

    /// Where a region is, if it lies in memory of [`region`](Self::region).
    pub(crate) fn token(&self, region: &mut Region<f32>) -> Token {
        let (start, bytes) = (region.as_mut_ptr().addr(), region.len() * size_of::<f32>());
        let tables = self.lock();
        let below = tables.own.range(..=start).next_back();
        let Some((base, segment)) = below.and_then(|(base, segment)| Some((*base, segment.upgrade()?)))
        else {
            return Token::NOWHERE;
        };
        match start - base + bytes <= segment.mapping.bytes {
            true => Token::new(&segment, start - base),
            false => Token::NOWHERE,
        }
    }

    /// The address here of `len` floats of another process. It stays mapped while this collective lasts.
    pub(crate) fn address(
        &self,
        rank: Rank,
        pid: u32,
        token: Token,
        len: usize,
    ) -> Result<*mut f32, MpiError> {
        let mut tables = self.lock();
        tables.tick += 1;
        let (tick, key) = (tables.tick, (pid, token.segment));
        if !tables.mapped.contains_key(&key) {
            if tables.mapped.len() >= KEPT
                && let Some(oldest) =
                    tables.mapped.iter().min_by_key(|(_, (_, used))| *used).map(|(key, _)| *key)
            {
                tables.mapped.remove(&oldest);
            }
            tables.mapped.insert(key, (open(pid, token.segment, 0)?, tick));
        }
        let Some((mapping, used)) = tables.mapped.get_mut(&key) else {
            return Err(MpiError::Token { rank });
        };
        *used = tick;
        let offset = usize::try_from(token.offset).unwrap_or(usize::MAX);
        let end = offset.checked_add(len * size_of::<f32>());
        if end.is_none_or(|end| end > mapping.bytes) || !offset.is_multiple_of(align_of::<f32>()) {
            return Err(MpiError::Token { rank });
        }
        Ok(mapping.start.as_ptr().wrapping_add(offset).cast())
    }
}

/// Maps the segment of another process: the first `bytes` of it, or all for 0.
fn open(pid: u32, segment: u64, bytes: usize) -> Result<Mapping, MpiError> {
    let fd = segment & u64::from(u32::MAX);
    let failed = |source| MpiError::Memory { what: "opening another rank's memory", bytes, source };
    let file =
        OpenOptions::new().read(true).write(true).open(format!("/proc/{pid}/fd/{fd}")).map_err(failed)?;
    let len = usize::try_from(file.metadata().map_err(failed)?.len()).unwrap_or(0);
    if len == 0 || len < bytes {
        return Err(failed(io::ErrorKind::UnexpectedEof.into()));
    }
    Mapping::of(&file, if bytes == 0 { len } else { bytes })
}

/// Words that several processes read and write at once.
#[derive(Debug)]
pub(crate) struct SharedWords {
    start: NonNull<AtomicU64>,
    len: usize,
    #[expect(dead_code, reason = "keeps the memory mapped")]
    keeper: Keeper,
}

#[derive(Debug)]
#[expect(dead_code, reason = "keeps the memory mapped")]
enum Keeper {
    Own(Arc<Segment>),
    Mapped(Mapping),
}

// SAFETY: a slice of atomics, and what keeps it mapped
unsafe impl Send for SharedWords {}
// SAFETY: as above
unsafe impl Sync for SharedWords {}

impl std::ops::Deref for SharedWords {
    type Target = [AtomicU64];

    fn deref(&self) -> &[AtomicU64] {
        // SAFETY: `len` initialised words, page aligned, mapped while `keeper` lives; all access is atomic
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.len) }
    }
}

/// Staging memory of all ranks of a group: each copies in and out of its own part, and all reduce in all of them.
#[derive(Debug)]
pub(crate) struct Stages {
    words: SharedWords,
    words_each: usize,
}

impl Stages {
    /// In `words`, which hold `size` stages.
    pub(crate) const fn new(words: SharedWords, size: usize) -> Self {
        let words_each = words.len / size;
        Self { words, words_each }
    }

    /// Bytes of one stage.
    pub(crate) const fn bytes(&self) -> usize {
        8 * self.words_each
    }

    /// Where the stage of `rank` begins.
    pub(crate) fn start<T>(&self, rank: usize) -> *mut T {
        self.words[rank * self.words_each..].as_ptr().cast_mut().cast()
    }

    /// Copies into the stage of `rank`.
    ///
    /// # Safety
    /// No rank touches that stage meanwhile.
    pub(crate) unsafe fn put(&self, rank: usize, bytes: &[u8]) {
        assert!(bytes.len() <= self.bytes(), "{} bytes on a stage of {}", bytes.len(), self.bytes());
        // SAFETY: it fits, and nobody else touches the stage
        unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), self.start(rank), bytes.len()) }
    }

    /// Copies out of the stage of `rank`.
    ///
    /// # Safety
    /// No rank writes to that stage meanwhile.
    pub(crate) unsafe fn get(&self, rank: usize, bytes: &mut [u8]) {
        assert!(bytes.len() <= self.bytes(), "{} bytes on a stage of {}", bytes.len(), self.bytes());
        // SAFETY: it fits, and nobody writes to the stage
        unsafe { ptr::copy_nonoverlapping(self.start(rank), bytes.as_mut_ptr(), bytes.len()) }
    }
}

/// A load that sees whatever was written before the word was published.
pub(crate) fn published(word: &AtomicU64) -> u64 {
    word.load(Ordering::Acquire)
}

/// Publishes a word, and with it all that was written before.
pub(crate) fn publish(word: &AtomicU64, value: u64) {
    word.store(value, Ordering::Release);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_region_has_a_token_and_its_parts_have_theirs() {
        let segments = Segments::default();
        let mut region = segments.region(1000).expect("memory");
        let mut back = region.split_off(600);
        let (front, behind) = (segments.token(&mut region), segments.token(&mut back));
        assert_eq!((front.segment, front.offset, behind.offset), (behind.segment, 0, 2400));
        assert_eq!(segments.token(&mut Region::zeroed(10)), Token::NOWHERE);
        drop((region, back));
        assert!(segments.lock().own.values().all(|segment| segment.upgrade().is_none()));
    }

    #[test]
    fn what_one_side_writes_the_other_reads() {
        // another table in this process stands for another process
        let (here, there, pid) = (Segments::default(), Segments::default(), std::process::id());
        let mut region = here.region(100).expect("memory");
        region[7] = 5.0;
        let token = here.token(&mut region);
        let address = there.address(Rank(0), pid, token, 100).expect("mapped");
        // SAFETY: 100 floats that nothing else touches
        let seen = unsafe { std::slice::from_raw_parts(address, 100) };
        assert_eq!((seen[7], seen[8]), (5.0, 0.0));
        let beyond = there.address(Rank(3), pid, token, 10_000);
        assert!(matches!(beyond, Err(MpiError::Token { rank: Rank(3) })), "{beyond:?}");

        let (words, token) = here.words(8).expect("memory");
        publish(&words[3], 9);
        assert_eq!(published(&there.words_of(pid, token, 8).expect("mapped")[3]), 9);
    }

    #[test]
    fn memory_that_is_not_there_is_an_error() {
        let token = Token { segment: 1 << 32 | 0xffff, offset: 0 };
        let error = Segments::default().words_of(std::process::id(), token, 8).expect_err("no such file");
        assert!(error.to_string().starts_with("opening another rank's memory of 64 bytes"), "{error}");
    }
}
