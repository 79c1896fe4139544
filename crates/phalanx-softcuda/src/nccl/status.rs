//! NCCL's result codes, and the text of the last error.

use std::cell::RefCell;
use std::ffi::{CStr, CString, c_char};

/// An `ncclResult_t`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(transparent)]
pub(super) struct Status(pub(super) u32);

impl Status {
    pub(super) const SUCCESS: Status = Status(0);
    pub(super) const SYSTEM_ERROR: Status = Status(2);
    pub(super) const INVALID_ARGUMENT: Status = Status(4);
    pub(super) const INVALID_USAGE: Status = Status(5);
    pub(super) const REMOTE_ERROR: Status = Status(6);
    pub(super) const IN_PROGRESS: Status = Status(7);

    /// What NCCL says to the code.
    const fn text(self) -> &'static CStr {
        match self.0 {
            0 => c"no error",
            1 => c"unhandled cuda error (run with NCCL_DEBUG=INFO for details)",
            2 => c"unhandled system error (run with NCCL_DEBUG=INFO for details)",
            3 => c"internal error - please report this issue to the NCCL developers",
            4 => c"invalid argument (run with NCCL_DEBUG=WARN for details)",
            5 => c"invalid usage (run with NCCL_DEBUG=WARN for details)",
            6 => c"remote process exited or there was a network error",
            7 => c"NCCL operation in progress",
            _ => c"unknown result code",
        }
    }
}

thread_local! {
    static LAST: RefCell<CString> = RefCell::default();
}

/// Keeps the text of an error for [`ncclGetLastError`] of this thread, and gives its code.
pub(super) fn refuse(status: Status, text: &str) -> Status {
    crate::fault::tell(&format!("softnccl: {text}"));
    remember(text);
    status
}

/// Keeps a text for [`ncclGetLastError`] of this thread.
pub(super) fn remember(text: &str) {
    let text = CString::new(text.replace('\0', " ")).unwrap_or_default();
    LAST.with(|last| *last.borrow_mut() = text);
}

/// What a code means.
#[unsafe(no_mangle)]
extern "C" fn ncclGetErrorString(status: Status) -> *const c_char {
    status.text().as_ptr()
}

/// The last error of this thread, until its next call.
#[unsafe(no_mangle)]
extern "C" fn ncclGetLastError(_comm: *mut std::ffi::c_void) -> *const c_char {
    LAST.with(|last| last.borrow().as_ptr())
}
