//! A device: its context and stream, the loaded kernels, the pool, and the first failure.

use crate::CudaError;
use crate::blas::{Blas, Products};
use crate::grid::Grid;
use crate::image;
use crate::kernels::{Kernels, Ptr};
use crate::library;
use crate::pool::Pool;
use bytemuck::Pod;
use cudarc::driver::result::{self, DriverError};
use cudarc::driver::sys::{self, CUdevice_attribute, CUfunction, CUmemPool_attribute, CUmodule, CUresult};
use cudarc::driver::{CudaContext, CudaStream};
use std::ffi::{CString, c_char, c_void};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

/// Everything of one device. All work is put on one stream, in which memory that is given back is used again.
pub(crate) struct Device {
    ordinal: usize,
    module: CUmodule,
    kernels: Kernels,
    pool: Mutex<Pool>,
    fault: OnceLock<CudaError>,
    /// Whether the device reads pageable memory of the host itself, when it comes to a copy.
    reads_pageable: bool,
    // dropped in this order: each needs what comes after it
    blas: Blas,
    stream: Arc<CudaStream>,
    context: Arc<CudaContext>,
}

// SAFETY: handles of the driver may be used from any thread that has the context bound, which every call here sees to;
// that of cuBLAS is behind a lock.
unsafe impl Send for Device {}
// SAFETY: as above.
unsafe impl Sync for Device {}

impl fmt::Debug for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Device")
            .field("ordinal", &self.ordinal)
            .field("fault", &self.fault)
            .finish_non_exhaustive()
    }
}

/// How many devices the driver shows.
pub(crate) fn count() -> Result<usize, CudaError> {
    library::driver()?;
    let failed = |call| move |error| failure(0, call, error);
    match result::init() {
        Err(DriverError(CUresult::CUDA_ERROR_NO_DEVICE)) => return Ok(0),
        Err(DriverError(CUresult::CUDA_ERROR_STUB_LIBRARY)) => {
            let purpose = "what was found is the stub that programs are linked with; the library comes with NVIDIA's driver";
            return Err(CudaError::NoLibrary { library: "libcuda.so", purpose });
        }
        other => other.map_err(failed("cuInit"))?,
    }
    let devices = result::device::get_count().map_err(failed("cuDeviceGetCount"))?;
    Ok(usize::try_from(devices).unwrap_or(0))
}

/// The bytes of memory of a device.
pub(crate) fn memory(ordinal: usize) -> Result<u64, CudaError> {
    let devices = count()?;
    if ordinal >= devices {
        return Err(CudaError::NoDevice { ordinal, devices });
    }
    let device = result::device::get(i32::try_from(ordinal).unwrap_or(i32::MAX));
    // SAFETY: the device is one that the driver gave.
    let bytes = device.and_then(|device| unsafe { result::device::total_mem(device) });
    bytes.map(|bytes| bytes as u64).map_err(|error| failure(ordinal, "cuDeviceTotalMem", error))
}

/// The UUID of each device that the driver shows.
pub(crate) fn uuids() -> Result<Vec<[u8; 16]>, CudaError> {
    let uuid = |ordinal: usize| {
        let device = result::device::get(i32::try_from(ordinal).unwrap_or(i32::MAX));
        let uuid = device.and_then(result::device::get_uuid);
        uuid.map(|uuid| uuid.bytes.map(c_char::cast_unsigned))
            .map_err(|error| failure(ordinal, "cuDeviceGetUuid", error))
    };
    (0..count()?).map(uuid).collect()
}

