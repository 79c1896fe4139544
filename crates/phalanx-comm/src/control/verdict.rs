//! Why a job was ended: which rank, on which host, what it was doing, and how far the others were.

use super::board::Status;
use crate::rank::Rank;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// Why a job was ended. The first verdict holds; it is the same on all ranks that can hear each other.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Verdict {
    /// The rank at fault; `None` when all ranks wait in the same collective.
    pub culprit: Option<Rank>,
    /// The host of that rank, or of the judge where there is none.
    pub host: Arc<str>,
    /// What happened to it.
    pub cause: Cause,
    /// Where it was when it was last heard of.
    pub status: Status,
    /// The rank that found it out.
    pub by: Rank,
    /// How far the others were.
    pub others: Option<Extremes>,
}

/// What happened to a rank.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Cause {
    /// Its process ended without a word.
    Died,
    /// Its host answers, its process does not.
    Silent {
        /// For how long.
        waited: Duration,
    },
    /// Its host does not answer.
    Unreachable {
        /// For how long.
        waited: Duration,
    },
    /// It hears none of several other hosts: its own link is gone.
    CutOff {
        /// For how long.
        waited: Duration,
    },
    /// It is alive, but does nothing while others wait for it.
    Stalled {
        /// For how long.
        waited: Duration,
    },
    /// Every rank waits in the same collective: what joins them carries no data.
    Deadlock {
        /// For how long.
        waited: Duration,
    },
    /// It said why itself.
    Failed {
        /// In its words.
        message: Arc<str>,
    },
}

impl Cause {
    /// The name, as `failure.json` has it.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Died => "died",
            Self::Silent { .. } => "silent",
            Self::Unreachable { .. } => "unreachable",
            Self::CutOff { .. } => "cut off",
            Self::Stalled { .. } => "stalled",
            Self::Deadlock { .. } => "deadlock",
            Self::Failed { .. } => "failed",
        }
    }
}

/// The rank that was least far and the one that was farthest, of those that are not at fault.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Extremes {
    /// The last one.
    pub behind: (Rank, Status),
    /// The first one.
    pub ahead: (Rank, Status),
}

impl Extremes {
    /// Of these ranks; `None` if there are none.
    pub(super) fn of(ranks: impl Iterator<Item = (Rank, Status)> + Clone) -> Option<Self> {
        let behind = ranks.clone().min_by_key(|(_, status)| status.progress())?;
        let ahead = ranks.max_by_key(|(rank, status)| (status.progress(), std::cmp::Reverse(*rank)))?;
        Some(Self { behind, ahead })
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = |waited: &Duration| format!("{:.1} s", waited.as_secs_f64());
        match self.culprit {
            Some(rank) => write!(f, "{rank} on {} ", self.host)?,
            None => f.write_str("every rank ")?,
        }
        match &self.cause {
            Cause::Died => f.write_str("died")?,
            Cause::Silent { waited } => {
                write!(f, "gave no sign of life for {}, though its host answers", seconds(waited))?;
            }
            Cause::Unreachable { waited } => write!(f, "is out of reach for {}", seconds(waited))?,
            Cause::CutOff { waited } => write!(f, "hears no other host for {}", seconds(waited))?,
            Cause::Stalled { waited } => {
                write!(f, "made no progress for {} while others waited for it", seconds(waited))?;
            }
            Cause::Deadlock { waited } => write!(f, "waited for {} and none went on", seconds(waited))?,
            Cause::Failed { message } => write!(f, "failed: {message}")?,
        }
        write!(f, " ({})", self.status)?;
        match self.others {
            Some(Extremes { behind, ahead }) if behind.1.progress() == ahead.1.progress() => {
                write!(f, "; the others were in {}", behind.1)
            }
            Some(Extremes { behind, ahead }) => {
                write!(
                    f,
                    "; the others were between {} ({}) and {} ({})",
                    behind.1, behind.0, ahead.1, ahead.0
                )
            }
            None => Ok(()),
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::super::board::{Collective, Phase};
    use super::*;
    use crate::call::OpKind;

    fn at(step: u64, seq: u64) -> Status {
        let collective = Some(Collective { seq, op: OpKind::AllReduce, is_open: true });
        Status { step, phase: Phase::Reduce, ticks: 0, collective }
    }

    #[test]
    fn a_verdict_is_one_sentence_with_all_that_one_asks() {
        let verdict = Verdict {
            culprit: Some(Rank(2)),
            host: "node2".into(),
            cause: Cause::Unreachable { waited: Duration::from_millis(12_000) },
            status: at(41, 122),
            by: Rank(0),
            others: Extremes::of([(Rank(0), at(41, 123)), (Rank(1), at(41, 122))].into_iter()),
        };
        assert_eq!(
            verdict.to_string(),
            "rank 2 on node2 is out of reach for 12.0 s (step 41, reduce, in collective 122 (all_reduce)); \
             the others were between step 41, reduce, in collective 122 (all_reduce) (rank 1) and \
             step 41, reduce, in collective 123 (all_reduce) (rank 0)"
        );
    }

    #[test]
    fn one_other_rank_is_both_extremes() {
        let one = Extremes::of([(Rank(1), at(1, 2))].into_iter()).expect("one");
        assert_eq!(one.behind, one.ahead);
        assert_eq!(Extremes::of(std::iter::empty()), None);
    }
}
