//! Devices of one process, whose ranks read each other's buffers.

use cudarc::driver::sys::{
    CUdevice_attribute, CUmemAccess_flags, CUmemAccessDesc, CUmemLocation, CUmemLocationType,
    cuDeviceCanAccessPeer, cuMemPoolSetAccess,
};
use cudarc::driver::{CudaContext, DriverError, result};

/// Lets the devices `others` of this process reach what the device of `context` allocates in the order of a stream.
///
/// NCCL reads the buffers of ranks of its own process where they lie. It makes `cuMemAlloc`'s reachable itself, but what
/// comes from a pool is reached by those that the pool names.
pub(crate) fn admit(context: &CudaContext, others: &[usize]) -> Result<(), DriverError> {
    let pools = CUdevice_attribute::CU_DEVICE_ATTRIBUTE_MEMORY_POOLS_SUPPORTED;
    let own = context.cu_device();
    let mut access = Vec::with_capacity(others.len());
    for other in others.iter().filter(|other| **other != context.ordinal()) {
        let peer = result::device::get(i32::try_from(*other).unwrap_or(i32::MAX))?;
        let mut can = 0;
        // SAFETY: a place for one number, and two devices
        unsafe { cuDeviceCanAccessPeer(&raw mut can, peer, own) }.result()?;
        if can != 0 {
            let location = CUmemLocation { type_: CUmemLocationType::CU_MEM_LOCATION_TYPE_DEVICE, id: peer };
            let flags = CUmemAccess_flags::CU_MEM_ACCESS_FLAGS_PROT_READWRITE;
            access.push(CUmemAccessDesc { location, flags });
        }
    }
    if access.is_empty() || context.attribute(pools)? == 0 {
        return Ok(());
    }
    // SAFETY: the device is that of a context
    let pool = unsafe { result::device::get_default_mem_pool(own) }?;
    // SAFETY: the pool is the device's, and the list is as long as that
    unsafe { cuMemPoolSetAccess(pool, access.as_ptr(), access.len()) }.result()
}
