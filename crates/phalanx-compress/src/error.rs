//! What is wrong with a compressor's settings or state.

/// An error of a compressor before it sends anything.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum CompressError {
    /// A setting out of range.
    #[error("{field} is {got}, need {need}")]
    Setting {
        /// The key of the run file.
        field: &'static str,
        /// What was given.
        got: f64,
        /// What is possible.
        need: &'static str,
    },
    /// Saved state of another shape.
    #[error("the compressor's {what} has {got} elements, need {need}")]
    State {
        /// Which part of it.
        what: &'static str,
        /// Elements that were saved.
        got: usize,
        /// Elements that this run has.
        need: usize,
    },
}
