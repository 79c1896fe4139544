//! Whose gradient has no part in a result, and why.

use std::fmt;

/// The sender of a gradient that has no part in the result.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rejected {
    /// Its name.
    pub id: u64,
    /// Why.
    pub reason: Reason,
    /// What the one who left it out scored it, where it scores.
    pub score: Option<f64>,
}

/// Why a gradient has no part in the result.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Reason {
    /// It has another length.
    Length {
        /// The length.
        got: usize,
        /// The right one.
        need: usize,
    },
    /// It has numbers that are infinite or NaN.
    NonFinite {
        /// How many.
        count: usize,
    },
    /// It is longer than the limit.
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
