//! Every optimizer by its name.

use crate::{
    AdaGrad, AdaGradConfig, AdaGradNorm, AdaGradNormConfig, AdamW, AdamWConfig, OptimError, Sgd, SgdConfig,
};
use phalanx_grad::Transform;
use phalanx_tensor::Backend;

/// The settings of any optimizer.
///
/// # Examples
/// ```
/// use phalanx_optim::{OptimError, OptimizerConfig};
/// use phalanx_tensor::Cpu;
/// for name in OptimizerConfig::NAMES {
///     let optimizer = OptimizerConfig::from_name(name)?.build::<Cpu<f32>>()?;
///     assert_eq!(optimizer.name(), *name);
/// }
/// let unknown = OptimizerConfig::from_name("adan").unwrap_err();
/// assert_eq!(unknown.to_string(), "no optimizer is named adan, there are sgd, adamw, adagrad, adagrad-norm");
/// # Ok::<(), OptimError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum OptimizerConfig {
    /// Stochastic gradient descent.
    Sgd(SgdConfig),
    /// Adam with decoupled weight decay.
    AdamW(AdamWConfig),
    /// `AdaGrad`, a rate for each coordinate.
    AdaGrad(AdaGradConfig),
    /// `AdaGrad-Norm`, one rate for all.
    AdaGradNorm(AdaGradNormConfig),
}

impl OptimizerConfig {
    /// The names of all optimizers, as in a run file.
    pub const NAMES: &[&str] = &["sgd", "adamw", "adagrad", "adagrad-norm"];

    /// The default settings of the optimizer of a name.
    ///
    /// # Errors
    /// [`OptimError::UnknownOptimizer`] lists the names there are.
    pub fn from_name(name: &str) -> Result<Self, OptimError> {
        match name {
            "sgd" => Ok(Self::Sgd(SgdConfig::default())),
            "adamw" => Ok(Self::AdamW(AdamWConfig::default())),
            "adagrad" => Ok(Self::AdaGrad(AdaGradConfig::default())),
            "adagrad-norm" => Ok(Self::AdaGradNorm(AdaGradNormConfig::default())),
            _ => Err(OptimError::UnknownOptimizer { name: name.to_owned(), known: Self::NAMES }),
        }
    }

    /// The base learning rate, which a schedule scales.
    #[must_use]
    pub fn lr(&self) -> f64 {
        match self {
            Self::Sgd(config) => config.lr,
            Self::AdamW(config) => config.lr,
            Self::AdaGrad(config) => config.lr,
            Self::AdaGradNorm(config) => config.lr,
        }
    }

    /// Checks that every setting is in range.
    ///
    /// # Errors
    /// [`OptimError::Field`] names the first that is not.
    pub fn validate(&self) -> Result<(), OptimError> {
        match self {
            Self::Sgd(config) => config.validate(),
            Self::AdamW(config) => config.validate(),
            Self::AdaGrad(config) => config.validate(),
            Self::AdaGradNorm(config) => config.validate(),
        }
    }

    /// The optimizer with these settings.
    ///
    /// # Errors
    /// As [`validate`](Self::validate).
    pub fn build<B: Backend>(&self) -> Result<Box<dyn Transform<B>>, OptimError> {
        Ok(match *self {
            Self::Sgd(config) => Box::new(Sgd::new(config)?),
            Self::AdamW(config) => Box::new(AdamW::new(config)?),
            Self::AdaGrad(config) => Box::new(AdaGrad::new(config)?),
            Self::AdaGradNorm(config) => Box::new(AdaGradNorm::new(config)?),
        })
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use phalanx_grad::{GradLayout, Transform, UpdateStep};
    use phalanx_tensor::Cpu;

    /// The parameters after each of some steps, in `f64`.
    pub(crate) fn walk(
        optimizer: &mut dyn Transform<Cpu<f64>>,
        lr: f64,
        start: &[f64],
        steps: u64,
        mut gradient: impl FnMut(&[f64]) -> Vec<f64>,
    ) -> Vec<Vec<f64>> {
        let cpu = Cpu::new();
        optimizer.prepare(&cpu, &GradLayout::flat(start.len())).unwrap();
        let mut params = start.to_vec();
        let mut at = |step| {
            let grads = gradient(&params);
            let grad_norm_sq = grads.iter().map(|g| g * g).sum();
            let grad_norm_l1 = grads.iter().map(|g| g.abs()).sum();
            let step = UpdateStep { step, samples: 1, lr, grad_scale: 1.0, grad_norm_sq, grad_norm_l1 };
            optimizer.update(&cpu, &step, &mut params, &grads).unwrap();
            params.clone()
        };
        (1..=steps).map(&mut at).collect()
    }

    /// The gradient of `(x^2 + 10 y^2) / 2`.
    pub(crate) fn valley(x: &[f64]) -> Vec<f64> {
        vec![x[0], 10.0 * x[1]]
    }

    #[track_caller]
    pub(crate) fn assert_path(got: &[Vec<f64>], want: &[&[f64]], tolerance: f64) {
        assert_eq!(got.len(), want.len());
        for (step, (got, want)) in got.iter().zip(want).enumerate() {
            let far = got.iter().zip(*want).any(|(a, b)| (a - b).abs() > tolerance);
            assert!(!far && got.len() == want.len(), "step {}: {got:?}, want {want:?}", step + 1);
        }
    }
}