impl Device {
    pub(crate) fn open(ordinal: usize, products: Products) -> Result<Self, CudaError> {
        let devices = count()?;
        if ordinal >= devices {
            return Err(CudaError::NoDevice { ordinal, devices });
        }
        library::check()?;
        let failed = |call| move |error| failure(ordinal, call, error);
        let context = CudaContext::new(ordinal).map_err(failed("cuDevicePrimaryCtxRetain"))?;
        let (major, minor) = context.compute_capability().map_err(failed("cuDeviceGetAttribute"))?;
        let capability = (major.unsigned_abs(), minor.unsigned_abs());
        if capability < (8, 0) {
            return Err(CudaError::Capability { ordinal, capability });
        }
        // SAFETY: this crate orders all work by its one stream; no slice of cudarc's is made that would be tracked.
        unsafe { context.disable_event_tracking() };
        let stream = context.new_stream().map_err(failed("cuStreamCreate"))?;
        keep_freed(&context).map_err(failed("cuMemPoolSetAttribute"))?;
        let module = load(ordinal, capability)?;
        let find = |name: &'static str| {
            let symbol = CString::new(name).unwrap_or_default();
            // SAFETY: the module is loaded.
            unsafe { result::module::get_function(module, symbol) }.map_err(failed(name))
        };
        let kernels = Kernels::find(find)?;
        let blas = Blas::new(ordinal, &stream, products)?;
        let pageable = CUdevice_attribute::CU_DEVICE_ATTRIBUTE_PAGEABLE_MEMORY_ACCESS;
        let reads_pageable = context.attribute(pageable).map_err(failed("cuDeviceGetAttribute"))? != 0;
        let (pool, fault) = (Mutex::default(), OnceLock::new());
        Ok(Device { ordinal, module, kernels, pool, fault, reads_pageable, blas, stream, context })
    }

    pub(crate) fn ordinal(&self) -> usize {
        self.ordinal
    }

    pub(crate) fn kernels(&self) -> &Kernels {
        &self.kernels
    }

    pub(crate) fn blas(&self) -> &Blas {
        &self.blas
    }

    pub(crate) fn stream(&self) -> &Arc<CudaStream> {
        &self.stream
    }

    /// The first failure.
    pub(crate) fn fault(&self) -> Option<&CudaError> {
        self.fault.get()
    }

    /// Keeps a failure, if it is the first.
    pub(crate) fn fail(&self, error: CudaError) {
        // the first one is what matters: those after it follow from it
        self.fault.get_or_init(|| error);
    }

    /// The first failure, if there was one; else binds the context to this thread.
    fn ready(&self) -> Result<(), CudaError> {
        if let Some(fault) = self.fault.get() {
            return Err(fault.clone());
        }
        // cudarc tells here, once, what a destructor of its own had nobody to tell: that is no failure of the device
        let bound = self.context.bind_to_thread().or_else(|_| self.context.bind_to_thread());
        let bound = bound.map_err(|error| failure(self.ordinal, "cuCtxSetCurrent", error));
        bound.inspect_err(|error| self.fail(error.clone()))
    }

    /// Whether nothing has failed; binds the context to this thread.
    pub(crate) fn is_ready(&self) -> bool {
        self.ready().is_ok()
    }

    /// Keeps the failure of a call; whether there was none.
    fn done(&self, call: &'static str, result: Result<(), DriverError>) -> bool {
        if let Err(error) = result {
            self.fail(failure(self.ordinal, call, error));
        }
        result.is_ok()
    }

    /// Puts a kernel on the stream. The launchers of `kernels.rs` call it with arguments of its parameters' types.
    pub(crate) fn launch(
        &self,
        name: &'static str,
        kernel: CUfunction,
        grid: Grid,
        args: &mut [*mut c_void],
    ) {
        if [grid.blocks.0, grid.blocks.1, grid.blocks.2].contains(&0) || !self.is_ready() {
            return;
        }
        // Addresses are of buffers that stay until the stream has passed: what is given back is used again on the same
        // stream only. `every_launcher_has_the_parameters_of_its_kernel` tests the types of arguments.
        let (Grid { blocks, threads, shared }, stream) = (grid, self.stream.cu_stream());
        // SAFETY: the kernel is of the loaded module; each argument points to a value of its parameter's type, which the
        // driver copies before it returns; the buffers behind addresses outlive the launch, as said above.
        let result = unsafe { result::launch_kernel(kernel, blocks, threads, shared, stream, args) };
        self.done(name, result);
    }

    /// A piece of memory with at least `bytes`, its content unspecified; 0 for none.
    pub(crate) fn take(&self, bytes: usize) -> Result<Ptr, CudaError> {
        if bytes == 0 {
            return Ok(0);
        }
        self.ready()?;
        let mut pool = self.pool();
        if let Some(piece) = pool.take(bytes) {
            return Ok(piece);
        }
        let mut given = self.allocate(bytes);
        if given == Err(DriverError(CUresult::CUDA_ERROR_OUT_OF_MEMORY)) {
            self.free_all(&mut pool);
            given = self.allocate(bytes);
        }
        match given {
            Ok(piece) => {
                pool.count(bytes);
                Ok(piece)
            }
            Err(DriverError(CUresult::CUDA_ERROR_OUT_OF_MEMORY)) => {
                let free = result::mem_get_info().map_or(0, |(free, _)| free);
                Err(CudaError::OutOfMemory { ordinal: self.ordinal, asked: bytes, held: pool.held(), free })
            }
            Err(error) => Err(failure(self.ordinal, "cuMemAllocAsync", error)),
        }
    }

    /// Memory from the driver, in the order of the stream where the device can. `cuMemAlloc` would wait for this device
    /// and all that share memory with it, on one of which a collective may wait for what this rank launches next.
    fn allocate(&self, bytes: usize) -> Result<Ptr, DriverError> {
        if self.context.has_async_alloc() {
            // SAFETY: the stream lives; others wait for it before they touch memory.
            unsafe { result::malloc_async(self.stream.cu_stream(), bytes) }
        } else {
            // SAFETY: the context is bound.
            unsafe { result::malloc_sync(bytes) }
        }
    }

    /// Gives a piece back to the driver.
    fn free(&self, piece: Ptr) {
        let freed = if self.context.has_async_alloc() {
            // SAFETY: the piece came from `allocate`, and no buffer has it; what the stream was given is done first.
            unsafe { result::free_async(piece, self.stream.cu_stream()) }
        } else {
            // SAFETY: as above, and the call waits for the device.
            unsafe { result::free_sync(piece) }
        };
        self.done("cuMemFreeAsync", freed);
    }

    /// Takes a piece back.
    pub(crate) fn give(&self, bytes: usize, piece: Ptr) {
        if bytes > 0 {
            self.pool().give(bytes, piece);
        }
    }

    /// Gives what no buffer has back to the driver.
    pub(crate) fn trim(&self) {
        if self.is_ready() {
            self.free_all(&mut self.pool());
        }
    }

    /// Bytes taken from the driver, in use or kept.
    pub(crate) fn held(&self) -> usize {
        self.pool().held()
    }

    fn pool(&self) -> MutexGuard<'_, Pool> {
        self.pool.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives everything that is kept back to the driver, once the stream no longer uses it.
    fn free_all(&self, pool: &mut Pool) {
        pool.drain().into_iter().for_each(|piece| self.free(piece));
        self.done("cuStreamSynchronize", self.stream.synchronize());
    }

    /// Sets bytes to zero.
    pub(crate) fn zero(&self, at: Ptr, bytes: usize) {
        if bytes > 0 && self.is_ready() {
            // SAFETY: the caller's buffer has these bytes.
            let result = unsafe { result::memset_d8_async(at, 0, bytes, self.stream.cu_stream()) };
            self.done("cuMemsetD8Async", result);
        }
    }

    /// Copies from the host.
    pub(crate) fn write<T: Pod>(&self, from: &[T], to: Ptr) {
        if !from.is_empty() && self.is_ready() {
            // SAFETY: the caller's buffer is as long; `from` is borrowed until it has been read: by the driver before the
            // call returns, or by the device, which is waited for below.
            let result = unsafe { result::memcpy_htod_async(to, from, self.stream.cu_stream()) };
            if self.done("cuMemcpyHtoDAsync", result) && self.reads_pageable {
                self.done("cuStreamSynchronize", self.stream.synchronize());
            }
        }
    }

    /// Copies to the host and waits; whether it could, else `to` is as it was.
    pub(crate) fn read<T: Pod>(&self, from: Ptr, to: &mut [T]) -> bool {
        if to.is_empty() {
            return true;
        }
        if !self.is_ready() {
            return false;
        }
        // SAFETY: the caller's buffer is as long; `to` is borrowed until the stream has passed.
        let result = unsafe { result::memcpy_dtoh_async(to, from, self.stream.cu_stream()) };
        let is_copied = self.done("cuMemcpyDtoHAsync", result);
        self.done("cuStreamSynchronize", self.stream.synchronize()) && is_copied
    }

    /// Waits until everything put on the stream is done.
    pub(crate) fn wait(&self) {
        if self.is_ready() {
            self.done("cuStreamSynchronize", self.stream.synchronize());
        }
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        // what fails here has nobody to tell it to, and the driver frees all when the process ends
        if self.context.bind_to_thread().is_err() {
            return;
        }
        let mut pool = std::mem::take(self.pool.get_mut().unwrap_or_else(PoisonError::into_inner));
        self.free_all(&mut pool);
        // SAFETY: no kernel of the module runs any more, and no handle to one outlives this.
        self.done("cuModuleUnload", unsafe { result::module::unload(self.module) });
    }
}

