//! Copies and fills.
//!
//! What the host has in pageable memory is read when a copy is enqueued, what is pinned when it is done, as on a GPU; both are
//! read late by devices that reach pageable memory. A copy to pageable memory returns when it is done.

use super::Code;
use super::device::code;
use super::memory::{Address, is_pinned};
use super::stream::{StreamHandle, submit_once, wait};
use crate::config;
use crate::exec::arena::{self, Kind, device_of};
use crate::fault::Fault;
use std::ffi::{c_uchar, c_uint, c_ushort, c_void};
use std::ptr;

/// Memory of the host that outlives the copies to and from it.
struct Host(*mut u8);

// SAFETY: the driver's callers leave it alone until the copy is done
unsafe impl Send for Host {}

impl Host {
    fn start(&self) -> *mut u8 {
        self.0
    }
}

const DEFAULT: StreamHandle = ptr::null_mut();

/// # Safety
/// `from` has as many bytes, until the copy is done where it is pinned or the device reaches all memory.
unsafe fn to_device(
    to: Address,
    from: *const c_void,
    bytes: usize,
    stream: StreamHandle,
) -> Result<(), Code> {
    if bytes == 0 {
        return Ok(());
    }
    if from.is_null() {
        return Err(Code::INVALID_VALUE);
    }
    if is_pinned(from, bytes) || config::get().pageable {
        let from = Host(from.cast_mut().cast());
        return submit_once(stream, move || {
            let target = arena::access(to, bytes, Kind::Write)?;
            // SAFETY: both have as many bytes
            unsafe { target.copy_from(from.start(), bytes) };
            Ok(())
        });
    }
    // SAFETY: as the caller promises
    let taken = unsafe { std::slice::from_raw_parts(from.cast::<u8>(), bytes) }.to_vec();
    submit_once(stream, move || {
        let target = arena::access(to, bytes, Kind::Write)?;
        // SAFETY: both have as many bytes
        unsafe { target.copy_from(taken.as_ptr(), bytes) };
        Ok(())
    })
}

/// # Safety
/// `to` has room for as many bytes, until the copy is done where it is pinned.
unsafe fn to_host(to: *mut c_void, from: Address, bytes: usize, stream: StreamHandle) -> Result<(), Code> {
    if bytes == 0 {
        return Ok(());
    }
    if to.is_null() {
        return Err(Code::INVALID_VALUE);
    }
    let target = Host(to.cast());
    submit_once(stream, move || {
        let source = arena::access(from, bytes, Kind::Read)?;
        // SAFETY: both have as many bytes
        unsafe { target.start().copy_from(source, bytes) };
        Ok(())
    })?;
    if is_pinned(to, bytes) { Ok(()) } else { wait(stream) }
}

fn between(to: Address, from: Address, bytes: usize, stream: StreamHandle) -> Result<(), Code> {
    if bytes == 0 { Ok(()) } else { submit_once(stream, move || arena::copy(to, from, bytes)) }
}

/// Fills `count` elements, the low bytes of `value` each.
fn fill(to: Address, value: u32, size: usize, count: usize, stream: StreamHandle) -> Result<(), Code> {
    if count == 0 {
        return Ok(());
    }
    if !to.is_multiple_of(size as u64) {
        return Err(Code::INVALID_VALUE);
    }
    submit_once(stream, move || {
        let bytes = size
            .checked_mul(count)
            .ok_or_else(|| Fault::new(Code::INVALID_VALUE, "a fill beyond all memory"))?;
        let target = arena::access(to, bytes, Kind::Write)?;
        // SAFETY: as many bytes were checked
        let target = unsafe { std::slice::from_raw_parts_mut(target, bytes) };
        for element in target.chunks_exact_mut(size) {
            element.copy_from_slice(&value.to_le_bytes()[..size]);
        }
        Ok(())
    })
}

/// A call that returns when what it has enqueued in the default stream is done.
fn now(result: Result<(), Code>) -> Code {
    code(result.and_then(|()| wait(DEFAULT)))
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuMemcpyHtoDAsync_v2(
    to: Address,
    from: *const c_void,
    bytes: usize,
    stream: StreamHandle,
) -> Code {
    // SAFETY: as this library's callers promise
    code(unsafe { to_device(to, from, bytes, stream) })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuMemcpyHtoD_v2(to: Address, from: *const c_void, bytes: usize) -> Code {
    // SAFETY: as this library's callers promise
    now(unsafe { to_device(to, from, bytes, DEFAULT) })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuMemcpyDtoHAsync_v2(
    to: *mut c_void,
    from: Address,
    bytes: usize,
    stream: StreamHandle,
) -> Code {
    // SAFETY: as this library's callers promise
    code(unsafe { to_host(to, from, bytes, stream) })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuMemcpyDtoH_v2(to: *mut c_void, from: Address, bytes: usize) -> Code {
    // SAFETY: as this library's callers promise
    now(unsafe { to_host(to, from, bytes, DEFAULT) })
}

#[unsafe(no_mangle)]
extern "C" fn cuMemcpyDtoDAsync_v2(to: Address, from: Address, bytes: usize, stream: StreamHandle) -> Code {
    code(between(to, from, bytes, stream))
}

#[unsafe(no_mangle)]
extern "C" fn cuMemcpyDtoD_v2(to: Address, from: Address, bytes: usize) -> Code {
    now(between(to, from, bytes, DEFAULT))
}

#[unsafe(no_mangle)]
extern "C" fn cuMemcpyPeerAsync(
    to: Address,
    _to_context: *mut c_void,
    from: Address,
    _from_context: *mut c_void,
    bytes: usize,
    stream: StreamHandle,
) -> Code {
    code(between(to, from, bytes, stream))
}

/// A copy whose ends tell by their addresses where they are.
#[unsafe(no_mangle)]
unsafe extern "C" fn cuMemcpyAsync(to: Address, from: Address, bytes: usize, stream: StreamHandle) -> Code {
    let host =
        |address: Address| ptr::with_exposed_provenance_mut::<c_void>(usize::try_from(address).unwrap_or(0));
    code(match (device_of(to), device_of(from)) {
        (Some(_), Some(_)) => between(to, from, bytes, stream),
        // SAFETY: as this library's callers promise
        (Some(_), None) => unsafe { to_device(to, host(from), bytes, stream) },
        // SAFETY: as this library's callers promise
        (None, Some(_)) => unsafe { to_host(host(to), from, bytes, stream) },
        (None, None) => Err(Code::INVALID_VALUE),
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuMemsetD8Async(to: Address, value: c_uchar, count: usize, stream: StreamHandle) -> Code {
    code(fill(to, value.into(), 1, count, stream))
}

#[unsafe(no_mangle)]
extern "C" fn cuMemsetD16Async(to: Address, value: c_ushort, count: usize, stream: StreamHandle) -> Code {
    code(fill(to, value.into(), 2, count, stream))
}

#[unsafe(no_mangle)]
extern "C" fn cuMemsetD32Async(to: Address, value: c_uint, count: usize, stream: StreamHandle) -> Code {
    code(fill(to, value, 4, count, stream))
}

#[unsafe(no_mangle)]
extern "C" fn cuMemsetD8_v2(to: Address, value: c_uchar, count: usize) -> Code {
    now(fill(to, value.into(), 1, count, DEFAULT))
}

#[unsafe(no_mangle)]
extern "C" fn cuMemsetD32_v2(to: Address, value: c_uint, count: usize) -> Code {
    now(fill(to, value, 4, count, DEFAULT))
}
