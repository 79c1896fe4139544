//! The backend's type.

use crate::blas::Products;
use crate::device::{self, Device};
use crate::memory::{CudaBuf, CudaViewMut};
use crate::{CudaError, op::u32_of};
use bytemuck::Pod;
use phalanx_tensor::{Backend, TensorError};
use std::sync::Arc;

/// An NVIDIA GPU with elements of type `f32`. Clones are the same device with the same stream and memory.
///
/// # Numerics
/// The same operands give the same bits on every run with the same device and libraries. Products are cuBLAS's, whose last
/// bits differ between devices and versions, and which promises them for handles with one stream each, as the one here; it
/// rounds operands only where [`Cuda::open_for`] says so. Element-wise operators but the logarithm, updates of
/// optimizers, masks of dropout, moments and inner products have the bits of the CPU.
#[derive(Clone, Debug)]
pub struct Cuda {
    pub(crate) device: Arc<Device>,
}

impl Cuda {
    /// Opens a device, by its number from 0.
    ///
    /// # Errors
    /// [`CudaError`]: no driver or no cuBLAS, no such device, one that is too old, a driver that takes none of the
    /// compiled kernels, no memory.
    pub fn open(ordinal: usize) -> Result<Self, CudaError> {
        Cuda::open_for(ordinal, Products::F32)
    }

    /// Opens a device for matrix products of this kind: those of [`phalanx_tensor::op::MatmulOps`], and what other operators
    /// put down to them.
    ///
    /// # Errors
    /// As [`Cuda::open`].
    pub fn open_for(ordinal: usize, products: Products) -> Result<Self, CudaError> {
        Ok(Cuda { device: Arc::new(Device::open(ordinal, products)?) })
    }

    /// How many devices there are.
    ///
    /// # Errors
    /// [`CudaError::NoLibrary`] and [`CudaError::NoFunction`] without a driver; [`CudaError::Call`] when it fails.
    pub fn devices() -> Result<usize, CudaError> {
        device::count()
    }

    /// The bytes of memory of a device, by its number from 0.
    ///
    /// # Errors
    /// As [`Cuda::devices`], and [`CudaError::NoDevice`].
    pub fn memory(ordinal: usize) -> Result<u64, CudaError> {
        device::memory(ordinal)
    }

    /// What tells each device from all others, of this and other machines, in the order of their numbers.
    ///
    /// # Errors
    /// As [`Cuda::devices`].
    pub fn uuids() -> Result<Vec<[u8; 16]>, CudaError> {
        device::uuids()
    }

    /// The number of this device.
    #[must_use]
    pub fn ordinal(&self) -> usize {
        self.device.ordinal()
    }

    /// Bytes that were taken from the driver, in use or kept for later.
    #[must_use]
    pub fn held(&self) -> usize {
        self.device.held()
    }

    /// The stream that all work is put on, for whoever orders other work with it.
    #[must_use]
    pub fn stream(&self) -> &Arc<cudarc::driver::CudaStream> {
        self.device.stream()
    }

    /// The address of a view of this device's memory.
    ///
    /// # Panics
    /// When it is of another device's, or of another [`Cuda`] that was opened for this one.
    #[track_caller]
    #[must_use]
    pub fn address(&self, view: &CudaViewMut<'_, f32>) -> u64 {
        view.on(self)
    }

    /// Waits until everything put on the stream is done.
    ///
    /// # Errors
    /// The first failure, as [`Backend::check`] has it.
    pub fn synchronize(&self) -> Result<(), TensorError> {
        self.device.wait();
        self.check()
    }

    /// Work space of an operator; none, and a failure kept, where there is too little memory.
    pub(crate) fn scratch<T>(&self, len: usize) -> Option<CudaBuf<T>> {
        CudaBuf::take(&self.device, len).map_err(|error| self.device.fail(error)).ok()
    }

    /// Work space with numbers of the host in it.
    pub(crate) fn uploaded<T: Pod>(&self, from: &[T]) -> Option<CudaBuf<T>> {
        let buf = self.scratch(from.len())?;
        self.device.write(from, buf.at());
        Some(buf)
    }

    /// What a kernel counts in 32 bits; none, and a failure kept, where it is too large for that.
    pub(crate) fn small(&self, operator: &'static str, got: usize) -> Option<u32> {
        let small = u32_of(got);
        if small.is_none() {
            let most = u32::MAX as usize;
            self.device.fail(CudaError::TooLarge { ordinal: self.ordinal(), operator, got, most });
        }
        small
    }
}

impl Backend for Cuda {
    fn name(&self) -> String {
        format!("cuda:{}", self.ordinal())
    }

    fn check(&self) -> Result<(), TensorError> {
        self.device.fault().map_or(Ok(()), |fault| Err(fault.clone().into()))
    }
}
