//! The traits of phalanx, for `use phalanx::prelude::*`: no type is named here, so none is shadowed.

pub use phalanx_comm::{Communicator, CommunicatorExt};
pub use phalanx_data::Dataset;
pub use phalanx_grad::{
    Axis, BatchPolicy, GradSet, GradientExchange, Observer, Reduce, Schedule, Transform, WeightRule,
};
pub use phalanx_nn::{GradSink, Net, ParamObserver};
pub use phalanx_robust::{PreAggregator, Rule, attack::Attack};
pub use phalanx_tensor::{Backend, Float, Memory};
pub use phalanx_train::{HostBackend, TrainBackend, Watch};