/// Has the driver keep what is freed for what is allocated next, where it allocates in the order of a stream: to give it
/// back to the system at each wait is to map it again in each step.
fn keep_freed(context: &CudaContext) -> Result<(), DriverError> {
    if !context.has_async_alloc() {
        return Ok(());
    }
    // SAFETY: the device is that of a context.
    let pool = unsafe { result::device::get_default_mem_pool(context.cu_device()) }?;
    let (attribute, mut bytes) = (CUmemPool_attribute::CU_MEMPOOL_ATTR_RELEASE_THRESHOLD, u64::MAX);
    // SAFETY: the pool is the device's, and its attribute a number of 64 bits.
    unsafe { result::mem_pool::set_attribute(pool, attribute, (&raw mut bytes).cast()) }
}

/// Loads the best image that the driver takes.
fn load(ordinal: usize, capability: image::Capability) -> Result<CUmodule, CudaError> {
    let mut last = DriverError(CUresult::CUDA_ERROR_NO_BINARY_FOR_GPU);
    for image in image::candidates(capability) {
        // SAFETY: machine code with its own length, or text with a zero at the end.
        match unsafe { result::module::load_data(image.as_ptr().cast()) } {
            Ok(module) => return Ok(module),
            Err(error) => last = error,
        }
    }
    let mut version = 0;
    // SAFETY: writes one number.
    let told = unsafe { sys::cuDriverGetVersion(&raw mut version) };
    let version = version.unsigned_abs();
    let driver = (version / 1000, version % 1000 / 10);
    if told == CUresult::CUDA_SUCCESS && driver < image::PTX_NEEDS {
        return Err(CudaError::OldDriver { ordinal, driver, needs: image::PTX_NEEDS });
    }
    Err(failure(ordinal, "cuModuleLoadData", last))
}

/// The failure of a call of the driver.
pub(crate) fn failure(ordinal: usize, call: &'static str, error: DriverError) -> CudaError {
    let [name, text] = [error.error_name(), error.error_string()]
        .map(|s| s.map_or_else(|_| "?".into(), |s| s.to_string_lossy()));
    CudaError::Call { ordinal, call, code: error.0 as u32, text: format!("{name}, {text}") }
}
