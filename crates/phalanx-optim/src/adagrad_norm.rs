//! AdaGrad with one rate for all coordinates.

use crate::OptimError;
use crate::error::Check;
use phalanx_grad::{GradError, GradLayout, StateReader, StateTensor, Transform, UpdateStep};
use phalanx_tensor::Backend;
use phalanx_tensor::op::SgdStep;

const NAME: &str = "adagrad-norm";

/// Settings of [`AdaGradNorm`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdaGradNormConfig {
    /// Base learning rate, the greatest length of a step. Default 1.
    pub lr: f64,
    /// The sum of squares before the first step, above 0. Default 0.01.
    pub initial_sum: f64,
    /// Decoupled weight decay: parameters shrink by `lr * weight_decay` a step. Default 0.
    pub weight_decay: f64,
}

impl Default for AdaGradNormConfig {
    fn default() -> Self {
        AdaGradNormConfig { lr: 1.0, initial_sum: 1e-2, weight_decay: 0.0 }
    }
}

impl AdaGradNormConfig {
    /// Checks that every setting is in range.
    ///
    /// # Errors
    /// [`OptimError::Field`] names the first that is not.
    pub fn validate(&self) -> Result<(), OptimError> {
        let check = Check(NAME);
        check.at_least_zero("lr", self.lr)?;
        check.positive("initial_sum", self.initial_sum)?;
        check.at_least_zero("weight_decay", self.weight_decay)
    }
}

/// `AdaGrad-Norm`: `s += |g|^2; p = p (1 - lr wd) - lr g / sqrt(s)`, with one `s` for all parameters.
///
/// The sum never falls, the effective rate never rises, and no step is longer than `lr`.
///
/// # Shapes
/// State: `sum` (`s`), one `f64`. The squared length comes with [`UpdateStep::grad_norm_sq`], which every rank knows.
///
/// # Examples
/// ```
/// use phalanx_grad::{GradLayout, Transform, UpdateStep};
/// use phalanx_optim::{AdaGradNorm, AdaGradNormConfig};
/// use phalanx_tensor::Cpu;
///
/// let cpu = Cpu::<f64>::new();
/// let mut optimizer = AdaGradNorm::new(AdaGradNormConfig { initial_sum: 75.0, ..AdaGradNormConfig::default() })?;
/// // 75 + 25 = 100: a tenth of the gradient, not a half of its signs
/// let step = UpdateStep { step: 1, samples: 8, lr: 1.0, grad_scale: 1.0, grad_norm_sq: 25.0, grad_norm_l1: 7.0 };
/// let mut params = [0.0, 0.0];
/// optimizer.update(&cpu, &step, &mut params, &[3.0, -4.0])?;
/// assert!((params[0] + 0.3).abs() < 1e-15 && (params[1] - 0.4).abs() < 1e-15);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Reference
/// Ward, Wu and Bottou, "`AdaGrad` stepsizes: sharp convergence over nonconvex landscapes", ICML 2019, algorithm 1.
///
/// # Deviation
/// No `eps` in the divisor: `initial_sum` is above 0 and the sum never falls.
#[derive(Clone, Debug)]
pub struct AdaGradNorm {
    config: AdaGradNormConfig,
    sum: f64,
}

impl AdaGradNorm {
    /// The optimizer with these settings.
    ///
    /// # Errors
    /// As [`AdaGradNormConfig::validate`].
    pub fn new(config: AdaGradNormConfig) -> Result<Self, OptimError> {
        config.validate()?;
        Ok(AdaGradNorm { config, sum: config.initial_sum })
    }
}

