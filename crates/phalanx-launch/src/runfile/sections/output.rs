//! `[output]`: what a run writes beside its events and models.

use crate::runfile::Range;
use crate::runfile::key::keys;

keys! {
    /// Files for other tools.
    pub struct Output {
        /// Write TensorBoard event files.
        tensorboard: bool = true, "", Range::Any, May;
        /// Write a Chrome trace with a lane for each rank.
        trace: bool = true, "", Range::Any, May;
    }
}

keys! {
    /// Files for other tools, of a federated run.
    pub struct FederatedOutput {
        /// Write TensorBoard event files.
        tensorboard: bool = true, "", Range::Any, May;
    }
}
