//! The driver for tests: its functions, and a GPU made of them.

#![allow(dead_code, reason = "each test binary uses a part of it")]
#![allow(clippy::unwrap_used, reason = "only tests call it")]

use phalanx_softcuda::Setting;
use std::ffi::{CString, c_char, c_int, c_uint, c_void};
use std::process::Command;
use std::sync::atomic::{AtomicI32, Ordering};
use std::{env, ptr, thread};

pub(crate) type Handle = *mut c_void;

pub(crate) const SUCCESS: u32 = 0;
pub(crate) const INVALID_VALUE: u32 = 1;
pub(crate) const OUT_OF_MEMORY: u32 = 2;
pub(crate) const INVALID_PTX: u32 = 218;
pub(crate) const NOT_READY: u32 = 600;
pub(crate) const ILLEGAL_ADDRESS: u32 = 700;
pub(crate) const ILLEGAL_INSTRUCTION: u32 = 715;
pub(crate) const MISALIGNED_ADDRESS: u32 = 716;

unsafe extern "C" {
    pub(crate) fn cuInit(flags: c_uint) -> u32;
    pub(crate) fn cuDevicePrimaryCtxRetain(context: *mut Handle, device: c_int) -> u32;
    pub(crate) fn cuCtxSetCurrent(context: Handle) -> u32;
    pub(crate) fn cuCtxSynchronize() -> u32;
    pub(crate) fn cuModuleLoadData(module: *mut Handle, image: *const c_void) -> u32;
    pub(crate) fn cuModuleGetFunction(function: *mut Handle, module: Handle, name: *const c_char) -> u32;
    pub(crate) fn cuFuncSetAttribute(function: Handle, attribute: c_int, value: c_int) -> u32;
    pub(crate) fn cuMemAlloc_v2(address: *mut u64, bytes: usize) -> u32;
    pub(crate) fn cuMemFree_v2(address: u64) -> u32;
    pub(crate) fn cuMemGetInfo_v2(free: *mut usize, total: *mut usize) -> u32;
    pub(crate) fn cuMemcpyHtoD_v2(to: u64, from: *const c_void, bytes: usize) -> u32;
    pub(crate) fn cuMemcpyDtoH_v2(to: *mut c_void, from: u64, bytes: usize) -> u32;
    pub(crate) fn cuMemcpyDtoDAsync_v2(to: u64, from: u64, bytes: usize, stream: Handle) -> u32;
    pub(crate) fn cuMemsetD32Async(to: u64, value: c_uint, count: usize, stream: Handle) -> u32;
    pub(crate) fn cuStreamCreate(stream: *mut Handle, flags: c_uint) -> u32;
    pub(crate) fn cuStreamSynchronize(stream: Handle) -> u32;
    pub(crate) fn cuStreamQuery(stream: Handle) -> u32;
    pub(crate) fn cuStreamWaitEvent(stream: Handle, event: Handle, flags: c_uint) -> u32;
    pub(crate) fn cuEventCreate(event: *mut Handle, flags: c_uint) -> u32;
    pub(crate) fn cuEventRecord(event: Handle, stream: Handle) -> u32;
    pub(crate) fn cuGetErrorName(code: u32, text: *mut *const c_char) -> u32;
    #[allow(clippy::too_many_arguments, reason = "the driver's")]
    pub(crate) fn cuLaunchKernel(
        function: Handle,
        grid_x: c_uint,
        grid_y: c_uint,
        grid_z: c_uint,
        block_x: c_uint,
        block_y: c_uint,
        block_z: c_uint,
        shared: c_uint,
        stream: Handle,
        params: *mut *mut c_void,
        extra: *mut *mut c_void,
    ) -> u32;
    fn phalanx_softcuda_fault(text: *mut c_char, capacity: usize) -> usize;
    fn phalanx_softcuda_set(variable: *const c_char, value: *const c_char) -> c_int;
}

/// Changes a setting of this process.
pub(crate) fn set(setting: &Setting) {
    let (name, value) = setting.variable();
    let (name, value) = (CString::new(name).unwrap(), CString::new(value).unwrap());
    // SAFETY: strings that end
    assert_eq!(unsafe { phalanx_softcuda_set(name.as_ptr(), value.as_ptr()) }, 0);
}

/// Runs a test that changes settings in a process of its own. A test runner that does so anyway has said so.
pub(crate) fn alone(test: impl FnOnce()) {
    const ALONE: &str = "SOFTCUDA_TEST_ALONE";
    if env::var_os("NEXTEST").is_some() || env::var_os(ALONE).is_some() {
        return test();
    }
    let name = thread::current().name().unwrap_or_default().to_owned();
    let program = env::current_exe().unwrap();
    let run =
        Command::new(program).args([&*name, "--exact", "--nocapture"]).env(ALONE, "1").status().unwrap();
    assert!(run.success(), "{name} fails");
}

/// A parameter of a kernel.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Param {
    Word(u32),
    Long(u64),
}

/// The number of the next device.
static NEXT: AtomicI32 = AtomicI32::new(0);

/// How many devices there are: one for each that a test binary asks for.
const DEVICES: u32 = 64;

/// A device that nothing has broken yet.
#[derive(Debug)]
pub(crate) struct Gpu;

impl Gpu {
    pub(crate) fn new() -> Self {
        set(&Setting::Devices(DEVICES));
        let mut context = ptr::null_mut();
        // SAFETY: valid pointers
        unsafe {
            assert_eq!(cuInit(0), SUCCESS);
            assert_eq!(cuDevicePrimaryCtxRetain(&mut context, NEXT.fetch_add(1, Ordering::Relaxed)), SUCCESS);
            assert_eq!(cuCtxSetCurrent(context), SUCCESS);
        }
        Self
    }

