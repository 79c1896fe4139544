//! Reductions over ranks that bear hostile ones, the attacks on them, and their laws.
//!
//! A [`Robust`] makes one vector of `n`, of which up to `f` may be anything: a [`Rule`], with pre-aggregators before it,
//! under one contract for what is invalid, for ties and for the [`Report`]. It is a
//! [`Reduce<Ranks>`](phalanx_grad::Reduce) for the training loop, and works alone on slices:
//!
//! ```
//! use phalanx_grad::GradError;
//! use phalanx_robust::{Krum, Robust, Updates};
//!
//! let rows: [&[f32]; 5] = [&[1.0, 2.0], &[1.1, 2.1], &[0.9, 2.0], &[1.0, 1.9], &[500.0, -800.0]];
//! let mut out = [0.0; 2];
//! let report = Robust::new(1, Krum::default()).aggregate(1, &Updates::new(2, &rows), &mut out)?;
//! assert_eq!(out, [1.0, 2.0]);
//! let (worst, score) = report.stages[0].scores.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1)).unwrap();
//! assert!(worst == 4 && *score > 1e6);
//! # Ok::<(), GradError>(())
//! ```
//!
//! Rules decide from numbers about the vectors: inner products, norms, distances to a vector that is trusted. What
//! they decide is a weighted sum or a statistic of each coordinate. So a rule knows nothing of memory or threads, and
//! pre-aggregators, being weighted sums as well, cost no memory where inner products are enough.
//!
//! # What it does not do
//! It does not know the loop or ranks, and chooses no rule: [`registry`] has them by name, for a program that does.
#![forbid(unsafe_code)]

pub mod attack;
mod eigen;
mod law;
#[cfg(feature = "laws")]
pub mod laws;
mod mixing;
mod pre;
pub mod registry;
mod report;
mod robust;
mod round;
mod rule;
mod subsets;
mod updates;
mod vectors;

pub use law::{Law, Laws};
pub use mixing::Mixing;
pub use phalanx_grad::{Reason, Rejected};
pub use pre::{
    Arc, Bucketing, Clip, Keep, Mixed, MultiMetrics, Nnm, PreAggregator, Reference, Whiten, WorkerMomentum,
};
pub use report::{Report, Stage};
pub use robust::Robust;
pub use round::Round;
pub use rule::{
    Bulyan, Caf, CenteredClipping, Decision, Dnc, FlTrust, Flame, FoolsGold, GeometricMedian, Krum, Mda,
    MeaMed, Median, Monna, MultiKrum, Mva, Neighbours, NormClip, Rfa, Rlr, Rule, SignMajority, Smea,
    Smoothing, Start, TrimmedMean, WeightedMean,
};
pub use updates::Updates;
