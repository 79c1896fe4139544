//! The driver: what `libcuda.so` exports.
//!
//! Each function checks its arguments as the driver's documentation says and returns the code that the driver would. The
//! signatures are those of `cuda.h`.

mod code;
mod device;

pub(crate) use code::Code;
