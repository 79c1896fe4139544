//! Statistics of the gradient over the chunks of a batch, from a handful of sums.

mod block;
mod chunk_sums;
mod coordinates;
mod estimators;
mod targets;

pub use block::{Projections, ScalarBlock};
pub use chunk_sums::ChunkSums;
pub use coordinates::CoordinateRule;
pub use estimators::half_batch_cosine;
