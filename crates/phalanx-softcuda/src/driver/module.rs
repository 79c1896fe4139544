//! Modules: PTX that is read when it is loaded, and kernels that are decoded when they are first asked for.

use super::context::working;
use super::device::{code, put};
use super::stream::wait_for_device;
use super::table::{Handle, Table};
use super::{Code, device::limit};
use crate::config;
use crate::decode;
use crate::exec::Kernel;
use crate::exec::arena::{self, Kind, region};
use crate::fault::refuse;
use crate::ptx::{self, Space};
use std::collections::BTreeMap;
use std::ffi::{CStr, c_char, c_int, c_uint, c_void};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// A loaded module.
struct Module {
    ptx: ptx::Module,
    /// Variables of global and constant memory, and their bytes.
    variables: BTreeMap<String, (u64, u32)>,
    /// Handles of the kernels that were asked for.
    functions: Mutex<BTreeMap<String, usize>>,
}

/// A kernel that can be launched.
pub(super) struct Function {
    pub(super) kernel: Kernel,
    /// Bytes of shared memory that a launch may add.
    pub(super) most_dynamic: AtomicU32,
}

static MODULES: Table<Module> = Table::new();
static FUNCTIONS: Table<Function> = Table::new();

pub(super) fn function(handle: Handle) -> Result<Arc<Function>, Code> {
    FUNCTIONS.get(handle)
}

/// The newest version of PTX that a driver reads, by the version of CUDA that it is for.
fn newest_ptx(driver: u32) -> (u32, u32) {
    match (driver / 1000, driver % 1000 / 10) {
        (12, minor @ 0..=5) => (8, minor),
        (12, 6 | 7) => (8, 5),
        (12, 8) => (8, 7),
        (12, _) => (8, 8),
        (major, minor) if major > 12 => (major - 4, minor),
        _ => (7, 8),
    }
}

fn load(image: &[u8]) -> Result<Handle, Code> {
    let device = working()?;
    if image.starts_with(b"\x7fELF") || image.starts_with(&[0x50, 0xed, 0x55, 0xba]) {
        return Err(refuse(Code::NO_BINARY_FOR_GPU, "machine code is not executed here, only PTX"));
    }
    let text =
        std::str::from_utf8(image).map_err(|_| refuse(Code::INVALID_IMAGE, "the module is not PTX"))?;
    let module = ptx::parse(text).map_err(|error| refuse(Code::INVALID_PTX, error.to_string()))?;
    let config = config::get();
    let newest = newest_ptx(config.driver);
    if module.version > newest {
        let what = format!(
            "PTX {:?} is newer than {newest:?}, the newest for driver {}",
            module.version, config.driver
        );
        return Err(refuse(Code::UNSUPPORTED_PTX_VERSION, what));
    }
    let (major, minor) = config.capability;
    if module.target > major * 10 + minor {
        let what = format!("PTX for sm_{} does not run on a device of {major}.{minor}", module.target);
        return Err(refuse(Code::NO_BINARY_FOR_GPU, what));
    }
    let mut variables = BTreeMap::new();
    for variable in
        module.variables.iter().filter(|v| matches!(v.space, Space::Global | Space::Const) && v.bytes > 0)
    {
        let address = region(device)?.allocate(u64::from(variable.bytes), u64::MAX)?;
        let bytes = variable.bytes as usize;
        let start = arena::access(address, bytes, Kind::Write).map_err(|fault| fault.code)?;
        // SAFETY: as many bytes were checked
        let memory = unsafe { std::slice::from_raw_parts_mut(start, bytes) };
        memory.fill(0);
        let given = variable.init.len().min(bytes);
        memory[..given].copy_from_slice(&variable.init[..given]);
        variables.insert(variable.name.clone(), (address, variable.bytes));
    }
    Ok(MODULES.insert(Module { ptx: module, variables, functions: Mutex::default() }))
}

