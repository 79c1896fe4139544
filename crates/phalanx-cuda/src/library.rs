//! Whether the libraries are here and have what is called: cudarc panics where one is missing.
//!
//! What cannot be looked after here: cudarc's result codes are enumerations, so that a code which a newer driver adds is not a
//! value of theirs.

use crate::CudaError;
use cudarc::{cublas, driver};

/// The functions of the driver that this crate and cudarc's context and stream call.
const DRIVER: &[&str] = &[
    "cuCtxGetCurrent",
    "cuCtxSetCurrent",
    "cuDeviceGet",
    "cuDeviceGetAttribute",
    "cuDeviceGetCount",
    "cuDeviceGetDefaultMemPool",
    "cuDeviceGetUuid",
    "cuDevicePrimaryCtxRelease_v2",
    "cuDevicePrimaryCtxRetain",
    "cuDeviceTotalMem_v2",
    "cuDriverGetVersion",
    "cuGetErrorName",
    "cuGetErrorString",
    "cuInit",
    "cuLaunchKernel",
    "cuMemAllocAsync",
    "cuMemAlloc_v2",
    "cuMemFreeAsync",
    "cuMemFree_v2",
    "cuMemGetInfo_v2",
    "cuMemPoolSetAttribute",
    "cuMemcpyDtoHAsync_v2",
    "cuMemcpyHtoDAsync_v2",
    "cuMemsetD8Async",
    "cuModuleGetFunction",
    "cuModuleLoadData",
    "cuModuleUnload",
    "cuStreamCreate",
    "cuStreamDestroy_v2",
    "cuStreamSynchronize",
];

/// The functions of cuBLAS that this crate calls.
const CUBLAS: &[&str] =
    &["cublasCreate_v2", "cublasDestroy_v2", "cublasSetStream_v2", "cublasGemmStridedBatchedEx"];

/// Opens both libraries and looks up what is called.
///
/// # Errors
/// [`CudaError::NoLibrary`], [`CudaError::NoFunction`].
pub(crate) fn check() -> Result<(), CudaError> {
    driver()?;
    // SAFETY: opens a library and runs its initialisers, which those of NVIDIA allow in any program.
    if !unsafe { cublas::sys::is_culib_present() } {
        return Err(CudaError::NoLibrary {
            library: "libcublas.so",
            purpose: "nor is libcublas.so.12, which comes with the CUDA toolkit 12",
        });
    }
    // SAFETY: the library is here, so that this does not panic, and it stays open.
    let library = unsafe { cublas::sys::culib() };
    has_all("libcublas.so", CUBLAS, |name| {
        // SAFETY: the symbol is only looked up.
        unsafe { library.get::<unsafe extern "C" fn()>(name) }.is_ok()
    })
}

/// Opens the library of the driver alone and looks up what is called.
///
/// # Errors
/// As [`check`].
pub(crate) fn driver() -> Result<(), CudaError> {
    // SAFETY: opens a library and runs its initialisers, which those of NVIDIA allow in any program.
    if !unsafe { driver::sys::is_culib_present() } {
        return Err(CudaError::NoLibrary { library: "libcuda.so", purpose: "it comes with NVIDIA's driver" });
    }
    // SAFETY: the library is here, so that this does not panic, and it stays open.
    let library = unsafe { driver::sys::culib() };
    has_all("libcuda.so", DRIVER, |name| {
        // SAFETY: the symbol is only looked up.
        unsafe { library.get::<unsafe extern "C" fn()>(name) }.is_ok()
    })
}

fn has_all(
    library: &'static str,
    functions: &[&'static str],
    has: impl Fn(&[u8]) -> bool,
) -> Result<(), CudaError> {
    match functions.iter().find(|name| !has(name.as_bytes())) {
        Some(function) => Err(CudaError::NoFunction { library, function }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_function_that_is_missing_is_named() {
        let none = has_all("libcuda.so", &["cuInit", "cuNew"], |name| name == b"cuInit");
        assert_eq!(none, Err(CudaError::NoFunction { library: "libcuda.so", function: "cuNew" }));
        assert_eq!(has_all("libcuda.so", &["cuInit"], |_| true), Ok(()));
    }
}
