//! What an MPI with user-level failure mitigation (ULFM) can do after the death of a rank: looked up in the library that is
//! loaded, as others lack it.

use super::{Handle, check, library_version};
use crate::error::MpiError;
use mpi::ffi::{self, MPI_Comm};
use std::ffi::{CStr, c_int, c_void};
use std::mem::transmute;

/// A process that the call needs has died, may have sent what is waited for, or the communicator was revoked.
const PROC_FAILED: i64 = 75;
const PROC_FAILED_PENDING: i64 = 76;
const REVOKED: i64 = 77;

/// The attribute of the world that says whether the job was started so: `MPI_FT` of Open MPI 5.
const FAULT_TOLERANCE: c_int = 12;

type Revoke = unsafe extern "C" fn(MPI_Comm) -> c_int;
type Shrink = unsafe extern "C" fn(MPI_Comm, *mut MPI_Comm) -> c_int;
type Agree = unsafe extern "C" fn(MPI_Comm, *mut c_int) -> c_int;

/// The calls of a library that has them, in a job that was started with them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ulfm {
    revoke: Revoke,
    shrink: Shrink,
    agree: Agree,
}

/// Whether an error code of Open MPI says that a rank has died.
pub(crate) const fn is_loss(code: i64) -> bool {
    matches!(code, PROC_FAILED | PROC_FAILED_PENDING | REVOKED)
}

/// Where the library has a function.
fn address(name: &CStr) -> Option<*mut c_void> {
    // SAFETY: a string that ends, and the libraries that this program was loaded with
    let found = unsafe { libc::dlsym(libc::RTLD_DEFAULT, name.as_ptr()) };
    (!found.is_null()).then_some(found)
}

impl Ulfm {
    /// `None` where the library has no such calls, or the job was started without `--with-ft ulfm`.
    pub(crate) fn of_library() -> Option<Self> {
        // MPICH has functions of these names, with which survivors hang
        if !library_version().contains("Open MPI") {
            return None;
        }
        let [revoke, shrink, agree] =
            [c"MPIX_Comm_revoke", c"MPIX_Comm_shrink", c"MPIX_Comm_agree"].map(address);
        let (revoke, shrink, agree) = (revoke?, shrink?, agree?);
        // SAFETY: the functions of these names have these types in every Open MPI that has them
        let ulfm = unsafe {
            Self {
                revoke: transmute::<*mut c_void, Revoke>(revoke),
                shrink: transmute::<*mut c_void, Shrink>(shrink),
                agree: transmute::<*mut c_void, Agree>(agree),
            }
        };
        is_on().then_some(ulfm)
    }

    /// Has every call on the communicator end with an error, on all its ranks.
    pub(crate) fn revoke(self, handle: Handle) -> Result<(), MpiError> {
        // SAFETY: a live communicator
        check("MPIX_Comm_revoke", unsafe { (self.revoke)(handle.0) })
    }

    /// Collective over those that live: a communicator of them, in the same order.
    pub(crate) fn shrink(self, handle: Handle) -> Result<Handle, MpiError> {
        let mut raw = handle.0;
        // SAFETY: a live communicator, revoked or not
        check("MPIX_Comm_shrink", unsafe { (self.shrink)(handle.0, &raw mut raw) })?;
        Handle(raw).returning_errors()
    }

    /// Collective over those that live: whether all ranks are there and say yes, the same answer on each.
    pub(crate) fn agree(self, handle: Handle, yes: bool) -> Result<bool, MpiError> {
        let mut flag = c_int::from(yes);
        // SAFETY: a live communicator, revoked or not
        let code = unsafe { (self.agree)(handle.0, &raw mut flag) };
        if is_loss(i64::from(code)) {
            return Ok(false);
        }
        check("MPIX_Comm_agree", code).map(|()| flag != 0)
    }
}

/// Whether this job was started with fault tolerance.
fn is_on() -> bool {
    let (mut value, mut is_set): (*const c_int, c_int) = (std::ptr::null(), 0);
    // SAFETY: a constant of the library, and a place for the address of a number that it keeps
    let code = unsafe {
        let world = ffi::RSMPI_COMM_WORLD;
        ffi::MPI_Comm_get_attr(world, FAULT_TOLERANCE, (&raw mut value).cast(), &raw mut is_set)
    };
    // SAFETY: the library gave it
    code == 0 && is_set != 0 && !value.is_null() && unsafe { *value } != 0
}

/// Ends this process with nothing but its exit code.
pub(crate) fn leave(code: u8) -> ! {
    // SAFETY: callable at any time
    unsafe { libc::_exit(c_int::from(code)) }
}

#[cfg(test)]
mod tests {
    use super::{address, is_loss};

    #[test]
    fn a_function_is_found_by_its_name() {
        assert!(address(c"getpid").is_some());
        assert!(address(c"MPIX_Comm_does_not_exist").is_none());
    }

    #[test]
    fn errors_of_calls_are_no_deaths() {
        assert!([75, 76, 77].into_iter().all(is_loss));
        assert!(![0, 1, 16, 74, 78].into_iter().any(is_loss));
    }
}
