//! The learning rate down along a line.

use super::{check_final_factor, decay_position, towards, warmup_factor};
use crate::OptimError;
use phalanx_grad::{Progress, Schedule};

/// Linear decay after a linear warm-up.
///
/// With `s` samples seen before a step, a warm-up of `w`, `T` samples in all and the final factor `f`: `s / w` for
/// `s < w`, then `f + (1 - f) (1 - t)` with `t = (s - w) / (T - w)`, at most 1. The last step begins before `T`, so it still
/// has a rate where `f` is 0.
///
/// # Examples
/// ```
/// use phalanx_grad::{Progress, Schedule};
/// use phalanx_optim::LinearDecay;
/// let schedule = LinearDecay { warmup_samples: 100, final_factor: 0.1 };
/// assert_eq!(schedule.factor(Progress { samples: 50, total: 500 }), 0.5);
/// assert_eq!(schedule.factor(Progress { samples: 300, total: 500 }), 0.55);
/// ```
///
/// # Reference
/// Defazio et al., "Optimal Linear Decay Learning Rate Schedules and Further Refinements", 2023.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct LinearDecay {
    /// Samples over which the rate rises from 0. Default 0.
    pub warmup_samples: u64,
    /// The factor at the end, from 0 to 1. Default 0.
    pub final_factor: f64,
}

impl LinearDecay {
    /// Checks that every setting is in range.
    ///
    /// # Errors
    /// [`OptimError::Field`] names the first that is not.
    pub fn validate(&self) -> Result<(), OptimError> {
        check_final_factor(self.name(), self.final_factor)
    }
}

impl Schedule for LinearDecay {
    fn name(&self) -> &'static str {
        "linear"
    }

    fn factor(&self, progress: Progress) -> f64 {
        let decayed = || towards(self.final_factor, 1.0 - decay_position(progress, self.warmup_samples));
        warmup_factor(progress, self.warmup_samples).unwrap_or_else(decayed)
    }
}
