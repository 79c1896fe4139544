//! NVIDIA GPUs as a device of phalanx: every op trait of `phalanx-tensor` in `f32`, through the driver and cuBLAS.
//!
//! Empty without the feature `cuda`. With it nothing of CUDA is needed to build: the libraries are opened when a device
//! is, and what is missing then is a `CudaError`, never a panic.
//!
//! ```no_run
//! # #[cfg(feature = "cuda")] {
//! use phalanx_cuda::Cuda;
//! use phalanx_tensor::{Memory as _, op::ElementwiseOps as _};
//!
//! let gpu = Cuda::open(0)?;
//! let mut x = gpu.alloc(3)?;
//! gpu.fill(2.0, gpu.view_mut(&mut x, 0..3));
//! let mut host = [0.0; 3];
//! gpu.download(gpu.view(&x, 0..3), &mut host);
//! assert_eq!(host, [2.0; 3]);
//! # }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Kernels
//! `kernels/*.cu`, one file a family of operators. `cargo xtask kernels` compiles them to what is checked in under
//! `kernels/compiled` and embedded here: machine code for compute capability 8, 9 and 10, and PTX, which the driver
//! compiles for what is newer. They are compiled without contraction of products and sums and use no approximation of the
//! hardware, so that element-wise operators (but the logarithm), an optimizer's update, a mask of dropout and the moments of
//! a gradient have the bits of the CPU, and what tests see on stand-ins is what a device computes. No kernel adds
//! floating-point numbers atomically: the same operands give the same bits on every run.
//!
//! A new one has its line in `src/kernels.rs`, with the types of its parameters, a caller in `src/op`, and a comparison with
//! the CPU in `tests/conformance`, which runs what was compiled on stand-ins for the libraries.
//!
//! # Errors
//! Operators return nothing, and a kernel may fail long after it was launched. The first failure is kept: from then on
//! the device does nothing, what is read from it is NaN, and [`Backend::check`](phalanx_tensor::Backend::check) tells
//! it, which whoever uses what was read should ask first.

#![cfg_attr(not(feature = "cuda"), forbid(unsafe_code))]
#![cfg_attr(feature = "cuda", deny(unsafe_code))]

#[cfg(feature = "cuda")]
#[expect(unsafe_code, reason = "the calls of cuBLAS")]
mod blas;
#[cfg(feature = "cuda")]
mod cuda;
#[cfg(feature = "cuda")]
#[expect(unsafe_code, reason = "the calls of the driver")]
mod device;
#[cfg(feature = "cuda")]
mod error;
#[cfg(feature = "cuda")]
mod grid;
#[cfg(feature = "cuda")]
mod image;
#[cfg(feature = "cuda")]
mod kernels;
#[cfg(feature = "cuda")]
#[expect(unsafe_code, reason = "looks symbols up")]
mod library;
#[cfg(feature = "cuda")]
mod memory;
#[cfg(feature = "cuda")]
mod op;
#[cfg(feature = "cuda")]
mod pool;
#[cfg(feature = "cuda")]
mod rows;
#[cfg(feature = "cuda")]
mod strided;

#[cfg(feature = "cuda")]
pub use blas::Products;
#[cfg(feature = "cuda")]
pub use cuda::Cuda;
#[cfg(feature = "cuda")]
pub use error::CudaError;
#[cfg(feature = "cuda")]
pub use memory::{CudaBuf, CudaHold, CudaView, CudaViewMut};
