//! Memory: of devices, and pinned memory of the host.

use super::Code;
use super::context::working;
use super::device::{code, ordinal, put};
use super::stream::{StreamHandle, drive, submit_once, wait_for_device};
use crate::config;
use crate::exec::arena::{device_of, region};
use crate::fault::{Fault, refuse};
use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{c_int, c_uint, c_void};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// A device pointer.
pub(super) type Address = u64;

/// What pinned memory is aligned to.
const PAGE: usize = 4096;

/// Pinned memory, by its address, and whether it was allocated here.
static PINNED: Mutex<BTreeMap<usize, (usize, bool)>> = Mutex::new(BTreeMap::new());

fn pinned() -> MutexGuard<'static, BTreeMap<usize, (usize, bool)>> {
    PINNED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether bytes of the host are pinned.
pub(super) fn is_pinned(start: *const c_void, bytes: usize) -> bool {
    let pinned = pinned();
    let before = pinned.range(..=start.addr()).next_back();
    before.is_some_and(|(&from, &(length, _))| start.addr() + bytes <= from + length)
}

/// Allocates memory of the current device. What streams have still to free is freed first where there is no other.
fn allocate(bytes: usize) -> Result<Address, Code> {
    let device = working()?;
    if bytes == 0 {
        return Err(Code::INVALID_VALUE);
    }
    let (region, limit) = (region(device)?, config::get().memory);
    region.allocate(bytes as u64, limit).or_else(|_| {
        wait_for_device()?;
        region.allocate(bytes as u64, limit)
    })
}

/// Frees memory of any device.
fn free(address: Address) -> Result<(), Code> {
    let device = device_of(address).ok_or(Code::INVALID_VALUE)?;
    region(device)?.free(address)?;
    shares().pooled.remove(&address);
    Ok(())
}

/// What of a device's memory other devices reach.
struct Shares {
    /// What came from the pool of its device, which others reach where that pool says so. All else they reach.
    pooled: BTreeSet<Address>,
    /// Pools by their devices, each with a device that reaches its memory.
    reached: BTreeSet<(usize, usize)>,
}

static SHARES: Mutex<Shares> = Mutex::new(Shares { pooled: BTreeSet::new(), reached: BTreeSet::new() });

fn shares() -> MutexGuard<'static, Shares> {
    SHARES.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether a device reaches memory of another, as the real NCCL reads it where both are of one process.
pub(crate) fn reaches(device: usize, address: Address) -> bool {
    let Some(owner) = device_of(address) else { return true };
    let allocation = region(owner).ok().and_then(|region| region.allocation(address));
    let shares = shares();
    let is_pooled = allocation.is_some_and(|(first, _)| shares.pooled.contains(&first));
    owner == device || !is_pooled || shares.reached.contains(&(owner, device))
}

/// How many collectives of this process wait for other ranks or for their turn.
static COLLECTIVES: AtomicUsize = AtomicUsize::new(0);

/// A collective, from its call to its end.
#[derive(Debug)]
pub(crate) struct UnderWay;

