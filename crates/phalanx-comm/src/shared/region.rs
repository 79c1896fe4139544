//! Owned, disjoint parts of one flat allocation: what lets a started reduction and a backward pass share a buffer.

use crate::element::Element;
use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::any::Any;
use std::fmt;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;
use std::sync::Arc;

/// A part of a flat, 64-byte aligned, zeroed allocation that nobody else can reach.
///
/// The parts of one allocation are made by [`split_off`](Self::split_off) and joined by
/// [`try_unsplit`](Self::try_unsplit), as with `bytes::BytesMut`. Each is an owned value: it can be moved into a
/// started collective, and to another thread, while the others are written.
///
/// # Examples
/// ```
/// use phalanx_comm::Region;
///
/// let mut front = Region::<f32>::zeroed(1000);
/// let back = front.split_off(600); // two owned halves of the same memory
/// let worker = std::thread::spawn(move || {
///     let mut back = back;
///     back.fill(2.0);
///     back
/// });
/// front.fill(1.0);
/// front.try_unsplit(worker.join().expect("no panic")).expect("neighbours");
/// assert_eq!((front.len(), front[599], front[600]), (1000, 1.0, 2.0));
/// ```
pub struct Region<T: Element> {
    start: NonNull<T>,
    len: usize,
    /// Frees the memory with its last region; `None` for a region that never had any.
    keeper: Option<Arc<dyn Any + Send + Sync>>,
    owns: PhantomData<T>,
}

// SAFETY: a region is the only way to its elements, like a `Box<[T]>`; `T: Element` is plain data, and the keeper
// is `Send + Sync` by its type
unsafe impl<T: Element> Send for Region<T> {}
// SAFETY: as above; a shared region gives out shared slices only
unsafe impl<T: Element> Sync for Region<T> {}

/// Alignment of an allocation: a cache line, and a vector register of the widest kind.
const ALIGN: usize = 64;

impl<T: Element> Region<T> {
    /// A new allocation of `len` zeros.
    ///
    /// # Panics
    /// When `len` elements do not fit the address space.
    #[track_caller]
    pub fn zeroed(len: usize) -> Self {
        if len == 0 {
            return Self::default();
        }
        let block = Block::zeroed(len.checked_mul(size_of::<T>()).expect("a region fits the address space"));
        Self { start: block.start.cast(), len, keeper: Some(Arc::new(block)), owns: PhantomData }
    }

    /// A region over memory that something else allocated, such as a shared-memory window of MPI.
    ///
    /// `keeper` is dropped with the last region of that memory.
    ///
    /// # Safety
    /// `start` is valid for reads and writes of `len` initialised elements and aligned for `T` for as long as `keeper`
    /// lives, and nothing else reads or writes them but what the owner of the region allows.
    pub unsafe fn from_raw_parts(start: NonNull<T>, len: usize, keeper: Arc<dyn Any + Send + Sync>) -> Self {
        Self { start, len, keeper: Some(keeper), owns: PhantomData }
    }

    /// Splits in two: `self` keeps `[0, at)`, the returned region has `[at, len)`.
    ///
    /// # Panics
    /// When `at > len`.
    #[track_caller]
    #[must_use = "the split-off elements are lost to the rest if this is dropped"]
    pub fn split_off(&mut self, at: usize) -> Self {
        assert!(at <= self.len, "split at {at} of a region of {}", self.len);
        // SAFETY: `at <= len`, so the result is within, or one past, the elements that `keeper` keeps
        let start = unsafe { self.start.add(at) };
        let back = Self { start, len: self.len - at, keeper: self.keeper.clone(), owns: PhantomData };
        self.len = at;
        back
    }

