//! What a device is: memory, and the op traits that [`Backend`] joins.

use crate::op::{
    AttentionOps, ConvOps, ElementwiseOps, IndexOps, LayoutOps, LossOps, MatmulOps, NormOps, OptimOps,
    PoolOps, ReduceOps, SampleOps,
};
use crate::{Float, TensorError};
use std::fmt::Debug;
use std::ops::Range;

/// Memory of a device: owned buffers, and the views of them that ops take.
///
/// A buffer belongs to one rank. Views are slices on the CPU and device pointers elsewhere.
pub trait Memory: Clone + Debug + Send + 'static {
    /// What tensors hold.
    type Elem: Float;
    /// An owned buffer of elements.
    type Buf: Send + Debug;
    /// An owned buffer of indices: token ids, labels, positions of maxima.
    type Index: Send + Debug;
    /// Elements to read.
    type View<'a>: Copy;
    /// Elements to write.
    type ViewMut<'a>;
    /// Indices to read.
    type IndexView<'a>: Copy;
    /// Indices to write.
    type IndexViewMut<'a>;

    /// A zeroed buffer of `len` elements.
    ///
    /// # Errors
    /// [`TensorError::OutOfMemory`] when the device has too little.
    fn alloc(&self, len: usize) -> Result<Self::Buf, TensorError>;
    /// A zeroed buffer of `len` indices.
    ///
    /// # Errors
    /// [`TensorError::OutOfMemory`] when the device has too little.
    fn alloc_index(&self, len: usize) -> Result<Self::Index, TensorError>;
    /// The elements of a buffer in `range`.
    fn view<'a>(&self, buf: &'a Self::Buf, range: Range<usize>) -> Self::View<'a>;
    /// The elements of a buffer in `range`, to write.
    fn view_mut<'a>(&self, buf: &'a mut Self::Buf, range: Range<usize>) -> Self::ViewMut<'a>;
    /// A part of a view.
    fn part<'s>(&self, view: &'s Self::View<'_>, range: Range<usize>) -> Self::View<'s>;
    /// A part of a view of indices.
    fn index_part<'s>(&self, view: &'s Self::IndexView<'_>, range: Range<usize>) -> Self::IndexView<'s>;
    /// A shorter loan of a view.
    fn reborrow<'s>(view: &'s mut Self::ViewMut<'_>) -> Self::ViewMut<'s>;
    /// The indices of a buffer in `range`.
    fn index_view<'a>(&self, buf: &'a Self::Index, range: Range<usize>) -> Self::IndexView<'a>;
    /// The indices of a buffer in `range`, to write.
    fn index_view_mut<'a>(&self, buf: &'a mut Self::Index, range: Range<usize>) -> Self::IndexViewMut<'a>;
    /// Copies from the host, equal lengths.
    fn upload(&self, from: &[Self::Elem], to: Self::ViewMut<'_>);
    /// Copies to the host, equal lengths.
    fn download(&self, from: Self::View<'_>, to: &mut [Self::Elem]);
    /// Copies indices from the host, equal lengths.
    fn upload_index(&self, from: &[u32], to: Self::IndexViewMut<'_>);
    /// Copies indices to the host, equal lengths.
    fn download_index(&self, from: Self::IndexView<'_>, to: &mut [u32]);
    /// Gives back what is kept for later buffers, as when those will be of other lengths.
    fn trim(&self) {}
    /// Memory of the host as a view, without a copy; `None` where the device has memory of its own.
    fn host_view<'a>(&self, host: &'a [Self::Elem]) -> Option<Self::View<'a>> {
        let _ = host;
        None
    }
    /// Memory of the host as a view to write; `None` exactly where [`Memory::host_view`] is.
    fn host_view_mut<'a>(&self, host: &'a mut [Self::Elem]) -> Option<Self::ViewMut<'a>> {
        let _ = host;
        None
    }
}

/// A device that can do every operator.
///
/// Nothing above this crate names an implementation: models, automatic differentiation and optimizers are generic
/// over `B: Backend`. Ops read views and write views that the caller allocated, never allocate tensors of their own,
/// and check nothing that the graph has checked already: a wrong length is a bug of the caller and panics on the CPU.
pub trait Backend:
    ElementwiseOps
    + LayoutOps
    + ReduceOps
    + MatmulOps
    + ConvOps
    + PoolOps
    + NormOps
    + AttentionOps
    + IndexOps
    + LossOps
    + OptimOps
    + SampleOps
{
    /// The name for messages: `cpu`, `cuda:0`.
    fn name(&self) -> String;

    /// Whether everything that was read from the device so far is what its operators computed.
    ///
    /// A device works on while the host goes on, and operators return nothing: what failed is kept and told here. Does
    /// not wait: ask after a call that does, such as [`Memory::download`], and before its result is used.
    ///
    /// # Errors
    /// The first failure: [`TensorError::Device`], [`TensorError::DeviceMemory`] or [`TensorError::TooLarge`]. It stays.
    fn check(&self) -> Result<(), TensorError> {
        Ok(())
    }
}

/// Whether an op overwrites its output or adds to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Write {
    /// The old content is ignored.
    Set,
    /// The result is added to the old content.
    Add,
}