impl UnderWay {
    pub(crate) fn new() -> Self {
        COLLECTIVES.fetch_add(1, Ordering::AcqRel);
        UnderWay
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        COLLECTIVES.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Waits as calls do which wait for all devices that share memory: for collectives too, whose ranks may wait for the caller.
fn wait_for_neighbours() {
    drive(|| COLLECTIVES.load(Ordering::Acquire) == 0);
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuMemAlloc_v2(address: *mut Address, bytes: usize) -> Code {
    wait_for_neighbours();
    code(allocate(bytes).and_then(|allocated| {
        // SAFETY: as this library's callers promise
        unsafe { put(address, allocated) }
    }))
}

/// Waits for the device, as the real one does.
#[unsafe(no_mangle)]
extern "C" fn cuMemFree_v2(address: Address) -> Code {
    if address == 0 {
        return Code::SUCCESS;
    }
    wait_for_neighbours();
    code(wait_for_device().and_then(|_| {
        free(address).map_err(|code| {
            refuse(code, format!("{address:#x} is freed, which was not allocated, or not any more"))
        })
    }))
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuMemAllocAsync(address: *mut Address, bytes: usize, stream: StreamHandle) -> Code {
    code(super::stream::find(stream).and_then(|_| {
        let allocated = allocate(bytes)?;
        shares().pooled.insert(allocated);
        // SAFETY: as this library's callers promise
        unsafe { put(address, allocated) }
    }))
}

/// A `CUmemAccessDesc`.
#[repr(C)]
struct Access {
    location: c_int,
    device: c_int,
    rights: c_int,
}

/// Says which devices reach the memory of a pool.
#[unsafe(no_mangle)]
unsafe extern "C" fn cuMemPoolSetAccess(pool: *mut c_void, access: *const Access, count: usize) -> Code {
    const DEVICE: c_int = 1;
    const NONE: c_int = 0;
    const ALL: c_int = 3;
    let Some(owner) = pool.addr().checked_sub(1) else { return Code::INVALID_VALUE };
    if access.is_null() {
        return Code::INVALID_VALUE;
    }
    // SAFETY: as this library's callers promise
    let access = unsafe { std::slice::from_raw_parts(access, count) };
    code(access.iter().try_for_each(|access| {
        let device = ordinal(access.device)?;
        match (access.location, access.rights) {
            (DEVICE, ALL) => drop(shares().reached.insert((owner, device))),
            (DEVICE, NONE) if owner != device => drop(shares().reached.remove(&(owner, device))),
            _ => return Err(Code::INVALID_VALUE),
        }
        Ok(())
    }))
}

#[unsafe(no_mangle)]
extern "C" fn cuMemFreeAsync(address: Address, stream: StreamHandle) -> Code {
    if address == 0 {
        return Code::SUCCESS;
    }
    code(submit_once(stream, move || {
        let what = || format!("{address:#x} is freed, which was not allocated, or not any more");
        free(address).map_err(|_| Fault::new(Code::ILLEGAL_ADDRESS, what()))
    }))
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuMemGetInfo_v2(free: *mut usize, total: *mut usize) -> Code {
    code(working().and_then(|device| {
        let memory = config::get().memory;
        let left = memory.saturating_sub(region(device)?.used());
        // SAFETY: as this library's callers promise
        unsafe {
            put(free, usize::try_from(left).unwrap_or(usize::MAX))?;
            put(total, usize::try_from(memory).unwrap_or(usize::MAX))
        }
    }))
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuMemGetAddressRange_v2(
    base: *mut Address,
    bytes: *mut usize,
    address: Address,
) -> Code {
    code(working().and_then(|_| {
        let device = device_of(address).ok_or(Code::NOT_FOUND)?;
        let (first, length) = region(device)?.allocation(address).ok_or(Code::NOT_FOUND)?;
        // SAFETY: as this library's callers promise; each may be null
        unsafe {
            if !base.is_null() {
                put(base, first)?;
            }
            if !bytes.is_null() {
                put(bytes, usize::try_from(length).unwrap_or(usize::MAX))?;
            }
        }
        Ok(())
    }))
}

/// What a pointer points at: only the kind of memory and the device are known here.
#[unsafe(no_mangle)]
unsafe extern "C" fn cuPointerGetAttribute(value: *mut c_void, attribute: c_int, address: Address) -> Code {
    const MEMORY_TYPE: c_int = 2;
    const DEVICE: c_int = 9;
    code(working().and_then(|_| {
        let device = device_of(address);
        let host = usize::try_from(address).ok().map(std::ptr::without_provenance::<c_void>);
        let found = match (attribute, device) {
            (MEMORY_TYPE, Some(_)) => 2,
            (MEMORY_TYPE, None) if host.is_some_and(|host| is_pinned(host, 1)) => 1,
            (DEVICE, Some(device)) => c_uint::try_from(device).unwrap_or_default(),
            _ => return Err(Code::INVALID_VALUE),
        };
        // SAFETY: as this library's callers promise: both attributes are of 32 bits
        unsafe { put(value.cast::<c_uint>(), found) }
    }))
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuMemHostAlloc(memory: *mut *mut c_void, bytes: usize, _flags: c_uint) -> Code {
    code(working().and_then(|_| {
        let layout = Layout::from_size_align(bytes, PAGE).map_err(|_| Code::OUT_OF_MEMORY)?;
        if bytes == 0 {
            return Err(Code::INVALID_VALUE);
        }
        // SAFETY: not empty
        let start = unsafe { alloc_zeroed(layout) };
        if start.is_null() {
            return Err(Code::OUT_OF_MEMORY);
        }
        pinned().insert(start.expose_provenance(), (bytes, true));
        // SAFETY: as this library's callers promise
        unsafe { put(memory, start.cast()) }
    }))
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuMemAllocHost_v2(memory: *mut *mut c_void, bytes: usize) -> Code {
    // SAFETY: as this library's callers promise
    unsafe { cuMemHostAlloc(memory, bytes, 0) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuMemFreeHost(memory: *mut c_void) -> Code {
    code(wait_for_device().and_then(|_| {
        let Some((bytes, true)) = pinned().remove(&memory.addr()) else { return Err(Code::INVALID_VALUE) };
        let layout = Layout::from_size_align(bytes, PAGE).map_err(|_| Code::INVALID_VALUE)?;
        // SAFETY: allocated with this layout
        unsafe { dealloc(memory.cast(), layout) };
        Ok(())
    }))
}

#[unsafe(no_mangle)]
extern "C" fn cuMemHostRegister_v2(memory: *mut c_void, bytes: usize, _flags: c_uint) -> Code {
    code(working().and_then(|_| {
        if memory.is_null() || bytes == 0 {
            return Err(Code::INVALID_VALUE);
        }
        pinned().insert(memory.addr(), (bytes, false));
        Ok(())
    }))
}

#[unsafe(no_mangle)]
extern "C" fn cuMemHostUnregister(memory: *mut c_void) -> Code {
    code(wait_for_device().and_then(|_| pinned().remove(&memory.addr()).map(drop).ok_or(Code::INVALID_VALUE)))
}
