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
