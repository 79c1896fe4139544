//! Batch-size policies: from statistics of the gradient to the size of the next batch.
//!
//! [`PolicyConfig`] names every policy as a run file does and builds it; each is a
//! [`BatchPolicy`](phalanx_grad::BatchPolicy), one file each.
//!
//! ```
//! use phalanx_batch::PolicyConfig;
//! use phalanx_comm::{SoloComm, agree_sum};
//! use phalanx_grad::{BatchContext, ChunkSums};
//! use phalanx_tensor::op::Moments;
//!
//! // the sums of all ranks, and what follows from them, are agreed on
//! let mut sums = ChunkSums::default();
//! sums.add(64, &Moments { sum_sq: 2.0, sum_abs: 3.0, nonfinite: 0 }, 32.0);
//! let sums = agree_sum(&SoloComm::new(), &sums.pack())?.map(|packed| ChunkSums::unpack(&packed));
//! let statistics = sums.map(|sums| sums.block(&Moments { sum_sq: 1.0, sum_abs: 2.0, nonfinite: 0 }));
//!
//! let mut policy = PolicyConfig::from_name("constant")?.build();
//! let context = BatchContext { step: 1, samples: 64, total: 6400, batch: 64, max_batch: 512, ranks: 1, lr: 0.1 };
//! assert_eq!(policy.decide(&statistics, &context)?.batch, 64);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![forbid(unsafe_code)]

mod config;
mod constant;
mod error;

pub use config::PolicyConfig;
pub use constant::Constant;
pub use error::BatchError;
