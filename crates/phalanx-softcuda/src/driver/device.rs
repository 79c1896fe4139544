//! Devices and what they can do.

use super::Code;
use crate::config;
use crate::fault::refuse;
use std::ffi::{c_char, c_int, c_uint, c_void};
use std::sync::atomic::{AtomicBool, Ordering};

/// The name of each device.
const NAME: &str = "phalanx softcuda";

static INITIALIZED: AtomicBool = AtomicBool::new(false);

/// What calls before `cuInit` get.
pub(super) fn initialized() -> Result<(), Code> {
    if INITIALIZED.load(Ordering::Relaxed) { Ok(()) } else { Err(Code::NOT_INITIALIZED) }
}

/// A device's number, where there is such a device.
pub(super) fn ordinal(device: c_int) -> Result<usize, Code> {
    initialized()?;
    match usize::try_from(device) {
        Ok(ordinal) if ordinal < config::get().devices as usize => Ok(ordinal),
        _ => Err(Code::INVALID_DEVICE),
    }
}

/// Writes what a function returns through a pointer.
///
/// # Safety
/// `to` is null or valid for a write.
pub(super) unsafe fn put<T>(to: *mut T, value: T) -> Result<(), Code> {
    if to.is_null() {
        return Err(Code::INVALID_VALUE);
    }
    // SAFETY: not null, and so valid
    unsafe { to.write(value) };
    Ok(())
}

/// The code of a call that had nothing to refuse, or of why it refused.
pub(super) fn code(result: Result<(), Code>) -> Code {
    result.err().unwrap_or(Code::SUCCESS)
}

/// Starts the driver.
#[unsafe(no_mangle)]
extern "C" fn cuInit(flags: c_uint) -> Code {
    if flags != 0 {
        return Code::INVALID_VALUE;
    }
    if config::get().devices == 0 {
        return Code::NO_DEVICE;
    }
    INITIALIZED.store(true, Ordering::Relaxed);
    Code::SUCCESS
}

/// The version of CUDA that the driver is for.
///
/// # Safety
/// As for all functions of this module: pointers are null or valid.
#[unsafe(no_mangle)]
unsafe extern "C" fn cuDriverGetVersion(version: *mut c_int) -> Code {
    // SAFETY: as the caller promises
    code(unsafe { put(version, c_int::try_from(config::get().driver).unwrap_or_default()) })
}

/// How many devices there are.
///
/// # Safety
/// As above.
#[unsafe(no_mangle)]
unsafe extern "C" fn cuDeviceGetCount(count: *mut c_int) -> Code {
    code(initialized().and_then(|()| {
        // SAFETY: as the caller promises
        unsafe { put(count, c_int::try_from(config::get().devices).unwrap_or_default()) }
    }))
}

/// The handle of a device, which is its number.
///
/// # Safety
/// As above.
#[unsafe(no_mangle)]
unsafe extern "C" fn cuDeviceGet(device: *mut c_int, number: c_int) -> Code {
    code(ordinal(number).and_then(|_| {
        // SAFETY: as the caller promises
        unsafe { put(device, number) }
    }))
}

/// The name of a device, cut to the room there is.
///
/// # Safety
/// `name` has room for `length` bytes.
#[unsafe(no_mangle)]
unsafe extern "C" fn cuDeviceGetName(name: *mut c_char, length: c_int, device: c_int) -> Code {
    let room = usize::try_from(length).unwrap_or_default();
    if let Err(code) = ordinal(device) {
        return code;
    }
    if name.is_null() || room == 0 {
        return Code::INVALID_VALUE;
    }
    let fits = NAME.len().min(room - 1);
    // SAFETY: `fits` bytes and the end are within the room
    unsafe {
        name.copy_from_nonoverlapping(NAME.as_ptr().cast(), fits);
        name.add(fits).write(0);
    }
    Code::SUCCESS
}

/// Sixteen bytes that tell devices apart.
///
/// # Safety
/// `uuid` has room for them.
#[unsafe(no_mangle)]
unsafe extern "C" fn cuDeviceGetUuid_v2(uuid: *mut [u8; 16], device: c_int) -> Code {
    code(ordinal(device).and_then(|ordinal| {
        let mut bytes = *b"phalanx softcuda";
        bytes[15] = u8::try_from(ordinal).unwrap_or(u8::MAX);
        // SAFETY: as the caller promises
        unsafe { put(uuid, bytes) }
    }))
}

/// [`cuDeviceGetUuid_v2`] of older programs.
///
/// # Safety
/// As above.
#[unsafe(no_mangle)]
unsafe extern "C" fn cuDeviceGetUuid(uuid: *mut [u8; 16], device: c_int) -> Code {
    // SAFETY: as the caller promises
    unsafe { cuDeviceGetUuid_v2(uuid, device) }
}

/// The bytes of memory of a device.
///
/// # Safety
/// As above.
#[unsafe(no_mangle)]
unsafe extern "C" fn cuDeviceTotalMem_v2(bytes: *mut usize, device: c_int) -> Code {
    code(ordinal(device).and_then(|_| {
        // SAFETY: as the caller promises
        unsafe { put(bytes, usize::try_from(config::get().memory).unwrap_or(usize::MAX)) }
    }))
}

