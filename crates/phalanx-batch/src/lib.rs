//! Batch-size policies: from statistics of the gradient to the size of the next batch, and to its learning rate.
//!
//! [`PolicyConfig`] names every policy as a run file does and builds it; each is a
//! [`BatchPolicy`](phalanx_grad::BatchPolicy), one file each. [`RateConfig`] does so for the rules of the learning rate, which
//! [`Rated`] joins to a policy. A test of one's own is a [`Criterion`], which [`GradientTest`] makes a policy of.
//!
//! ```
//! use phalanx_batch::{GradientTest, NormTest, Pace, TestConfig};
//! use phalanx_comm::{SoloComm, agree_sum};
//! use phalanx_grad::{BatchContext, BatchPolicy, Chunks, ChunkSums};
//! use phalanx_tensor::op::Moments;
//!
//! // the sums of all ranks, and what follows from them, are agreed on
//! let mut sums = ChunkSums::default();
//! sums.add(32, &Moments { sum_sq: 2.0, sum_abs: 3.0, nonfinite: 0 }, 16.0);
//! sums.add(32, &Moments { sum_sq: 1.0, sum_abs: 3.0, nonfinite: 0 }, 16.0);
//! let sums = agree_sum(&SoloComm::new(), &sums.pack())?.map(|packed| ChunkSums::unpack(&packed));
//! let statistics = sums.map(|sums| sums.block(&Moments { sum_sq: 1.0, sum_abs: 2.0, nonfinite: 0 }));
//!
//! // a variance of 32 a sample: 200 samples keep it below 0.4 of the gradient's length
//! let config = TestConfig { chunks: Chunks::Ranks, pace: Pace { growth: 4.0, ..Pace::default() }, ..TestConfig::default() };
//! let mut policy = GradientTest::new(NormTest { eta: 0.4, ..NormTest::default() }, config)?;
//! let context = BatchContext { step: 1, samples: 64, total: 6400, batch: 64, max_batch: 512, ranks: 2, lr: 0.1 };
//! assert_eq!(policy.decide(&statistics, &context)?.batch, 200);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![forbid(unsafe_code)]

mod augmented_test;
mod cabs;
mod config;
mod constant;
mod coordinate_test;
mod cut;
mod divebatch;
mod error;
mod goodput;
mod gradient_test;
mod inner_product_test;
mod noise_and_signal;
mod noise_scale;
mod norm_test;
mod pace;
mod ramp;
mod rate;
mod rated;
mod running_mean;
mod simigrad;
mod stages;
mod words;

pub use augmented_test::AugmentedTest;
pub use cabs::{Cabs, CabsConfig};
pub use config::{PolicyConfig, Run};
pub use constant::Constant;
pub use coordinate_test::CoordinateTest;
pub use divebatch::{DiveBatch, DiveBatchConfig};
pub use error::BatchError;
pub use goodput::{Goodput, GoodputConfig, Observation, StepModel};
pub use gradient_test::{Criterion, GradientTest, Quotient, TestConfig};
pub use inner_product_test::InnerProductTest;
pub use noise_scale::{NoiseScale, NoiseScaleConfig};
pub use norm_test::{Denominator, NormTest};
pub use pace::Pace;
pub use ramp::{Ramp, RampConfig};
pub use rate::{AdaScale, Linear, Measured, RateConfig, RateRule, Saturating, SquareRoot};
pub use rated::Rated;
pub use simigrad::{SimiGrad, SimiGradConfig};
pub use stages::{Stages, StagesConfig};
