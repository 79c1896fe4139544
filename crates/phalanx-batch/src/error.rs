//! What can be wrong with the settings of a policy.

/// An error of this crate.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum BatchError {
    /// A setting out of range.
    #[error("{owner}: {field} is {got}, need {need}")]
    Field {
        /// The policy or the rule of the learning rate.
        owner: &'static str,
        /// The setting.
        field: &'static str,
        /// Its value.
        got: f64,
        /// What it must be, in words.
        need: &'static str,
    },
    /// Two settings that do not fit together.
    #[error("{owner}: {field} is {got}, need at least {other} ({least})")]
    Below {
        /// The policy.
        owner: &'static str,
        /// The setting that is too small.
        field: &'static str,
        /// Its value.
        got: u64,
        /// The setting that it must reach.
        other: &'static str,
        /// The value of that one.
        least: u64,
    },
    /// No policy of this name.
    #[error("no batch policy is named {name}, there are {}", known.join(", "))]
    UnknownPolicy {
        /// The name asked for.
        name: String,
        /// Those there are.
        known: &'static [&'static str],
    },
    /// No rule of this name.
    #[error("no rule for the learning rate is named {name}, there are {}", known.join(", "))]
    UnknownRate {
        /// The name asked for.
        name: String,
        /// Those there are.
        known: &'static [&'static str],
    },
}

/// The settings of one policy, checked one by one.
pub(crate) struct Check(pub(crate) &'static str);

impl Check {
    /// A number that is finite and positive.
    pub(crate) fn positive(&self, field: &'static str, got: f64) -> Result<(), BatchError> {
        self.that(got.is_finite() && got > 0.0, field, got, "a finite number above 0")
    }

    /// A share that is neither nothing nor all.
    pub(crate) fn between_0_and_1(&self, field: &'static str, got: f64) -> Result<(), BatchError> {
        self.that(got > 0.0 && got < 1.0, field, got, "a number above 0 and below 1")
    }

    /// A decay factor, in `[0, 1)`.
    pub(crate) fn decay(&self, field: &'static str, got: f64) -> Result<(), BatchError> {
        self.that((0.0..1.0).contains(&got), field, got, "a number from 0 to below 1")
    }

    /// A count that is not 0.
    pub(crate) fn at_least_one(&self, field: &'static str, got: u64) -> Result<(), BatchError> {
        self.that(got > 0, field, got as f64, "at least 1")
    }

    /// A bound that another must reach.
    pub(crate) fn reaches(
        &self,
        (field, got): (&'static str, u64),
        (other, least): (&'static str, u64),
    ) -> Result<(), BatchError> {
        let owner = self.0;
        if got >= least { Ok(()) } else { Err(BatchError::Below { owner, field, got, other, least }) }
    }

    /// Any other condition.
    pub(crate) fn that(
        &self,
        holds: bool,
        field: &'static str,
        got: f64,
        need: &'static str,
    ) -> Result<(), BatchError> {
        if holds { Ok(()) } else { Err(BatchError::Field { owner: self.0, field, got, need }) }
    }
}
