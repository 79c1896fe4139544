//! Handles: numbers that C takes for pointers.

use super::Code;
use std::collections::BTreeMap;
use std::ffi::c_void;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What C holds.
pub(super) type Handle = *mut c_void;

/// No two handles are the same, whatever they are handles of, and none is used again.
static NEXT: AtomicUsize = AtomicUsize::new(0x1_0000);

/// Things by their handles.
#[derive(Debug)]
pub(super) struct Table<T>(Mutex<BTreeMap<usize, Arc<T>>>);

impl<T> Table<T> {
    pub(super) const fn new() -> Self {
        Self(Mutex::new(BTreeMap::new()))
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<usize, Arc<T>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn insert(&self, thing: T) -> Handle {
        let number = NEXT.fetch_add(16, Ordering::Relaxed);
        self.lock().insert(number, Arc::new(thing));
        std::ptr::without_provenance_mut(number)
    }

    pub(super) fn get(&self, handle: Handle) -> Result<Arc<T>, Code> {
        self.lock().get(&handle.addr()).cloned().ok_or(Code::INVALID_HANDLE)
    }

    pub(super) fn remove(&self, handle: Handle) -> Result<Arc<T>, Code> {
        self.lock().remove(&handle.addr()).ok_or(Code::INVALID_HANDLE)
    }

    /// All, in the order in which they came.
    pub(super) fn all(&self) -> Vec<Arc<T>> {
        self.lock().values().cloned().collect()
    }
}
