//! What can go wrong between ranks, with the facts that one asks for next.

mod wire;

use crate::call::{Call, OpKind};
use crate::flight::OpRecord;
use crate::rank::{Rank, WorldSize};
use std::any::Any;
use std::error::Error;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// Why a collective did not complete. Ranks are those of the whole world, also on a communicator that was split off.
///
/// The first failure of a world ends it: every rank gets the same error from the collective it is in and from
/// all later ones.
#[derive(Clone, PartialEq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CommError {
    /// A rank called [`abort`](crate::Communicator::abort), or ended with an error.
    #[error("{by} gave up: {cause}")]
    Aborted {
        /// The rank that failed.
        by: Rank,
        /// Its error and that error's causes, outermost first.
        cause: Arc<str>,
    },
    /// The ranks did not make the same call.
    #[error("ranks disagree at collective {seq}: {}", Calls(calls))]
    Mismatch {
        /// Number of the collective on this communicator, from 1.
        seq: u64,
        /// What each rank called.
        calls: Vec<(Rank, Call)>,
    },
    /// What a rank sends to another is not what the other expects.
    #[error("{op}: {from} sends {sent} elements to {to}, which expects {expected}")]
    Counts {
        /// Which collective.
        op: OpKind,
        /// The sender.
        from: Rank,
        /// The receiver.
        to: Rank,
        /// Elements sent.
        sent: usize,
        /// Elements expected.
        expected: usize,
    },
    /// A rank passed a buffer, or a list of counts, whose length does not fit the call.
    #[error("{rank} called {op} with {got} {what}, needs {need}")]
    Length {
        /// The rank that did.
        rank: Rank,
        /// Which collective.
        op: OpKind,
        /// Which of the arguments, in words.
        what: &'static str,
        /// What it has.
        got: usize,
        /// What the call needs.
        need: usize,
    },
    /// A rank passed buffers of two element types to one call.
    #[error("{rank} called {op} with buffers of two element types")]
    Types {
        /// The rank that did.
        rank: Rank,
        /// Which collective.
        op: OpKind,
    },
    /// A root that is not among the ranks.
    #[error("{root} is not among {size}")]
    Root {
        /// The rank that was named.
        root: Rank,
        /// How many there are.
        size: WorldSize,
    },
    /// Other ranks did not come in time.
    #[error("{call} (collective {seq}) waited {:.1} s for {}", waited.as_secs_f64(), Absent(missing))]
    Timeout {
        /// The call that waited.
        call: Call,
        /// Its number on this communicator, from 1.
        seq: u64,
        /// Who did not come.
        missing: Vec<Missing>,
        /// For how long.
        waited: Duration,
    },
    /// A rank ended, or gave its communicator up, before a collective that the others were in.
    #[error("{rank} left before {call} (collective {seq}) was complete")]
    Left {
        /// The rank that left.
        rank: Rank,
        /// The call that needed it.
        call: Call,
        /// Its number on this communicator, from 1.
        seq: u64,
    },
    /// A rank panicked.
    #[error("{rank} panicked{}: {message}", During(during))]
    Panicked {
        /// The rank that did.
        rank: Rank,
        /// What it said.
        message: Arc<str>,
        /// Its latest collective.
        during: Option<OpRecord>,
    },
    /// The ranks were started for different things.
    #[error(
        "{first} and {other} have different plans: `{ours}` ({our_hash:016x}) against `{theirs}` ({their_hash:016x})"
    )]
    Plan {
        /// The lowest rank.
        first: Rank,
        /// The lowest rank that differs from it.
        other: Rank,
        /// The plan of `first`.
        ours: Arc<str>,
        /// Its hash.
        our_hash: u64,
        /// The plan of `other`.
        theirs: Arc<str>,
        /// Its hash.
        their_hash: u64,
    },
    /// A message that another rank sent cannot be read.
    #[error("the {what} from {from} has {got} bytes, needs {need}")]
    Message {
        /// The sender.
        from: Rank,
        /// What was expected, in words.
        what: &'static str,
        /// Bytes that came.
        got: usize,
        /// Bytes that a whole message has, at least.
        need: usize,
    },
    /// A reproducible sum needs a shard a rank.
    #[error("{size} cannot share {shards} shards")]
    Shards {
        /// How many ranks there are.
        size: WorldSize,
        /// How many shards there are.
        shards: usize,
    },
    /// A rank passed tree nodes other than those that cover its shards.
    #[error("{rank} passed a tree node at shard {got}, expected the one at shard {need}")]
    Node {
        /// The rank that did.
        rank: Rank,
        /// First shard of the node it passed.
        got: usize,
        /// First shard of the node that was due.
        need: usize,
    },
    /// A call of the library below the communicator failed.
    #[error("{rank}: {function} failed with code {code}: {text}")]
    Library {
        /// The rank that called it.
        rank: Rank,
        /// The function, by its name in the library.
        function: Arc<str>,
        /// What it returned.
        code: i64,
        /// What the library says to that.
        text: Arc<str>,
    },
    /// There is no world of no ranks.
    #[error("a world needs at least one rank")]
    NoRanks,
}

