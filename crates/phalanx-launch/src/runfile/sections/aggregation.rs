//! `[aggregation]`: how the ranks' gradients become one.

use crate::runfile::key::kinds;

kinds! {
    /// The rule over the ranks' gradients.
    pub enum Aggregation by rule = "mean" {
        /// The mean over samples.
        "mean" => Mean {}
    }
}
