//! Axes, gradient sets, statistics, and the traits that every method of phalanx implements.
//!
//! A step of training reads or reduces gradients along four axes. Samples, ranks and tasks are *sets*: a
//! [`GradSet`] of `n` gradients of dimension `d`, which a [`Reduce`] turns into one. Time is a *fold*: a
//! [`Transform`] turns gradient after gradient into updates. An [`Observer`] sees a set and changes nothing; a
//! [`BatchPolicy`] decides from numbers on which all ranks agree.
//!
//! Most rules over sets need inner products only and answer with weights: they are a [`WeightRule`], and
//! [`Weighted`] makes a `Reduce` of them.
//!
//! ```
//! use phalanx_grad::{GradError, Gram, Ranks, Reduce, RowSet, Scratch, WeightRule, Weighted};
//!
//! /// Takes the shortest gradient.
//! #[derive(Debug)]
//! struct Shortest;
//!
//! impl WeightRule<Ranks> for Shortest {
//!     fn name(&self) -> &'static str {
//!         "shortest"
//!     }
//!     fn weights(&mut self, _step: u64, gram: &Gram, weights_n: &mut [f64]) -> Result<(), GradError> {
//!         weights_n.fill(0.0);
//!         let least = (0..gram.n()).min_by(|i, j| gram.norm_sq(*i).total_cmp(&gram.norm_sq(*j)));
//!         least.map(|i| weights_n[i] = 1.0).ok_or(GradError::TooFew { rule: "shortest", axis: "ranks", got: 0, need: 1 })
//!     }
//! }
//!
//! let ranks = RowSet::<Ranks>::from_slices(&[&[3.0, 4.0], &[1.0, 0.0], &[9.0, 9.0]])?;
//! let mut out = [0.0; 2];
//! Weighted(Shortest).reduce(1, &ranks, &mut out, &mut Scratch::new())?;
//! assert_eq!(out, [1.0, 0.0]);
//! # Ok::<(), GradError>(())
//! ```
//!
//! Nothing here moves bytes between ranks, and no method lives here but the [`Mean`].
#![forbid(unsafe_code)]

mod axis;
mod blocks;
mod error;
mod exchange;
mod gram;
mod layout;
mod mean;
mod observer;
mod policy;
mod reduce;
mod rejected;
mod row_set;
mod schedule;
mod senders;
mod set;
mod shard;
mod state;
mod stats;
mod transform;
mod weighted;

pub use axis::{Axis, Ranks, Samples, Tasks};
pub use blocks::Blocks;
pub use error::GradError;
pub use exchange::GradientExchange;
pub use gram::Gram;
pub use layout::{GradLayout, ParamSpan};
pub use mean::Mean;
pub use observer::Observer;
pub use policy::{
    BatchContext, BatchDecision, BatchPolicy, Chunks, Needs, PolicyBounds, PolicyState, StepTime,
};
pub use reduce::{Reduce, Scratch};
pub use rejected::{Reason, Rejected};
pub use row_set::RowSet;
pub use schedule::{Progress, Schedule};
pub use senders::Senders;
pub use set::GradSet;
pub use shard::Shard;
pub use state::{StateData, StateReader, StateTensor};
pub use stats::{ChunkSums, CoordinateRule, Projections, ScalarBlock, half_batch_cosine};
pub use transform::{Transform, UpdateStep};
pub use weighted::{WeightRule, Weighted};
