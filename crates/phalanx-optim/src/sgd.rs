//! Stochastic gradient descent, with momentum of two kinds.

use crate::OptimError;
use crate::error::Check;
use crate::slot::Slot;
use phalanx_grad::{GradError, GradLayout, StateReader, StateTensor, Transform, UpdateStep};
use phalanx_tensor::Backend;
use phalanx_tensor::op::SgdStep;

const NAME: &str = "sgd";

/// Settings of [`Sgd`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SgdConfig {
    /// Base learning rate. Default 0.001.
    pub lr: f64,
    /// Factor of the velocity from step to step, in `[0, 1)`. Default 0: no velocity is kept.
    pub momentum: f64,
    /// Whether the step looks ahead along the velocity. Default no.
    pub nesterov: bool,
    /// Decoupled weight decay: parameters shrink by `lr * weight_decay` a step. Default 0.
    pub weight_decay: f64,
}

impl Default for SgdConfig {
    fn default() -> Self {
        SgdConfig { lr: 1e-3, momentum: 0.0, nesterov: false, weight_decay: 0.0 }
    }
}

impl SgdConfig {
    /// Checks that every setting is in range.
    ///
    /// # Errors
    /// [`OptimError::Field`] names the first that is not.
    pub fn validate(&self) -> Result<(), OptimError> {
        let check = Check(NAME);
        check.at_least_zero("lr", self.lr)?;
        check.decay("momentum", self.momentum)?;
        let moves = !self.nesterov || self.momentum > 0.0;
        check.that(moves, "momentum", self.momentum, "a number above 0 with nesterov")?;
        check.at_least_zero("weight_decay", self.weight_decay)
    }
}

/// Stochastic gradient descent: `v = momentum v + g; p = p (1 - lr wd) - lr v`.
///
/// With Nesterov's momentum the step is `g + momentum v`; without momentum it is `g`.
///
/// # Shapes
/// State: `velocity`, one number a parameter; none without momentum.
///
/// # Examples
/// ```
/// use phalanx_optim::{Sgd, SgdConfig};
/// use phalanx_tensor::Cpu;
/// let ahead = SgdConfig { lr: 0.05, momentum: 0.9, nesterov: true, ..SgdConfig::default() };
/// assert!(Sgd::<Cpu<f32>>::new(ahead).is_ok());
/// assert!(Sgd::<Cpu<f32>>::new(SgdConfig { momentum: 0.0, ..ahead }).is_err());
/// ```
///
/// # Reference
/// Sutskever et al., "On the importance of initialization and momentum in deep learning", ICML 2013; the recursion is
/// that of `torch.optim.SGD` with dampening 0.
///
/// # Deviation
/// `torch.optim.SGD` adds weight decay to the gradient, and so to the velocity. Here it is decoupled, as Loshchilov
/// and Hutter, "Decoupled Weight Decay Regularization", ICLR 2019, propose.
#[derive(Debug)]
pub struct Sgd<B: Backend> {
    config: SgdConfig,
    velocity: Slot<B>,
}

impl<B: Backend> Sgd<B> {
    /// The optimizer with these settings.
    ///
    /// # Errors
    /// As [`SgdConfig::validate`].
    pub fn new(config: SgdConfig) -> Result<Self, OptimError> {
        config.validate()?;
        Ok(Sgd { config, velocity: Slot::new("velocity") })
    }
}

impl<B: Backend> Transform<B> for Sgd<B> {
    fn name(&self) -> &'static str {
        NAME
    }

    fn prepare(&mut self, backend: &B, layout: &GradLayout) -> Result<(), GradError> {
        let len = if self.config.momentum > 0.0 { layout.len() } else { 0 };
        self.velocity.prepare(backend, len)
    }

    fn update(
        &mut self,
        backend: &B,
        step: &UpdateStep,
        params: B::ViewMut<'_>,
        grads: B::View<'_>,
    ) -> Result<(), GradError> {
        let SgdConfig { momentum, nesterov, weight_decay, .. } = self.config;
        let sgd = SgdStep { lr: step.lr, momentum, nesterov, weight_decay, grad_scale: step.grad_scale };
        backend.sgd(&sgd, params, grads, self.velocity.view_mut(backend, NAME)?);
        Ok(())
    }

    fn state(&self, backend: &B) -> Vec<StateTensor> {
        self.velocity.save(backend).into_iter().collect()
    }

    fn restore(&mut self, backend: &B, state: &[StateTensor]) -> Result<(), GradError> {
        let mut reader = StateReader::new(NAME, state);
        let velocity = self.velocity.find(NAME, &mut reader)?;
        reader.finish()?;
        self.velocity.load(backend, velocity);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::tests::walk;

    fn config() -> SgdConfig {
        SgdConfig { momentum: 0.5, ..SgdConfig::default() }
    }

    #[test]
    fn the_two_momenta_differ_from_the_first_step() {
        // g = 1 and lr = 1: v = 1, 1.5, 1.75. Plain -1, -2.5, -4.25; ahead -(1 + 0.5), -(1 + 0.75), -(1 + 0.875)
        let ones = |_: &[f64]| vec![1.0];
        let plain = walk(&mut Sgd::new(config()).unwrap(), 1.0, &[0.0], 3, ones);
        assert_eq!(plain, [[-1.0], [-2.5], [-4.25]]);
        let ahead = SgdConfig { nesterov: true, ..config() };
        let ahead = walk(&mut Sgd::new(ahead).unwrap(), 1.0, &[0.0], 3, ones);
        assert_eq!(ahead, [[-1.5], [-3.25], [-5.125]]);
        let still = SgdConfig { momentum: 0.0, ..config() };
        let still = walk(&mut Sgd::new(still).unwrap(), 1.0, &[0.0], 3, ones);
        assert_eq!(still, [[-1.0], [-2.0], [-3.0]]);
    }

    #[test]
    fn decay_stays_out_of_the_velocity() {
        // g = 0: 1 -> 0.75 -> 0.5625. In the velocity it would be 0.75, then 0.75 - (0.125 + 0.1875) = 0.4375
        let decaying = SgdConfig { weight_decay: 0.25, ..config() };
        let path = walk(&mut Sgd::new(decaying).unwrap(), 1.0, &[1.0], 2, |_| vec![0.0]);
        assert_eq!(path, [[0.75], [0.5625]]);
    }

    #[test]
    fn settings_out_of_range_are_named() {
        let refused = |config: SgdConfig| match config.validate() {
            Err(OptimError::Field { owner: "sgd", field, .. }) => field,
            other => panic!("{other:?}"),
        };
        assert_eq!(refused(SgdConfig { lr: -1.0, ..config() }), "lr");
        assert_eq!(refused(SgdConfig { lr: f64::NAN, ..config() }), "lr");
        assert_eq!(refused(SgdConfig { momentum: 1.0, ..config() }), "momentum");
        assert_eq!(refused(SgdConfig { momentum: 0.0, nesterov: true, ..config() }), "momentum");
        assert_eq!(refused(SgdConfig { weight_decay: f64::INFINITY, ..config() }), "weight_decay");
    }
}
