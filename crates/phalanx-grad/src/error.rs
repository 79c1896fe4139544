//! What can go wrong with gradients, with the numbers that one asks for next.

use crate::{Axis, Ranks, Senders};
use phalanx_comm::CommError;
use phalanx_tensor::TensorError;

/// An error of a set, a statistic, a rule, a transform or a policy.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum GradError {
    /// A rule needs more gradients.
    #[error("{rule} needs {need} gradients over {axis}, got {got}")]
    TooFew {
        /// The rule.
        rule: &'static str,
        /// Over which axis.
        axis: &'static str,
        /// How many there are.
        got: usize,
        /// How many it needs.
        need: usize,
    },
    /// More gradients are unusable than the rule is set to bear.
    #[error(
        "{invalid} of {got} gradients over {axis} are not finite or too long or short, {rule} bears {hostile}"
    )]
    TooManyInvalid {
        /// The rule.
        rule: &'static str,
        /// Over which axis.
        axis: &'static str,
        /// How many there are.
        got: usize,
        /// How many of them cannot be used.
        invalid: usize,
        /// How many it bears.
        hostile: usize,
    },
    /// A rule that tries subsets would try too many.
    #[error("{rule} over {n} gradients without {hostile} would look at more than {limit} subsets")]
    TooManySubsets {
        /// The rule.
        rule: &'static str,
        /// How many gradients there are.
        n: usize,
        /// How many it leaves out.
        hostile: usize,
        /// The limit.
        limit: u64,
    },
    /// A rule found no gradient that it trusts.
    #[error("{rule} gave no weight to any gradient over {axis}")]
    NoWeight {
        /// The rule.
        rule: &'static str,
        /// Over which axis.
        axis: &'static str,
    },
    /// A rule needs a vector that was not given.
    #[error("{rule} needs {what}, which was not given")]
    Missing {
        /// The rule.
        rule: &'static str,
        /// The vector.
        what: &'static str,
    },
    /// A setting of a rule is out of range.
    #[error("{setting} of {rule} is {got}, need {need}")]
    Setting {
        /// The rule.
        rule: &'static str,
        /// The setting.
        setting: &'static str,
        /// Its value.
        got: f64,
        /// What it must be.
        need: &'static str,
    },
    /// Lengths that belong together differ.
    #[error("{what} has length {got}, need {need}")]
    Length {
        /// What has the wrong length.
        what: &'static str,
        /// Its length.
        got: usize,
        /// The right one.
        need: usize,
    },
    /// A set, or all chunks of a batch, without a sample.
    #[error("the gradients over {axis} stand for no sample")]
    NoSamples {
        /// Over which axis.
        axis: &'static str,
    },
    /// Two parameters of one name.
    #[error("two parameters are named {name}")]
    DuplicateParam {
        /// The name.
        name: String,
    },
    /// A variance needs at least two chunks.
    #[error("{statistic} needs 2 chunks of the batch, got {got}")]
    TooFewChunks {
        /// What was to be estimated.
        statistic: &'static str,
        /// The chunks there are.
        got: u64,
    },
    /// A statistic needs the inner products with the mean gradient, which were not measured.
    #[error("{statistic} needs the inner products with the mean gradient, which were not measured")]
    NoProjections {
        /// What was to be estimated.
        statistic: &'static str,
    },
    /// A statistic needs the variances of the coordinates, which were not measured.
    #[error("{statistic} needs the variances of the coordinates, which were not measured")]
    NoCoordinates {
        /// What was to be estimated.
        statistic: &'static str,
    },
    /// A statistic divides by a quantity that must be positive.
    #[error("{statistic} is not defined where {quantity} is {value}")]
    Undefined {
        /// What was to be estimated.
        statistic: &'static str,
        /// What it divides by.
        quantity: &'static str,
        /// Its value.
        value: f64,
    },
    /// Gradient elements that are infinite or NaN.
    #[error("{what} met {count} gradient elements that are not finite")]
    NonFinite {
        /// Who found them.
        what: &'static str,
        /// How many there are.
        count: u64,
    },
    /// A transform was used before it was prepared.
    #[error("{transform} has no state yet: prepare it first")]
    Unprepared {
        /// The transform.
        transform: &'static str,
    },
    /// A saved state lacks a tensor.
    #[error("the state of {owner} lacks {name}")]
    StateMissing {
        /// Whose state.
        owner: &'static str,
        /// The tensor.
        name: &'static str,
    },
    /// A saved state has a tensor that its owner does not know.
    #[error("the state of {owner} has no place for {name}")]
    StateUnknown {
        /// Whose state.
        owner: &'static str,
        /// The tensor.
        name: String,
    },
    /// A saved tensor has the wrong length.
    #[error("{name} of {owner} has {got} elements, need {need}")]
    StateLength {
        /// Whose state.
        owner: &'static str,
        /// The tensor.
        name: &'static str,
        /// Its length.
        got: usize,
        /// The length that the parameters ask for.
        need: usize,
    },
    /// A saved tensor has the wrong element type.
    #[error("{name} of {owner} holds {got}, need {need}")]
    StateType {
        /// Whose state.
        owner: &'static str,
        /// The tensor.
        name: &'static str,
        /// Its element type.
        got: &'static str,
        /// The right one.
        need: &'static str,
    },
    /// A policy's saved state is of a version that this build cannot read, or is damaged.
    #[error("the state of {owner}, version {version} with {len} bytes, cannot be read: need version {need}")]
    PolicyState {
        /// Whose state.
        owner: &'static str,
        /// The version it was saved with.
        version: u32,
        /// Its length in bytes.
        len: usize,
        /// The version that this build reads.
        need: u32,
    },
    /// The device failed.
    #[error("a gradient buffer could not be had")]
    Tensor(#[from] TensorError),
    /// A set spread over ranks could not be read.
    #[error("a collective over gradients failed")]
    Comm(#[from] CommError),
}

impl GradError {
    /// The same error with the ranks in it called what they are: the set of a rule over ranks may come from others.
    ///
    /// # Examples
    /// ```
    /// use phalanx_grad::{GradError, Senders};
    /// let few = GradError::TooFew { rule: "krum", axis: "ranks", got: 2, need: 3 };
    /// assert_eq!(few.over(Senders::Nodes).to_string(), "krum needs 3 gradients over nodes, got 2");
    /// ```
    #[must_use]
    pub fn over(mut self, senders: Senders) -> Self {
        if let GradError::TooFew { axis, .. }
        | GradError::TooManyInvalid { axis, .. }
        | GradError::NoWeight { axis, .. }
        | GradError::NoSamples { axis } = &mut self
            && *axis == Ranks::NAME
        {
            *axis = senders.many();
        }
        if let GradError::NonFinite { what, .. } = &mut self
            && *what == Senders::Ranks.rule()
        {
            *what = senders.rule();
        }
        self
    }
}
