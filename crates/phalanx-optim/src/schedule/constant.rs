//! The base learning rate throughout.

use super::warmup_factor;
use phalanx_grad::{Progress, Schedule};

/// After the warm-up the factor is 1.
///
/// With `s` samples seen before a step and a warm-up of `w`: `s / w` for `s < w`, then 1.
///
/// # Examples
/// ```
/// use phalanx_grad::{Progress, Schedule};
/// use phalanx_optim::Constant;
/// let schedule = Constant { warmup_samples: 100 };
/// assert_eq!(schedule.factor(Progress { samples: 50, total: 1000 }), 0.5);
/// assert_eq!(schedule.factor(Progress { samples: 900, total: 1000 }), 1.0);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Constant {
    /// Samples over which the rate rises from 0. Default 0.
    pub warmup_samples: u64,
}

impl Schedule for Constant {
    fn name(&self) -> &'static str {
        "constant"
    }

    fn factor(&self, progress: Progress) -> f64 {
        warmup_factor(progress, self.warmup_samples).unwrap_or(1.0)
    }
}
