//! What an aggregation tells besides its result: who was left out, why, and how everyone scored.

use std::fmt;

/// The account of one round.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Report {
    /// The rule.
    pub rule: &'static str,
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

/// A client that has no part in the result.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rejected {
    /// Its name.
    pub id: u64,
    /// Why.
    pub reason: Reason,
    /// What the one who left it out scored it, where it scores.
    pub score: Option<f64>,
}

/// Why a client has no part in the result.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Reason {
    /// Its vector has another length.
    Length {
        /// The length.
        got: usize,
        /// The right one.
        need: usize,
    },
    /// Its vector has numbers that are infinite or NaN.
    NonFinite {
        /// How many.
        count: usize,
    },
    /// Its vector is longer than the limit.
    Norm {
        /// Its norm.
        got: f64,
        /// The limit.
        limit: f64,
    },
    /// A filter or rule left it out.
    LeftOut {
        /// Which.
        by: &'static str,
    },
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

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reason::Length { got, need } => write!(f, "has {got} numbers, need {need}"),
            Reason::NonFinite { count } => write!(f, "has {count} numbers that are not finite"),
            Reason::Norm { got, limit } => write!(f, "has norm {got}, at most {limit}"),
            Reason::LeftOut { by } => write!(f, "was left out by {by}"),
        }
    }
}

impl fmt::Display for Rejected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "client {} {}", self.id, self.reason)?;
        self.score.map_or(Ok(()), |score| write!(f, ", score {score:.6}"))
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Report { rule, received, valid, hostile, .. } = self;
        write!(f, "{rule} over {valid} of {received} clients, bears {hostile}")?;
        self.rejected.iter().try_for_each(|rejected| write!(f, "\n{rejected}"))
    }
}
