//! `[batch]`: how the batch size follows the run.

use crate::runfile::key::kinds;

kinds! {
    /// What decides the batch size after each step.
    pub enum BatchPolicy by policy = "constant" {
        /// It stays `train.batch`.
        "constant" => Constant {}
    }
}
