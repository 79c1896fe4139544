//! Contexts: one a device, its primary one.

use super::Code;
use super::device::{code, initialized, ordinal, put};
use super::stream::{self, drive};
use super::table::Handle;
use crate::fault::{Fault, report};
use std::cell::RefCell;
use std::ffi::{c_int, c_uint};
use std::sync::{Mutex, PoisonError};

/// The handle of device 0's context; those of others follow.
const FIRST: usize = 0x1000;

thread_local! {
    /// The devices whose contexts this thread has made current, the present one last.
    static STACK: RefCell<Vec<usize>> = const { RefCell::new(Vec::new()) };
}

/// What broke each device; nothing mends it.
static BROKEN: Mutex<Vec<(usize, Code)>> = Mutex::new(Vec::new());

/// The code that every call on a device gets since a fault.
pub(super) fn broken(device: usize) -> Option<Code> {
    let broken = BROKEN.lock().unwrap_or_else(PoisonError::into_inner);
    broken.iter().find(|(number, _)| *number == device).map(|(_, code)| *code)
}

/// Reports a fault of a device's work, and breaks the device.
pub(super) fn break_device(device: usize, fault: &Fault) {
    report(fault);
    BROKEN.lock().unwrap_or_else(PoisonError::into_inner).push((device, fault.code));
}

/// The device of the current context.
pub(crate) fn current() -> Result<usize, Code> {
    initialized()?;
    STACK.with_borrow(|stack| stack.last().copied()).ok_or(Code::INVALID_CONTEXT)
}

/// The device of the current context, if it works.
pub(super) fn working() -> Result<usize, Code> {
    let device = current()?;
    broken(device).map_or(Ok(device), Err)
}

fn handle(device: usize) -> Handle {
    std::ptr::without_provenance_mut(FIRST + device)
}

fn device_of(context: Handle) -> Result<usize, Code> {
    let device = context.addr().checked_sub(FIRST).ok_or(Code::INVALID_CONTEXT)?;
    let number = c_int::try_from(device).map_err(|_| Code::INVALID_CONTEXT)?;
    ordinal(number).map_err(|_| Code::INVALID_CONTEXT)
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuDevicePrimaryCtxRetain(context: *mut Handle, device: c_int) -> Code {
    code(ordinal(device).and_then(|device| {
        // SAFETY: as this library's callers promise
        unsafe { put(context, handle(device)) }
    }))
}

#[unsafe(no_mangle)]
extern "C" fn cuDevicePrimaryCtxRelease_v2(device: c_int) -> Code {
    code(ordinal(device).map(drop))
}

#[unsafe(no_mangle)]
extern "C" fn cuDevicePrimaryCtxSetFlags_v2(device: c_int, _flags: c_uint) -> Code {
    code(ordinal(device).map(drop))
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuDevicePrimaryCtxGetState(
    device: c_int,
    flags: *mut c_uint,
    active: *mut c_int,
) -> Code {
    code(ordinal(device).and_then(|_| {
        // SAFETY: as this library's callers promise
        unsafe {
            put(flags, 0)?;
            put(active, 1)
        }
    }))
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuCtxGetCurrent(context: *mut Handle) -> Code {
    code(initialized().and_then(|()| {
        let top = STACK.with_borrow(|stack| stack.last().copied());
        // SAFETY: as this library's callers promise
        unsafe { put(context, top.map_or(std::ptr::null_mut(), handle)) }
    }))
}

#[unsafe(no_mangle)]
extern "C" fn cuCtxSetCurrent(context: Handle) -> Code {
    code(initialized().and_then(|()| {
        let device = if context.is_null() { None } else { Some(device_of(context)?) };
        STACK.with_borrow_mut(|stack| {
            stack.pop();
            stack.extend(device);
        });
        Ok(())
    }))
}

#[unsafe(no_mangle)]
extern "C" fn cuCtxPushCurrent_v2(context: Handle) -> Code {
    code(initialized().and_then(|()| {
        let device = device_of(context)?;
        STACK.with_borrow_mut(|stack| stack.push(device));
        Ok(())
    }))
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuCtxPopCurrent_v2(context: *mut Handle) -> Code {
    code(current().and_then(|device| {
        STACK.with_borrow_mut(Vec::pop);
        if context.is_null() {
            return Ok(());
        }
        // SAFETY: as this library's callers promise
        unsafe { put(context, handle(device)) }
    }))
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuCtxGetDevice(device: *mut c_int) -> Code {
    code(current().and_then(|current| {
        // SAFETY: as this library's callers promise
        unsafe { put(device, c_int::try_from(current).unwrap_or_default()) }
    }))
}

#[unsafe(no_mangle)]
extern "C" fn cuCtxSynchronize() -> Code {
    code(working().and_then(|device| {
        drive(|| stream::idle(device));
        working().map(drop)
    }))
}

/// Each device reaches all memory of the others already.
#[unsafe(no_mangle)]
extern "C" fn cuCtxEnablePeerAccess(peer: Handle, flags: c_uint) -> Code {
    code(working().and_then(|_| {
        device_of(peer)?;
        if flags == 0 { Ok(()) } else { Err(Code::INVALID_VALUE) }
    }))
}
