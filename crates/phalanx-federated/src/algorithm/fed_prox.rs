//! `FedProx`: clients are held near the server's model.

use super::{Algorithm, Answers, advance};
use phalanx_grad::GradError;

/// [`FedAvg`](super::FedAvg) of clients that minimise `loss(y) + (mu / 2) |y - w|^2`.
///
/// # Reference
/// Li et al., "Federated Optimization in Heterogeneous Networks", `MLSys` 2020.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FedProx {
    /// The server's learning rate.
    pub server_lr: f64,
    /// `mu`.
    pub mu: f64,
}

impl Algorithm for FedProx {
    fn name(&self) -> &'static str {
        "fedprox"
    }

    fn proximal(&self) -> f64 {
        self.mu
    }

    fn step(&mut self, _: &Answers<'_>, mean_d: &[f32], params_d: &mut [f32]) -> Result<(), GradError> {
        advance(self.server_lr, mean_d, params_d)
    }
}
