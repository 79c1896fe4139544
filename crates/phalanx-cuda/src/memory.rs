//! Buffers on the device and the views of them.

use crate::device::Device;
use crate::kernels::Ptr;
use crate::{Cuda, CudaError};
use bytemuck::Pod;
use phalanx_tensor::{Memory, TensorError};
use std::fmt;
use std::marker::PhantomData;
use std::ops::Range;
use std::sync::Arc;

/// A buffer on a device; goes back to the device's pool when dropped.
pub struct CudaBuf<T> {
    device: Arc<Device>,
    at: Ptr,
    len: usize,
    elem: PhantomData<T>,
}

/// Elements on a device, to read.
#[derive(Debug)]
pub struct CudaView<'a, T> {
    at: Ptr,
    len: usize,
    buf: PhantomData<&'a [T]>,
}

/// Elements on a device, to write.
#[derive(Debug)]
pub struct CudaViewMut<'a, T> {
    at: Ptr,
    len: usize,
    buf: PhantomData<&'a mut [T]>,
}

impl<T> Clone for CudaView<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for CudaView<'_, T> {}

impl<T> CudaBuf<T> {
    /// `len` elements, their content unspecified.
    pub(crate) fn take(device: &Arc<Device>, len: usize) -> Result<Self, CudaError> {
        let at = device.take(len * size_of::<T>())?;
        Ok(CudaBuf { device: Arc::clone(device), at, len, elem: PhantomData })
    }

    fn zeroed(device: &Arc<Device>, len: usize) -> Result<Self, CudaError> {
        let buf = Self::take(device, len)?;
        device.zero(buf.at, len * size_of::<T>());
        Ok(buf)
    }

    /// Its address on the device.
    pub(crate) fn at(&self) -> Ptr {
        self.at
    }

    /// The address of a range.
    #[track_caller]
    fn part(&self, range: &Range<usize>) -> Ptr {
        inside(range, self.len);
        self.at + (range.start * size_of::<T>()) as u64
    }
}

impl<T> Drop for CudaBuf<T> {
    fn drop(&mut self) {
        self.device.give(self.len * size_of::<T>(), self.at);
    }
}

impl<T> fmt::Debug for CudaBuf<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CudaBuf").field("len", &self.len).finish_non_exhaustive()
    }
}

#[track_caller]
fn inside(range: &Range<usize>, len: usize) {
    assert!(range.start <= range.end && range.end <= len, "{range:?} of {len} elements");
}

impl<'a, T> CudaView<'a, T> {
    /// What was written, to be read.
    pub(crate) fn of(written: &'a CudaViewMut<'_, T>) -> Self {
        CudaView { at: written.at, len: written.len, buf: PhantomData }
    }
}

#[expect(clippy::len_without_is_empty, reason = "of an operand, only the extents are asked")]
impl<T> CudaView<'_, T> {
    /// The address of the first element on the device.
    #[must_use]
    pub fn address(&self) -> u64 {
        self.at
    }

    /// How many elements there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    #[track_caller]
    fn part(&self, range: &Range<usize>) -> Self {
        inside(range, self.len);
        CudaView { at: self.at + (range.start * size_of::<T>()) as u64, len: range.len(), buf: PhantomData }
    }
}

#[expect(clippy::len_without_is_empty, reason = "of an operand, only the extents are asked")]
impl<T> CudaViewMut<'_, T> {
    /// The address of the first element on the device.
    #[must_use]
    pub fn address(&self) -> u64 {
        self.at
    }

    /// How many elements there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }
}

impl Memory for Cuda {
    type Elem = f32;
    type Buf = CudaBuf<f32>;
    type Index = CudaBuf<u32>;
    type View<'a> = CudaView<'a, f32>;
    type ViewMut<'a> = CudaViewMut<'a, f32>;
    type IndexView<'a> = CudaView<'a, u32>;
    type IndexViewMut<'a> = CudaViewMut<'a, u32>;

    fn alloc(&self, len: usize) -> Result<CudaBuf<f32>, TensorError> {
        Ok(CudaBuf::zeroed(&self.device, len)?)
    }
    fn alloc_index(&self, len: usize) -> Result<CudaBuf<u32>, TensorError> {
        Ok(CudaBuf::zeroed(&self.device, len)?)
    }
    fn view<'a>(&self, buf: &'a CudaBuf<f32>, range: Range<usize>) -> CudaView<'a, f32> {
        CudaView { at: buf.part(&range), len: range.len(), buf: PhantomData }
    }
    fn view_mut<'a>(&self, buf: &'a mut CudaBuf<f32>, range: Range<usize>) -> CudaViewMut<'a, f32> {
        CudaViewMut { at: buf.part(&range), len: range.len(), buf: PhantomData }
    }
    fn part<'s>(&self, view: &'s CudaView<'_, f32>, range: Range<usize>) -> CudaView<'s, f32> {
        view.part(&range)
    }
    fn index_part<'s>(&self, view: &'s CudaView<'_, u32>, range: Range<usize>) -> CudaView<'s, u32> {
        view.part(&range)
    }
    fn reborrow<'s>(view: &'s mut CudaViewMut<'_, f32>) -> CudaViewMut<'s, f32> {
        CudaViewMut { at: view.at, len: view.len, buf: PhantomData }
    }
    fn index_view<'a>(&self, buf: &'a CudaBuf<u32>, range: Range<usize>) -> CudaView<'a, u32> {
        CudaView { at: buf.part(&range), len: range.len(), buf: PhantomData }
    }
    fn index_view_mut<'a>(&self, buf: &'a mut CudaBuf<u32>, range: Range<usize>) -> CudaViewMut<'a, u32> {
        CudaViewMut { at: buf.part(&range), len: range.len(), buf: PhantomData }
    }
    fn upload(&self, from: &[f32], to: CudaViewMut<'_, f32>) {
        upload(&self.device, from, &to);
    }
    /// Where the device failed, `to` is NaN.
    fn download(&self, from: CudaView<'_, f32>, to: &mut [f32]) {
        assert_eq!(from.len, to.len(), "download");
        if !self.device.read(from.at, to) {
            to.fill(f32::NAN);
        }
    }
    fn upload_index(&self, from: &[u32], to: CudaViewMut<'_, u32>) {
        upload(&self.device, from, &to);
    }
    /// Where the device failed, `to` is 0.
    fn download_index(&self, from: CudaView<'_, u32>, to: &mut [u32]) {
        assert_eq!(from.len, to.len(), "download_index");
        if !self.device.read(from.at, to) {
            to.fill(0);
        }
    }
}

fn upload<T: Pod>(device: &Device, from: &[T], to: &CudaViewMut<'_, T>) {
    assert_eq!(from.len(), to.len, "upload");
    device.write(from, to.at);
}
