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
    piece: Arc<Piece>,
    len: usize,
    elem: PhantomData<T>,
}

/// Memory that goes back to the device's pool when nobody has it any more.
#[derive(Debug)]
struct Piece {
    device: Arc<Device>,
    at: Ptr,
    bytes: usize,
}

/// Keeps the memory of a buffer out of the pool, while streams other than the device's own work on it.
///
/// Dropped when the device's stream comes after that work.
#[derive(Clone, Debug)]
pub struct CudaHold {
    _piece: Arc<Piece>,
}

/// Elements on a device, to read.
#[derive(Debug)]
pub struct CudaView<'a, T> {
    device: &'a Device,
    at: Ptr,
    len: usize,
    buf: PhantomData<&'a [T]>,
}

/// Elements on a device, to write.
#[derive(Debug)]
pub struct CudaViewMut<'a, T> {
    device: &'a Device,
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
        let bytes = len * size_of::<T>();
        let piece = Piece { at: device.take(bytes)?, device: Arc::clone(device), bytes };
        Ok(CudaBuf { piece: Arc::new(piece), len, elem: PhantomData })
    }

    fn zeroed(device: &Arc<Device>, len: usize) -> Result<Self, CudaError> {
        let buf = Self::take(device, len)?;
        device.zero(buf.at(), len * size_of::<T>());
        Ok(buf)
    }

    /// Its address on the device.
    pub(crate) fn at(&self) -> Ptr {
        self.piece.at
    }

    /// How many elements there are.
    #[expect(clippy::len_without_is_empty, reason = "of an operand, only the extents are asked")]
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Keeps its memory even where the buffer is dropped.
    #[must_use]
    pub fn hold(&self) -> CudaHold {
        CudaHold { _piece: Arc::clone(&self.piece) }
    }

    fn view(&self, range: &Range<usize>) -> CudaView<'_, T> {
        CudaView { device: &self.piece.device, at: self.part(range), len: range.len(), buf: PhantomData }
    }

    fn view_mut(&mut self, range: &Range<usize>) -> CudaViewMut<'_, T> {
        CudaViewMut { device: &self.piece.device, at: self.part(range), len: range.len(), buf: PhantomData }
    }

    /// The address of a range.
    #[track_caller]
    fn part(&self, range: &Range<usize>) -> Ptr {
        inside(range, self.len);
        self.at() + (range.start * size_of::<T>()) as u64
    }
}

impl Drop for Piece {
    fn drop(&mut self) {
        self.device.give(self.bytes, self.at);
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

    /// The address, for an operator of `cuda`.
    #[track_caller]
    pub(crate) fn on(&self, cuda: &Cuda) -> Ptr {
        same(cuda, self.device);
        self.at
    }

    #[track_caller]
    fn part(&self, range: &Range<usize>) -> Self {
        inside(range, self.len);
        let at = self.at + (range.start * size_of::<T>()) as u64;
        CudaView { device: self.device, at, len: range.len(), buf: PhantomData }
    }
}

/// Another device's memory may be reached, but in no order.
#[track_caller]
fn same(cuda: &Cuda, device: &Device) {
    let of = device.ordinal();
    assert!(
        std::ptr::eq(&raw const *cuda.device, device),
        "memory of cuda:{of} for another device's operator"
    );
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

    /// The address, for an operator of `cuda`.
    #[track_caller]
    pub(crate) fn on(&self, cuda: &Cuda) -> Ptr {
        same(cuda, self.device);
        self.at
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
        buf.view(&range)
    }
    fn view_mut<'a>(&self, buf: &'a mut CudaBuf<f32>, range: Range<usize>) -> CudaViewMut<'a, f32> {
        buf.view_mut(&range)
    }
    fn part<'s>(&self, view: &'s CudaView<'_, f32>, range: Range<usize>) -> CudaView<'s, f32> {
        view.part(&range)
    }
    fn index_part<'s>(&self, view: &'s CudaView<'_, u32>, range: Range<usize>) -> CudaView<'s, u32> {
        view.part(&range)
    }
    fn reborrow<'s>(view: &'s mut CudaViewMut<'_, f32>) -> CudaViewMut<'s, f32> {
        CudaViewMut { device: view.device, at: view.at, len: view.len, buf: PhantomData }
    }
    fn index_view<'a>(&self, buf: &'a CudaBuf<u32>, range: Range<usize>) -> CudaView<'a, u32> {
        buf.view(&range)
    }
    fn index_view_mut<'a>(&self, buf: &'a mut CudaBuf<u32>, range: Range<usize>) -> CudaViewMut<'a, u32> {
        buf.view_mut(&range)
    }
    fn trim(&self) {
        self.device.trim();
    }
    fn upload(&self, from: &[f32], to: CudaViewMut<'_, f32>) {
        upload(self, from, &to);
    }
    /// Where the device failed, `to` is NaN.
    fn download(&self, from: CudaView<'_, f32>, to: &mut [f32]) {
        assert_eq!(from.len, to.len(), "download");
        if !self.device.read(from.on(self), to) {
            to.fill(f32::NAN);
        }
    }
    fn upload_index(&self, from: &[u32], to: CudaViewMut<'_, u32>) {
        upload(self, from, &to);
    }
    /// Where the device failed, `to` is 0.
    fn download_index(&self, from: CudaView<'_, u32>, to: &mut [u32]) {
        assert_eq!(from.len, to.len(), "download_index");
        if !self.device.read(from.on(self), to) {
            to.fill(0);
        }
    }
}

#[track_caller]
fn upload<T: Pod>(cuda: &Cuda, from: &[T], to: &CudaViewMut<'_, T>) {
    assert_eq!(from.len(), to.len, "upload");
    cuda.device.write(from, to.on(cuda));
}
