//! Federated averaging with momentum at the server.

use super::{Algorithm, Answers, advance, narrow, same_length};
use phalanx_grad::{GradError, StateReader, StateTensor};

/// `v <- beta v + mean`, `w <- w + lr v`.
///
/// # Reference
/// Hsu, Qi and Brown, "Measuring the Effects of Non-Identical Data Distribution for Federated Visual Classification", 2019.
#[derive(Clone, Debug, PartialEq)]
pub struct FedAvgM {
    server_lr: f64,
    beta: f64,
    velocity: Vec<f32>,
}

impl FedAvgM {
    /// From rest, with the share `beta` of the old velocity in the new one.
    #[must_use]
    pub fn new(server_lr: f64, beta: f64) -> Self {
        FedAvgM { server_lr, beta, velocity: Vec::new() }
    }
}

impl Algorithm for FedAvgM {
    fn name(&self) -> &'static str {
        "fedavgm"
    }

    fn prepare(&mut self, dim: usize) {
        self.velocity = vec![0.0; dim];
    }

    fn step(&mut self, _: &Answers<'_>, mean_d: &[f32], params_d: &mut [f32]) -> Result<(), GradError> {
        same_length("the update of a round", mean_d.len(), self.velocity.len())?;
        same_length("the server's model", params_d.len(), self.velocity.len())?;
        for (velocity, mean) in self.velocity.iter_mut().zip(mean_d) {
            *velocity = narrow(self.beta * f64::from(*velocity) + f64::from(*mean));
        }
        advance(self.server_lr, &self.velocity, params_d)
    }

    fn state(&self) -> Vec<StateTensor> {
        vec![StateTensor::new("velocity", &self.velocity)]
    }

    fn restore(&mut self, state: &[StateTensor]) -> Result<(), GradError> {
        let mut reader = StateReader::new(self.name(), state);
        let velocity = reader.elems::<f32>("velocity", self.velocity.len())?.to_vec();
        reader.finish()?;
        self.velocity = velocity;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{assert_near, walk};
    use super::*;

    /// v = 0.4, then 0.2 - 0.2 = 0, then 0.1: from 1 to 1.2, 1.2, 1.25.
    #[test]
    fn velocity_outlives_a_round() {
        assert_near(&walk(|| FedAvgM::new(0.5, 0.5), &[0.4, -0.2, 0.1]), &[1.2, 1.2, 1.25]);
    }
}
