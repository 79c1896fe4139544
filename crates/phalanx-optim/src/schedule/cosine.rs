//! The learning rate down along half a cosine.

use super::{check_final_factor, decay_position, towards, warmup_factor};
use crate::OptimError;
use phalanx_grad::{Progress, Schedule};
use std::f64::consts::PI;

/// Cosine decay after a linear warm-up.
///
/// With `s` samples seen before a step, a warm-up of `w`, `T` samples in all and the final factor `f`: `s / w` for
/// `s < w`, then `f + (1 - f) (1 + cos(pi t)) / 2` with `t = (s - w) / (T - w)`, at most 1.
///
/// # Examples
/// ```
/// use phalanx_grad::{Progress, Schedule};
/// use phalanx_optim::Cosine;
/// let schedule = Cosine { warmup_samples: 100, final_factor: 0.0 };
/// assert_eq!(schedule.factor(Progress { samples: 50, total: 500 }), 0.5);
/// assert_eq!(schedule.factor(Progress { samples: 300, total: 500 }), 0.5);
/// ```
///
/// # Reference
/// Loshchilov and Hutter, "SGDR: Stochastic Gradient Descent with Warm Restarts", ICLR 2017, without restarts.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Cosine {
    /// Samples over which the rate rises from 0. Default 0.
    pub warmup_samples: u64,
    /// The factor at the end, from 0 to 1. Default 0.
    pub final_factor: f64,
}

impl Cosine {
    /// Checks that every setting is in range.
    ///
    /// # Errors
    /// [`OptimError::Field`] names the first that is not.
    pub fn validate(&self) -> Result<(), OptimError> {
        check_final_factor(self.name(), self.final_factor)
    }
}

impl Schedule for Cosine {
    fn name(&self) -> &'static str {
        "cosine"
    }

    fn factor(&self, progress: Progress) -> f64 {
        let decayed = || {
            let t = decay_position(progress, self.warmup_samples);
            towards(self.final_factor, (1.0 + (PI * t).cos()) / 2.0)
        };
        warmup_factor(progress, self.warmup_samples).unwrap_or_else(decayed)
    }
}
