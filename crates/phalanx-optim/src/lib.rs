//! Transforms from gradient to update, learning-rate schedules, and what gradients and curvature say about both.
//!
//! [`OptimizerConfig`] and [`ScheduleConfig`] name everything here as a run file does and build it; each optimizer is a
//! [`Transform`](phalanx_grad::Transform) for any backend, one file each, with a config struct of public fields.
//!
//! ```
//! use phalanx_grad::{GradLayout, Progress, UpdateStep};
//! use phalanx_optim::{OptimizerConfig, ScheduleConfig, Scheduled, clip_by_global_norm};
//! use phalanx_tensor::Cpu;
//!
//! let config = OptimizerConfig::from_name("adagrad-norm")?;
//! let rate = Scheduled::new(config.lr(), ScheduleConfig::from_name("linear")?.build()?);
//! let cpu = Cpu::<f64>::new();
//! let mut optimizer = config.build()?;
//! optimizer.prepare(&cpu, &GradLayout::flat(2))?;
//!
//! // minimise (x^2 + 10 y^2) / 2 with steps no longer than 1
//! let mut params = [1.0, 1.0];
//! for step in 1..=100 {
//!     let grads = [params[0], 10.0 * params[1]];
//!     let grad_norm_sq = grads[0] * grads[0] + grads[1] * grads[1];
//!     let lr = rate.lr(Progress { samples: step - 1, total: 100 });
//!     let grad_scale = clip_by_global_norm(grad_norm_sq, 1.0);
//!     let step = UpdateStep { step, samples: 1, lr, grad_scale, grad_norm_sq, grad_norm_l1: 0.0 };
//!     optimizer.update(&cpu, &step, &mut params, &grads)?;
//! }
//! assert!(params.iter().all(|x| x.abs() < 1e-3), "{params:?}");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Not done here: groups of parameters with settings of their own.
#![forbid(unsafe_code)]

mod adagrad;
mod adagrad_norm;
mod adamw;
mod clip;
mod config;
mod error;
mod lanczos;
mod refine;
mod schedule;
mod scheduled;
mod sgd;
mod slot;

pub use adagrad::{AdaGrad, AdaGradConfig};
pub use adagrad_norm::{AdaGradNorm, AdaGradNormConfig};
pub use adamw::{AdamW, AdamWConfig};
pub use clip::clip_by_global_norm;
pub use config::OptimizerConfig;
pub use error::OptimError;
pub use lanczos::{Spectrum, lanczos};
pub use refine::{NormAt, Weighting, refine};
pub use schedule::{Constant, Cosine, LinearDecay, Point, Refined, ScheduleConfig, resampled};
pub use scheduled::Scheduled;
pub use sgd::{Sgd, SgdConfig};