impl CommError {
    /// The one rank that ended with an error of its own, panicked or left.
    pub const fn culprit(&self) -> Option<Rank> {
        match self {
            Self::Aborted { by: rank, .. }
            | Self::Left { rank, .. }
            | Self::Panicked { rank, .. }
            | Self::Library { rank, .. } => Some(*rank),
            _ => None,
        }
    }

    /// Whether `rank` passed an argument of the length that a call needs.
    ///
    /// # Errors
    /// [`Length`](Self::Length) if not.
    pub const fn check_len(
        rank: Rank,
        op: OpKind,
        what: &'static str,
        got: usize,
        need: usize,
    ) -> Result<(), Self> {
        if got == need { Ok(()) } else { Err(Self::Length { rank, op, what, got, need }) }
    }

    /// What a panic said, for [`Panicked`](Self::Panicked).
    pub fn panic_message(payload: &(dyn Any + Send)) -> Arc<str> {
        let text =
            payload.downcast_ref::<&str>().copied().or(payload.downcast_ref::<String>().map(String::as_str));
        text.unwrap_or("a value that is no text").into()
    }

    /// What the other ranks get to see when `by` gives up because of `cause`: the cause itself if it is an error of the
    /// communicator, else [`Aborted`](Self::Aborted) with the cause and its causes on one line.
    pub fn aborted(by: Rank, cause: &(dyn Error + 'static)) -> Self {
        if let Some(error) = cause.downcast_ref::<Self>() {
            return error.clone();
        }
        let mut text = cause.to_string();
        for cause in std::iter::successors(cause.source(), |&cause| cause.source()) {
            text.push_str(": ");
            text.push_str(&cause.to_string());
        }
        Self::Aborted { by, cause: text.into() }
    }
}

/// A rank that did not come to a collective in time, and what it did last.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Missing {
    /// The rank.
    pub rank: Rank,
    /// Its latest collective on this communicator.
    pub last: Option<OpRecord>,
}

struct Calls<'a>(&'a [(Rank, Call)]);

impl fmt::Display for Calls<'_> {
    /// Groups the ranks that made the same call, in the order of their lowest rank.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let first_of = |call: &Call| self.0.iter().position(|(_, c)| c == call);
        let mut separator = "";
        for (i, (_, call)) in self.0.iter().enumerate() {
            if first_of(call) == Some(i) {
                let ranks = self.0.iter().filter(|(_, c)| c == call).map(|(rank, _)| *rank);
                write!(f, "{separator}{} called {call}", Ranks(&ranks.collect::<Vec<_>>()))?;
                separator = ", ";
            }
        }
        Ok(())
    }
}

struct Ranks<'a>(&'a [Rank]);

impl fmt::Display for Ranks<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.len() == 1 { "rank " } else { "ranks " })?;
        for (i, rank) in self.0.iter().enumerate() {
            write!(f, "{}{}", if i == 0 { "" } else { ", " }, rank.index())?;
        }
        Ok(())
    }
}

struct Absent<'a>(&'a [Missing]);

impl fmt::Display for Absent<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, missing) in self.0.iter().enumerate() {
            write!(f, "{}{}", if i == 0 { "" } else { ", " }, missing.rank)?;
            match &missing.last {
                Some(last) => write!(f, " (last seen in {last})")?,
                None => f.write_str(" (in no collective yet)")?,
            }
        }
        Ok(())
    }
}

struct During<'a>(&'a Option<OpRecord>);

impl fmt::Display for During<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(last) if last.finished.is_none() => write!(f, " during {last}"),
            Some(last) => write!(f, " after {last}"),
            None => Ok(()),
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::call::ReduceOp;
    use crate::element::Dtype;

    #[test]
    fn a_mismatch_names_each_side_once() {
        let sum = Call::new(OpKind::AllReduce).of(Dtype::F32, 4).reducing(ReduceOp::Sum);
        let calls = vec![(Rank(0), sum), (Rank(1), Call::new(OpKind::Barrier)), (Rank(2), sum)];
        let error = CommError::Mismatch { seq: 5, calls };
        assert_eq!(
            error.to_string(),
            "ranks disagree at collective 5: ranks 0, 2 called all_reduce(sum, f32 x 4), rank 1 called barrier()"
        );
    }

    #[test]
    fn an_error_stays_small_enough_to_return() {
        assert!(size_of::<CommError>() <= 128, "{}", size_of::<CommError>());
    }
}