/// The bytes of an image: PTX ends with a 0, what is no text has a magic number that is refused.
///
/// # Safety
/// As said.
unsafe fn image<'a>(start: *const c_void) -> Result<&'a [u8], Code> {
    if start.is_null() {
        return Err(Code::INVALID_VALUE);
    }
    // SAFETY: as the caller promises; a 0 within the magic number would end it no earlier than its fourth byte
    Ok(unsafe { CStr::from_ptr(start.cast()) }.to_bytes())
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuModuleLoadData(module: *mut Handle, data: *const c_void) -> Code {
    // SAFETY: as this library's callers promise
    code(unsafe { image(data) }.and_then(load).and_then(|loaded| {
        // SAFETY: as this library's callers promise
        unsafe { put(module, loaded) }
    }))
}

/// [`cuModuleLoadData`]; its options tune a compiler that is not there.
#[unsafe(no_mangle)]
unsafe extern "C" fn cuModuleLoadDataEx(
    module: *mut Handle,
    data: *const c_void,
    _count: c_uint,
    _options: *mut c_int,
    _values: *mut *mut c_void,
) -> Code {
    // SAFETY: as this library's callers promise
    unsafe { cuModuleLoadData(module, data) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuModuleLoad(module: *mut Handle, path: *const c_char) -> Code {
    if path.is_null() {
        return Code::INVALID_VALUE;
    }
    // SAFETY: as this library's callers promise
    let path = unsafe { CStr::from_ptr(path) }.to_string_lossy().into_owned();
    let read = std::fs::read(&path).map_err(|error| refuse(Code::NOT_FOUND, format!("{path}: {error}")));
    code(read.and_then(|bytes| load(&bytes)).and_then(|loaded| {
        // SAFETY: as this library's callers promise
        unsafe { put(module, loaded) }
    }))
}

#[unsafe(no_mangle)]
extern "C" fn cuModuleUnload(module: Handle) -> Code {
    code(wait_for_device().and_then(|device| {
        let module = MODULES.remove(module)?;
        for &function in module.functions.lock().unwrap_or_else(PoisonError::into_inner).values() {
            FUNCTIONS.remove(std::ptr::without_provenance_mut(function)).map(drop)?;
        }
        module.variables.values().try_for_each(|&(address, _)| region(device)?.free(address))
    }))
}

/// # Safety
/// `name` ends.
unsafe fn text(name: *const c_char) -> Result<String, Code> {
    if name.is_null() {
        return Err(Code::INVALID_VALUE);
    }
    // SAFETY: as the caller promises
    Ok(unsafe { CStr::from_ptr(name) }.to_string_lossy().into_owned())
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuModuleGetFunction(function: *mut Handle, module: Handle, name: *const c_char) -> Code {
    code(working().and_then(|_| {
        let module = MODULES.get(module)?;
        // SAFETY: as this library's callers promise
        let name = unsafe { text(name) }?;
        let mut functions = module.functions.lock().unwrap_or_else(PoisonError::into_inner);
        let handle = match functions.get(&name) {
            Some(&handle) => std::ptr::without_provenance_mut(handle),
            None => {
                let entry =
                    module.ptx.entries.iter().find(|entry| entry.name == name).ok_or(Code::NOT_FOUND)?;
                let addresses =
                    module.variables.iter().map(|(name, &(address, _))| (name.clone(), address)).collect();
                let kernel = decode::kernel(&module.ptx, entry, &addresses)
                    .map_err(|error| refuse(Code::INVALID_PTX, error.to_string()))?;
                let most_dynamic = AtomicU32::new(limit::SHARED.saturating_sub(kernel.shared_bytes));
                let handle = FUNCTIONS.insert(Function { kernel, most_dynamic });
                functions.insert(name, handle.addr());
                handle
            }
        };
        // SAFETY: as this library's callers promise
        unsafe { put(function, handle) }
    }))
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuModuleGetGlobal_v2(
    address: *mut u64,
    bytes: *mut usize,
    module: Handle,
    name: *const c_char,
) -> Code {
    code(working().and_then(|_| {
        let module = MODULES.get(module)?;
        // SAFETY: as this library's callers promise
        let name = unsafe { text(name) }?;
        let &(found, length) = module.variables.get(&name).ok_or(Code::NOT_FOUND)?;
        // SAFETY: as this library's callers promise; each may be null
        unsafe {
            if !address.is_null() {
                put(address, found)?;
            }
            if !bytes.is_null() {
                put(bytes, length as usize)?;
            }
        }
        Ok(())
    }))
}

/// Attributes of kernels, by their numbers in `cuda.h`.
mod attribute {
    use std::ffi::c_int;

    pub(super) const MOST_THREADS: c_int = 0;
    pub(super) const SHARED: c_int = 1;
    pub(super) const CONSTANT: c_int = 2;
    pub(super) const LOCAL: c_int = 3;
    pub(super) const REGISTERS: c_int = 4;
    pub(super) const PTX_VERSION: c_int = 5;
    pub(super) const BINARY_VERSION: c_int = 6;
    pub(super) const MOST_DYNAMIC_SHARED: c_int = 8;
    pub(super) const CARVEOUT: c_int = 9;
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuFuncGetAttribute(value: *mut c_int, attribute: c_int, handle: Handle) -> Code {
    code(function(handle).and_then(|function| {
        let (major, minor) = config::get().capability;
        let found = match attribute {
            attribute::MOST_THREADS => super::launch::most_threads(&function.kernel),
            attribute::SHARED => function.kernel.shared_bytes,
            attribute::CONSTANT => 0,
            attribute::LOCAL => function.kernel.local_bytes,
            // nothing is known of the registers of a GPU: the number that lets every block run
            attribute::REGISTERS => 32,
            attribute::PTX_VERSION | attribute::BINARY_VERSION => major * 10 + minor,
            attribute::MOST_DYNAMIC_SHARED => function.most_dynamic.load(Ordering::Relaxed),
            _ => {
                return Err(refuse(
                    Code::INVALID_VALUE,
                    format!("function attribute {attribute} is not known"),
                ));
            }
        };
        // SAFETY: as this library's callers promise
        unsafe { put(value, c_int::try_from(found).unwrap_or(c_int::MAX)) }
    }))
}

#[unsafe(no_mangle)]
extern "C" fn cuFuncSetAttribute(handle: Handle, attribute: c_int, value: c_int) -> Code {
    code(function(handle).and_then(|function| match (attribute, u32::try_from(value)) {
        (attribute::MOST_DYNAMIC_SHARED, Ok(bytes))
            if bytes.saturating_add(function.kernel.shared_bytes) <= limit::SHARED_OPT_IN =>
        {
            function.most_dynamic.store(bytes, Ordering::Relaxed);
            Ok(())
        }
        (attribute::CARVEOUT, _) => Ok(()),
        _ => {
            let what =
                format!("kernel {} refuses {value} for its attribute {attribute}", function.kernel.name);
            Err(refuse(Code::INVALID_VALUE, what))
        }
    }))
}

#[unsafe(no_mangle)]
extern "C" fn cuFuncSetCacheConfig(handle: Handle, _config: c_int) -> Code {
    code(function(handle).map(drop))
}