/// The limits of a launch.
pub(super) mod limit {
    /// Threads of a block.
    pub(in crate::driver) const THREADS: u32 = 1024;
    /// Threads of a block along each axis.
    pub(in crate::driver) const BLOCK: [u32; 3] = [1024, 1024, 64];
    /// Blocks of a grid along each axis.
    pub(in crate::driver) const GRID: [u32; 3] = [0x7fff_ffff, 65_535, 65_535];
    /// Bytes of shared memory of a block, unless a kernel opts in to more.
    pub(in crate::driver) const SHARED: u32 = 48 << 10;
    /// Bytes of shared memory that a kernel of an sm_80 can opt in to.
    pub(in crate::driver) const SHARED_OPT_IN: u32 = 163 << 10;
    /// Bytes of constant memory.
    pub(in crate::driver) const CONSTANT: u32 = 64 << 10;
    /// Registers of a block, of 32 bits.
    pub(in crate::driver) const REGISTERS: u32 = 65_536;
}

/// An attribute of a device. Those that this driver does not know are reported, since a test would otherwise take any number.
///
/// # Safety
/// As above.
#[unsafe(no_mangle)]
unsafe extern "C" fn cuDeviceGetAttribute(value: *mut c_int, attribute: c_int, device: c_int) -> Code {
    code(ordinal(device).and_then(|ordinal| {
        let found = known(attribute, ordinal).ok_or_else(|| {
            refuse(Code::INVALID_VALUE, format!("device attribute {attribute} is not known"))
        })?;
        // SAFETY: as the caller promises
        unsafe { put(value, c_int::try_from(found).unwrap_or(c_int::MAX)) }
    }))
}

/// An attribute by its number in `cuda.h`.
fn known(attribute: c_int, ordinal: usize) -> Option<u32> {
    let (major, minor) = config::get().capability;
    Some(match attribute {
        1 => limit::THREADS,
        2..=4 => limit::BLOCK[usize::try_from(attribute - 2).ok()?],
        5..=7 => limit::GRID[usize::try_from(attribute - 5).ok()?],
        8 => limit::SHARED,
        9 => limit::CONSTANT,
        10 => 32,          // lanes of a warp
        11 => 0x7fff_ffff, // pitch
        12 | 82 => limit::REGISTERS,
        13 | 36 => 1_000_000,               // clocks, kHz
        14 => 512,                          // alignment of textures
        15 => 1,                            // overlap of copies
        16 => 2,                            // multiprocessors
        17 => 0,                            // time limit of kernels
        18 => 0,                            // integrated
        19 => 1,                            // maps host memory
        20 => 0,                            // compute mode
        31 => 1,                            // concurrent kernels
        32 => 0,                            // error correction
        33 => u32::try_from(ordinal).ok()?, // PCI bus
        34 | 50 => 0,
        37 => 64,      // width of the memory bus
        38 => 1 << 20, // bytes of the second cache
        39 => 2048,    // threads of a multiprocessor
        40 => 2,       // copy engines
        41 => 1,       // one address space
        75 => major,
        76 => minor,
        78 => 1,      // priorities of streams
        79 | 80 => 1, // global and local memory in the first cache
        81 => limit::SHARED_OPT_IN + 1024,
        83 => 0, // managed memory
        84 => 0, // several GPUs on a board
        85 => 0,
        88 => u32::from(config::get().pageable),
        89 | 90 => 0, // concurrent managed access, preemption
        91 => 0,      // host pointers of registered memory
        92..=94 => 0,
        95 | 96 => 0, // cooperative launch
        97 => limit::SHARED_OPT_IN,
        102 => 0,    // virtual memory management
        106 => 32,   // blocks of a multiprocessor
        111 => 1024, // shared memory that the driver takes of a block
        115 => 1,    // memory pools
        116 => 0,    // GPUDirect RDMA
        _ => return None,
    })
}

/// The compute capability.
///
/// # Safety
/// As above.
#[unsafe(no_mangle)]
unsafe extern "C" fn cuDeviceComputeCapability(major: *mut c_int, minor: *mut c_int, device: c_int) -> Code {
    code(ordinal(device).and_then(|_| {
        let (first, second) = config::get().capability;
        // SAFETY: as the caller promises
        unsafe {
            put(major, c_int::try_from(first).unwrap_or_default())?;
            put(minor, c_int::try_from(second).unwrap_or_default())
        }
    }))
}

/// Whether a device can reach another's memory: each can.
///
/// # Safety
/// As above.
#[unsafe(no_mangle)]
unsafe extern "C" fn cuDeviceCanAccessPeer(can: *mut c_int, device: c_int, peer: c_int) -> Code {
    code(ordinal(device).and_then(|one| {
        let other = ordinal(peer)?;
        // SAFETY: as the caller promises
        unsafe { put(can, c_int::from(one != other)) }
    }))
}

/// The default memory pool of a device, of which there is one.
///
/// # Safety
/// As above.
#[unsafe(no_mangle)]
unsafe extern "C" fn cuDeviceGetDefaultMemPool(pool: *mut *mut c_void, device: c_int) -> Code {
    code(ordinal(device).and_then(|ordinal| {
        // SAFETY: as the caller promises
        unsafe { put(pool, std::ptr::without_provenance_mut(ordinal + 1)) }
    }))
}

/// Sets an attribute of a pool. Memory goes back at once here whatever is kept elsewhere.
#[unsafe(no_mangle)]
extern "C" fn cuMemPoolSetAttribute(pool: *mut c_void, _attribute: c_int, value: *mut c_void) -> Code {
    if pool.is_null() || value.is_null() { Code::INVALID_VALUE } else { Code::SUCCESS }
}

/// Tables of functions that NVIDIA's libraries share and nobody documents, of which there is none. NVRTC asks for one.
///
/// # Safety
/// As above.
#[unsafe(no_mangle)]
unsafe extern "C" fn cuGetExportTable(table: *mut *const c_void, _id: *const [u8; 16]) -> Code {
    // SAFETY: as the caller promises
    code(unsafe { put(table, std::ptr::null()) }.and(Err(Code::NOT_FOUND)))
}
