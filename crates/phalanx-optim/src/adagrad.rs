//! AdaGrad with a rate for each coordinate.

use crate::OptimError;
use crate::error::Check;
use crate::slot::Slot;
use phalanx_grad::{GradError, GradLayout, StateReader, StateTensor, Transform, UpdateStep};
use phalanx_tensor::Backend;
use phalanx_tensor::op::AdaGradStep;

const NAME: &str = "adagrad";

/// Settings of [`AdaGrad`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdaGradConfig {
    /// Base learning rate. Default 0.01.
    pub lr: f64,
    /// Added to the root of the sum. Default 1e-10.
    pub eps: f64,
    /// The sum of squares of each coordinate before the first step. Default 0.
    pub initial_sum: f64,
    /// Decoupled weight decay: parameters shrink by `lr * weight_decay` a step. Default 0.
    pub weight_decay: f64,
}

impl Default for AdaGradConfig {
    fn default() -> Self {
        AdaGradConfig { lr: 1e-2, eps: 1e-10, initial_sum: 0.0, weight_decay: 0.0 }
    }
}

impl AdaGradConfig {
    /// Checks that every setting is in range.
    ///
    /// # Errors
    /// [`OptimError::Field`] names the first that is not.
    pub fn validate(&self) -> Result<(), OptimError> {
        let check = Check(NAME);
        check.at_least_zero("lr", self.lr)?;
        check.positive("eps", self.eps)?;
        check.at_least_zero("initial_sum", self.initial_sum)?;
        check.at_least_zero("weight_decay", self.weight_decay)
    }
}

/// `AdaGrad`: `s += g^2; p = p (1 - lr wd) - lr g / (sqrt(s) + eps)`, coordinate by coordinate.
///
/// # Shapes
/// State: `sum` (`s`), one number a parameter.
///
/// # Examples
/// ```
/// use phalanx_grad::Transform;
/// use phalanx_optim::{AdaGrad, AdaGradConfig};
/// use phalanx_tensor::Cpu;
/// let adagrad = AdaGrad::<Cpu<f32>>::new(AdaGradConfig { lr: 8e-3, ..AdaGradConfig::default() })?;
/// assert_eq!(adagrad.name(), "adagrad");
/// # Ok::<(), phalanx_optim::OptimError>(())
/// ```
///
/// # Reference
/// Duchi, Hazan and Singer, "Adaptive Subgradient Methods", JMLR 2011; the recursion and the defaults are those of
/// `torch.optim.Adagrad` with `lr_decay` 0.
///
/// # Deviation
/// `torch.optim.Adagrad` adds weight decay to the gradient. Here it is decoupled.
#[derive(Debug)]
pub struct AdaGrad<B: Backend> {
    config: AdaGradConfig,
    sum: Slot<B>,
}

impl<B: Backend> AdaGrad<B> {
    /// The optimizer with these settings.
    ///
    /// # Errors
    /// As [`AdaGradConfig::validate`].
    pub fn new(config: AdaGradConfig) -> Result<Self, OptimError> {
        config.validate()?;
        Ok(AdaGrad { config, sum: Slot::new("sum") })
    }
}

impl<B: Backend> Transform<B> for AdaGrad<B> {
    fn name(&self) -> &'static str {
        NAME
    }

    fn prepare(&mut self, backend: &B, layout: &GradLayout) -> Result<(), GradError> {
        self.sum.prepare(backend, layout.len())?;
        backend.fill(self.config.initial_sum, self.sum.view_mut(backend, NAME)?);
        Ok(())
    }

    fn update(
        &mut self,
        backend: &B,
        step: &UpdateStep,
        params: B::ViewMut<'_>,
        grads: B::View<'_>,
    ) -> Result<(), GradError> {
        let AdaGradConfig { eps, weight_decay, .. } = self.config;
        let adagrad = AdaGradStep { lr: step.lr, eps, weight_decay, grad_scale: step.grad_scale };
        backend.adagrad(&adagrad, params, grads, self.sum.view_mut(backend, NAME)?);
        Ok(())
    }

    fn state(&self, backend: &B) -> Vec<StateTensor> {
        self.sum.save(backend).into_iter().collect()
    }

    fn restore(&mut self, backend: &B, state: &[StateTensor]) -> Result<(), GradError> {
        let mut reader = StateReader::new(NAME, state);
        let sum = self.sum.find(NAME, &mut reader)?;
        reader.finish()?;
        self.sum.load(backend, sum);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::tests::{assert_path, valley, walk};

    #[test]
    fn a_valley_seen_from_its_side() {
        // after the first step both coordinates have moved by lr: the scale of a coordinate does not matter
        let path = walk(&mut AdaGrad::new(AdaGradConfig::default()).unwrap(), 0.1, &[1.0, 1.0], 3, valley);
        let want: [&[f64]; 3] =
            [&[0.9, 0.9], &[0.833_103_526_9, 0.833_103_526_8], &[0.780_456_181_4, 0.780_456_181_3]];
        assert_path(&path, &want, 1e-9);
    }

    #[test]
    fn decay_stays_out_of_the_sum() {
        // g = 0: p (1 - 0.5 * 0.5) twice. In the gradient it would move by lr = 0.5 in the first step
        let decaying = AdaGradConfig { weight_decay: 0.5, ..AdaGradConfig::default() };
        let path = walk(&mut AdaGrad::new(decaying).unwrap(), 0.5, &[1.0], 2, |_| vec![0.0]);
        assert_eq!(path, [[0.75], [0.5625]]);
    }

    #[test]
    fn settings_out_of_range_are_named() {
        let good = AdaGradConfig::default();
        let refused = |config: AdaGradConfig| match config.validate() {
            Err(OptimError::Field { owner: "adagrad", field, .. }) => field,
            other => panic!("{other:?}"),
        };
        assert_eq!(refused(AdaGradConfig { lr: -0.1, ..good }), "lr");
        assert_eq!(refused(AdaGradConfig { eps: 0.0, ..good }), "eps");
        assert_eq!(refused(AdaGradConfig { initial_sum: -1.0, ..good }), "initial_sum");
        assert_eq!(refused(AdaGradConfig { weight_decay: f64::NAN, ..good }), "weight_decay");
    }
}
