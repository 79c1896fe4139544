//! How fast a batch may move, and where it ends.

use crate::BatchError;
use crate::error::Check;
use phalanx_grad::BatchContext;

/// When a policy looks, how far it may go at once, and where it ends.
///
/// # Examples
/// ```
/// use phalanx_batch::Pace;
/// let pace = Pace { interval: 10, growth: 2.0, max: 500 };
/// assert!(!pace.is_due(9) && pace.is_due(10));
/// // a target of 100.3 samples means 101, but from 32 samples the batch only doubles
/// assert_eq!(pace.grown(100.3, 64, 500), 101);
/// assert_eq!(pace.grown(100.3, 32, 500), 64);
/// assert_eq!(pace.grown(f64::INFINITY, 400, 500), 500);
/// // never back
/// assert_eq!(pace.grown(3.0, 32, 500), 32);
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pace {
    /// Steps between two looks, at least 1. Default 1.
    pub interval: u64,
    /// The most that one decision multiplies the batch by, above 1. Default 2; infinite: no bound.
    pub growth: f64,
    /// The greatest batch, in samples. Default: as many as there are.
    pub max: u64,
}

impl Default for Pace {
    fn default() -> Self {
        Pace { interval: 1, growth: 2.0, max: u64::MAX }
    }
}

impl Pace {
    /// Checks that every setting is in range, for a policy named `owner`.
    ///
    /// # Errors
    /// [`BatchError::Field`] names the first that is not.
    pub fn validate(&self, owner: &'static str) -> Result<(), BatchError> {
        let check = Check(owner);
        check.at_least_one("interval", self.interval)?;
        check.that(self.growth > 1.0, "growth", self.growth, "a number above 1")?;
        check.at_least_one("max", self.max)
    }

    /// Whether the policy looks at this step, counted from 1.
    #[must_use]
    pub fn is_due(&self, step: u64) -> bool {
        step.is_multiple_of(self.interval)
    }

    /// Whether it looks at this step and the batch can still grow.
    pub(crate) fn may_grow(&self, context: &BatchContext) -> bool {
        self.is_due(context.step) && context.batch < self.limit(context)
    }

    /// The greatest batch, by this and by the run.
    pub(crate) fn limit(&self, context: &BatchContext) -> u64 {
        self.max.min(context.max_batch)
    }

    /// From `batch` towards a target: up, not beyond the growth of one decision, not beyond `limit`.
    #[must_use]
    pub fn grown(&self, target: f64, batch: u64, limit: u64) -> u64 {
        let most = whole((batch as f64 * self.growth).floor()).max(batch.saturating_add(1));
        whole(target.ceil()).min(most).min(limit).max(batch)
    }
}

/// The number of samples nearest to a figure that is none yet: not below 0, not above what can be counted.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "saturates at both ends")]
pub(crate) fn whole(samples: f64) -> u64 {
    samples as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::{prop_assert, proptest};

    proptest! {
        #[test]
        fn a_batch_never_shrinks_and_never_leaves_its_bounds(
            target in 0.0_f64..1e9, batch in 1_u64..100_000, growth in 1.01_f64..8.0, limit in 1_u64..1_000_000,
        ) {
            let pace = Pace { growth, ..Pace::default() };
            let next = pace.grown(target, batch, limit);
            prop_assert!(next >= batch && next <= limit.max(batch));
            prop_assert!(next as f64 <= (batch as f64 * growth).max(batch as f64 + 1.0));
            // what can be reached at once is reached
            let free = Pace { growth: f64::INFINITY, ..pace };
            prop_assert!(free.grown(target, batch, u64::MAX) as f64 >= target);
        }
    }

    #[test]
    fn a_small_growth_still_moves_a_small_batch() {
        assert_eq!(Pace { growth: 1.1, ..Pace::default() }.grown(100.0, 2, 1000), 3);
    }

    #[test]
    fn settings_out_of_range_are_named() {
        let fault = |pace: Pace| pace.validate("norm-test").unwrap_err().to_string();
        let pace = Pace::default();
        assert_eq!(fault(Pace { interval: 0, ..pace }), "norm-test: interval is 0, need at least 1");
        assert_eq!(fault(Pace { growth: 1.0, ..pace }), "norm-test: growth is 1, need a number above 1");
        assert_eq!(
            fault(Pace { growth: f64::NAN, ..pace }),
            "norm-test: growth is NaN, need a number above 1"
        );
        assert_eq!(fault(Pace { max: 0, ..pace }), "norm-test: max is 0, need at least 1");
    }
}
