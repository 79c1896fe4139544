//! What the rounds are told: how many, who takes part, how clients train.

use crate::cohort::CohortConfig;

/// Settings of federated training.
#[derive(Clone, Debug, PartialEq)]
pub struct FederatedConfig {
    /// Seed of weights, partitions, cohorts, orders and dropout.
    pub seed: u64,
    /// Rounds of the run.
    pub rounds: u64,
    /// Who takes part in a round.
    pub cohort: CohortConfig,
    /// How a client trains.
    pub local: LocalConfig,
    /// The share of the old mean in what a client sends, where it sends the running mean of its updates.
    pub client_momentum: Option<f64>,
    /// What a round without a result does.
    pub on_unusable: OnUnusable,
    /// Rounds between evaluations, 0 for none but those of checkpoints.
    pub eval_every: u64,
    /// Rounds between checkpoints, 0 for only the last.
    pub checkpoint_every: u64,
}

/// How a client trains.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LocalConfig {
    /// How long.
    pub length: Length,
    /// Samples of a step; a client with fewer takes all of them.
    pub batch: usize,
    /// Learning rate of the first round.
    pub lr: f64,
    /// Its factor from round to round.
    pub lr_decay: f64,
    /// Largest norm of a local gradient; a longer one is scaled down to it.
    pub clip_norm: Option<f64>,
    /// Momentum of the local optimizer, for algorithms that count what a client's steps amount to.
    pub momentum: f64,
    /// How the batch grows, if it does.
    pub growth: Option<BatchGrowth>,
}

/// When a client has trained.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Length {
    /// After so many passes over its samples.
    Epochs(u64),
    /// After so many steps.
    Steps(u64),
}

/// The local batch grows to what the spread of the clients' last gradients asks for.
///
/// With `M` clients and local batch `b`, the variance of one sample's gradient is taken as `V = b / (M - 1) sum |g_m - g|^2`, and
/// the next batch is the least that is not below `b` nor `V / (M eta^2 |g|^2)`.
///
/// # Reference
/// Lau, Liu, Han, Xu and Zhao, "Communication-Efficient Adaptive Batch Size Strategies for Distributed Local Gradient Methods",
/// 2024.
///
/// # Deviation
/// The theory assumes clients with like samples. With unlike ones, the spread holds their drift as well, so that the batch goes
/// to its cap sooner.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BatchGrowth {
    /// The norm test's tolerance: smaller asks for larger batches.
    pub eta: f64,
    /// The largest batch.
    pub max: usize,
}

/// What happens when the updates of a round give no result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnUnusable {
    /// The model stays as it is, and the next round begins.
    Skip,
    /// All ranks stop.
    Stop,
}
