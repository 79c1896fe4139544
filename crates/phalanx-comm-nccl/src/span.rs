//! Memory of a device, as NCCL is given it.

use phalanx_comm::Dtype;
use std::ops::Range;

/// Numbers on a device: where they begin, how many there are, of which type.
///
/// Whoever makes one vouches for the memory until the stream has done what was enqueued with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeviceSpan {
    address: u64,
    len: usize,
    dtype: Dtype,
}

impl DeviceSpan {
    /// `len` numbers from `address` on.
    ///
    /// # Safety
    /// The memory is of the device of the stream that collectives with this span are enqueued on. Until the stream
    /// has done them it stays allocated, nothing but the stream writes it, and where a collective writes it, nothing
    /// but the stream reads it.
    #[must_use]
    pub const unsafe fn from_raw(address: u64, len: usize, dtype: Dtype) -> Self {
        Self { address, len, dtype }
    }

    /// A part of the numbers.
    ///
    /// # Panics
    /// When `range` is not within them.
    #[track_caller]
    #[must_use]
    pub const fn part(self, range: Range<usize>) -> Self {
        assert!(range.start <= range.end && range.end <= self.len, "a part beyond a span");
        let address = self.address + (range.start * self.dtype.bytes()) as u64;
        Self { address, len: range.end - range.start, dtype: self.dtype }
    }

    /// How many numbers there are.
    #[must_use]
    pub const fn len(self) -> usize {
        self.len
    }

    /// Whether there are none.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.len == 0
    }

    /// Their type.
    #[must_use]
    pub const fn dtype(self) -> Dtype {
        self.dtype
    }

    /// Where they begin, as the driver counts.
    pub(crate) const fn address(self) -> u64 {
        self.address
    }
}
