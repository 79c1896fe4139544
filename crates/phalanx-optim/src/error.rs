//! What can be wrong with the settings of an optimizer or a schedule.

/// An error of this crate.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum OptimError {
    /// A setting out of range.
    #[error("{owner}: {field} is {got}, need {need}")]
    Field {
        /// The optimizer or schedule.
        owner: &'static str,
        /// The setting.
        field: &'static str,
        /// Its value.
        got: f64,
        /// What it must be, in words.
        need: &'static str,
    },
    /// A run whose gradients say nothing about a schedule.
    #[error("none of {steps} steps has a gradient norm that is finite and above 0")]
    NoNorm {
        /// Its steps.
        steps: usize,
    },
    /// No optimizer of this name.
    #[error("no optimizer is named {name}, there are {}", known.join(", "))]
    UnknownOptimizer {
        /// The name asked for.
        name: String,
        /// Those there are.
        known: &'static [&'static str],
    },
    /// No schedule of this name.
    #[error("no schedule is named {name}, there are {}", known.join(", "))]
    UnknownSchedule {
        /// The name asked for.
        name: String,
        /// Those there are.
        known: &'static [&'static str],
    },
}

/// The settings of one optimizer or schedule, checked one by one.
pub(crate) struct Check(pub(crate) &'static str);

impl Check {
    /// A number that is finite and not negative.
    pub(crate) fn at_least_zero(&self, field: &'static str, got: f64) -> Result<(), OptimError> {
        self.that(got.is_finite() && got >= 0.0, field, got, "a finite number of at least 0")
    }

    /// A number that is finite and positive.
    pub(crate) fn positive(&self, field: &'static str, got: f64) -> Result<(), OptimError> {
        self.that(got.is_finite() && got > 0.0, field, got, "a finite number above 0")
    }

    /// A decay factor, in `[0, 1)`.
    pub(crate) fn decay(&self, field: &'static str, got: f64) -> Result<(), OptimError> {
        self.that((0.0..1.0).contains(&got), field, got, "a number from 0 to below 1")
    }

    /// Any other condition.
    pub(crate) fn that(
        &self,
        holds: bool,
        field: &'static str,
        got: f64,
        need: &'static str,
    ) -> Result<(), OptimError> {
        if holds { Ok(()) } else { Err(OptimError::Field { owner: self.0, field, got, need }) }
    }
}
