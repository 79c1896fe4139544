//! What the adaptive server algorithms share: two moments of the rounds' updates.

use super::{Algorithm, Answers, narrow, same_length};
use phalanx_grad::{GradError, StateReader, StateTensor};

/// Settings and moments of an adaptive server algorithm.
///
/// Of each coordinate with update `x`: `m <- beta1 m + (1 - beta1) x`, `v` by the algorithm's own rule, and
/// `w <- w + lr m / (sqrt(v) + tau)`. `m` begins at 0 and `v` at `tau^2`.
///
/// # Reference
/// Reddi et al., "Adaptive Federated Optimization", ICLR 2021.
///
/// # Deviation
/// None; other programs begin with `v = 0` and correct the bias of `m`.
#[derive(Clone, Debug, PartialEq)]
pub struct Adaptive {
    server_lr: f64,
    beta1: f64,
    tau: f64,
    first: Vec<f32>,
    second: Vec<f32>,
}

impl Adaptive {
    /// Moments before the first round.
    #[must_use]
    pub fn new(server_lr: f64, beta1: f64, tau: f64) -> Self {
        Adaptive { server_lr, beta1, tau, first: Vec::new(), second: Vec::new() }
    }

    fn prepare(&mut self, dim: usize) {
        self.first = vec![0.0; dim];
        self.second = vec![narrow(self.tau * self.tau); dim];
    }

    /// One round; `next` makes the new second moment of the old one and the squared update.
    fn step(
        &mut self,
        mean_d: &[f32],
        params_d: &mut [f32],
        next: impl Fn(f64, f64) -> f64,
    ) -> Result<(), GradError> {
        same_length("the update of a round", mean_d.len(), self.first.len())?;
        same_length("the server's model", params_d.len(), self.first.len())?;
        let moments = self.first.iter_mut().zip(&mut self.second);
        for ((param, mean), (first, second)) in params_d.iter_mut().zip(mean_d).zip(moments) {
            let mean = f64::from(*mean);
            *first = narrow(self.beta1 * f64::from(*first) + (1.0 - self.beta1) * mean);
            *second = narrow(next(f64::from(*second), mean * mean));
            let scale = f64::from(*second).sqrt() + self.tau;
            *param = narrow(f64::from(*param) + self.server_lr * f64::from(*first) / scale);
        }
        Ok(())
    }

    fn state(&self) -> Vec<StateTensor> {
        vec![StateTensor::new("first", &self.first), StateTensor::new("second", &self.second)]
    }

    fn restore(&mut self, owner: &'static str, state: &[StateTensor]) -> Result<(), GradError> {
        let mut reader = StateReader::new(owner, state);
        let first = reader.elems::<f32>("first", self.first.len())?.to_vec();
        let second = reader.elems::<f32>("second", self.second.len())?.to_vec();
        reader.finish()?;
        (self.first, self.second) = (first, second);
        Ok(())
    }
}

/// An algorithm that is [`Adaptive`] but for the course of its second moment.
pub trait SecondMoment: std::fmt::Debug + Send {
    /// The name, as in a run file.
    const NAME: &'static str;

    /// Settings and moments.
    fn moments(&self) -> &Adaptive;

    /// Settings and moments.
    fn moments_mut(&mut self) -> &mut Adaptive;

    /// Makes the new second moment of the old one and the squared update.
    fn next(&self) -> impl Fn(f64, f64) -> f64 + use<Self>;
}

impl<T: SecondMoment> Algorithm for T {
    fn name(&self) -> &'static str {
        T::NAME
    }

    fn prepare(&mut self, dim: usize) {
        self.moments_mut().prepare(dim);
    }

    fn step(&mut self, _: &Answers<'_>, mean_d: &[f32], params_d: &mut [f32]) -> Result<(), GradError> {
        let next = self.next();
        self.moments_mut().step(mean_d, params_d, next)
    }

    fn state(&self) -> Vec<StateTensor> {
        self.moments().state()
    }

    fn restore(&mut self, state: &[StateTensor]) -> Result<(), GradError> {
        self.moments_mut().restore(T::NAME, state)
    }
}
