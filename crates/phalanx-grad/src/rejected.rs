//! Whose gradient has no part in a result, and why.

use crate::Senders;
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

impl Rejected {
    /// Whom it is about and why, in words.
    ///
    /// # Examples
    /// ```
    /// use phalanx_grad::{Reason, Rejected, Senders};
    /// let rejected = Rejected { id: 3, reason: Reason::LeftOut { by: "krum" }, score: None };
    /// assert_eq!(rejected.told(Senders::Nodes), "node 3 was left out by krum");
    /// ```
    #[must_use]
    pub fn told(&self, senders: Senders) -> String {
        let score = self.score.map(|score| format!(", score {score:.6}")).unwrap_or_default();
        format!("{} {} {}{score}", senders.one(), self.id, self.reason)
    }
}
