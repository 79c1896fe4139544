//! Worker momentum: what a rank sends instead of its gradient.

use crate::rule::positive;
use phalanx_grad::{GradError, StateReader, StateTensor};

/// The running mean `m <- beta m + (1 - beta) g` of a rank's own gradients.
///
/// Averaging over time lowers the variance of what honest ranks send, and so leaves less room to hide in. Each
/// rank keeps its own and sends `m`.
///
/// # Reference
/// Karimireddy et al., "Learning from History for Byzantine Robust Optimization", ICML 2021; El Mhamdi et al.,
/// "Distributed Momentum for Byzantine-resilient Stochastic Gradient Descent", ICLR 2021.
#[derive(Clone, Debug, PartialEq)]
pub struct WorkerMomentum {
    beta: f64,
    mean: Vec<f32>,
}

impl WorkerMomentum {
    /// From 0, with the share `beta` of the old mean in the new one.
    ///
    /// # Errors
    /// [`GradError::Setting`] when `beta` is not in `0..1`.
    pub fn new(beta: f64) -> Result<Self, GradError> {
        let (rule, setting, need) = ("worker-momentum", "beta", "a number from 0 and below 1");
        positive(rule, setting, 1.0 - beta)?;
        if beta < 0.0 {
            return Err(GradError::Setting { rule, setting, got: beta, need });
        }
        Ok(WorkerMomentum { beta, mean: Vec::new() })
    }

    /// Takes in a gradient, whose place the new mean takes.
    ///
    /// # Errors
    /// [`GradError::Length`] when it is not as long as those before.
    pub fn apply(&mut self, gradient_d: &mut [f32]) -> Result<(), GradError> {
        if self.mean.is_empty() {
            self.mean.resize(gradient_d.len(), 0.0);
        }
        crate::updates::check_length("a gradient under momentum", gradient_d.len(), self.mean.len())?;
        let (old, new) = (self.beta, 1.0 - self.beta);
        for (mean, x) in self.mean.iter_mut().zip(gradient_d) {
            #[expect(clippy::cast_possible_truncation, reason = "rounded once")]
            let next = (old * f64::from(*mean) + new * f64::from(*x)) as f32;
            (*mean, *x) = (next, next);
        }
        Ok(())
    }

    /// The mean.
    #[must_use]
    pub fn state(&self) -> Vec<StateTensor> {
        vec![StateTensor::new("mean", &self.mean)]
    }

    /// Takes back what [`state`](Self::state) gave.
    ///
    /// # Errors
    /// [`GradError::StateMissing`] and its like for another state.
    pub fn restore(&mut self, state: &[StateTensor]) -> Result<(), GradError> {
        let mut reader = StateReader::new("worker-momentum", state);
        let len = state.iter().find(|tensor| tensor.name == "mean").map_or(0, |tensor| tensor.data.len());
        let mean = reader.elems::<f32>("mean", len)?.to_vec();
        reader.finish()?;
        self.mean = mean;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_running_mean_that_a_copy_goes_on_with() {
        let mut momentum = WorkerMomentum::new(0.5).unwrap();
        let mut sent = Vec::new();
        for gradient in [4.0, 8.0] {
            let mut gradient = [gradient];
            momentum.apply(&mut gradient).unwrap();
            sent.push(gradient[0]);
        }
        // 2, then 1 + 4
        assert_eq!(sent, [2.0, 5.0]);
        let mut other = WorkerMomentum::new(0.5).unwrap();
        other.restore(&momentum.state()).unwrap();
        assert_eq!(other, momentum);
        assert!(momentum.apply(&mut [0.0; 2]).is_err());
        assert!(WorkerMomentum::new(1.0).is_err() && WorkerMomentum::new(-0.1).is_err());
    }
}
