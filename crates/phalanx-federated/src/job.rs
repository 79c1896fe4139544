//! A federated run, ready to be started on every rank.

use crate::algorithm::Algorithm;
use crate::attack::Attacker;
use crate::config::FederatedConfig;
use phalanx_comm::control::Board;
use phalanx_data::Splits;
use phalanx_grad::Transform;
use phalanx_nn::{Net, Task};
use phalanx_robust::Robust;
use phalanx_train::{Files, HostBackend, Plan, Watch};
use std::fmt;
use std::sync::Arc;

/// What the server of a rank does. Every rank is given an equal one.
#[derive(Debug)]
pub struct Server {
    /// From the rule's update to the next model.
    pub algorithm: Box<dyn Algorithm>,
    /// From the clients' updates to one.
    pub rule: Robust,
}

/// Makes the server of a rank.
pub type MakeServer = dyn Fn() -> Server + Send + Sync;

/// Makes the optimizer of a client.
pub type MakeOptimizer<B> = dyn Fn() -> Box<dyn Transform<B>> + Send + Sync;

/// A federated run: the clients, what they train, and what the server makes of it.
pub struct FederatedJob<B: HostBackend> {
    /// Name of the run.
    pub name: String,
    /// Name of the model.
    pub model: String,
    /// The settings of the rounds.
    pub config: FederatedConfig,
    /// The model.
    pub net: Arc<dyn Net<B>>,
    /// What it is trained for.
    pub task: Task,
    /// Its parameters, and how many samples pass it at once; planned for the largest local batch.
    pub plan: Plan,
    /// The data of all clients together, and those that the server scores the model on.
    pub data: Splits,
    /// The samples of each client.
    pub clients: Vec<Vec<usize>>,
    /// The hostile ones among them.
    pub attackers: Vec<Attacker>,
    /// Makes the server of a rank.
    pub server: Box<MakeServer>,
    /// Makes the optimizer of a client.
    pub optimizer: Box<MakeOptimizer<B>>,
    /// The device.
    pub backend: B,
    /// The files; without, nothing is written.
    pub files: Option<Files>,
    /// Who watches.
    pub watch: Arc<dyn Watch>,
    /// Set from outside to end the run after the next round, with a checkpoint.
    pub stop: Arc<dyn Fn() -> bool + Send + Sync>,
    /// Where each rank is, readable from outside; a board of no ranks keeps nothing.
    pub board: Arc<Board>,
}

impl<B: HostBackend> fmt::Debug for FederatedJob<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FederatedJob")
            .field("name", &self.name)
            .field("model", &self.model)
            .finish_non_exhaustive()
    }
}
