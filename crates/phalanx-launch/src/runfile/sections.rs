//! The sections of a run file, a file each: here their keys are declared.

mod aggregation;
mod batch;
mod checkpoint;
mod comm;
mod compression;
mod data;
mod faults;
mod federated;
mod local;
mod model;
mod optimizer;
mod output;
mod partition;
mod schedule;
mod train;

pub use aggregation::{Aggregation, AggregationRule, Base, Neighbours, OverWhat};
pub(in crate::runfile) use batch::optimizer_of;
pub use batch::{Batch, BatchPolicy, Coordinates, Denominator, LrScaling, Statistic};
pub use checkpoint::Checkpoint;
pub use comm::{Algorithm, Comm, Progress};
pub use compression::Compression;
pub use data::{Column, Data, Source};
pub use faults::Faults;
pub use federated::{FedAlgorithm, Federated, OnUnusable, Sampling};
pub(in crate::runfile) use local::LENGTHS;
pub use local::Local;
pub use model::Model;
pub use optimizer::{Optimizer, Rule};
pub use output::{FederatedOutput, Output};
pub use partition::{Partition, PartitionKind};
pub use schedule::{Schedule, Shape};
pub use train::{OnNonfinite, Precision, Reduction, Stop, Train, WhenRankLost};