    /// Joins `other` to the end of `self`.
    ///
    /// An empty region joins anything; of two regions with elements, `other` must begin where `self` ends.
    ///
    /// # Errors
    /// Gives `other` back when they are not neighbours in one allocation.
    pub fn try_unsplit(&mut self, other: Self) -> Result<(), Self> {
        if other.len == 0 {
            return Ok(());
        }
        if self.len == 0 {
            *self = other;
            return Ok(());
        }
        let same = match (&self.keeper, &other.keeper) {
            (Some(a), Some(b)) => Arc::ptr_eq(a, b),
            _ => false,
        };
        if !same || self.start.as_ptr().wrapping_add(self.len) != other.start.as_ptr() {
            return Err(other);
        }
        self.len += other.len;
        Ok(())
    }

    /// Number of elements. Unlike that of the slice, it may be asked while other ranks work on them.
    #[expect(clippy::len_without_is_empty, reason = "the slice has it")]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Where the elements are, for a backend that hands them to foreign code.
    pub const fn as_mut_ptr(&mut self) -> *mut T {
        self.start.as_ptr()
    }

    /// The address without a claim to the elements: for the ranks that work on a region while its owner waits.
    pub(super) const fn raw(&self) -> *mut T {
        self.start.as_ptr()
    }
}

impl<T: Element> Default for Region<T> {
    /// No elements and no allocation.
    fn default() -> Self {
        Self { start: NonNull::dangling(), len: 0, keeper: None, owns: PhantomData }
    }
}

impl<T: Element> Deref for Region<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        // SAFETY: `start` is aligned and, with `len > 0`, valid for `len` initialised elements while `keeper` lives;
        // no other region covers them
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.len) }
    }
}

impl<T: Element> DerefMut for Region<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: as in `deref`, and `&mut self` makes this the only slice
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.len) }
    }
}

impl<T: Element> fmt::Debug for Region<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Region")
            .field("dtype", &T::DTYPE)
            .field("start", &self.start)
            .field("len", &self.len)
            .finish()
    }
}

/// The allocation that the regions of one [`Region::zeroed`] keep alive.
struct Block {
    start: NonNull<u8>,
    layout: Layout,
}

// SAFETY: a block is an address and a size, and does nothing with them but to free the memory once
unsafe impl Send for Block {}
// SAFETY: as above
unsafe impl Sync for Block {}

impl Block {
    #[track_caller]
    fn zeroed(bytes: usize) -> Self {
        let layout = Layout::from_size_align(bytes, ALIGN).expect("a region fits the address space");
        // SAFETY: the caller passes more than 0 bytes
        let start = unsafe { alloc_zeroed(layout) };
        Self { start: NonNull::new(start).unwrap_or_else(|| handle_alloc_error(layout)), layout }
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        // SAFETY: allocated in `zeroed` with this layout, and freed nowhere else
        unsafe { dealloc(self.start.as_ptr(), self.layout) }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn only_neighbours_of_one_allocation_join() {
        let mut a = Region::<f32>::zeroed(10);
        let mut b = a.split_off(4);
        let c = b.split_off(3);
        let c = a.try_unsplit(c).expect_err("b lies between");
        b.try_unsplit(c).unwrap();
        a.try_unsplit(b).unwrap();
        assert_eq!(a.len(), 10);
        assert!(a.try_unsplit(Region::zeroed(1)).is_err());
    }

    #[test]
    fn empty_regions_join_and_split_anywhere() {
        let mut none = Region::<u64>::default();
        assert!(none.split_off(0).is_empty());
        none.try_unsplit(Region::zeroed(3)).unwrap();
        none.try_unsplit(Region::default()).unwrap();
        assert_eq!(&*none, [0, 0, 0]);
    }

    #[test]
    fn an_allocation_starts_on_a_cache_line_and_outlives_its_first_region() {
        let mut front = Region::<f64>::zeroed(9);
        assert_eq!(front.as_mut_ptr() as usize % ALIGN, 0);
        let mut back = front.split_off(8);
        drop(front);
        back[0] = 5.0;
        assert_eq!(&*back, [5.0]);
    }
}
