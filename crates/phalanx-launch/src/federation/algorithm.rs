//! From `federated.algorithm` to the server's algorithm.

use phalanx_federated::{
    Adaptive, Algorithm, FedAdagrad, FedAdam, FedAvg, FedAvgM, FedNova, FedProx, FedYogi, Scaffold,
};

use crate::runfile::{FedAlgorithm, Federated};

/// The algorithm that the run file names.
pub(crate) fn algorithm(federated: &Federated) -> Box<dyn Algorithm> {
    let server_lr = federated.server_lr;
    let moments = |beta1, tau| Adaptive::new(server_lr, beta1, tau);
    match federated.algorithm {
        FedAlgorithm::FedAvg {} => Box::new(FedAvg { server_lr }),
        FedAlgorithm::FedProx { mu } => Box::new(FedProx { server_lr, mu }),
        FedAlgorithm::FedAvgM { server_momentum } => Box::new(FedAvgM::new(server_lr, server_momentum)),
        FedAlgorithm::FedAdam { beta1, beta2, tau } => {
            Box::new(FedAdam { moments: moments(beta1, tau), beta2 })
        }
        FedAlgorithm::FedYogi { beta1, beta2, tau } => {
            Box::new(FedYogi { moments: moments(beta1, tau), beta2 })
        }
        FedAlgorithm::FedAdagrad { beta1, tau } => Box::new(FedAdagrad { moments: moments(beta1, tau) }),
        FedAlgorithm::Scaffold {} => Box::new(Scaffold::new(server_lr)),
        FedAlgorithm::FedNova {} => Box::new(FedNova { server_lr }),
    }
}
