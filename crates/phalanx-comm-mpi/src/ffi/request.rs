//! Started calls of MPI and the memory they use, which outlives them whatever happens.

use super::{MPI_Request, check};
use crate::error::MpiError;
use mpi::ffi;
use std::mem::ManuallyDrop;

/// A started call. Dropped before it is complete, it leaks its memory, as MPI may still use it; it never panics.
#[derive(Debug)]
pub(crate) struct Request<K> {
    /// Boxed, so that the library finds it where it was when the call started.
    raw: Box<MPI_Request>,
    keep: ManuallyDrop<K>,
    is_done: bool,
}

// SAFETY: a handle, usable from any thread under MPI_THREAD_MULTIPLE, and memory that is `Send` itself
unsafe impl<K: Send> Send for Request<K> {}

impl<K> Request<K> {
    /// Starts a call with memory that the request owns from then on.
    ///
    /// # Safety
    /// `start` starts one call that uses no other memory than `keep`'s, which does not move when `keep` does.
    pub(super) unsafe fn start(
        keep: K,
        start: impl FnOnce(&mut K, *mut MPI_Request) -> Result<(), MpiError>,
    ) -> Result<Self, MpiError> {
        // SAFETY: a constant of the library
        let null = unsafe { ffi::RSMPI_REQUEST_NULL };
        let mut request = Self { raw: Box::new(null), keep: ManuallyDrop::new(keep), is_done: true };
        start(&mut request.keep, &raw mut *request.raw)?;
        request.is_done = false;
        Ok(request)
    }

    /// Advances MPI; whether the call is complete.
    pub(crate) fn test(&mut self) -> Result<bool, MpiError> {
        if !self.is_done {
            let mut flag = 0;
            // SAFETY: a request that was started and has not been completed
            let code = unsafe { ffi::MPI_Test(&raw mut *self.raw, &raw mut flag, ffi::RSMPI_STATUS_IGNORE) };
            check("MPI_Test", code)?;
            self.is_done = flag != 0;
        }
        Ok(self.is_done)
    }

    /// Gives the memory back once the call is complete; before that, leaks it.
    pub(crate) fn take(mut self) -> Option<K> {
        if !self.is_done {
            return None;
        }
        self.is_done = false;
        // SAFETY: marked so that `drop` leaves it alone, and taken once, as `self` is gone
        Some(unsafe { ManuallyDrop::take(&mut self.keep) })
    }

    /// The memory, once the call is complete.
    pub(crate) fn kept(&self) -> Option<&K> {
        self.is_done.then_some(&*self.keep)
    }
}

impl<K> Drop for Request<K> {
    fn drop(&mut self) {
        if self.is_done {
            // SAFETY: dropped here only, and nothing uses it any more
            unsafe { ManuallyDrop::drop(&mut self.keep) }
        }
    }
}

/// Calls whose results nobody needs.
#[derive(Debug)]
pub(crate) struct Requests<K>(Vec<Request<K>>);

impl<K> Requests<K> {
    pub(crate) const fn new() -> Self {
        Self(Vec::new())
    }

    pub(crate) fn push(&mut self, request: Request<K>) {
        self.0.push(request);
    }

    /// Advances all; how many are not complete yet.
    pub(crate) fn advance(&mut self) -> Result<usize, MpiError> {
        let mut failed = Ok(());
        self.0.retain_mut(|request| match request.test() {
            Ok(is_done) => !is_done,
            Err(error) => {
                failed = Err(error);
                false
            }
        });
        failed.map(|()| self.0.len())
    }
}
