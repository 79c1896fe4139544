//! Every operator on the device against the CPU: on stand-ins for the libraries, which interpret the compiled kernels, or with
//! `PHALANX_GPU` in the environment (`cargo xtask test --gpu`) on device 0 of the machine.

#[path = "conformance/attention.rs"]
mod attention;
#[path = "conformance/capabilities.rs"]
mod capabilities;
#[path = "conformance/conv.rs"]
mod conv;
#[path = "conformance/elementwise.rs"]
mod elementwise;
#[path = "conformance/failures.rs"]
mod failures;
#[path = "conformance/held.rs"]
mod held;
#[path = "conformance/index.rs"]
mod index;
#[path = "conformance/loss.rs"]
mod loss;
#[path = "conformance/matmul.rs"]
mod matmul;
#[path = "conformance/memory.rs"]
mod memory;
#[path = "conformance/norm.rs"]
mod norm;
#[path = "conformance/optim.rs"]
mod optim;
#[path = "conformance/pool.rs"]
mod pool;
#[path = "conformance/reduce.rs"]
mod reduce;
#[path = "conformance/rows.rs"]
mod rows;
#[path = "conformance/samples.rs"]
mod samples;
