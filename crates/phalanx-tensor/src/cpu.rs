//! The CPU: memory in cache-line aligned vectors, kernels in the files below, one a family of operators.

mod attention;
mod conv;
mod elementwise;
mod index;
mod layout;
mod level;
mod loss;
mod matmul;
mod moments;
mod norm;
mod optim;
mod pool;
mod reduce;
mod rows;
mod samples;
mod scratch;
pub(crate) mod simd;

pub use level::{CpuLevel, LevelUnavailable, UnknownLevel};

use crate::backend::{Backend, Memory};
use crate::{Float, TensorError};
use std::fmt;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut, Range};

/// The CPU with elements of type `T`; one thread computes, ranks are the parallelism.
///
/// # Numerics
/// The same operands give the same bits on every machine of the same [`CpuLevel`]: no kernel looks at cache sizes,
/// addresses or the number of threads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cpu<T>(PhantomData<T>);

impl<T: Float> Cpu<T> {
    /// The CPU.
    #[must_use]
    pub fn new() -> Self {
        Cpu(PhantomData)
    }
}

impl<T: Float> Memory for Cpu<T> {
    type Elem = T;
    type Buf = AlignedBuf<T>;
    type Index = Vec<u32>;
    type View<'a> = &'a [T];
    type ViewMut<'a> = &'a mut [T];
    type IndexView<'a> = &'a [u32];
    type IndexViewMut<'a> = &'a mut [u32];

    fn alloc(&self, len: usize) -> Result<AlignedBuf<T>, TensorError> {
        AlignedBuf::zeroed(len)
    }
    fn alloc_index(&self, len: usize) -> Result<Vec<u32>, TensorError> {
        let mut index = Vec::new();
        let refused = TensorError::OutOfMemory { bytes: len * 4, device: "cpu" };
        index.try_reserve_exact(len).map_err(|_| refused)?;
        index.resize(len, 0);
        Ok(index)
    }
    fn view<'a>(&self, buf: &'a AlignedBuf<T>, range: Range<usize>) -> &'a [T] {
        &buf[range]
    }
    fn view_mut<'a>(&self, buf: &'a mut AlignedBuf<T>, range: Range<usize>) -> &'a mut [T] {
        &mut buf[range]
    }
    fn part<'s>(&self, view: &'s &[T], range: Range<usize>) -> &'s [T] {
        &view[range]
    }
    fn index_part<'s>(&self, view: &'s &[u32], range: Range<usize>) -> &'s [u32] {
        &view[range]
    }
    fn reborrow<'s>(view: &'s mut &mut [T]) -> &'s mut [T] {
        view
    }
    fn index_view<'a>(&self, buf: &'a Vec<u32>, range: Range<usize>) -> &'a [u32] {
        &buf[range]
    }
    fn index_view_mut<'a>(&self, buf: &'a mut Vec<u32>, range: Range<usize>) -> &'a mut [u32] {
        &mut buf[range]
    }
    fn upload(&self, from: &[T], to: &mut [T]) {
        to.copy_from_slice(from);
    }
    fn download(&self, from: &[T], to: &mut [T]) {
        to.copy_from_slice(from);
    }
    fn upload_index(&self, from: &[u32], to: &mut [u32]) {
        to.copy_from_slice(from);
    }
    fn download_index(&self, from: &[u32], to: &mut [u32]) {
        to.copy_from_slice(from);
    }
    fn host_view<'a>(&self, host: &'a [T]) -> Option<&'a [T]> {
        Some(host)
    }
    fn host_view_mut<'a>(&self, host: &'a mut [T]) -> Option<&'a mut [T]> {
        Some(host)
    }
}

impl<T: Float> Backend for Cpu<T> {
    fn name(&self) -> String {
        "cpu".to_owned()
    }
}

/// 64 bytes that begin at a multiple of 64.
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C, align(64))]
struct CacheLine([u8; 64]);

/// A vector of numbers that begins at a cache line.
#[derive(Clone)]
pub struct AlignedBuf<T> {
    lines: Vec<CacheLine>,
    len: usize,
    elem: PhantomData<T>,
}

impl<T: bytemuck::Pod> AlignedBuf<T> {
    /// `len` zeros.
    ///
    /// # Errors
    /// [`TensorError::OutOfMemory`] when the allocator refuses.
    pub fn zeroed(len: usize) -> Result<Self, TensorError> {
        let bytes = len * size_of::<T>();
        let count = bytes.div_ceil(64);
        let mut lines = Vec::new();
        lines.try_reserve_exact(count).map_err(|_| TensorError::OutOfMemory { bytes, device: "cpu" })?;
        lines.resize(count, CacheLine([0; 64]));
        Ok(AlignedBuf { lines, len, elem: PhantomData })
    }
}

impl<T: bytemuck::Pod> Deref for AlignedBuf<T> {
    type Target = [T];
    fn deref(&self) -> &[T] {
        &bytemuck::cast_slice(&self.lines)[..self.len]
    }
}

impl<T: bytemuck::Pod> DerefMut for AlignedBuf<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        &mut bytemuck::cast_slice_mut(&mut self.lines)[..self.len]
    }
}

impl<T> fmt::Debug for AlignedBuf<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AlignedBuf").field("len", &self.len).finish_non_exhaustive()
    }
}
