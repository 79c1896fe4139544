//! What an aggregation tells besides its result: who was left out, why, and how everyone scored.

use phalanx_grad::{Rejected, Senders};
use std::fmt;

/// The account of one round.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Report {
    /// The rule.
    pub rule: &'static str,
    /// Whose vectors they were.
    pub senders: Senders,
    /// Vectors that came in.
    pub received: usize,
    /// Those that could be used.
    pub valid: usize,
    /// How many of these the rule was still set to bear.
    pub hostile: usize,
    /// Whoever has no part in the result, in the order of names.
    pub rejected: Vec<Rejected>,
    /// Scores, in the order in which filters and rule gave them.
    pub stages: Vec<Stage>,
    /// The weight of each valid vector in the result, where it is a weighted sum.
    pub weights: Vec<(u64, f64)>,
}

/// The scores that a filter or rule gave.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Stage {
    /// The filter or rule.
    pub by: &'static str,
    /// Whom it saw.
    pub ids: Vec<u64>,
    /// A score for each; what it means is said by the rule. Empty where the rule has none.
    pub scores: Vec<f64>,
    /// What the score was made of, by name, a number for each.
    pub features: Vec<(&'static str, Vec<f64>)>,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Report { rule, senders, received, valid, hostile, .. } = self;
        write!(f, "{rule} over {valid} of {received} {senders}, bears {hostile}")?;
        self.rejected.iter().try_for_each(|rejected| write!(f, "\n{}", rejected.told(*senders)))
    }
}
