//! Federated averaging: the server goes where the rule says.

use super::{Algorithm, Answers, advance};
use phalanx_grad::GradError;

/// `w <- w + lr mean`, with the rule's mean of the clients' updates.
///
/// # Reference
/// McMahan et al., "Communication-Efficient Learning of Deep Networks from Decentralized Data", AISTATS 2017; there `lr` is 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FedAvg {
    /// The server's learning rate.
    pub server_lr: f64,
}

impl Algorithm for FedAvg {
    fn name(&self) -> &'static str {
        "fedavg"
    }

    fn step(&mut self, _: &Answers<'_>, mean_d: &[f32], params_d: &mut [f32]) -> Result<(), GradError> {
        advance(self.server_lr, mean_d, params_d)
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{assert_near, walk};
    use super::*;

    #[test]
    fn the_model_moves_along_the_mean() {
        assert_near(&walk(|| FedAvg { server_lr: 0.5 }, &[0.4, -0.2]), &[1.2, 1.1]);
        let wrong = FedAvg { server_lr: 1.0 }.step(&Answers::new(&[], 1), &[1.0], &mut [0.0; 2]);
        assert_eq!(wrong, Err(GradError::Length { what: "the update of a round", got: 1, need: 2 }));
    }
}
