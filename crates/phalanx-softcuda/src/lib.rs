//! Stand-ins for `libcuda`, `libcublas` and `libnccl`, so that the GPU path is tested on machines without a GPU.
//!
//! One shared library has the functions of all three. Its driver executes the PTX that ships, warp by warp on the CPU, and
//! reports what a GPU would silently get wrong: accesses out of bounds, misaligned, to freed or never written memory, races
//! between barriers, divergent barriers and shuffles, launches beyond the limits of the device. A report names kernel, block,
//! thread and source line.
//!
//! A test calls [`install`] before its first call of the libraries. From then on the process finds the stand-ins under the
//! names of the libraries, whoever opens them and however:
//!
//! ```no_run
//! use phalanx_softcuda::{Schedule, Setting, install};
//!
//! let gpu = install().expect("the library is built with the tests");
//! gpu.set(&Setting::Schedule(Schedule::Lazy { seed: 7 })).expect("before the first launch");
//! // ... use cudarc ...
//! assert_eq!(gpu.fault(), None);
//! ```
//!
//! Programs that a test starts find them by [`Softcuda::library_path`] in `LD_LIBRARY_PATH`, and settings in the environment
//! ([`Setting::variable`]). `README.md` says what the stand-ins cannot show.

#![deny(unsafe_code)]

mod config;
#[expect(unsafe_code, reason = "functions that C calls")]
mod cublas;
#[expect(unsafe_code, reason = "loops for what the processor has")]
mod decode;
#[expect(unsafe_code, reason = "functions that C calls")]
mod driver;
#[expect(unsafe_code, reason = "memory that kernels share")]
mod exec;
mod fault;
#[expect(unsafe_code, reason = "the calls of the dynamic loader")]
mod library;
#[expect(unsafe_code, reason = "functions that C calls, and memory of devices")]
mod nccl;
mod ptx;

pub use config::{Schedule, Setting};
pub use library::{InstallError, Softcuda, install};
