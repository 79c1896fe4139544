//! Adam with decoupled weight decay.

use crate::OptimError;
use crate::error::Check;
use crate::slot::Slot;
use phalanx_grad::{GradError, GradLayout, StateReader, StateTensor, Transform, UpdateStep};
use phalanx_tensor::Backend;
use phalanx_tensor::op::AdamWStep;

const NAME: &str = "adamw";

/// Settings of [`AdamW`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamWConfig {
    /// Base learning rate. Default 0.001.
    pub lr: f64,
    /// Decay of the mean of gradients, in `[0, 1)`. Default 0.9.
    pub beta1: f64,
    /// Decay of the mean of squared gradients, in `[0, 1)`. Default 0.999.
    pub beta2: f64,
    /// Added to the root of the mean square. Default 1e-8.
    pub eps: f64,
    /// Decoupled weight decay: parameters shrink by `lr * weight_decay` a step. Default 0.01.
    pub weight_decay: f64,
}

impl Default for AdamWConfig {
    fn default() -> Self {
        AdamWConfig { lr: 1e-3, beta1: 0.9, beta2: 0.999, eps: 1e-8, weight_decay: 1e-2 }
    }
}

impl AdamWConfig {
    /// Checks that every setting is in range.
    ///
    /// # Errors
    /// [`OptimError::Field`] names the first that is not.
    pub fn validate(&self) -> Result<(), OptimError> {
        let check = Check(NAME);
        check.at_least_zero("lr", self.lr)?;
        check.decay("beta1", self.beta1)?;
        check.decay("beta2", self.beta2)?;
        check.positive("eps", self.eps)?;
        check.at_least_zero("weight_decay", self.weight_decay)
    }
}

/// Adam with decoupled weight decay: decaying means `m` of `g` and `v` of `g^2`, freed of their bias towards 0, and
/// `p = p (1 - lr wd) - lr mhat / (sqrt(vhat) + eps)`.
///
/// # Shapes
/// State: `first` (`m`) and `second` (`v`), one number a parameter each. The bias corrections take the number of the
/// update from [`UpdateStep::step`].
///
/// # Examples
/// ```
/// use phalanx_grad::Transform;
/// use phalanx_optim::{AdamW, AdamWConfig};
/// use phalanx_tensor::Cpu;
/// let adamw = AdamW::<Cpu<f32>>::new(AdamWConfig { lr: 3e-4, beta2: 0.95, ..AdamWConfig::default() })?;
/// assert_eq!(adamw.name(), "adamw");
/// # Ok::<(), phalanx_optim::OptimError>(())
/// ```
///
/// # Reference
/// Loshchilov and Hutter, "Decoupled Weight Decay Regularization", ICLR 2019; the defaults are those of
/// `torch.optim.AdamW`.
///
/// # Deviation
/// As in PyTorch, the decay is scaled by the whole learning rate; the paper scales it by the schedule alone.
#[derive(Debug)]
pub struct AdamW<B: Backend> {
    config: AdamWConfig,
    first: Slot<B>,
    second: Slot<B>,
}

impl<B: Backend> AdamW<B> {
    /// The optimizer with these settings.
    ///
    /// # Errors
    /// As [`AdamWConfig::validate`].
    pub fn new(config: AdamWConfig) -> Result<Self, OptimError> {
        config.validate()?;
        Ok(AdamW { config, first: Slot::new("first"), second: Slot::new("second") })
    }
}

impl<B: Backend> Transform<B> for AdamW<B> {
    fn name(&self) -> &'static str {
        NAME
    }

    fn prepare(&mut self, backend: &B, layout: &GradLayout) -> Result<(), GradError> {
        self.first.prepare(backend, layout.len())?;
        self.second.prepare(backend, layout.len())
    }

    fn update(
        &mut self,
        backend: &B,
        step: &UpdateStep,
        params: B::ViewMut<'_>,
        grads: B::View<'_>,
    ) -> Result<(), GradError> {
        let AdamWConfig { beta1, beta2, eps, weight_decay, .. } = self.config;
        let UpdateStep { step, lr, grad_scale, .. } = *step;
        let adamw = AdamWStep { lr, beta1, beta2, eps, weight_decay, step, grad_scale };
        let first = self.first.view_mut(backend, NAME)?;
        backend.adamw(&adamw, params, grads, first, self.second.view_mut(backend, NAME)?);
        Ok(())
    }

    fn state(&self, backend: &B) -> Vec<StateTensor> {
        [&self.first, &self.second].into_iter().filter_map(|slot| slot.save(backend)).collect()
    }

    fn restore(&mut self, backend: &B, state: &[StateTensor]) -> Result<(), GradError> {
        let mut reader = StateReader::new(NAME, state);
        let first = self.first.find(NAME, &mut reader)?;
        let second = self.second.find(NAME, &mut reader)?;
        reader.finish()?;
        self.first.load(backend, first);
        self.second.load(backend, second);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::tests::{assert_path, walk};

    fn config() -> AdamWConfig {
        AdamWConfig { beta1: 0.5, beta2: 0.75, eps: 1.0, weight_decay: 0.0, ..AdamWConfig::default() }
    }

    #[test]
    fn two_steps_by_hand() {
        // g = 3, then 0, with lr 0.1:
        // m = 1.5 over 1 - 0.5 = 3; v = 2.25 over 1 - 0.75 = 9; step 0.1 * 3 / (3 + 1) = 0.075
        // m = 0.75 over 1 - 0.25 = 1; v = 1.6875 over 1 - 0.5625 = 27/7; step 0.1 / (sqrt(27/7) + 1)
        // without the corrections the first step would be 0.1 * 1.5 / (1.5 + 1) = 0.06
        let mut grads = [vec![0.0], vec![3.0]].to_vec();
        let path =
            walk(&mut AdamW::new(config()).unwrap(), 0.1, &[0.0], 2, |_| grads.pop().unwrap_or_default());
        let second = 0.075 + 0.1 / ((27.0_f64 / 7.0).sqrt() + 1.0);
        assert_path(&path, &[&[-0.075], &[-second]], 1e-15);
    }

    #[test]
    fn decay_stays_out_of_the_moments() {
        // g = 0: nothing but p (1 - 0.5 * 0.5). Adam with L2 would move by lr m / (sqrt(v) + eps) instead
        let decaying = AdamWConfig { weight_decay: 0.5, ..config() };
        let path = walk(&mut AdamW::new(decaying).unwrap(), 0.5, &[1.0], 2, |_| vec![0.0]);
        assert_eq!(path, [[0.75], [0.5625]]);
    }

    #[test]
    fn settings_out_of_range_are_named() {
        let refused = |config: AdamWConfig| match config.validate() {
            Err(OptimError::Field { owner: "adamw", field, .. }) => field,
            other => panic!("{other:?}"),
        };
        assert_eq!(refused(AdamWConfig { lr: f64::INFINITY, ..config() }), "lr");
        assert_eq!(refused(AdamWConfig { beta1: -0.1, ..config() }), "beta1");
        assert_eq!(refused(AdamWConfig { beta2: 1.0, ..config() }), "beta2");
        assert_eq!(refused(AdamWConfig { eps: 0.0, ..config() }), "eps");
        assert_eq!(refused(AdamWConfig { weight_decay: -1.0, ..config() }), "weight_decay");
    }
}