    /// What the last fault was.
    pub(crate) fn fault(&self) -> String {
        let mut text = vec![0_u8; 4096];
        // SAFETY: that many bytes
        let length = unsafe { phalanx_softcuda_fault(text.as_mut_ptr().cast(), text.len()) };
        String::from_utf8_lossy(&text[..length]).into_owned()
    }

    pub(crate) fn load(&self, ptx: &str) -> Result<Handle, u32> {
        let (text, mut module) = (CString::new(ptx).unwrap(), ptr::null_mut());
        // SAFETY: a string that ends
        match unsafe { cuModuleLoadData(&mut module, text.as_ptr().cast()) } {
            SUCCESS => Ok(module),
            code => Err(code),
        }
    }

    pub(crate) fn function(&self, module: Handle, name: &str) -> Result<Handle, u32> {
        let (name, mut function) = (CString::new(name).unwrap(), ptr::null_mut());
        // SAFETY: a string that ends
        match unsafe { cuModuleGetFunction(&mut function, module, name.as_ptr()) } {
            SUCCESS => Ok(function),
            code => Err(code),
        }
    }

    /// The kernel of a module that has one.
    pub(crate) fn kernel(&self, ptx: &str, name: &str) -> Handle {
        let module = self.load(ptx).unwrap_or_else(|code| panic!("{code}: {}", self.fault()));
        self.function(module, name).unwrap_or_else(|code| panic!("{code}: {}", self.fault()))
    }

    pub(crate) fn allocate(&self, bytes: usize) -> u64 {
        let mut address = 0;
        // SAFETY: a valid pointer
        assert_eq!(unsafe { cuMemAlloc_v2(&mut address, bytes) }, SUCCESS);
        address
    }

    pub(crate) fn upload<T: Copy>(&self, data: &[T]) -> u64 {
        let bytes = size_of_val(data);
        let address = self.allocate(bytes.max(1));
        // SAFETY: as many bytes
        assert_eq!(unsafe { cuMemcpyHtoD_v2(address, data.as_ptr().cast(), bytes) }, SUCCESS);
        address
    }

    pub(crate) fn download<T: Copy + Default>(&self, address: u64, length: usize) -> Vec<T> {
        let mut data = vec![T::default(); length];
        // SAFETY: as many bytes
        let code = unsafe { cuMemcpyDtoH_v2(data.as_mut_ptr().cast(), address, length * size_of::<T>()) };
        assert_eq!(code, SUCCESS, "{}", self.fault());
        data
    }

    /// Launches in a stream, and returns the launch's own code.
    pub(crate) fn launch_in(
        &self,
        stream: Handle,
        function: Handle,
        shape: [[u32; 3]; 2],
        shared: u32,
        params: &[Param],
    ) -> u32 {
        let bytes: Vec<[u8; 8]> = params
            .iter()
            .map(|param| match param {
                Param::Word(value) => u64::from(*value).to_le_bytes(),
                Param::Long(value) => value.to_le_bytes(),
            })
            .collect();
        let bytes: Vec<&[u8]> = bytes.iter().map(|bytes| &bytes[..]).collect();
        launch(stream, function, shape, shared, &bytes)
    }

    /// [`Self::run`] with parameters of any length.
    pub(crate) fn run_with_bytes(&self, function: Handle, grid: u32, block: u32, params: &[&[u8]]) -> u32 {
        let code = launch(ptr::null_mut(), function, [[grid, 1, 1], [block, 1, 1]], 0, params);
        // SAFETY: no pointers
        if code == SUCCESS { unsafe { cuCtxSynchronize() } } else { code }
    }

    /// Launches, and waits for the end.
    pub(crate) fn run(&self, function: Handle, grid: u32, block: u32, params: &[Param]) -> u32 {
        let code = self.launch_in(ptr::null_mut(), function, [[grid, 1, 1], [block, 1, 1]], 0, params);
        // SAFETY: no pointers
        if code == SUCCESS { unsafe { cuCtxSynchronize() } } else { code }
    }

    pub(crate) fn stream(&self) -> Handle {
        let mut stream = ptr::null_mut();
        // SAFETY: a valid pointer
        assert_eq!(unsafe { cuStreamCreate(&mut stream, 1) }, SUCCESS);
        stream
    }
}

/// Launches with parameters of these bytes, which are at least as many as the kernel's.
fn launch(
    stream: Handle,
    function: Handle,
    [grid, block]: [[u32; 3]; 2],
    shared: u32,
    params: &[&[u8]],
) -> u32 {
    let mut pointers: Vec<*mut c_void> =
        params.iter().map(|bytes| bytes.as_ptr().cast_mut().cast()).collect();
    let ([gx, gy, gz], [bx, by, bz]) = (grid, block);
    let (values, extra) = (pointers.as_mut_ptr(), ptr::null_mut());
    // SAFETY: as many parameters as the kernel has, which are only read
    unsafe { cuLaunchKernel(function, gx, gy, gz, bx, by, bz, shared, stream, values, extra) }
}

/// A module with one kernel `k`, of these parameters and this body.
pub(crate) fn module(params: &str, body: &str) -> String {
    format!(
        ".version 8.8\n.target sm_80\n.address_size 64\n.file 1 \"k.cu\"\n.visible .entry k({params})\n{{\n{body}\nret;\n}}\n"
    )
}
