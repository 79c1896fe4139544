//! What can go wrong with tensors.

use crate::op::ConvSpec;

/// An error of this crate.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum TensorError {
    /// The device has too little memory.
    #[error("cannot allocate {bytes} bytes on {device}")]
    OutOfMemory {
        /// What was asked for.
        bytes: usize,
        /// Of which device.
        device: &'static str,
    },
    /// A device beside the CPU has too little memory left.
    #[error("cannot allocate {asked} bytes on {device}: {held} are held, {free} are free")]
    DeviceMemory {
        /// Its name.
        device: String,
        /// What was asked for, in bytes.
        asked: usize,
        /// What this backend holds there, in use or kept for later.
        held: usize,
        /// What was left.
        free: usize,
    },
    /// A device failed, and what it was given since is not done.
    #[error("{device}: {call} failed with {code}: {text}")]
    Device {
        /// Its name.
        device: String,
        /// The call that told it.
        call: &'static str,
        /// What it returned.
        code: u32,
        /// What the device's library says to that.
        text: String,
    },
    /// An operator's operands are larger than the device's kernel can walk.
    #[error("{device}: {operator} of {got}: {most} is the most")]
    TooLarge {
        /// Its name.
        device: String,
        /// The operator and its extent.
        operator: &'static str,
        /// What was asked for.
        got: usize,
        /// What it can do.
        most: usize,
    },
    /// A convolution whose extents do not fit together.
    #[error(
        "a convolution of {} x {:?} by {} kernels of {:?} with stride {:?}, padding {:?} and {} groups is not possible",
        spec.c, spec.hw, spec.o, spec.kernel, spec.stride, spec.padding, spec.groups
    )]
    Conv {
        /// The extents.
        spec: ConvSpec,
    },
}
