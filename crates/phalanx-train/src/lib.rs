//! The one training loop: step, buckets and overlap, checkpoints, events.
//!
//! [`run_rank`] trains on one rank; start it on all with `phalanx_comm::run_ranks` or under a launcher. A [`Job`] says what
//! is trained, its [`Methods`] hold what is done along each axis, a [`Plan`] what a step looks like. The loop names no
//! method: they come as trait objects of `phalanx_grad`.
#![forbid(unsafe_code)]

pub mod checkpoint;
pub mod events;
pub mod model_file;
pub mod rundir;
pub mod storage;
pub mod tensorboard;
pub mod trace;
pub mod wire;

mod artefact_error;
mod buckets;
mod chunks;
mod compression;
mod config;
mod curvature;
mod device;
mod error;
mod evaluate;
mod failure;
mod gradient;
mod host;
mod json_number;
mod methods;
mod momentum;
mod node_mean;
mod over;
mod plan;
mod rank_memory;
mod rank_shards;
mod resident;
mod run;
mod samples;
mod split;
mod state;
mod summary;
mod tensor_file;
mod trusted;
mod worker;

pub use self::artefact_error::ArtefactError;
pub use self::config::{Limit, OnNonFinite, Reduction, TrainConfig};
pub use self::curvature::LossSurface;
pub use self::device::Device;
pub use self::error::TrainError;
pub use self::evaluate::{Score, evaluate, evaluate_telling, score_checkpoint, task_of};
pub use self::failure::{Failure, host};
pub use self::host::{HostBackend, TrainBackend};
pub use self::methods::{MakeMethods, Methods};
pub use self::over::Over;
pub use self::plan::{Bucket, Plan, Tile, losses, tiles};
pub use self::rank_shards::{RankShards, Sender, gather_parts};
pub use self::run::{
    Files, Job, Outcome, Watch, check, check_policy, check_rule, never_stop, run_rank, run_rank_on,
    run_rank_on_cpu,
};
pub use self::split::BatchSplit;
pub use self::state::{flat_from, model_tensors, state_of, state_tensors};
pub use self::summary::{FederatedFigures, Summary, peak_rss_bytes};
pub use self::tensor_file::{NamedTensor, Values};
