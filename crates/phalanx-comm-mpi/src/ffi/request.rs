//! Started calls of MPI and the memory they use, which outlives them whatever happens.

use super::{MPI_Request, check};
use crate::error::MpiError;
use mpi::ffi;
use std::mem::ManuallyDrop;

/// Started calls of MPI, one or several. Dropped before they are complete, they leak their memory, as MPI may still use it; it
/// never panics.
#[derive(Debug)]
pub(crate) struct Request<K> {
    /// On the heap, so that the library finds them where they were when the calls started.
    raw: Vec<MPI_Request>,
    /// How many of them are complete: they are looked at in order.
    complete: usize,
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
        let mut start = Some(start);
        // SAFETY: the contract is the same
        unsafe {
            Self::start_each(keep, 1, |keep, _, raw| start.take().map_or(Ok(()), |start| start(keep, raw)))
        }
    }

    /// Starts `calls` calls, in order, with memory that the request owns from then on.
    ///
    /// # Safety
    /// `start(keep, i, request)` starts call `i`, which uses no other memory than `keep`'s, and none that another of the calls
    /// writes; it does not move when `keep` does.
    pub(super) unsafe fn start_each(
        keep: K,
        calls: usize,
        mut start: impl FnMut(&mut K, usize, *mut MPI_Request) -> Result<(), MpiError>,
    ) -> Result<Self, MpiError> {
        // SAFETY: a constant of the library
        let null = unsafe { ffi::RSMPI_REQUEST_NULL };
        let mut request =
            Self { raw: vec![null; calls], complete: 0, keep: ManuallyDrop::new(keep), is_done: true };
        for i in 0..calls {
            let raw = &raw mut request.raw[i];
            start(&mut request.keep, i, raw)?;
            // from here on, to drop the request leaks the memory
            request.is_done = false;
        }
        Ok(request)
    }

    /// Advances MPI; whether all calls are complete.
    pub(crate) fn test(&mut self) -> Result<bool, MpiError> {
        while !self.is_done {
            let mut flag = 0;
            let raw = &raw mut self.raw[self.complete];
            // SAFETY: a request that was started and has not been completed
            let code = unsafe { ffi::MPI_Test(raw, &raw mut flag, ffi::RSMPI_STATUS_IGNORE) };
            check("MPI_Test", code)?;
            if flag == 0 {
                return Ok(false);
            }
            self.complete += 1;
            self.is_done = self.complete == self.raw.len();
        }
        Ok(true)
    }

    /// Gives the memory back once all calls are complete; before that, leaks it.
    pub(crate) fn take(mut self) -> Option<K> {
        if !self.is_done {
            return None;
        }
        self.is_done = false;
        // SAFETY: marked so that `drop` leaves it alone, and taken once, as `self` is gone
        Some(unsafe { ManuallyDrop::take(&mut self.keep) })
    }

    /// The memory, once all calls are complete.
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
