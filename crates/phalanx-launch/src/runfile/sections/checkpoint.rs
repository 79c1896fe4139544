//! `[checkpoint]`: what a run keeps to go on from.

use crate::runfile::Range;
use crate::runfile::key::keys;

keys! {
    /// When checkpoints are written and which are kept.
    pub struct Checkpoint {
        /// Steps between two checkpoints; 0: at the end and on a request to stop only.
        every_steps: u64 = 100, "steps", Range::AtLeast(0.0), Fixed;
        /// Newest checkpoints that are kept; the best by validation loss is kept besides.
        keep: usize = 3, "checkpoints", Range::AtLeast(1.0), Fixed;
    }
}
