//! The op traits: every operator that a device must have, one file a family.

mod attention;
mod conv;
mod elementwise;
mod index;
mod layout;
mod loss;
mod matmul;
mod norm;
mod optim;
mod pool;
mod reduce;
mod samples;

pub use attention::{AttentionOps, AttentionSpec};
pub use conv::{Activation, ConvOps, ConvSpec};
pub use elementwise::{BinaryKind, ElementwiseOps, UnaryKind};
pub use index::IndexOps;
pub use layout::{LayoutOps, Strided};
pub use loss::LossOps;
pub use matmul::{Mat, MatmulOps, MatmulSpec};
pub use norm::NormOps;
pub use optim::{AdaGradStep, AdamWStep, OptimOps, SgdStep};
pub use pool::{PoolOps, PoolSpec};
pub use reduce::{Moments, ReduceOps};
pub use samples::{ConvSamples, SampleOps, SampleRows};
