//! The number types that travel between ranks.

use crate::arithmetic::Arithmetic;
use crate::slice::{SliceMut, SliceRef};
use half::{bf16, f16};
use std::fmt;

/// A number that every communicator can reduce: `f32`, `f64`, `f16`, `bf16` or `u64`.
///
/// Sealed: backends and conformance tests cover exactly these.
pub trait Element: sealed::Sealed + bytemuck::Pod + fmt::Debug + Default + PartialEq + Send + Sync {
    /// The tag that names this type in signatures and errors.
    const DTYPE: Dtype;

    /// The slice with its type as a run-time tag.
    fn erase(slice: &[Self]) -> SliceRef<'_>;

    /// The mutable slice with its type as a run-time tag.
    fn erase_mut(slice: &mut [Self]) -> SliceMut<'_>;
}

pub(crate) mod sealed {
    /// Carries the arithmetic, so that nothing outside this crate can implement `Element`.
    pub trait Sealed: super::Arithmetic {}
}

/// The run-time tag of an [`Element`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Dtype {
    /// IEEE single precision.
    F32,
    /// IEEE double precision.
    F64,
    /// IEEE half precision; reduced in `f32`, rounded once.
    F16,
    /// Brain float; reduced in `f32`, rounded once.
    Bf16,
    /// Unsigned 64-bit integer; sums wrap.
    U64,
}

impl Dtype {
    pub(crate) const ALL: [Self; 5] = [Self::F32, Self::F64, Self::F16, Self::Bf16, Self::U64];

    /// Bytes of one element.
    pub const fn bytes(self) -> usize {
        match self {
            Self::F16 | Self::Bf16 => 2,
            Self::F32 => 4,
            Self::F64 | Self::U64 => 8,
        }
    }
}

impl fmt::Display for Dtype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::F32 => "f32",
            Self::F64 => "f64",
            Self::F16 => "f16",
            Self::Bf16 => "bf16",
            Self::U64 => "u64",
        })
    }
}

macro_rules! element {
    ($($ty:ty => $dtype:ident),*) => {$(
        impl sealed::Sealed for $ty {}
        impl Element for $ty {
            const DTYPE: Dtype = Dtype::$dtype;

            fn erase(slice: &[Self]) -> SliceRef<'_> {
                SliceRef::$dtype(slice)
            }

            fn erase_mut(slice: &mut [Self]) -> SliceMut<'_> {
                SliceMut::$dtype(slice)
            }
        }
    )*};
}

element!(f32 => F32, f64 => F64, f16 => F16, bf16 => Bf16, u64 => U64);
