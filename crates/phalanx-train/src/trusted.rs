//! Samples that a rule over ranks trusts, and their gradient at the parameters of the step.

use phalanx_comm::Region;
use phalanx_data::Dataset;
use std::sync::Arc;

/// Samples that nobody trains on, of which each rank takes its share.
pub(crate) struct Trusted {
    pub(crate) data: Arc<dyn Dataset>,
    /// All of them.
    pub(crate) indices: Vec<usize>,
    /// The mean over all of them, on every rank.
    pub(crate) gradient: Option<Region<f32>>,
}

impl Trusted {
    pub(crate) fn new(data: Arc<dyn Dataset>) -> Self {
        Trusted { indices: (0..data.len()).collect(), data, gradient: None }
    }
}
