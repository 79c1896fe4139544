//! How the learning rate moves over a run.

use std::fmt::Debug;

/// How far a run has come, in samples: the clock of schedules, which batch sizes do not change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Samples seen before this step.
    pub samples: u64,
    /// Samples of the whole run.
    pub total: u64,
}

/// A factor on the base learning rate as a pure function of the progress.
pub trait Schedule: Debug + Send + Sync {
    /// The name, as in a run file.
    fn name(&self) -> &'static str;

    /// The factor, for the step that begins at `progress`.
    fn factor(&self, progress: Progress) -> f64;
}
