//! Tensors of phalanx: shapes, the op traits that a device implements, and the CPU, the first device.
//!
//! The types to know are [`Backend`], which joins the op traits of [`op`], and [`Cpu`], which implements it for `f32`
//! and `f64`. [`Meta`] implements it without memory or arithmetic: running a model on it tells what the model needs.
//! Everything above this crate is generic over the backend.
//!
//! ```
//! use phalanx_tensor::{Cpu, Memory, op::{Mat, MatmulOps, MatmulSpec}, Write};
//! let cpu = Cpu::<f32>::new();
//! let spec = MatmulSpec { batch: 1, m: 1, n: 2, k: 2, a: Mat::dense(1, 2), b: Mat::dense(2, 2), c: Mat::dense(1, 2) };
//! let mut c = [0.0; 2];
//! cpu.matmul(&spec, &[1.0, 2.0], &[3.0, 4.0, 5.0, 6.0], Write::Set, &mut c);
//! assert_eq!(c, [13.0, 16.0]);
//! ```

mod backend;
mod cpu;
mod error;
mod float;
mod meta;
pub mod op;
pub mod rng;
pub mod rows;
mod shape;

pub use backend::{Backend, Memory, Write};
pub use cpu::{AlignedBuf, Cpu, CpuLevel, LevelUnavailable, UnknownLevel};
pub use error::TensorError;
pub use float::Float;
pub use meta::Meta;
pub use shape::{MAX_DIMS, Shape};
