//! What can end federated training.

use phalanx_comm::CommError;
use phalanx_data::DataError;
use phalanx_grad::GradError;
use phalanx_nn::NnError;
use phalanx_train::{ArtefactError, TrainError};

/// An error of federated training.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FederatedError {
    /// A setting that cannot be.
    #[error("{field} is {got}, need {need}")]
    Setting {
        /// The key of the run file.
        field: &'static str,
        /// What was given.
        got: f64,
        /// What is possible.
        need: &'static str,
    },
    /// A client that there is not.
    #[error("an attack names client {client}, there are {clients}")]
    NoSuchClient {
        /// The client.
        client: u64,
        /// How many there are.
        clients: usize,
    },
    /// More clients a round than there are.
    #[error("federated.per_round is {per_round}, {clients} clients have samples")]
    TooFewClients {
        /// Clients that a round asks for.
        per_round: usize,
        /// Clients with samples.
        clients: usize,
    },
    /// A round whose updates give no result, where such rounds end the run.
    #[error("the updates of round {round} cannot be used")]
    Unusable {
        /// The round, counted from 1; the model stayed as it was.
        round: u64,
        /// Why.
        #[source]
        cause: GradError,
    },
    /// An attack on images where samples are none.
    #[error("attack {attack} needs images, the samples have shape {shape:?}")]
    NoImage {
        /// The attack.
        attack: &'static str,
        /// The shape of a sample; empty for text.
        shape: Vec<usize>,
    },
    /// An attack on a class that there is not, or has no samples.
    #[error("attack {attack} needs samples of class {class}, there are none")]
    NoSuchClass {
        /// The attack.
        attack: &'static str,
        /// The class.
        class: u32,
    },
    /// A part of the training loop failed.
    #[error("training failed")]
    Train(#[from] TrainError),
    /// A collective failed: another rank's error, a panic, a stall.
    #[error("communication failed")]
    Comm(#[from] CommError),
    /// The model failed.
    #[error("the model failed")]
    Nn(#[from] NnError),
    /// The data failed.
    #[error("the data cannot be used")]
    Data(#[from] DataError),
    /// A method failed.
    #[error("a method failed")]
    Grad(#[from] GradError),
    /// A file of the run failed.
    #[error("a file of the run failed")]
    Artefact(#[from] ArtefactError),
}
