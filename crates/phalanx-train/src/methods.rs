//! The loop's pluggable places: each rank holds one object for each.

use phalanx_compress::Compressor;
use phalanx_grad::{BatchPolicy, Ranks, Reduce, Samples, Schedule, Tasks, Transform};
use phalanx_tensor::Backend;

/// What is done along each axis. Every rank is given equal ones.
#[derive(Debug)]
pub struct Methods<B: Backend> {
    /// One gradient a rank from its samples. The mean is ordinary backpropagation.
    pub over_samples: Box<dyn Reduce<Samples, B>>,
    /// One gradient from those of the ranks. The mean is the bucketed, overlapped all-reduce. Other rules compare what
    /// ranks have exchanged, which is in the memory of the host on every backend.
    pub over_ranks: Box<dyn Reduce<Ranks>>,
    /// One gradient from those of the tasks; the models of this version have one task.
    pub over_tasks: Box<dyn Reduce<Tasks, B>>,
    /// How the gradient travels where its rule over ranks is the mean; none: as it is.
    pub compression: Option<Box<dyn Compressor>>,
    /// The update from the gradient.
    pub over_time: Box<dyn Transform<B>>,
    /// Learning rate without the schedule.
    pub lr: f64,
    /// The learning rate's course.
    pub schedule: Box<dyn Schedule>,
    /// The batch size's course.
    pub policy: Box<dyn BatchPolicy>,
}

/// Makes the methods of a rank.
pub type MakeMethods<B> = dyn Fn() -> Methods<B> + Send + Sync;
