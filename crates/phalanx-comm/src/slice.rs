//! Slices whose element type is a run-time tag, so that [`Communicator`](crate::Communicator) is object-safe.

use crate::element::{Dtype, Element};
use half::{bf16, f16};

/// A borrowed slice of any [`Element`].
#[derive(Clone, Copy, Debug)]
#[expect(missing_docs, reason = "each variant is the slice of the type it names")]
pub enum SliceRef<'a> {
    F32(&'a [f32]),
    F64(&'a [f64]),
    F16(&'a [f16]),
    Bf16(&'a [bf16]),
    U64(&'a [u64]),
}

/// A mutably borrowed slice of any [`Element`].
#[derive(Debug)]
#[expect(missing_docs, reason = "each variant is the slice of the type it names")]
pub enum SliceMut<'a> {
    F32(&'a mut [f32]),
    F64(&'a mut [f64]),
    F16(&'a mut [f16]),
    Bf16(&'a mut [bf16]),
    U64(&'a mut [u64]),
}

/// Runs `$body` on the slice inside `$slice`, whatever its type.
macro_rules! each {
    ($enum:ident, $slice:expr, $s:ident => $body:expr) => {
        match $slice {
            $enum::F32($s) => $body,
            $enum::F64($s) => $body,
            $enum::F16($s) => $body,
            $enum::Bf16($s) => $body,
            $enum::U64($s) => $body,
        }
    };
}

impl SliceRef<'_> {
    /// The type of the elements.
    pub const fn dtype(&self) -> Dtype {
        match self {
            Self::F32(_) => Dtype::F32,
            Self::F64(_) => Dtype::F64,
            Self::F16(_) => Dtype::F16,
            Self::Bf16(_) => Dtype::Bf16,
            Self::U64(_) => Dtype::U64,
        }
    }

    /// Number of elements.
    pub const fn len(&self) -> usize {
        each!(Self, self, s => s.len())
    }

    /// Whether there are none.
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The memory as bytes, in the machine's order.
    pub fn as_bytes(&self) -> &[u8] {
        each!(Self, self, s => bytemuck::cast_slice(s))
    }
}

impl SliceMut<'_> {
    /// The type of the elements.
    pub const fn dtype(&self) -> Dtype {
        self.as_ref().dtype()
    }

    /// Number of elements.
    pub const fn len(&self) -> usize {
        self.as_ref().len()
    }

    /// Whether there are none.
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The same slice, read only.
    pub const fn as_ref(&self) -> SliceRef<'_> {
        match self {
            Self::F32(s) => SliceRef::F32(s),
            Self::F64(s) => SliceRef::F64(s),
            Self::F16(s) => SliceRef::F16(s),
            Self::Bf16(s) => SliceRef::Bf16(s),
            Self::U64(s) => SliceRef::U64(s),
        }
    }

    /// The same slice for a shorter time.
    pub const fn reborrow(&mut self) -> SliceMut<'_> {
        match self {
            Self::F32(s) => SliceMut::F32(s),
            Self::F64(s) => SliceMut::F64(s),
            Self::F16(s) => SliceMut::F16(s),
            Self::Bf16(s) => SliceMut::Bf16(s),
            Self::U64(s) => SliceMut::U64(s),
        }
    }

    /// The memory as bytes, in the machine's order.
    pub fn as_bytes_mut(&mut self) -> &mut [u8] {
        each!(Self, self, s => bytemuck::cast_slice_mut(s))
    }
}

impl<'a, T: Element> From<&'a [T]> for SliceRef<'a> {
    fn from(slice: &'a [T]) -> Self {
        T::erase(slice)
    }
}

impl<'a, T: Element> From<&'a mut [T]> for SliceMut<'a> {
    fn from(slice: &'a mut [T]) -> Self {
        T::erase_mut(slice)
    }
}
