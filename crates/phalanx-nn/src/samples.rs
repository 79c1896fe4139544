//! Statistics of the gradients of single samples, taken while the batch's gradient is computed and without keeping
//! theirs.
//!
//! Each is a [`ParamObserver`] for [`Graph::backward_observed`](crate::Graph::backward_observed). The loss of a batch
//! has one number a sample, or a fixed number of them; dimension 0 of every tensor is that of samples.

mod coverage;
mod gradient;
mod norms;
mod per_sample;
mod products;
mod recording;
mod shared;
mod squares;

pub use coverage::Coverage;
pub use norms::SampleNorms;
pub use products::SampleProducts;
pub use recording::Recording;
pub use squares::SampleSquares;

use crate::NnError;
use crate::observe::Parameterised;
use phalanx_tensor::Backend;
use phalanx_tensor::op::SampleRows;

#[cfg(doc)]
use crate::observe::ParamObserver;

/// How the rows of an operator belong to `samples`.
fn rows_of<B: Backend>(op: &Parameterised<'_, B>, samples: usize) -> Result<SampleRows, NnError> {
    let rows = match *op {
        Parameterised::Linear { rows, .. }
        | Parameterised::Embedding { rows, .. }
        | Parameterised::Norm { rows, .. }
        | Parameterised::Offset { rows, .. } => rows,
        Parameterised::Conv2d { spec, .. } => spec.n,
    };
    if rows.is_multiple_of(samples.max(1)) {
        Ok(SampleRows { samples, steps: rows / samples.max(1) })
    } else {
        Err(NnError::SampleRows { operator: op.operator(), rows, samples })
    }
}
