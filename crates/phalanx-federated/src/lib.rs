//! Federated training, simulated: many clients, few ranks, one server model.
//!
//! In a round, some clients train copies of the server's model on their own samples; a rule makes one update of theirs, and an
//! [`Algorithm`] moves the server's model along it. [`run_rank`] plays the clients on the ranks of a world: a client is a list of
//! samples, and a model exists only while a rank trains one, so that a thousand clients on two ranks take the memory of a few
//! models.
//!
//! What a client does is a function of the seed, the round, its name and the server's model, and updates are reduced in the
//! order of names by fixed trees: the result has the same bits for every number of ranks, and after a resume.
//!
//! ```
//! use phalanx_federated::{Algorithm, Answer, Answers, FedAvg, Work};
//!
//! // two clients moved by (1, 2) and (5, 0), the second with three times the samples
//! let mean = [(1.0 + 3.0 * 5.0) / 4.0, 2.0 / 4.0];
//! let answers = [1, 3].map(|samples| Answer { client: samples, weight: samples as f64 / 4.0, work: Work::default() });
//! let mut server = [10.0, 10.0];
//! FedAvg { server_lr: 1.0 }.step(&Answers::new(&answers, 2), &mean, &mut server)?;
//! assert_eq!(server, [14.0, 10.5]);
//! # Ok::<(), phalanx_grad::GradError>(())
//! ```
//!
//! # What it does not do
//! No clients on other machines, no secure aggregation, no accounting of privacy, and rounds wait for no late update.
#![forbid(unsafe_code)]

mod algorithm;
mod attack;
mod cohort;
mod config;
mod error;
mod job;
mod local;
mod population;
mod run;
mod store;

pub use algorithm::{
    Adaptive, Algorithm, Answer, Answers, FedAdagrad, FedAdam, FedAvg, FedAvgM, FedNova, FedProx, FedYogi,
    Scaffold, SecondMoment, SumUpdates, Work,
};
pub use attack::{Attacker, Backdoor, ClientData, Conduct, EdgeCase, Poison};
pub use cohort::{Absent, Cohort, CohortConfig, Sampling, Why};
pub use config::{BatchGrowth, FederatedConfig, Length, LocalConfig, OnUnusable};
pub use error::FederatedError;
pub use job::{FederatedJob, MakeOptimizer, MakeServer, Server};
pub use local::{Local, Trained, Trainer};
pub use population::Population;
pub use run::{FederatedOutcome, check, run_rank};
pub use store::ClientStore;