impl<B: Backend> Transform<B> for AdaGradNorm {
    fn name(&self) -> &'static str {
        NAME
    }

    fn prepare(&mut self, _backend: &B, _layout: &GradLayout) -> Result<(), GradError> {
        self.sum = self.config.initial_sum;
        Ok(())
    }

    fn update(
        &mut self,
        backend: &B,
        step: &UpdateStep,
        params: B::ViewMut<'_>,
        grads: B::View<'_>,
    ) -> Result<(), GradError> {
        let value = step.scaled_norm_sq();
        if !value.is_finite() {
            return Err(GradError::Undefined { statistic: NAME, quantity: "|g|^2", value });
        }
        let mut no_velocity = backend.alloc(0)?;
        self.sum += value;
        // the rate goes into the factor of the gradient, where it leaves the decay alone
        let sgd = SgdStep {
            lr: step.lr,
            momentum: 0.0,
            nesterov: false,
            weight_decay: self.config.weight_decay,
            grad_scale: step.grad_scale / self.sum.sqrt(),
        };
        backend.sgd(&sgd, params, grads, backend.view_mut(&mut no_velocity, 0..0));
        Ok(())
    }

    fn state(&self, _backend: &B) -> Vec<StateTensor> {
        vec![StateTensor::new("sum", &[self.sum])]
    }

    fn restore(&mut self, _backend: &B, state: &[StateTensor]) -> Result<(), GradError> {
        let mut reader = StateReader::new(NAME, state);
        let sum = reader.elems::<f64>("sum", 1)?[0];
        reader.finish()?;
        self.sum = sum;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::tests::{assert_path, valley, walk};
    use phalanx_tensor::Cpu;

    #[test]
    fn a_valley_seen_from_its_side() {
        let mut optimizer = AdaGradNorm::new(AdaGradNormConfig::default()).unwrap();
        let path = walk(&mut optimizer, 1.0, &[1.0, 1.0], 3, valley);
        let want: [&[f64]; 3] = [
            &[0.900_501_206_5, 0.005_012_065_4],
            &[0.811_261_019_7, 0.000_045_079_8],
            &[0.731_123_158_6, 0.000_000_549_1],
        ];
        assert_path(&path, &want, 1e-9);
    }

    #[test]
    fn decay_is_not_scaled_by_the_sum() {
        // g = 0, s = 0.01: p (1 - 0.5 * 0.5), where a decay by the effective rate 0.5 / 0.1 would be 1 - 2.5
        let decaying = AdaGradNormConfig { weight_decay: 0.5, ..AdaGradNormConfig::default() };
        let path = walk(&mut AdaGradNorm::new(decaying).unwrap(), 0.5, &[1.0], 1, |_| vec![0.0]);
        assert_eq!(path, [[0.75]]);
    }

    #[test]
    fn steps_are_no_longer_than_the_rate() {
        let mut optimizer = AdaGradNorm::new(AdaGradNormConfig::default()).unwrap();
        let path = walk(&mut optimizer, 0.5, &[0.0], 1, |_| vec![1e30]);
        assert!(path[0][0].abs() <= 0.5 && path[0][0].abs() > 0.49, "{path:?}");
    }

    #[test]
    fn clipped_gradients_enter_the_sum_clipped() {
        let cpu = Cpu::<f64>::new();
        let mut optimizer =
            AdaGradNorm::new(AdaGradNormConfig { initial_sum: 3.0, ..Default::default() }).unwrap();
        // 0.25 * 4 = 1, s = 3 + 1, step 1 / 2
        let step = UpdateStep {
            step: 1,
            samples: 1,
            lr: 1.0,
            grad_scale: 0.25,
            grad_norm_sq: 16.0,
            grad_norm_l1: 4.0,
        };
        let mut params = [0.0];
        optimizer.update(&cpu, &step, &mut params, &[4.0]).unwrap();
        assert_eq!(params, [-0.5]);
    }

    #[test]
    fn a_length_that_is_not_finite_leaves_all_as_it_was() {
        let cpu = Cpu::<f64>::new();
        let mut optimizer = AdaGradNorm::new(AdaGradNormConfig::default()).unwrap();
        let step = UpdateStep {
            step: 1,
            samples: 1,
            lr: 1.0,
            grad_scale: 1.0,
            grad_norm_sq: f64::INFINITY,
            grad_norm_l1: 0.0,
        };
        let mut params = [1.0];
        assert!(optimizer.update(&cpu, &step, &mut params, &[1.0]).is_err());
        assert_eq!((params, optimizer.sum), ([1.0], 1e-2));
    }

    #[test]
    fn settings_out_of_range_are_named() {
        let good = AdaGradNormConfig::default();
        let refused = |config: AdaGradNormConfig| match config.validate() {
            Err(OptimError::Field { owner: "adagrad-norm", field, .. }) => field,
            other => panic!("{other:?}"),
        };
        assert_eq!(refused(AdaGradNormConfig { lr: f64::NAN, ..good }), "lr");
        assert_eq!(refused(AdaGradNormConfig { initial_sum: 0.0, ..good }), "initial_sum");
        assert_eq!(refused(AdaGradNormConfig { weight_decay: -1.0, ..good }), "weight_decay");
    }
}
